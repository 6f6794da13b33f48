//! The auth settings of a project as its service reads them, by the names of Supabase's management API. `platform`
//! validates and stores them; secret ones are opened only here, in the snapshot.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::secret::Secret;

/// Everything the auth service may need to know of one project. Times are in seconds.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct AuthSettings {
    /// Where users are sent who named no other place.
    pub site_url: String,
    /// Patterns of further places, separated by commas.
    pub uri_allow_list: String,
    /// How long an access token is valid.
    pub jwt_exp: i64,
    pub disable_signup: bool,
    pub external_email_enabled: bool,
    pub external_phone_enabled: bool,
    pub external_anonymous_users_enabled: bool,
    pub mailer_autoconfirm: bool,
    pub mailer_secure_email_change_enabled: bool,
    pub mailer_allow_unverified_email_sign_ins: bool,
    pub mailer_otp_exp: i64,
    pub mailer_otp_length: u32,
    pub password_min_length: u32,
    /// Sets of characters, separated by `:`; a password needs one of each. A colon in a set is written `\:`.
    pub password_required_characters: String,
    /// Whether passwords that are known to be leaked are refused.
    pub password_hibp_enabled: bool,
    pub refresh_token_rotation_enabled: bool,
    pub security_captcha_enabled: bool,
    pub security_captcha_provider: Option<String>,
    pub security_captcha_secret: Option<Secret<String>>,
    pub security_manual_linking_enabled: bool,
    pub security_refresh_token_reuse_interval: i64,
    pub security_update_password_require_reauthentication: bool,
    /// Longest life of a session; 0 is no limit.
    pub sessions_timebox: i64,
    /// Longest time between two refreshes of a session; 0 is no limit.
    pub sessions_inactivity_timeout: i64,
    pub sessions_single_per_user: bool,
    /// Kinds of sessions, separated by commas: with a single session per user there may be one of each.
    pub sessions_tags: Option<String>,
    pub smtp_host: Option<String>,
    pub smtp_port: Option<u16>,
    pub smtp_user: Option<String>,
    pub smtp_pass: Option<Secret<String>>,
    pub smtp_admin_email: Option<String>,
    pub smtp_sender_name: Option<String>,
    /// Least time between two mails to one address.
    pub smtp_max_frequency: i64,
    pub sms_autoconfirm: bool,
    pub sms_max_frequency: i64,
    pub sms_otp_exp: i64,
    pub sms_otp_length: u32,
    pub sms_provider: Option<String>,
    pub sms_template: String,
    pub sms_test_otp: Option<String>,
    pub sms_test_otp_valid_until: Option<String>,
    pub mfa_max_enrolled_factors: u32,
    pub mfa_totp_enroll_enabled: bool,
    pub mfa_totp_verify_enabled: bool,
    pub mfa_phone_enroll_enabled: bool,
    pub mfa_phone_verify_enabled: bool,
    pub mfa_phone_otp_length: u32,
    pub mfa_phone_max_frequency: i64,
    pub mfa_phone_template: String,
    pub mfa_web_authn_enroll_enabled: bool,
    pub mfa_web_authn_verify_enabled: bool,
    /// Whether users may sign in with passkeys, and the site that these belong to; none is that of `site_url`.
    pub passkey_enabled: bool,
    pub webauthn_rp_id: Option<String>,
    pub webauthn_rp_display_name: Option<String>,
    /// Separated by commas.
    pub webauthn_rp_origins: Option<String>,
    pub saml_enabled: bool,
    pub rate_limit_anonymous_users: u32,
    pub rate_limit_email_sent: u32,
    pub rate_limit_otp: u32,
    pub rate_limit_sms_sent: u32,
    pub rate_limit_token_refresh: u32,
    pub rate_limit_verify: u32,
    /// Sign-in providers by name, those that are switched off too.
    #[serde(skip)]
    pub providers: BTreeMap<String, ProviderSettings>,
    /// Hooks by name (`custom_access_token`, `send_email`, ...), those that are switched on.
    #[serde(skip)]
    pub hooks: BTreeMap<String, HookSettings>,
    /// Subjects and templates of mails by name (`confirmation`, `recovery`, ...).
    #[serde(skip)]
    pub mails: BTreeMap<String, MailTemplate>,
    /// Every setting with its value, secrets left out; for what has no field of its own here.
    #[serde(skip)]
    pub all: Map<String, Value>,
    /// The secret settings that are set, by name.
    #[serde(skip)]
    pub secrets: BTreeMap<String, Secret<String>>,
}

