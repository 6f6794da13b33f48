//! `GET /settings`: what the project's clients may know of its settings.

use serde_json::{Map, Value, json};

use crate::cx::Cx;
use crate::error::Error;
use crate::response;

pub(crate) fn get_settings(cx: &Cx) -> Result<axum::response::Response, Error> {
    let settings = cx.settings();
    let mut external: Map<String, Value> =
        settings.providers.iter().map(|(name, provider)| (name.clone(), provider.enabled.into())).collect();
    external.insert("anonymous_users".to_owned(), settings.external_anonymous_users_enabled.into());
    external.insert("email".to_owned(), settings.external_email_enabled.into());
    external.insert("phone".to_owned(), settings.external_phone_enabled.into());
    response::ok(&json!({
        "external": external,
        "disable_signup": settings.disable_signup,
        "mailer_autoconfirm": settings.mailer_autoconfirm,
        "phone_autoconfirm": settings.sms_autoconfirm,
        "sms_provider": settings.sms_provider.as_deref().unwrap_or_default(),
        "saml_enabled": settings.saml_enabled,
        "mfa_enabled": settings.mfa_totp_enroll_enabled,
        "passkeys_enabled": settings.passkey_enabled,
    }))
}
