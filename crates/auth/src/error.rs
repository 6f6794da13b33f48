//! What the auth service refuses, by GoTrue's codes. One table says which status a code usually has; the client sees
//! the message, the log sees the cause.

use std::borrow::Cow;
use std::error::Error as StdError;

use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use web::{Protocol, WireError};

/// GoTrue's error codes (supabase/auth, `internal/api/apierrors/errorcode.go`), as clients compare them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    AnonymousProviderDisabled,
    BadCodeVerifier,
    BadJson,
    BadJwt,
    BadOauthCallback,
    BadOauthState,
    CaptchaFailed,
    Conflict,
    EmailAddressInvalid,
    EmailConflictIdentityNotDeletable,
    EmailExists,
    EmailNotConfirmed,
    EmailProviderDisabled,
    FeatureDisabled,
    FlowStateExpired,
    FlowStateNotFound,
    HookPayloadInvalidContentType,
    HookPayloadOverSizeLimit,
    HookTimeout,
    HookTimeoutAfterRetry,
    IdentityAlreadyExists,
    IdentityNotFound,
    InsufficientAal,
    InvalidCredentials,
    ManualLinkingDisabled,
    MfaChallengeExpired,
    MfaFactorNameConflict,
    MfaFactorNotFound,
    MfaIpAddressMismatch,
    MfaPhoneEnrollNotEnabled,
    MfaPhoneVerifyNotEnabled,
    MfaTotpEnrollNotEnabled,
    MfaTotpVerifyNotEnabled,
    MfaVerificationFailed,
    MfaVerificationRejected,
    MfaVerifiedFactorExists,
    MfaWebauthnEnrollNotEnabled,
    MfaWebauthnVerifyNotEnabled,
    NoAuthorization,
    NotAdmin,
    OauthProviderNotSupported,
    OtpDisabled,
    OtpExpired,
    OverEmailSendRateLimit,
    OverRequestRateLimit,
    OverSmsSendRateLimit,
    PasskeyDisabled,
    PhoneExists,
    PhoneNotConfirmed,
    PhoneProviderDisabled,
    ProviderDisabled,
    ProviderEmailNeedsVerification,
    ReauthenticationNeeded,
    ReauthenticationNotValid,
    RefreshTokenAlreadyUsed,
    RefreshTokenNotFound,
    RequestEntityTooLarge,
    RequestTimeout,
    SamePassword,
    SamlProviderDisabled,
    SessionExpired,
    SessionNotFound,
    SignupDisabled,
    SingleIdentityNotDeletable,
    SmsSendFailed,
    SsoProviderNotFound,
    TooManyEnrolledMfaFactors,
    TooManyPasskeys,
    UnexpectedAudience,
    UnexpectedFailure,
    UserAlreadyExists,
    UserBanned,
    UserNotFound,
    UserSsoManaged,
    ValidationFailed,
    WeakPassword,
    WebauthnChallengeExpired,
    WebauthnChallengeNotFound,
    WebauthnCredentialExists,
    WebauthnCredentialNotFound,
    WebauthnVerificationFailed,
}

