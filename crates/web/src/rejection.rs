//! What the plumbing itself refuses: keys, limits, unknown projects. One table says status, code and text for each
//! protocol.
//!
//! Codes: PostgREST has none for most of these, so the data API shows PGRST codes where PostgREST has one and SQLSTATEs
//! of the same meaning elsewhere; auth and storage show the codes that their clients know.

use std::borrow::Cow;
use std::error::Error;

use axum::response::Response;
use base::jwt::JwtError;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::api_key::KeyError;
use crate::error::{Protocol, WireError, respond};
use crate::limits::BodyError;

/// A request that did not get as far as its service.
#[derive(Debug)]
pub enum Rejection {
    /// No key, or none that is good.
    Key(KeyError),
    /// Too many requests; seconds after which one more will be let in.
    RateLimited {
        retry_after: u64,
    },
    /// More requests in work than the server (or the project) is allowed.
    Overloaded,
    Body(BodyError),
    /// The request line is longer than this many bytes.
    UriTooLong {
        limit: usize,
    },
    /// The headers are longer than this many bytes together.
    HeadersTooLarge {
        limit: usize,
    },
    /// Too many bytes wait in memory for clients that take their answers slowly.
    AnswersWaiting,
    /// The service did not answer within the time that the request was given.
    TimedOut,
    /// More than one Host header, or one that cannot be read.
    Host,
    /// The head of the request is no HTTP.
    Malformed,
    /// No such project; a deleted one looks the same.
    UnknownProject,
    /// Refused with 403 and not 503: waiting does not help, and published clients try a 503 again.
    ProjectSuspended,
    /// Being set up, or its set-up failed.
    ProjectNotReady,
    /// No route leads there.
    NotFound,
    MethodNotAllowed {
        allow: &'static str,
    },
    /// A service of the contract that this version does not have yet.
    NotBuilt {
        service: &'static str,
    },
    /// A service that another process serves.
    NotHere {
        service: &'static str,
    },
    /// A fault of ours; the log knows more.
    Internal,
}

/// How long a client should wait after an overload, in seconds.
const OVERLOAD_RETRY_SECONDS: u64 = 1;

impl From<KeyError> for Rejection {
    fn from(error: KeyError) -> Self {
        Self::Key(error)
    }
}

impl From<BodyError> for Rejection {
    fn from(error: BodyError) -> Self {
        Self::Body(error)
    }
}

