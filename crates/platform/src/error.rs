//! The one error type of the platform API and its table of statuses and codes.
//!
//! Shape on the wire: `{"error": {"code", "message", "details"}}` (contracts, section 7). Causes go to the log, once,
//! and never to the client.

use std::borrow::Cow;
use std::fmt;

use axum::response::{IntoResponse, Response};
use http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};
use tokio_postgres::error::SqlState;
use web::{BodyError, Protocol, WireError};

use crate::user_migrations::MigrationFailure;

/// One thing that is wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Where: the name of a field, with dots for what is inside it.
    pub field: String,
    /// What is wrong, as the end of a sentence that begins with the field.
    pub problem: String,
}

impl Problem {
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }
}

/// A cause that only the log sees.
type Cause = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug)]
pub enum Error {
    /// The request's fields; holds every problem.
    Invalid(Vec<Problem>),
    /// The body is no JSON; holds where it stops being it.
    MalformedJson(String),
    UnsupportedMediaType,
    /// The body could not be had.
    Body(BodyError),
    Unauthorized,
    BadCredentials,
    /// An internal service was called without its key.
    WrongInternalKey,
    SignUpClosed,
    AdminRequired,
    NoSuchRoute,
    MethodNotAllowed,
    /// Also a project of somebody else.
    NoSuchProject,
    NoSuchKey,
    NoSuchDomain,
    NoSuchExtension,
    NoSuchOwner,
    NameTaken,
    IdTaken,
    EmailTaken,
    KeyNameTaken,
    KeyRevoked,
    DomainTaken,
    /// Somebody else holds what the change needs: a session of the project, or another change of it.
    ProjectBusy,
    /// The project's status forbids it; holds the status.
    WrongStatus(String),
    /// A fixed limit is reached; holds a sentence.
    LimitReached(&'static str),
    /// The operation cannot be done here; holds a sentence.
    Unsupported(String),
    /// Seconds until it is worth trying again.
    TooManyRequests(u64),
    /// SQL of an owner failed; everything PostgreSQL said about it is for the owner.
    Sql(Box<pg::DbError>, usize),
    /// SQL of an owner ran too long; holds the limit in milliseconds.
    SqlTimeout(u64),
    /// A file of an application's migrations failed.
    Migration(Box<MigrationFailure>),
    /// Not built yet; holds what.
    NotBuilt(&'static str),
    /// Nothing is written until there is room again.
    DiskNearlyFull,
    /// There is room for what projects write, and none for another backup.
    NoRoomForBackup,
    /// The project's database cannot be reached.
    ProjectDatabase(Cause),
    /// The platform's database cannot be reached.
    Unavailable(Cause),
    Internal(Cause),
}

impl Error {
    pub fn invalid(field: &str, problem: impl Into<String>) -> Self {
        Self::Invalid(vec![Problem::new(field, problem)])
    }

    /// Status and code of every error.
    fn row(&self) -> (StatusCode, &'static str) {
        use StatusCode as S;
        match self {
            Self::Invalid(_) => (S::BAD_REQUEST, "validation_failed"),
            Self::MalformedJson(_) => (S::BAD_REQUEST, "invalid_json"),
            Self::UnsupportedMediaType => (S::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type"),
            Self::Body(BodyError::TooLarge { .. }) => (S::PAYLOAD_TOO_LARGE, "body_too_large"),
            Self::Body(BodyError::TimedOut) => (S::REQUEST_TIMEOUT, "body_timeout"),
            Self::Body(BodyError::NoRoom) => (S::SERVICE_UNAVAILABLE, "overloaded"),
            Self::Body(BodyError::Broken(_)) => (S::BAD_REQUEST, "body_unreadable"),
            Self::Unauthorized => (S::UNAUTHORIZED, "unauthorized"),
            Self::BadCredentials => (S::UNAUTHORIZED, "invalid_credentials"),
            Self::WrongInternalKey => (S::UNAUTHORIZED, "wrong_internal_key"),
            Self::SignUpClosed => (S::FORBIDDEN, "signup_closed"),
            Self::AdminRequired => (S::FORBIDDEN, "admin_required"),
            Self::NoSuchRoute => (S::NOT_FOUND, "not_found"),
            Self::MethodNotAllowed => (S::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::NoSuchProject => (S::NOT_FOUND, "project_not_found"),
            Self::NoSuchKey => (S::NOT_FOUND, "key_not_found"),
            Self::NoSuchDomain => (S::NOT_FOUND, "domain_not_found"),
            Self::NoSuchExtension => (S::NOT_FOUND, "extension_not_found"),
            Self::NoSuchOwner => (S::NOT_FOUND, "owner_not_found"),
            Self::NameTaken => (S::CONFLICT, "name_taken"),
            Self::IdTaken => (S::CONFLICT, "id_taken"),
            Self::EmailTaken => (S::CONFLICT, "email_taken"),
            Self::KeyNameTaken => (S::CONFLICT, "key_name_taken"),
            Self::KeyRevoked => (S::CONFLICT, "key_revoked"),
            Self::DomainTaken => (S::CONFLICT, "domain_taken"),
            Self::ProjectBusy => (S::CONFLICT, "project_busy"),
            Self::WrongStatus(_) => (S::CONFLICT, "wrong_status"),
            Self::LimitReached(_) => (S::CONFLICT, "limit_reached"),
            Self::Unsupported(_) => (S::UNPROCESSABLE_ENTITY, "unsupported"),
            Self::TooManyRequests(_) => (S::TOO_MANY_REQUESTS, "rate_limited"),
            Self::Sql(..) => (S::BAD_REQUEST, "sql_error"),
            Self::SqlTimeout(_) => (S::GATEWAY_TIMEOUT, "sql_timeout"),
            Self::Migration(_) => (S::BAD_REQUEST, "migration_failed"),
            Self::NotBuilt(_) => (S::NOT_IMPLEMENTED, "not_implemented"),
            Self::DiskNearlyFull | Self::NoRoomForBackup => (S::SERVICE_UNAVAILABLE, "disk_nearly_full"),
            Self::ProjectDatabase(_) => (S::SERVICE_UNAVAILABLE, "project_database_unavailable"),
            Self::Unavailable(_) => (S::SERVICE_UNAVAILABLE, "database_unavailable"),
            Self::Internal(_) => (S::INTERNAL_SERVER_ERROR, "internal_error"),
        }
    }

    fn details(&self) -> Value {
        match self {
            Self::Invalid(problems) => json!(problems),
            Self::WrongStatus(status) => json!({ "status": status }),
            Self::Body(BodyError::TooLarge { limit }) => json!({ "max_bytes": limit }),
            Self::TooManyRequests(seconds) => json!({ "retry_after_seconds": seconds }),
            Self::SqlTimeout(limit) => json!({ "timeout_ms": limit }),
            Self::Sql(error, statement) => json!({
                "sqlstate": error.code,
                "severity": error.severity,
                "position": error.position,
                "statement": statement + 1,
                "detail": error.detail,
                "hint": error.hint,
                "schema": error.schema,
                "table": error.table,
                "column": error.column,
                "constraint": error.constraint,
            }),
            Self::Migration(failure) => failure.details(),
            _ => Value::Null,
        }
    }

    fn retry_after(&self) -> Option<u64> {
        match self {
            Self::TooManyRequests(seconds) => Some(*seconds),
            Self::Body(BodyError::NoRoom) => Some(1),
            Self::ProjectDatabase(_) | Self::Unavailable(_) | Self::ProjectBusy => Some(1),
            // It takes somebody who makes room.
            Self::DiskNearlyFull => Some(30),
            Self::NoRoomForBackup => Some(600),
            _ => None,
        }
    }
}

/// The public message.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Invalid(_) => "the request is not valid; see details",
            Self::MalformedJson(place) => return write!(f, "the body is not valid JSON: {place}"),
            Self::UnsupportedMediaType => "the body must be sent as application/json",
            Self::Body(error) => return error.fmt(f),
            Self::Unauthorized => "a valid owner token is needed (Authorization: Bearer ...)",
            Self::BadCredentials => "the e-mail address or the password is wrong",
            Self::WrongInternalKey => "the internal key is needed (X-Internal-Key)",
            Self::SignUpClosed => "signing up is closed on this server",
            Self::AdminRequired => "only an administrator may do this",
            Self::NoSuchRoute => "there is no such route",
            Self::MethodNotAllowed => "the route does not know this method",
            Self::NoSuchProject => "there is no such project",
            Self::NoSuchKey => "the project has no such key",
            Self::NoSuchDomain => "there is no such domain",
            Self::NoSuchExtension => "there is no such extension among those that are installed here",
            Self::NoSuchOwner => "there is no such owner",
            Self::NameTaken => "a project of this name exists already",
            Self::IdTaken => "a project with this id exists already",
            Self::EmailTaken => "an owner with this e-mail address exists already",
            Self::KeyNameTaken => "a key of this name is in use already",
            Self::KeyRevoked => "the key is revoked already",
            Self::DomainTaken => "the domain belongs to a project already",
            Self::ProjectBusy => "something else holds a lock in the project that this needs; try again later",
            Self::WrongStatus(status) => return write!(f, "the project is {status}, which does not allow this"),
            Self::LimitReached(what) => what,
            Self::Unsupported(what) => what,
            Self::TooManyRequests(_) => "too many requests; try again later",
            Self::Sql(error, _) => &error.message,
            Self::SqlTimeout(limit) => return write!(f, "the SQL was cancelled after {limit} ms"),
            Self::Migration(failure) => &failure.message,
            Self::NotBuilt(what) => return write!(f, "{what} are not available in this version yet"),
            Self::DiskNearlyFull => "the disk is nearly full: nothing is written until there is room again",
            Self::NoRoomForBackup => "the disk has no room for another backup: the server's operator has to make some",
            Self::ProjectDatabase(_) => "the project's database cannot be reached at the moment",
            Self::Unavailable(_) => "the platform's database cannot be reached at the moment",
            Self::Internal(_) => "something went wrong on the server",
        };
        f.write_str(text)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::ProjectDatabase(cause) | Self::Unavailable(cause) | Self::Internal(cause) => Some(&**cause),
            Self::Body(BodyError::Broken(cause)) => Some(cause),
            _ => None,
        }
    }
}