impl ErrorCode {
    /// The name on the wire, and the status that the code usually has.
    fn entry(self) -> (&'static str, StatusCode) {
        use StatusCode as S;
        match self {
            Self::AnonymousProviderDisabled => ("anonymous_provider_disabled", S::UNPROCESSABLE_ENTITY),
            Self::BadCodeVerifier => ("bad_code_verifier", S::BAD_REQUEST),
            Self::BadJson => ("bad_json", S::BAD_REQUEST),
            Self::BadJwt => ("bad_jwt", S::FORBIDDEN),
            Self::BadOauthCallback => ("bad_oauth_callback", S::BAD_REQUEST),
            Self::BadOauthState => ("bad_oauth_state", S::BAD_REQUEST),
            Self::CaptchaFailed => ("captcha_failed", S::BAD_REQUEST),
            Self::Conflict => ("conflict", S::CONFLICT),
            Self::EmailAddressInvalid => ("email_address_invalid", S::BAD_REQUEST),
            Self::EmailConflictIdentityNotDeletable => {
                ("email_conflict_identity_not_deletable", S::UNPROCESSABLE_ENTITY)
            }
            Self::EmailExists => ("email_exists", S::UNPROCESSABLE_ENTITY),
            Self::EmailNotConfirmed => ("email_not_confirmed", S::BAD_REQUEST),
            Self::EmailProviderDisabled => ("email_provider_disabled", S::UNPROCESSABLE_ENTITY),
            Self::FeatureDisabled => ("feature_disabled", S::UNPROCESSABLE_ENTITY),
            Self::FlowStateExpired => ("flow_state_expired", S::UNPROCESSABLE_ENTITY),
            Self::FlowStateNotFound => ("flow_state_not_found", S::NOT_FOUND),
            Self::HookPayloadInvalidContentType => ("hook_payload_invalid_content_type", S::BAD_REQUEST),
            Self::HookPayloadOverSizeLimit => ("hook_payload_over_size_limit", S::UNPROCESSABLE_ENTITY),
            Self::HookTimeout => ("hook_timeout", S::UNPROCESSABLE_ENTITY),
            Self::HookTimeoutAfterRetry => ("hook_timeout_after_retry", S::UNPROCESSABLE_ENTITY),
            Self::IdentityAlreadyExists => ("identity_already_exists", S::UNPROCESSABLE_ENTITY),
            Self::IdentityNotFound => ("identity_not_found", S::UNPROCESSABLE_ENTITY),
            Self::InsufficientAal => ("insufficient_aal", S::UNAUTHORIZED),
            Self::InvalidCredentials => ("invalid_credentials", S::BAD_REQUEST),
            Self::ManualLinkingDisabled => ("manual_linking_disabled", S::NOT_FOUND),
            Self::MfaChallengeExpired => ("mfa_challenge_expired", S::UNPROCESSABLE_ENTITY),
            Self::MfaFactorNameConflict => ("mfa_factor_name_conflict", S::UNPROCESSABLE_ENTITY),
            Self::MfaFactorNotFound => ("mfa_factor_not_found", S::NOT_FOUND),
            Self::MfaIpAddressMismatch => ("mfa_ip_address_mismatch", S::UNPROCESSABLE_ENTITY),
            Self::MfaPhoneEnrollNotEnabled => ("mfa_phone_enroll_not_enabled", S::UNPROCESSABLE_ENTITY),
            Self::MfaPhoneVerifyNotEnabled => ("mfa_phone_verify_not_enabled", S::UNPROCESSABLE_ENTITY),
            Self::MfaTotpEnrollNotEnabled => ("mfa_totp_enroll_not_enabled", S::UNPROCESSABLE_ENTITY),
            Self::MfaTotpVerifyNotEnabled => ("mfa_totp_verify_not_enabled", S::UNPROCESSABLE_ENTITY),
            Self::MfaVerificationFailed => ("mfa_verification_failed", S::UNPROCESSABLE_ENTITY),
            Self::MfaVerificationRejected => ("mfa_verification_rejected", S::FORBIDDEN),
            Self::MfaVerifiedFactorExists => ("mfa_verified_factor_exists", S::UNPROCESSABLE_ENTITY),
            Self::MfaWebauthnEnrollNotEnabled => ("mfa_webauthn_enroll_not_enabled", S::UNPROCESSABLE_ENTITY),
            Self::MfaWebauthnVerifyNotEnabled => ("mfa_webauthn_verify_not_enabled", S::UNPROCESSABLE_ENTITY),
            Self::NoAuthorization => ("no_authorization", S::UNAUTHORIZED),
            Self::NotAdmin => ("not_admin", S::FORBIDDEN),
            Self::OauthProviderNotSupported => ("oauth_provider_not_supported", S::BAD_REQUEST),
            Self::OtpDisabled => ("otp_disabled", S::UNPROCESSABLE_ENTITY),
            Self::OtpExpired => ("otp_expired", S::FORBIDDEN),
            Self::OverEmailSendRateLimit => ("over_email_send_rate_limit", S::TOO_MANY_REQUESTS),
            Self::OverRequestRateLimit => ("over_request_rate_limit", S::TOO_MANY_REQUESTS),
            Self::OverSmsSendRateLimit => ("over_sms_send_rate_limit", S::TOO_MANY_REQUESTS),
            Self::PasskeyDisabled => ("passkey_disabled", S::NOT_FOUND),
            Self::PhoneExists => ("phone_exists", S::UNPROCESSABLE_ENTITY),
            Self::PhoneNotConfirmed => ("phone_not_confirmed", S::BAD_REQUEST),
            Self::PhoneProviderDisabled => ("phone_provider_disabled", S::UNPROCESSABLE_ENTITY),
            Self::ProviderDisabled => ("provider_disabled", S::BAD_REQUEST),
            Self::ProviderEmailNeedsVerification => ("provider_email_needs_verification", S::FORBIDDEN),
            Self::ReauthenticationNeeded => ("reauthentication_needed", S::BAD_REQUEST),
            Self::ReauthenticationNotValid => ("reauthentication_not_valid", S::UNPROCESSABLE_ENTITY),
            Self::RefreshTokenAlreadyUsed => ("refresh_token_already_used", S::BAD_REQUEST),
            Self::RefreshTokenNotFound => ("refresh_token_not_found", S::BAD_REQUEST),
            Self::RequestEntityTooLarge => ("request_entity_too_large", S::PAYLOAD_TOO_LARGE),
            Self::RequestTimeout => ("request_timeout", S::GATEWAY_TIMEOUT),
            Self::SamePassword => ("same_password", S::UNPROCESSABLE_ENTITY),
            Self::SamlProviderDisabled => ("saml_provider_disabled", S::NOT_FOUND),
            Self::SessionExpired => ("session_expired", S::BAD_REQUEST),
            Self::SessionNotFound => ("session_not_found", S::FORBIDDEN),
            Self::SignupDisabled => ("signup_disabled", S::UNPROCESSABLE_ENTITY),
            Self::SingleIdentityNotDeletable => ("single_identity_not_deletable", S::UNPROCESSABLE_ENTITY),
            Self::SmsSendFailed => ("sms_send_failed", S::UNPROCESSABLE_ENTITY),
            Self::SsoProviderNotFound => ("sso_provider_not_found", S::NOT_FOUND),
            Self::TooManyEnrolledMfaFactors => ("too_many_enrolled_mfa_factors", S::UNPROCESSABLE_ENTITY),
            Self::TooManyPasskeys => ("too_many_passkeys", S::UNPROCESSABLE_ENTITY),
            Self::UnexpectedAudience => ("unexpected_audience", S::BAD_REQUEST),
            Self::UnexpectedFailure => ("unexpected_failure", S::INTERNAL_SERVER_ERROR),
            Self::UserAlreadyExists => ("user_already_exists", S::UNPROCESSABLE_ENTITY),
            Self::UserBanned => ("user_banned", S::BAD_REQUEST),
            Self::UserNotFound => ("user_not_found", S::NOT_FOUND),
            Self::UserSsoManaged => ("user_sso_managed", S::UNPROCESSABLE_ENTITY),
            Self::ValidationFailed => ("validation_failed", S::BAD_REQUEST),
            Self::WeakPassword => ("weak_password", S::UNPROCESSABLE_ENTITY),
            Self::WebauthnChallengeExpired => ("webauthn_challenge_expired", S::UNPROCESSABLE_ENTITY),
            Self::WebauthnChallengeNotFound => ("webauthn_challenge_not_found", S::NOT_FOUND),
            Self::WebauthnCredentialExists => ("webauthn_credential_exists", S::UNPROCESSABLE_ENTITY),
            Self::WebauthnCredentialNotFound => ("webauthn_credential_not_found", S::NOT_FOUND),
            Self::WebauthnVerificationFailed => ("webauthn_verification_failed", S::UNPROCESSABLE_ENTITY),
        }
    }

