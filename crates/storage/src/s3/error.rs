//! S3's errors: one enum, one table of statuses and codes, XML bodies with the real status.

use std::borrow::Cow;
use std::error::Error as StdError;

use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use web::WireError;

use super::chunked::ChunkError;
use super::payload::PayloadError;
use super::xml;
use crate::error::Error;

/// Everything an S3 client can be told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum S3Error {
    /// Also what is said without any signature.
    #[error("access denied: {0}")]
    AccessDenied(&'static str),
    #[error("malformed authorization header: {0}")]
    AuthorizationHeaderMalformed(&'static str),
    #[error("malformed signed link: {0}")]
    AuthorizationQueryParametersError(&'static str),
    #[error("no such access key")]
    InvalidAccessKeyId,
    #[error("the signature does not match")]
    SignatureDoesNotMatch,
    /// The session token is no token of this project that counts; says why.
    #[error("invalid session token: {0}")]
    InvalidToken(Cow<'static, str>),
    #[error("the client's clock is off")]
    RequestTimeTooSkewed,
    #[error("invalid request: {0}")]
    InvalidRequest(&'static str),
    #[error("invalid argument: {0}")]
    InvalidArgument(&'static str),
    #[error("invalid bucket name")]
    InvalidBucketName,
    #[error("invalid key")]
    InvalidKey,
    #[error("key too long")]
    KeyTooLong,
    #[error("method not allowed")]
    MethodNotAllowed,
    /// What S3 has and this server has not; says which.
    #[error("not implemented: {0}")]
    NotImplemented(&'static str),
    /// A setting that nobody can make; S3 has an error of its own for each.
    #[error("no such setting: {code}")]
    NoSuchSetting { code: &'static str, message: &'static str },
    #[error("no such upload")]
    NoSuchUpload,
    #[error("malformed XML")]
    MalformedXml,
    #[error("the length is missing")]
    MissingContentLength,
    /// The body is not what its length, its encoding or the client says.
    #[error("payload: {0}")]
    Payload(PayloadError),
    #[error("invalid digest")]
    InvalidDigest,
    #[error("a part that is not there, or another")]
    InvalidPart,
    #[error("parts out of order")]
    InvalidPartOrder,
    #[error("a part that is too small")]
    EntityTooSmall,
    #[error("bucket already exists")]
    BucketAlreadyExists,
    /// Whatever the service itself says.
    #[error("storage")]
    Storage(#[source] Error),
}

impl From<Error> for S3Error {
    fn from(error: Error) -> Self {
        match error {
            Error::NoSuchUpload => Self::NoSuchUpload,
            Error::InvalidBucketName => Self::InvalidBucketName,
            Error::MethodNotAllowed => Self::MethodNotAllowed,
            Error::Payload(PayloadError::Chunk(ChunkError::Malformed(what))) => Self::InvalidRequest(what),
            Error::Payload(PayloadError::Chunk(ChunkError::Signature)) => Self::SignatureDoesNotMatch,
            Error::Payload(PayloadError::Chunk(ChunkError::Incomplete)) => Self::Payload(PayloadError::Incomplete),
            Error::Payload(error) => Self::Payload(error),
            other => Self::Storage(other),
        }
    }
}

/// A line of the table.
type Entry = (u16, &'static str, Cow<'static, str>);

fn entry(status: u16, code: &'static str, message: impl Into<Cow<'static, str>>) -> Entry {
    (status, code, message.into())
}

impl S3Error {
    /// The table.
    fn entry(&self) -> Entry {
        match self {
            Self::AccessDenied(message) => entry(403, "AccessDenied", *message),
            Self::AuthorizationHeaderMalformed(what) => entry(
                400,
                "AuthorizationHeaderMalformed",
                format!("The authorization header that you provided is not valid: {what}"),
            ),
            Self::AuthorizationQueryParametersError(what) => entry(400, "AuthorizationQueryParametersError", *what),
            Self::InvalidAccessKeyId => {
                entry(403, "InvalidAccessKeyId", "The access key ID that you provided does not exist in our records.")
            }
            Self::SignatureDoesNotMatch => entry(
                403,
                "SignatureDoesNotMatch",
                "The request signature that we calculated does not match the signature that you provided. \
                 Check your secret access key, the endpoint and the signing method.",
            ),
            Self::InvalidToken(why) => {
                entry(400, "InvalidToken", format!("The session token is not a valid JWT of this project: {why}"))
            }
            Self::RequestTimeTooSkewed => entry(
                403,
                "RequestTimeTooSkewed",
                "The difference between the request time and the server's time is too large.",
            ),
            Self::InvalidRequest(message) => entry(400, "InvalidRequest", *message),
            Self::InvalidArgument(message) => entry(400, "InvalidArgument", *message),
            Self::InvalidBucketName => entry(400, "InvalidBucketName", "The specified bucket is not valid."),
            Self::InvalidKey => entry(
                400,
                "InvalidKey",
                "The key has characters that this server does not take, or a segment that is . or ..",
            ),
            Self::KeyTooLong => entry(400, "KeyTooLongError", "Your key is too long."),
            Self::MethodNotAllowed => {
                entry(405, "MethodNotAllowed", "The specified method is not allowed against this resource.")
            }
            Self::NotImplemented(what) => {
                entry(501, "NotImplemented", format!("{what}: not supported by this server."))
            }
            Self::NoSuchSetting { code, message } => entry(404, code, *message),
            Self::NoSuchUpload => entry(
                404,
                "NoSuchUpload",
                "The specified multipart upload does not exist. It might have been completed or aborted.",
            ),
            Self::MalformedXml => entry(
                400,
                "MalformedXML",
                "The XML that you provided was not well formed or did not validate against our published schema.",
            ),
            Self::MissingContentLength => {
                entry(411, "MissingContentLength", "You must provide the Content-Length HTTP header.")
            }
            Self::Payload(PayloadError::Sha256) => entry(
                400,
                "XAmzContentSHA256Mismatch",
                "The provided 'x-amz-content-sha256' header does not match what was computed.",
            ),
            Self::Payload(PayloadError::Digest(name)) => {
                entry(400, "BadDigest", format!("The {name} that you specified did not match what we received."))
            }
            Self::Payload(PayloadError::Incomplete | PayloadError::Chunk(_)) => {
                entry(400, "IncompleteBody", "You did not provide the number of bytes that you announced.")
            }
            Self::InvalidDigest => {
                entry(400, "InvalidDigest", "The Content-MD5 or checksum value that you specified is not valid.")
            }
            Self::InvalidPart => entry(
                400,
                "InvalidPart",
                "One or more of the specified parts could not be found, or its entity tag did not match.",
            ),
            Self::InvalidPartOrder => {
                entry(400, "InvalidPartOrder", "The list of parts was not in ascending order by part number.")
            }
            Self::EntityTooSmall => {
                entry(400, "EntityTooSmall", "A part other than the last one is smaller than 5 MiB.")
            }
            Self::BucketAlreadyExists => entry(
                409,
                "BucketAlreadyExists",
                "The requested bucket name is not available. Select a different name and try again.",
            ),
            Self::Storage(error) => {
                (error.real_status().as_u16().min(599), storage_code(error), error.public_message())
            }
        }
    }

    /// Logs the cause and renders the error. `resource` is the path that was asked for.
    pub(crate) fn respond(&self, resource: &str, request_id: &str) -> Response {
        let mut response = web::respond(&Shaped { error: self, resource, request_id });
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/xml"));
        response
    }

    /// The HTTP status.
    pub(crate) fn status(&self) -> u16 {
        self.entry().0
    }

    /// Code and text for a list of results, where one error is among others.
    pub(crate) fn code_and_message(&self) -> (&'static str, Cow<'static, str>) {
        let (_, code, message) = self.entry();
        (code, message)
    }
}

/// S3's code for an error of the service.
fn storage_code(error: &Error) -> &'static str {
    match error {
        Error::NoSuchBucket => "NoSuchBucket",
        Error::NoSuchKey | Error::FileMissing => "NoSuchKey",
        Error::AccessDenied(_) => "AccessDenied",
        Error::TooLarge { .. } | Error::Body(web::BodyError::TooLarge { .. }) => "EntityTooLarge",
        Error::QuotaExceeded(_) => "EntityTooLarge",
        Error::AlreadyExists => "BucketAlreadyExists",
        Error::BucketNotEmpty | Error::Referenced(_) => "BucketNotEmpty",
        Error::InvalidRange { .. } => "InvalidRange",
        Error::PreconditionFailed => "PreconditionFailed",
        Error::InvalidKey(_) => "InvalidKey",
        Error::Body(web::BodyError::TimedOut) => "RequestTimeout",
        Error::Body(web::BodyError::Broken(_)) => "IncompleteBody",
        Error::Contended | Error::Locked => "OperationAborted",
        _ => match error.real_status().as_u16() {
            400..=499 if error.real_status() == StatusCode::TOO_MANY_REQUESTS => "SlowDown",
            403 => "AccessDenied",
            400..=499 => "InvalidRequest",
            503 => "SlowDown",
            _ => "InternalError",
        },
    }
}

struct Shaped<'a> {
    error: &'a S3Error,
    resource: &'a str,
    request_id: &'a str,
}

impl WireError for Shaped<'_> {
    fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.error.entry().0).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn code(&self) -> Cow<'_, str> {
        self.error.entry().1.into()
    }

    fn body(&self) -> Vec<u8> {
        let (_, code, message) = self.error.entry();
        xml::error(code, &message, self.resource, self.request_id)
    }

    fn headers(&self, headers: &mut HeaderMap) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let S3Error::Storage(error) = self.error {
            error.headers(headers);
        }
    }

    fn cause(&self) -> Option<&(dyn StdError + 'static)> {
        match self.error {
            S3Error::Storage(error) => error.cause(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_services_errors_have_s3s_codes_and_their_real_status() {
        let check = |error: Error, status: u16, code: &str| {
            let (own, name, _) = S3Error::from(error).entry();
            assert_eq!((own, name), (status, code));
        };
        check(Error::NoSuchBucket, 404, "NoSuchBucket");
        check(Error::NoSuchKey, 404, "NoSuchKey");
        check(Error::NoSuchUpload, 404, "NoSuchUpload");
        check(Error::denied(), 403, "AccessDenied");
        check(Error::TooLarge { limit: 1 }, 413, "EntityTooLarge");
        check(Error::BucketNotEmpty, 409, "BucketNotEmpty");
        check(Error::InvalidRange { size: 1 }, 416, "InvalidRange");
        check(Error::PreconditionFailed, 412, "PreconditionFailed");
        check(Error::TooManyUploads, 429, "SlowDown");
        check(Error::DiskFull, 503, "SlowDown");
        check(Error::InvalidMimeType("x".into()), 415, "InvalidRequest");
        check(Error::Internal("x"), 500, "InternalError");
    }
}
