//! Settings of the auth service, by the names of Supabase's management API.

use super::rule::{Kind, Rule, rule, unset};

/// Sign-in providers, and whether each has an address of its own server.
const PROVIDERS: [(&str, bool); 24] = [
    ("apple", false),
    ("azure", true),
    ("bitbucket", false),
    ("discord", false),
    ("facebook", false),
    ("figma", false),
    ("fly", false),
    ("github", true),
    ("gitlab", true),
    ("google", false),
    ("kakao", false),
    ("keycloak", true),
    ("linkedin_oidc", false),
    ("notion", false),
    ("oidc", true),
    ("slack", false),
    ("slack_oidc", false),
    ("snapchat", false),
    ("spotify", false),
    ("twitch", false),
    ("twitter", false),
    ("workos", true),
    ("x", false),
    ("zoom", false),
];

const HOOKS: [&str; 7] = [
    "custom_access_token",
    "mfa_verification_attempt",
    "password_verification_attempt",
    "send_sms",
    "send_email",
    "before_user_created",
    "after_user_created",
];

/// Mails and their subjects.
const MAILS: [(&str, &str); 6] = [
    ("confirmation", "Confirm your email address"),
    ("email_change", "Confirm your new email address"),
    ("invite", "You have been invited"),
    ("magic_link", "Your sign-in link"),
    ("reauthentication", "Confirm it is you"),
    ("recovery", "Reset your password"),
];

/// Per hour, or per five minutes where Supabase counts so.
const RATE_LIMITS: [(&str, i64); 7] = [
    ("anonymous_users", 30),
    ("email_sent", 30),
    ("otp", 30),
    ("sms_sent", 30),
    ("token_refresh", 150),
    ("verify", 30),
    ("web3", 30),
];

const HOUR: i64 = 3600;
const WEEK: i64 = 7 * 24 * HOUR;