    pub fn name(self) -> &'static str {
        self.entry().0
    }
}

type Cause = Box<dyn StdError + Send + Sync>;

/// A refusal or a failure, with what the client may know of it and what only the log may.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    code: ErrorCode,
    status: StatusCode,
    message: Cow<'static, str>,
    /// What is wrong with a password (`length`, `characters`, `pwned`), for its own field.
    weak_password: Option<Vec<&'static str>>,
    /// Seconds.
    retry_after: Option<u64>,
    cause: Option<Cause>,
}

impl Error {
    /// A refusal with the code's usual status.
    pub fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        let status = code.entry().1;
        let message = message.into();
        Self(Box::new(Inner { code, status, message, weak_password: None, retry_after: None, cause: None }))
    }

    /// 400 `validation_failed`.
    pub fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::ValidationFailed, message)
    }

    /// 500 `unexpected_failure`; `message` is public, `cause` is not.
    pub fn internal(message: impl Into<Cow<'static, str>>, cause: impl Into<Cause>) -> Self {
        Self::new(ErrorCode::UnexpectedFailure, message).because(cause)
    }

    /// 422 `weak_password` with its reasons.
    pub fn weak_password(message: String, reasons: Vec<&'static str>) -> Self {
        let mut error = Self::new(ErrorCode::WeakPassword, message);
        error.0.weak_password = Some(reasons);
        error
    }

    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.0.status = status;
        self
    }

    #[must_use]
    pub fn with_message(mut self, message: impl Into<Cow<'static, str>>) -> Self {
        self.0.message = message.into();
        self
    }

    /// The same under another code, with its usual status.
    #[must_use]
    pub fn with_code(mut self, code: ErrorCode) -> Self {
        self.0.code = code;
        self.with_status(code.entry().1)
    }

    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.0.retry_after = Some(seconds);
        self
    }

    #[must_use]
    pub fn because(mut self, cause: impl Into<Cause>) -> Self {
        self.0.cause = Some(cause.into());
        self
    }

    pub fn code(&self) -> ErrorCode {
        self.0.code
    }

    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// What the client sees.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What is wrong with a password, for answers that carry it beside a session.
    pub fn weak_password_view(&self) -> Option<Value> {
        let reasons = self.0.weak_password.as_ref()?;
        Some(json!({ "message": self.message(), "reasons": reasons }))
    }

    /// Logs the cause once and renders the public part in the shape that the client asked for.
    pub fn respond(&self, protocol: Protocol) -> Response {
        web::respond(&Rendered { error: self, protocol })
    }
}