impl Rejection {
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Key(_) => StatusCode::UNAUTHORIZED,
            Self::RateLimited { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Overloaded | Self::AnswersWaiting | Self::ProjectNotReady | Self::Body(BodyError::NoRoom) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::TimedOut => StatusCode::GATEWAY_TIMEOUT,
            Self::Host | Self::Malformed => StatusCode::BAD_REQUEST,
            Self::Body(BodyError::TooLarge { .. }) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Body(BodyError::TimedOut) => StatusCode::REQUEST_TIMEOUT,
            Self::Body(BodyError::Broken(_)) => StatusCode::BAD_REQUEST,
            Self::UriTooLong { .. } => StatusCode::URI_TOO_LONG,
            Self::HeadersTooLarge { .. } => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::UnknownProject | Self::NotFound | Self::NotHere { .. } => StatusCode::NOT_FOUND,
            Self::ProjectSuspended => StatusCode::FORBIDDEN,
            Self::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotBuilt { .. } => StatusCode::NOT_IMPLEMENTED,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// A short name for the metrics: one of a small fixed set.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Key(_) => "key",
            Self::RateLimited { .. } => "rate_limit",
            Self::Overloaded | Self::AnswersWaiting | Self::TimedOut | Self::Body(BodyError::NoRoom) => "overload",
            Self::Body(_) => "body",
            Self::UriTooLong { .. } | Self::HeadersTooLarge { .. } | Self::Host | Self::Malformed => "header",
            Self::UnknownProject | Self::ProjectSuspended | Self::ProjectNotReady => "project",
            Self::NotFound | Self::MethodNotAllowed { .. } | Self::NotBuilt { .. } | Self::NotHere { .. } => "route",
            Self::Internal => "internal",
        }
    }

    /// The public text.
    pub fn message(&self) -> Cow<'static, str> {
        match self {
            Self::Key(error) => error.message(),
            Self::RateLimited { retry_after } => format!("Too many requests; try again in {retry_after} s").into(),
            Self::Overloaded => "The server is at its limit of concurrent requests; try again".into(),
            Self::Body(BodyError::TooLarge { limit }) => {
                format!("The request body is larger than the allowed {limit} bytes").into()
            }
            Self::Body(BodyError::TimedOut) => "The request body did not arrive in time".into(),
            Self::Body(BodyError::NoRoom) => "The server has no room for the request body now; try again".into(),
            Self::Body(BodyError::Broken(_)) => "The request body could not be read".into(),
            Self::AnswersWaiting => "Too many answers wait to be read by their clients; try again".into(),
            Self::TimedOut => "The request took too long and was given up".into(),
            Self::Host => "The request must have one Host header, in ASCII".into(),
            Self::Malformed => "The request is not valid HTTP".into(),
            Self::UriTooLong { limit } => format!("The URI is longer than the allowed {limit} bytes").into(),
            Self::HeadersTooLarge { limit } => {
                format!("The request headers are longer than the allowed {limit} bytes").into()
            }
            Self::UnknownProject => "No such project".into(),
            Self::ProjectSuspended => "The project is suspended; its owner can resume it".into(),
            Self::ProjectNotReady => "The project is not ready yet; try again".into(),
            Self::NotFound => "Nothing is served at this path".into(),
            Self::MethodNotAllowed { allow } => format!("The method is not allowed here; use {allow}").into(),
            Self::NotBuilt { service } => format!("The {service} service is not part of this version").into(),
            Self::NotHere { service } => format!("The {service} service is not served by this process").into(),
            Self::Internal => "The request failed".into(),
        }
    }

    /// What the caller can do about it, where the protocol has room for it.
    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Key(KeyError::Missing) => Some("Send the project's key in the apikey header"),
            Self::Key(KeyError::UserTokenAlone) => {
                Some("Send the project's key in the apikey header beside the user's token")
            }
            Self::NotFound => Some("A project is served at /p/<project id>/rest/v1, auth/v1, storage/v1, realtime/v1"),
            _ => None,
        }
    }

    /// The code in a protocol.
    pub fn code(&self, protocol: Protocol) -> &'static str {
        match protocol {
            Protocol::Rest => self.rest_code(),
            Protocol::Auth { .. } => self.auth_code(),
            Protocol::Storage => self.storage_code(),
            Protocol::Plain | Protocol::Graphql | Protocol::Platform => self.platform_code(),
        }
    }

    fn rest_code(&self) -> &'static str {
        match self {
            Self::Key(error) => rest_key_code(error),
            Self::RateLimited { .. } => "53400", // configuration_limit_exceeded
            Self::Overloaded => "53300",         // too_many_connections
            Self::Body(BodyError::TooLarge { .. }) => "54000", // program_limit_exceeded
            Self::Body(BodyError::NoRoom) | Self::AnswersWaiting => "53200", // out_of_memory
            Self::TimedOut => "57014",           // query_canceled
            Self::Host | Self::Malformed => "08P01", // protocol_violation
            Self::Body(BodyError::TimedOut | BodyError::Broken(_)) => "08006", // connection_failure
            Self::UriTooLong { .. } | Self::HeadersTooLarge { .. } => "54000",
            Self::UnknownProject => "3D000", // invalid_catalog_name
            Self::ProjectSuspended | Self::ProjectNotReady => "57P03", // cannot_connect_now
            Self::NotFound | Self::NotHere { .. } => "PGRST125",
            Self::MethodNotAllowed { .. } => "PGRST117",
            Self::NotBuilt { .. } => "0A000", // feature_not_supported
            Self::Internal => "XX000",        // internal_error
        }
    }

    fn auth_code(&self) -> &'static str {
        match self {
            Self::Key(KeyError::Missing | KeyError::UserTokenAlone) => "no_authorization",
            Self::Key(_) => "bad_jwt",
            Self::RateLimited { .. } => "over_request_rate_limit",
            Self::Overloaded | Self::AnswersWaiting | Self::Body(BodyError::NoRoom) | Self::Internal => {
                "unexpected_failure"
            }
            Self::Body(BodyError::TimedOut) | Self::TimedOut => "request_timeout",
            Self::Body(_) | Self::UriTooLong { .. } | Self::HeadersTooLarge { .. } => "validation_failed",
            _ => self.platform_code(),
        }
    }

    fn storage_code(&self) -> &'static str {
        match self {
            Self::Key(_) => "Unauthorized",
            Self::RateLimited { .. } | Self::Overloaded | Self::AnswersWaiting | Self::Body(BodyError::NoRoom) => {
                "SlowDown"
            }
            Self::TimedOut => "DatabaseTimeout",
            Self::Host | Self::Malformed => "InvalidRequest",
            Self::Body(BodyError::TooLarge { .. }) => "EntityTooLarge",
            Self::Body(_) | Self::UriTooLong { .. } | Self::HeadersTooLarge { .. } => "InvalidRequest",
            Self::UnknownProject => "TenantNotFound",
            Self::ProjectSuspended => "AccessDenied",
            Self::ProjectNotReady => "ServiceUnavailable",
            Self::NotFound | Self::NotHere { .. } => "NotFound",
            Self::MethodNotAllowed { .. } => "MethodNotAllowed",
            Self::NotBuilt { .. } => "NotImplemented",
            Self::Internal => "InternalError",
        }
    }

    fn platform_code(&self) -> &'static str {
        match self {
            Self::Key(KeyError::Missing | KeyError::UserTokenAlone) => "missing_api_key",
            Self::Key(_) => "invalid_api_key",
            Self::RateLimited { .. } => "rate_limited",
            Self::Overloaded | Self::AnswersWaiting | Self::Body(BodyError::NoRoom) => "overloaded",
            Self::TimedOut => "timeout",
            Self::Host => "invalid_host",
            Self::Malformed => "malformed_request",
            Self::Body(BodyError::TooLarge { .. }) => "body_too_large",
            Self::Body(BodyError::TimedOut) => "body_timeout",
            Self::Body(BodyError::Broken(_)) => "body_unreadable",
            Self::UriTooLong { .. } => "uri_too_long",
            Self::HeadersTooLarge { .. } => "headers_too_large",
            Self::UnknownProject => "project_not_found",
            Self::ProjectSuspended => "project_suspended",
            Self::ProjectNotReady => "project_not_ready",
            Self::NotFound | Self::NotHere { .. } => "not_found",
            Self::MethodNotAllowed { .. } => "method_not_allowed",
            Self::NotBuilt { .. } => "not_implemented",
            Self::Internal => "internal_error",
        }
    }

    /// Logs and renders the rejection in a protocol's shape.
    pub fn respond(&self, protocol: Protocol) -> Response {
        respond(&InProtocol { rejection: self, protocol })
    }
}