impl WireError for Error {
    fn status(&self) -> StatusCode {
        self.row().0
    }

    fn code(&self) -> Cow<'_, str> {
        self.row().1.into()
    }

    fn body(&self) -> Vec<u8> {
        let (status, code) = self.row();
        Protocol::Platform.body(status, code, &self.to_string(), Some(&self.details()), None)
    }

    fn headers(&self, headers: &mut HeaderMap) {
        if let Some(seconds) = self.retry_after() {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.row().0 == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
    }

    fn cause(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(self)
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        web::respond(&self)
    }
}

/// A statement on the platform's database failed: it is down or going down (503), or the statement is wrong (500).
impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) {
            return Self::ProjectBusy;
        }
        // 08: connection, 53: resources, 57P: shut down or starting, 25006: read-only (a standby, or a full disk).
        let passing = match error.code().map(|code| code.code()) {
            None => error.is_closed() || std::error::Error::source(&error).is_some_and(|s| s.is::<std::io::Error>()),
            Some(code) => {
                code.starts_with("08") || code.starts_with("53") || code.starts_with("57P") || code == "25006"
            }
        };
        if passing { Self::Unavailable(error.into()) } else { Self::Internal(error.into()) }
    }
}

impl From<deadpool_postgres::PoolError> for Error {
    fn from(error: deadpool_postgres::PoolError) -> Self {
        Self::Unavailable(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_not_for_the_client() {
        let error = Error::Internal("password of proj_x".into());
        assert!(!error.to_string().contains("proj_x"));
        assert_eq!(error.details(), Value::Null);
        assert_eq!((error.status().as_u16(), error.code().as_ref()), (500, "internal_error"));
    }

    #[test]
    fn a_refused_request_says_when_to_come_back() {
        let response = Error::TooManyRequests(7).into_response();
        assert_eq!(response.headers()[RETRY_AFTER], "7");
        assert_eq!(Error::Unauthorized.into_response().headers()[WWW_AUTHENTICATE], "Bearer");
    }
}
