//! What can go wrong on storage's wire: one enum, one table of statuses, codes and texts (upstream's `codes.ts`).
//!
//! REST answers nearly every refusal with HTTP 400 and tells the real status as text in the body; TUS (and S3) use the
//! real one. See [`Shape`].

use std::borrow::Cow;
use std::error::Error as StdError;

use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use web::limits::BodyError;
use web::{Protocol, WireError};

use crate::backend::BackendError;
use crate::s3::PayloadError;

/// Everything a client can be told, and the private cause behind it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no such bucket")]
    NoSuchBucket,
    #[error("no such object")]
    NoSuchKey,
    /// The row is there and its file is not.
    #[error("the file of an object is missing")]
    FileMissing,
    #[error("no such upload")]
    NoSuchUpload,
    #[error("no such route: {method} {path}")]
    NoSuchRoute { method: String, path: String },
    #[error("method not allowed")]
    MethodNotAllowed,
    /// Part of the interface that this server does not have; says which.
    #[error("not built: {0}")]
    NotBuilt(&'static str),
    /// A feature that the project's settings switch off.
    #[error("switched off: {0}")]
    FeatureNotEnabled(&'static str),
    #[error("invalid bucket name")]
    InvalidBucketName,
    #[error("invalid key")]
    InvalidKey(String),
    /// A request that does not fit the interface; says how.
    #[error("invalid request: {0}")]
    InvalidRequest(Cow<'static, str>),
    #[error("invalid parameter: {0}")]
    InvalidParameter(Cow<'static, str>),
    #[error("no content")]
    NoContent(&'static str),
    #[error("mime type {0} is not allowed")]
    InvalidMimeType(String),
    /// The content is not what its type says.
    #[error("the content is {found}, declared was {declared}")]
    MimeMismatch { declared: String, found: &'static str },
    #[error("larger than {limit} bytes")]
    TooLarge { limit: u64 },
    /// The project's quota; holds it, in bytes.
    #[error("the project's {0} bytes are used up")]
    QuotaExceeded(u64),
    /// A content that is no image, or none that may be transformed; says why.
    #[error("image: {0}")]
    InvalidImage(&'static str),
    /// Too much of something at once; says of what.
    #[error("busy: {0}")]
    Busy(&'static str),
    #[error("too many uploads at once")]
    TooManyUploads,
    /// Too many, or too large ones, of one owner are not finished.
    #[error("too much is not finished")]
    TooMuchUnfinished,
    #[error("the disk is nearly full")]
    DiskFull,
    /// Policies refuse, or there are none; holds the public text.
    #[error("access denied: {0}")]
    AccessDenied(Cow<'static, str>),
    #[error("already exists")]
    AlreadyExists,
    #[error("bucket not empty")]
    BucketNotEmpty,
    #[error("still referenced: {0}")]
    Referenced(&'static str),
    #[error("related resource missing")]
    RelatedMissing,
    #[error("locked")]
    Locked,
    #[error("changed by others again and again")]
    Contended,
    #[error("invalid range")]
    InvalidRange { size: u64 },
    #[error("precondition failed")]
    PreconditionFailed,
    /// A token of a signed URL that is none of ours, for something else, or not for this project.
    #[error("invalid signature: {0}")]
    InvalidSignature(&'static str),
    #[error("invalid token")]
    InvalidJwt(&'static str),
    #[error("expired token")]
    ExpiredToken,
    /// TUS: the client is somewhere else than the server.
    #[error("offset {server}, client at {client}")]
    OffsetConflict { server: u64, client: u64 },
    #[error("unsupported TUS version")]
    TusVersion,
    #[error("wrong content type for TUS")]
    TusContentType,
    #[error("the upload has expired")]
    UploadExpired,
    #[error("body")]
    Body(#[source] BodyError),
    /// The request's body is not what its form says it is.
    #[error("malformed body: {0}")]
    MalformedBody(&'static str),
    /// The content is not what its S3 client signed or announced.
    #[error("content")]
    Payload(#[source] PayloadError),
    /// PostgreSQL said no.
    #[error("database: {public}")]
    Database { status: u16, code: &'static str, public: Cow<'static, str>, cause: pg::Error },
    #[error("backend")]
    Backend(#[source] BackendError),
    #[error("internal: {0}")]
    Internal(&'static str),
}

/// A line of the table.
struct Entry {
    /// What it really is; REST tells it in the body.
    status: u16,
    error: &'static str,
    message: Cow<'static, str>,
}

fn entry(status: u16, error: &'static str, message: impl Into<Cow<'static, str>>) -> Entry {
    Entry { status, error, message: message.into() }
}

impl Error {
    pub(crate) fn denied() -> Self {
        Self::AccessDenied("Access denied".into())
    }

    /// The table.
    fn entry(&self) -> Entry {
        match self {
            Self::NoSuchBucket => entry(404, "Bucket not found", "Bucket not found"),
            Self::NoSuchKey | Self::FileMissing => entry(404, "not_found", "Object not found"),
            Self::NoSuchUpload => entry(404, "NoSuchUpload", "Upload not found"),
            Self::NoSuchRoute { method, path } => entry(404, "Not Found", format!("Route {method}:{path} not found")),
            Self::MethodNotAllowed => entry(405, "Method Not Allowed", "Method not allowed"),
            Self::NotBuilt(what) => entry(501, "NotSupported", format!("{what} is not supported by this server")),
            Self::FeatureNotEnabled(what) => {
                entry(403, "FeatureNotEnabled", format!("The feature {what} is not enabled for this project"))
            }
            Self::InvalidBucketName => entry(400, "Invalid Input", "Bucket name invalid"),
            Self::InvalidKey(key) => entry(400, "InvalidKey", format!("Invalid key: {key}")),
            Self::InvalidRequest(what) => entry(400, "InvalidRequest", what.clone()),
            Self::InvalidParameter(what) => entry(400, "InvalidParameter", what.clone()),
            Self::NoContent(what) => entry(400, "InvalidRequest", *what),
            Self::InvalidMimeType(mime) => {
                entry(415, "invalid_mime_type", format!("mime type {mime} is not supported"))
            }
            Self::MimeMismatch { declared, found } => entry(
                415,
                "invalid_mime_type",
                format!("mime type {declared} does not fit the content, which is {found}"),
            ),
            Self::TooLarge { .. } => entry(413, "Payload too large", "The object exceeded the maximum allowed size"),
            Self::QuotaExceeded(limit) => {
                entry(413, "Payload too large", format!("The project's storage quota of {limit} bytes is used up"))
            }
            Self::InvalidImage(what) => entry(422, "InvalidImage", *what),
            Self::Busy(what) => entry(503, "SlowDown", *what),
            Self::TooManyUploads => entry(429, "SlowDown", "Too many uploads are in progress, try again later"),
            Self::TooMuchUnfinished => {
                entry(429, "SlowDown", "Too many resumable uploads are not finished: finish or end some of them first")
            }
            Self::DiskFull => entry(503, "SlowDown", "The server's disk is nearly full: uploads are refused"),
            Self::AccessDenied(message) => entry(403, "Unauthorized", message.clone()),
            Self::AlreadyExists => entry(409, "Duplicate", "The resource already exists"),
            Self::BucketNotEmpty => entry(409, "ResourceNotEmpty", "The bucket you tried to delete is not empty"),
            Self::Referenced(message) => entry(409, "ResourceReferenced", *message),
            Self::RelatedMissing => entry(404, "InvalidRequest", "The related resource does not exist"),
            Self::Locked => entry(423, "ResourceLocked", "The resource is locked"),
            Self::Contended => entry(409, "ResourceLocked", "The object is being changed by others, try again"),
            Self::InvalidRange { .. } => entry(416, "invalid_range", "invalid range provided"),
            Self::PreconditionFailed => {
                entry(412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold")
            }
            Self::InvalidSignature(what) => entry(400, "InvalidSignature", *what),
            Self::InvalidJwt(what) => entry(400, "InvalidJWT", *what),
            Self::ExpiredToken => entry(400, "InvalidJWT", "\"exp\" claim timestamp check failed"),
            Self::OffsetConflict { .. } => entry(409, "TusError", "Upload-Offset conflict"),
            Self::TusVersion => entry(412, "TusError", "Tus-Resumable Required"),
            Self::TusContentType => entry(415, "TusError", "Content-Type must be application/offset+octet-stream"),
            Self::UploadExpired => entry(410, "TusError", "The file for this url no longer exists"),
            Self::Body(BodyError::TooLarge { .. }) => {
                entry(413, "Payload too large", "The object exceeded the maximum allowed size")
            }
            Self::Body(BodyError::TimedOut) => entry(408, "InvalidRequest", "The request body did not arrive in time"),
            Self::Body(BodyError::NoRoom) => {
                entry(429, "SlowDown", "Too many uploads are in progress, try again later")
            }
            Self::Body(BodyError::Broken(_)) => {
                entry(400, "InvalidRequest", "The request body ended before it was complete")
            }
            Self::MalformedBody(what) => entry(400, "InvalidRequest", *what),
            Self::Payload(_) => entry(400, "InvalidRequest", "The content is not what was announced"),
            Self::Database { status, code, public, .. } => entry(*status, code, public.clone()),
            Self::Backend(BackendError::Full(_)) => {
                entry(503, "SlowDown", "The server's disk is full: uploads are refused")
            }
            Self::Backend(BackendError::Missing) => entry(404, "not_found", "Object not found"),
            Self::Backend(_) | Self::Internal(_) => entry(500, "InternalError", "Internal server error"),
        }
    }

    /// The status that the error really is.
    pub(crate) fn real_status(&self) -> StatusCode {
        StatusCode::from_u16(self.entry().status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Whether it is open if what was written is there: only PostgreSQL's own word says that it is not.
    pub(crate) fn is_undecided(&self) -> bool {
        match self {
            Self::Database { cause, .. } => {
                !matches!(cause, pg::Error::Db(_) | pg::Error::Overloaded | pg::Error::AcquireTimeout)
            }
            _ => false,
        }
    }

    /// What a client may read.
    pub(crate) fn public_message(&self) -> Cow<'static, str> {
        self.entry().message
    }

    /// Logs the cause and renders the error for REST.
    pub(crate) fn respond(&self) -> Response {
        web::respond(&Shaped { error: self, shape: Shape::Rest })
    }

    /// The same with the real status and the text alone, as TUS has it.
    pub(crate) fn respond_tus(&self) -> Response {
        let mut response = web::respond(&Shaped { error: self, shape: Shape::Tus });
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        response
    }

    /// Headers of an error, whatever its shape.
    pub(crate) fn headers(&self, headers: &mut HeaderMap) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        match self {
            Error::DiskFull | Error::Backend(BackendError::Full(_)) => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("60"));
            }
            Error::TooManyUploads | Error::Busy(_) | Error::Body(BodyError::NoRoom) => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            Error::InvalidRange { size } => {
                if let Ok(value) = HeaderValue::try_from(format!("bytes */{size}")) {
                    headers.insert(header::CONTENT_RANGE, value);
                }
            }
            // The rest of the body is not read, so the connection cannot be used again.
            Error::TooLarge { .. } | Error::QuotaExceeded(_) => {
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
    }

    /// What really happened; never shown to a client.
    pub(crate) fn cause(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Database { cause, .. } => Some(cause),
            Self::Backend(cause) => Some(cause),
            Self::Body(cause) => Some(cause),
            Self::Internal(_) | Self::FileMissing => Some(self),
            _ => None,
        }
    }
}

impl From<BodyError> for Error {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge { limit } => Self::TooLarge { limit },
            other => Self::Body(other),
        }
    }
}

impl From<BackendError> for Error {
    fn from(error: BackendError) -> Self {
        match error {
            BackendError::Missing => Self::FileMissing,
            other => Self::Backend(other),
        }
    }
}

/// How an error is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Rest,
    Tus,
}

struct Shaped<'a> {
    error: &'a Error,
    shape: Shape,
}

impl WireError for Shaped<'_> {
    fn status(&self) -> StatusCode {
        let real = self.error.real_status();
        match (self.shape, real.as_u16()) {
            // What a proxy or a client's retry has to see stays as it is.
            (Shape::Rest, 408 | 412 | 416 | 429 | 500..) => real,
            (Shape::Rest, _) if matches!(self.error, Error::NoSuchRoute { .. } | Error::MethodNotAllowed) => real,
            (Shape::Rest, _) => StatusCode::BAD_REQUEST,
            (Shape::Tus, _) => real,
        }
    }

    fn code(&self) -> Cow<'_, str> {
        self.error.entry().error.into()
    }

    fn body(&self) -> Vec<u8> {
        let Entry { status, error, message } = self.error.entry();
        match self.shape {
            Shape::Rest => {
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                Protocol::Storage.body(status, error, &message, None, None)
            }
            Shape::Tus => message.into_owned().into_bytes(),
        }
    }

    fn headers(&self, headers: &mut HeaderMap) {
        self.error.headers(headers);
    }

    fn cause(&self) -> Option<&(dyn StdError + 'static)> {
        self.error.cause()
    }
}

/// What an error of the database means here (upstream's `database/errors.ts`).
impl From<pg::Error> for Error {
    fn from(cause: pg::Error) -> Self {
        let db = match &cause {
            pg::Error::Db(db) => db,
            pg::Error::Overloaded | pg::Error::AcquireTimeout => {
                return Self::Database {
                    status: 429,
                    code: "too_many_connections",
                    public: "Too many connections issued to the database".into(),
                    cause,
                };
            }
            _ => {
                return Self::Database {
                    status: 503,
                    code: "DatabaseError",
                    public: "The database cannot be reached".into(),
                    cause,
                };
            }
        };
        let (status, code, public): (_, _, Cow<'static, str>) = match db.code.as_str() {
            "42501" => {
                // A missing policy and a missing grant are told apart; names of tables are no secret, SQL would be.
                return Self::AccessDenied(match db.message.contains("row-level security") {
                    true => "new row violates row-level security policy".into(),
                    false => db.message.clone().into(),
                });
            }
            "23505" => return Self::AlreadyExists,
            "23503" => {
                let still_referenced = db.detail.as_deref().is_some_and(|text| text.contains("is still referenced"));
                let by_upload = db.constraint.as_deref().is_some_and(|name| name.starts_with("s3_multipart_uploads"));
                return match (still_referenced, by_upload) {
                    (true, true) => Self::Referenced(
                        "The bucket could not be updated because it is referenced by a pending multipart upload.",
                    ),
                    (true, false) => {
                        Self::Referenced("The resource could not be updated or removed due to a foreign key constraint")
                    }
                    (false, _) => Self::RelatedMissing,
                };
            }
            "55P03" => return Self::Locked,
            "57014" => (544, "DatabaseTimeout", "The connection to the database timed out".into()),
            "25006" => {
                (503, "DatabaseReadOnly", "The database is currently in read-only mode. Please try again later.".into())
            }
            "53100" => return Self::DiskFull,
            "22P02" => (400, "InvalidParameter", db.message.clone().into()),
            "42P17" => {
                (503, "DatabaseInvalidObjectDefinition", "The database schema is invalid or incompatible.".into())
            }
            "42703" | "42P01" | "42883" => {
                (503, "DatabaseSchemaMismatch", "There is a database schema mismatch in a trigger or RLS policy".into())
            }
            // What a trigger or policy of the project raises is meant for its clients.
            "P0001" => (400, "DatabaseError", db.message.clone().into()),
            code => (500, "DatabaseError", format!("database error, code: {code}").into()),
        };
        Self::Database { status, code, public, cause }
    }
}