/// One sign-in provider (`external_<name>_*`).
#[derive(Clone, Debug, Default)]
pub struct ProviderSettings {
    pub enabled: bool,
    pub client_id: Option<String>,
    pub secret: Option<Secret<String>>,
    /// Address of the provider's own server, where it has one.
    pub url: Option<String>,
    pub email_optional: bool,
    pub skip_nonce_check: bool,
    /// Further client ids that ID tokens may be made for, separated by commas.
    pub additional_client_ids: Option<String>,
}

/// One hook (`hook_<name>_*`).
#[derive(Clone, Debug)]
pub struct HookSettings {
    /// `pg-functions://postgres/<schema>/<function>` or `https://...`.
    pub uri: String,
    /// Secrets that sign calls over HTTPS, separated by `|`.
    pub secrets: Option<Secret<String>>,
}

/// One kind of mail (`mailer_subjects_<name>`, `mailer_templates_<name>_content`).
#[derive(Clone, Debug, Default)]
pub struct MailTemplate {
    pub subject: String,
    /// None is the built-in text.
    pub content: Option<String>,
}

/// The entries of `uri_allow_list`: what stands between commas, but for those between braces (`{a,b}` is one of two texts).
pub fn redirect_patterns(list: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_usize;
    let parts = list.split(move |c| {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    });
    parts.map(str::trim).filter(|entry| !entry.is_empty())
}

impl Default for AuthSettings {
    fn default() -> Self {
        const HOUR: i64 = 3600;
        Self {
            site_url: "http://localhost:3000".to_owned(),
            uri_allow_list: String::new(),
            jwt_exp: HOUR,
            disable_signup: false,
            external_email_enabled: true,
            external_phone_enabled: false,
            external_anonymous_users_enabled: false,
            mailer_autoconfirm: false,
            mailer_secure_email_change_enabled: true,
            mailer_allow_unverified_email_sign_ins: false,
            mailer_otp_exp: HOUR,
            mailer_otp_length: 6,
            password_min_length: 6,
            password_required_characters: String::new(),
            password_hibp_enabled: false,
            refresh_token_rotation_enabled: true,
            security_captcha_enabled: false,
            security_captcha_provider: None,
            security_captcha_secret: None,
            security_manual_linking_enabled: false,
            security_refresh_token_reuse_interval: 10,
            security_update_password_require_reauthentication: false,
            sessions_timebox: 0,
            sessions_inactivity_timeout: 0,
            sessions_single_per_user: false,
            sessions_tags: None,
            smtp_host: None,
            smtp_port: None,
            smtp_user: None,
            smtp_pass: None,
            smtp_admin_email: None,
            smtp_sender_name: None,
            smtp_max_frequency: 60,
            sms_autoconfirm: false,
            sms_max_frequency: 60,
            sms_otp_exp: 60,
            sms_otp_length: 6,
            sms_provider: None,
            sms_template: "Your code is {{ .Code }}".to_owned(),
            sms_test_otp: None,
            sms_test_otp_valid_until: None,
            mfa_max_enrolled_factors: 10,
            mfa_totp_enroll_enabled: true,
            mfa_totp_verify_enabled: true,
            mfa_phone_enroll_enabled: false,
            mfa_phone_verify_enabled: false,
            mfa_phone_otp_length: 6,
            mfa_phone_max_frequency: 5,
            mfa_phone_template: "Your code is {{ .Code }}".to_owned(),
            mfa_web_authn_enroll_enabled: false,
            mfa_web_authn_verify_enabled: false,
            passkey_enabled: false,
            webauthn_rp_id: None,
            webauthn_rp_display_name: None,
            webauthn_rp_origins: None,
            saml_enabled: false,
            rate_limit_anonymous_users: 30,
            rate_limit_email_sent: 30,
            rate_limit_otp: 30,
            rate_limit_sms_sent: 30,
            rate_limit_token_refresh: 150,
            rate_limit_verify: 30,
            providers: BTreeMap::new(),
            hooks: BTreeMap::new(),
            mails: BTreeMap::new(),
            all: Map::new(),
            secrets: BTreeMap::new(),
        }
    }
}

/// Settings whose names look like a provider's and are none.
const NOT_PROVIDERS: [&str; 5] = ["email", "phone", "anonymous_users", "web3_solana", "web3_ethereum"];

