//! Bodies of requests: JSON objects whose fields may be missing or null.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use web::{BodyError, read_body};

use crate::error::{Error, ErrorCode};

/// Largest body, in bytes (GoTrue's).
pub(crate) const LARGEST_BODY: u64 = 1024 * 1024;

/// Reads a whole body of at most [`LARGEST_BODY`].
pub(crate) async fn body(headers: &http::HeaderMap, body: axum::body::Body) -> Result<Bytes, Error> {
    let too_large = || Error::new(ErrorCode::RequestEntityTooLarge, "Request body exceeds 1 MiB");
    let capped = web::limits::cap_body(headers, body, LARGEST_BODY).map_err(|_| too_large())?;
    read_body(capped).await.map_err(|error| match error {
        BodyError::TooLarge { .. } => too_large(),
        BodyError::TimedOut => Error::new(ErrorCode::RequestTimeout, "The request body did not arrive in time")
            .with_status(http::StatusCode::REQUEST_TIMEOUT),
        BodyError::NoRoom => {
            Error::new(ErrorCode::UnexpectedFailure, "The server has no room for the request body now")
                .with_status(http::StatusCode::SERVICE_UNAVAILABLE)
                .retry_after(1)
        }
        BodyError::Broken(cause) => Error::new(ErrorCode::BadJson, "The request body could not be read").because(cause),
    })
}

/// A body's parameters. What is no JSON object of the right types is `bad_json`.
pub(crate) fn params<T: DeserializeOwned>(body: &Bytes) -> Result<T, Error> {
    let bad = |what: &dyn std::fmt::Display| {
        Error::new(ErrorCode::BadJson, format!("Could not parse request body as JSON: {what}"))
    };
    // A list would be taken for the fields in their order.
    if body.trim_ascii_start().first().is_some_and(|first| *first != b'{') {
        return Err(bad(&"expected an object"));
    }
    serde_json::from_slice(body).map_err(|error| bad(&error))
}

/// A text parameter; a missing, null or empty one is none. NUL characters, which PostgreSQL cannot store, are refused.
pub(crate) fn text<'a>(name: &'static str, value: Option<&'a String>) -> Result<Option<&'a str>, Error> {
    match value.map(String::as_str).filter(|text| !text.is_empty()) {
        Some(text) if text.contains('\0') => Err(Error::invalid(format!("{name} must not contain NUL characters"))),
        text => Ok(text),
    }
}