/// Without a better word for it where it happened, what PostgreSQL says is our own failure; an overload is not.
impl From<pg::Error> for Error {
    fn from(error: pg::Error) -> Self {
        match error {
            pg::Error::Overloaded | pg::Error::AcquireTimeout => {
                Self::new(ErrorCode::RequestTimeout, "The database is busy; try again")
                    .with_status(StatusCode::SERVICE_UNAVAILABLE)
                    .retry_after(1)
                    .because(error)
            }
            error => Self::internal("Database error", error),
        }
    }
}

struct Rendered<'a> {
    error: &'a Error,
    protocol: Protocol,
}

impl WireError for Rendered<'_> {
    fn status(&self) -> StatusCode {
        self.error.0.status
    }

    fn code(&self) -> Cow<'_, str> {
        self.error.0.code.name().into()
    }

    fn body(&self) -> Vec<u8> {
        let Inner { code, status, message, weak_password, .. } = &*self.error.0;
        let body = self.protocol.body(*status, code.name(), message, None, None);
        let Some(reasons) = weak_password else { return body };
        let mut value: Value = serde_json::from_slice(&body).unwrap_or_default();
        value["weak_password"] = json!({ "reasons": reasons });
        value.to_string().into_bytes()
    }

    fn headers(&self, headers: &mut HeaderMap) {
        self.protocol.error_headers(self.error.0.code.name(), headers);
        headers.insert("x-sb-error-code", HeaderValue::from_static(self.error.0.code.name()));
        if let Some(seconds) = self.error.0.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
    }

    fn cause(&self) -> Option<&(dyn StdError + 'static)> {
        self.error.0.cause.as_deref().map(|cause| cause as &(dyn StdError + 'static))
    }
}
