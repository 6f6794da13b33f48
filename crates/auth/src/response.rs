//! Answers.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

use crate::error::Error;

/// A JSON answer that no cache keeps.
pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Result<Response, Error> {
    let body = serde_json::to_vec(value).map_err(|error| Error::internal("Error encoding the answer", error))?;
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

pub(crate) fn ok(value: &impl Serialize) -> Result<Response, Error> {
    json(StatusCode::OK, value)
}

/// `{}`: done, and nothing to tell.
pub(crate) fn empty_object() -> Result<Response, Error> {
    ok(&serde_json::Map::new())
}

pub(crate) fn no_content() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// 303 to a URL that [`crate::redirect`] has made.
pub(crate) fn see_other(url: &str) -> Result<Response, Error> {
    let location =
        HeaderValue::try_from(url).map_err(|error| Error::internal("The redirect URL is unusable", error))?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SEE_OTHER;
    response.headers_mut().insert(header::LOCATION, location);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    Ok(response)
}