pub(crate) fn rules() -> Vec<Rule> {
    let mut rules = vec![
        rule("site_url", Kind::Url, "http://localhost:3000"),
        rule("uri_allow_list", Kind::UrlList, ""),
        rule("jwt_exp", Kind::Int(30, WEEK), HOUR),
        rule("disable_signup", Kind::Bool, false),
        rule("external_email_enabled", Kind::Bool, true),
        rule("external_phone_enabled", Kind::Bool, false),
        rule("external_anonymous_users_enabled", Kind::Bool, false),
        rule("external_web3_solana_enabled", Kind::Bool, false),
        rule("external_web3_ethereum_enabled", Kind::Bool, false),
        rule("mailer_autoconfirm", Kind::Bool, false),
        rule("mailer_secure_email_change_enabled", Kind::Bool, true),
        rule("mailer_allow_unverified_email_sign_ins", Kind::Bool, false),
        rule("mailer_otp_exp", Kind::Int(60, 24 * HOUR), HOUR),
        rule("mailer_otp_length", Kind::Int(6, 10), 6),
        rule("password_min_length", Kind::Int(6, 128), 6),
        rule("password_required_characters", Kind::Text(500), ""),
        rule("password_hibp_enabled", Kind::Bool, false),
        rule("refresh_token_rotation_enabled", Kind::Bool, true),
        rule("security_captcha_enabled", Kind::Bool, false),
        unset("security_captcha_provider", Kind::Choice(&["hcaptcha", "turnstile"])),
        unset("security_captcha_secret", Kind::Secret),
        rule("security_manual_linking_enabled", Kind::Bool, false),
        rule("security_refresh_token_reuse_interval", Kind::Int(0, 24 * HOUR), 10),
        rule("security_update_password_require_reauthentication", Kind::Bool, false),
        rule("sessions_timebox", Kind::Int(0, 10 * 365 * 24 * HOUR), 0),
        rule("sessions_inactivity_timeout", Kind::Int(0, 10 * 365 * 24 * HOUR), 0),
        rule("sessions_single_per_user", Kind::Bool, false),
        unset("sessions_tags", Kind::Text(500)),
        unset("smtp_host", Kind::Text(253)),
        unset("smtp_port", Kind::Int(1, 65_535)),
        unset("smtp_user", Kind::Text(320)),
        unset("smtp_pass", Kind::Secret),
        unset("smtp_admin_email", Kind::Email),
        unset("smtp_sender_name", Kind::Text(200)),
        rule("smtp_max_frequency", Kind::Int(0, 24 * HOUR), 60),
        rule("sms_autoconfirm", Kind::Bool, false),
        rule("sms_max_frequency", Kind::Int(0, 24 * HOUR), 60),
        rule("sms_otp_exp", Kind::Int(30, 24 * HOUR), 60),
        rule("sms_otp_length", Kind::Int(6, 10), 6),
        unset("sms_provider", Kind::Choice(&["messagebird", "textlocal", "twilio", "twilio_verify", "vonage"])),
        rule("sms_template", Kind::TextTemplate(1000), "Your code is {{ .Code }}"),
        unset("sms_test_otp", Kind::Text(5000)),
        unset("sms_test_otp_valid_until", Kind::Text(40)),
        unset("sms_twilio_account_sid", Kind::Text(200)),
        unset("sms_twilio_auth_token", Kind::Secret),
        unset("sms_twilio_content_sid", Kind::Text(200)),
        unset("sms_twilio_message_service_sid", Kind::Text(200)),
        unset("sms_twilio_verify_account_sid", Kind::Text(200)),
        unset("sms_twilio_verify_auth_token", Kind::Secret),
        unset("sms_twilio_verify_message_service_sid", Kind::Text(200)),
        unset("sms_messagebird_access_key", Kind::Secret),
        unset("sms_messagebird_originator", Kind::Text(200)),
        unset("sms_textlocal_api_key", Kind::Secret),
        unset("sms_textlocal_sender", Kind::Text(200)),
        unset("sms_vonage_api_key", Kind::Text(200)),
        unset("sms_vonage_api_secret", Kind::Secret),
        unset("sms_vonage_from", Kind::Text(200)),
        rule("mfa_max_enrolled_factors", Kind::Int(0, 100), 10),
        rule("mfa_totp_enroll_enabled", Kind::Bool, true),
        rule("mfa_totp_verify_enabled", Kind::Bool, true),
        rule("mfa_phone_enroll_enabled", Kind::Bool, false),
        rule("mfa_phone_verify_enabled", Kind::Bool, false),
        rule("mfa_phone_otp_length", Kind::Int(6, 10), 6),
        rule("mfa_phone_max_frequency", Kind::Int(0, 24 * HOUR), 5),
        rule("mfa_phone_template", Kind::TextTemplate(1000), "Your code is {{ .Code }}"),
        rule("mfa_web_authn_enroll_enabled", Kind::Bool, false),
        rule("mfa_web_authn_verify_enabled", Kind::Bool, false),
        rule("passkey_enabled", Kind::Bool, false),
        unset("webauthn_rp_id", Kind::Text(253)),
        unset("webauthn_rp_display_name", Kind::Text(200)),
        unset("webauthn_rp_origins", Kind::Text(2000)),
        rule("saml_enabled", Kind::Bool, false),
        unset("saml_external_url", Kind::Url),
        rule("saml_allow_encrypted_assertions", Kind::Bool, false),
        unset("external_apple_additional_client_ids", Kind::Text(2000)),
        unset("external_google_additional_client_ids", Kind::Text(2000)),
        rule("external_google_skip_nonce_check", Kind::Bool, false),
    ];
    for (name, own_server) in PROVIDERS {
        rules.push(rule(format!("external_{name}_enabled"), Kind::Bool, false));
        rules.push(unset(format!("external_{name}_client_id"), Kind::Text(2000)));
        rules.push(unset(format!("external_{name}_secret"), Kind::Secret));
        rules.push(rule(format!("external_{name}_email_optional"), Kind::Bool, false));
        if own_server {
            rules.push(unset(format!("external_{name}_url"), Kind::Url));
        }
    }
    for name in HOOKS {
        rules.push(rule(format!("hook_{name}_enabled"), Kind::Bool, false));
        rules.push(unset(format!("hook_{name}_uri"), Kind::Url));
        rules.push(unset(format!("hook_{name}_secrets"), Kind::Secret));
    }
    for (name, subject) in MAILS {
        rules.push(rule(format!("mailer_subjects_{name}"), Kind::TextTemplate(500), subject));
        rules.push(unset(format!("mailer_templates_{name}_content"), Kind::HtmlTemplate(200_000)));
    }
    for (name, limit) in RATE_LIMITS {
        rules.push(rule(format!("rate_limit_{name}"), Kind::Int(1, 1_000_000), limit));
    }
    rules
}