/// PostgREST: PGRST301 for a token that cannot be read, 302 for none, 303 for one whose claims do not hold.
fn rest_key_code(error: &KeyError) -> &'static str {
    match error {
        KeyError::Missing | KeyError::UserTokenAlone => "PGRST302",
        KeyError::Role | KeyError::WrongProject => "PGRST303",
        KeyError::Jwt(error) => match error {
            JwtError::Expired
            | JwtError::NotYetValid
            | JwtError::IssuedInFuture
            | JwtError::Audience
            | JwtError::ClaimType(_)
            | JwtError::Payload => "PGRST303",
            _ => "PGRST301",
        },
        KeyError::Unknown | KeyError::LegacyKeysDisabled | KeyError::Empty => "PGRST301",
    }
}

struct InProtocol<'a> {
    rejection: &'a Rejection,
    protocol: Protocol,
}

impl WireError for InProtocol<'_> {
    fn status(&self) -> StatusCode {
        self.rejection.status()
    }

    fn code(&self) -> Cow<'_, str> {
        self.rejection.code(self.protocol).into()
    }

    fn body(&self) -> Vec<u8> {
        let rejection = self.rejection;
        let code = rejection.code(self.protocol);
        self.protocol.body(rejection.status(), code, &rejection.message(), None, rejection.hint())
    }

    fn headers(&self, headers: &mut HeaderMap) {
        self.protocol.error_headers(self.rejection.code(self.protocol), headers);
        match self.rejection {
            Rejection::RateLimited { retry_after } => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(*retry_after));
            }
            Rejection::Overloaded | Rejection::AnswersWaiting | Rejection::TimedOut | Rejection::ProjectNotReady => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(OVERLOAD_RETRY_SECONDS));
            }
            Rejection::Key(KeyError::Missing | KeyError::UserTokenAlone) => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Rejection::Key(error) => {
                let text = format!("Bearer error=\"invalid_token\", error_description=\"{}\"", error.message());
                if let Ok(value) = HeaderValue::try_from(text) {
                    headers.insert(header::WWW_AUTHENTICATE, value);
                }
            }
            Rejection::MethodNotAllowed { allow } => {
                headers.insert(header::ALLOW, HeaderValue::from_static(allow));
            }
            // What is left of a refused body would be read as the next request.
            Rejection::Body(error) => {
                if matches!(error, BodyError::NoRoom) {
                    headers.insert(header::RETRY_AFTER, HeaderValue::from(OVERLOAD_RETRY_SECONDS));
                }
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
    }

    fn cause(&self) -> Option<&(dyn Error + 'static)> {
        match self.rejection {
            Rejection::Body(BodyError::Broken(cause)) => Some(cause),
            _ => None,
        }
    }
}