impl AuthSettings {
    /// Reads the settings from their flat form: every name with its value, and the opened secrets beside them.
    pub fn from_flat(
        all: Map<String, Value>,
        secrets: BTreeMap<String, Secret<String>>,
    ) -> Result<Self, serde_json::Error> {
        // Null is a setting that is not set: its default is none.
        let set: Map<String, Value> =
            all.iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.clone(), v.clone())).collect();
        let mut settings: Self = serde_json::from_value(Value::Object(set))?;
        settings.smtp_pass = secrets.get("smtp_pass").cloned();
        settings.security_captcha_secret = secrets.get("security_captcha_secret").cloned();
        let text = |name: String| all.get(&name).and_then(Value::as_str).map(str::to_owned);
        let flag = |name: String| all.get(&name).and_then(Value::as_bool).unwrap_or_default();
        for key in all.keys() {
            if let Some(name) = key.strip_prefix("external_").and_then(|rest| rest.strip_suffix("_enabled"))
                && !NOT_PROVIDERS.contains(&name)
            {
                let provider = ProviderSettings {
                    enabled: flag(key.clone()),
                    client_id: text(format!("external_{name}_client_id")),
                    secret: secrets.get(&format!("external_{name}_secret")).cloned(),
                    url: text(format!("external_{name}_url")),
                    email_optional: flag(format!("external_{name}_email_optional")),
                    skip_nonce_check: flag(format!("external_{name}_skip_nonce_check")),
                    additional_client_ids: text(format!("external_{name}_additional_client_ids")),
                };
                settings.providers.insert(name.to_owned(), provider);
            }
            if let Some(name) = key.strip_prefix("hook_").and_then(|rest| rest.strip_suffix("_enabled"))
                && flag(key.clone())
            {
                let uri = text(format!("hook_{name}_uri")).unwrap_or_default();
                let hook = HookSettings { uri, secrets: secrets.get(&format!("hook_{name}_secrets")).cloned() };
                settings.hooks.insert(name.to_owned(), hook);
            }
            if let Some(name) = key.strip_prefix("mailer_subjects_") {
                let content = text(format!("mailer_templates_{name}_content"));
                let subject = text(key.clone()).unwrap_or_default();
                settings.mails.insert(name.to_owned(), MailTemplate { subject, content });
            }
        }
        settings.all = all;
        settings.secrets = secrets;
        Ok(settings)
    }

    /// A hook that is switched on.
    pub fn hook(&self, name: &str) -> Option<&HookSettings> {
        self.hooks.get(name)
    }

    /// The kinds of sessions; the first is that of a session without one.
    pub fn session_tags(&self) -> Vec<&str> {
        let all = self.sessions_tags.as_deref().unwrap_or_default().split(',');
        all.map(str::trim).filter(|tag| !tag.is_empty()).collect()
    }

    /// The sets of characters that a password needs one of each of.
    pub fn required_character_sets(&self) -> Vec<String> {
        let mut sets = vec![String::new()];
        let mut characters = self.password_required_characters.chars().peekable();
        while let Some(character) = characters.next() {
            let last = sets.len() - 1;
            match character {
                '\\' if characters.peek() == Some(&':') => sets[last].extend(characters.next()),
                ':' => sets.push(String::new()),
                _ => sets[last].push(character),
            }
        }
        sets.retain(|set| !set.is_empty());
        sets
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn flat_settings_become_typed_ones() {
        let flat = json!({
            "jwt_exp": 60, "smtp_host": null, "external_email_enabled": false,
            "external_google_enabled": true, "external_google_client_id": "id",
            "external_google_skip_nonce_check": true,
            "hook_send_email_enabled": true, "hook_send_email_uri": "pg-functions://postgres/public/f",
            "hook_send_sms_enabled": false,
            "mailer_subjects_invite": "Come", "mailer_templates_invite_content": null,
        });
        let Value::Object(flat) = flat else { panic!("an object") };
        let secrets = BTreeMap::from([("external_google_secret".to_owned(), Secret::new("s".to_owned()))]);
        let settings = AuthSettings::from_flat(flat, secrets).unwrap();
        assert_eq!((settings.jwt_exp, settings.external_email_enabled), (60, false));
        let google = &settings.providers["google"];
        assert!(google.enabled && google.skip_nonce_check);
        assert_eq!(google.secret.as_ref().unwrap().expose(), "s");
        assert_eq!(settings.providers.len(), 1);
        assert_eq!(settings.hooks.keys().collect::<Vec<_>>(), ["send_email"]);
        assert_eq!(settings.mails["invite"].subject, "Come");
    }

    #[test]
    fn sets_of_characters_are_separated_by_colons() {
        let of = |text: &str| {
            let settings = AuthSettings { password_required_characters: text.to_owned(), ..AuthSettings::default() };
            settings.required_character_sets()
        };
        assert_eq!(of("abc:ABC:01"), ["abc", "ABC", "01"]);
        assert_eq!(of(r"a\:b:c"), ["a:b", "c"]);
        assert!(of("").is_empty());
    }
}
