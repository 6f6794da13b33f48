//! Users: the row, how clients see it, and what a user may read and change of their own.

mod update;
mod view;

use serde::Deserialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::authenticate::SignedIn;
use crate::cx::Cx;
use crate::error::Error;
use crate::identity::Identity;
use crate::response;
use crate::timestamp::Timestamp;

pub(crate) use update::update_user;
pub(crate) use view::FactorView;

/// The audience of every user and token.
pub(crate) const AUDIENCE: &str = "authenticated";

/// A row of `auth.users` with its identities and factors.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct User {
    pub(crate) id: Uuid,
    pub(crate) aud: Option<String>,
    pub(crate) role: Option<String>,
    pub(crate) email: Option<String>,
    pub(crate) encrypted_password: Option<String>,
    pub(crate) email_confirmed_at: Option<Timestamp>,
    pub(crate) invited_at: Option<Timestamp>,
    pub(crate) phone: Option<String>,
    pub(crate) phone_confirmed_at: Option<Timestamp>,
    pub(crate) confirmation_sent_at: Option<Timestamp>,
    pub(crate) confirmed_at: Option<Timestamp>,
    pub(crate) recovery_sent_at: Option<Timestamp>,
    pub(crate) email_change: Option<String>,
    pub(crate) email_change_sent_at: Option<Timestamp>,
    #[serde(default)]
    pub(crate) email_change_confirm_status: Option<i16>,
    pub(crate) phone_change: Option<String>,
    pub(crate) phone_change_sent_at: Option<Timestamp>,
    pub(crate) reauthentication_sent_at: Option<Timestamp>,
    pub(crate) last_sign_in_at: Option<Timestamp>,
    pub(crate) raw_app_meta_data: Option<Map<String, Value>>,
    pub(crate) raw_user_meta_data: Option<Map<String, Value>>,
    pub(crate) created_at: Option<Timestamp>,
    pub(crate) updated_at: Option<Timestamp>,
    pub(crate) banned_until: Option<Timestamp>,
    pub(crate) deleted_at: Option<Timestamp>,
    pub(crate) is_sso_user: bool,
    pub(crate) is_anonymous: bool,
    #[serde(default)]
    pub(crate) identities: Vec<Identity>,
    #[serde(default)]
    pub(crate) factors: Vec<Factor>,
}

/// A row of `auth.mfa_factors`, without its secrets.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Factor {
    pub(crate) id: Uuid,
    pub(crate) friendly_name: Option<String>,
    pub(crate) factor_type: String,
    pub(crate) status: String,
    pub(crate) phone: Option<String>,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
    pub(crate) last_challenged_at: Option<Timestamp>,
}

impl Factor {
    pub(crate) fn is_verified(&self) -> bool {
        self.status == "verified"
    }
}

impl User {
    /// The address; an empty text, which old rows have, is none.
    pub(crate) fn email(&self) -> Option<&str> {
        self.email.as_deref().filter(|email| !email.is_empty())
    }

    pub(crate) fn phone(&self) -> Option<&str> {
        self.phone.as_deref().filter(|phone| !phone.is_empty())
    }

    pub(crate) fn new_email(&self) -> Option<&str> {
        self.email_change.as_deref().filter(|email| !email.is_empty())
    }

    pub(crate) fn new_phone(&self) -> Option<&str> {
        self.phone_change.as_deref().filter(|phone| !phone.is_empty())
    }

    pub(crate) fn has_password(&self) -> bool {
        self.encrypted_password.as_deref().is_some_and(|hash| !hash.is_empty())
    }

    pub(crate) fn is_email_confirmed(&self) -> bool {
        self.email_confirmed_at.is_some()
    }

    pub(crate) fn is_phone_confirmed(&self) -> bool {
        self.phone_confirmed_at.is_some()
    }

    pub(crate) fn is_banned(&self, now: Timestamp) -> bool {
        self.banned_until.is_some_and(|until| until > now)
    }

    pub(crate) fn identity(&self, provider: &str) -> Option<&Identity> {
        self.identities.iter().find(|identity| identity.provider == provider)
    }

    /// Whether a second factor is set up.
    pub(crate) fn has_mfa(&self) -> bool {
        self.factors.iter().any(Factor::is_verified)
    }

    /// Who acted, in the audit log.
    pub(crate) fn audit_name(&self) -> &str {
        self.phone().or(self.email()).unwrap_or_default()
    }
}

/// `GET /user`
pub(crate) async fn get_user(cx: &Cx) -> Result<axum::response::Response, Error> {
    let SignedIn { user, .. } = SignedIn::of(cx).await?;
    response::ok(&user)
}
