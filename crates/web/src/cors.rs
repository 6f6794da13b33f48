//! Cross-origin requests of browsers (Fetch standard). A preflight never needs a key.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");

/// What the published clients read from answers, tus and S3 included.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "content-encoding, content-location, content-range, content-type, content-length, content-disposition, date, etag, \
     last-modified, link, location, preference-applied, proxy-status, range-unit, retry-after, server-timing, \
     transfer-encoding, tus-extension, tus-max-size, tus-resumable, tus-version, upload-defer-length, upload-expires, \
     upload-length, upload-metadata, upload-offset, x-request-id, x-supabase-api-version, x-total-count",
);

/// Allowed where a browser's preflight names no headers.
const DEFAULT_HEADERS: HeaderValue = HeaderValue::from_static(
    "accept, accept-profile, apikey, authorization, content-profile, content-type, prefer, range, range-unit, \
     x-client-info, x-supabase-api-version, x-upsert",
);

/// How long a browser may remember a preflight, in seconds.
const MAX_AGE: HeaderValue = HeaderValue::from_static("3600");

const PREFLIGHT_VARY: HeaderValue =
    HeaderValue::from_static("Origin, Access-Control-Request-Method, Access-Control-Request-Headers");

/// Whether a request is a browser's question before the real request.
pub fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::OPTIONS
        && headers.contains_key(header::ORIGIN)
        && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// What the answer to a request from `origin` may say of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedOrigin {
    /// No browser is asking, or its origin is not allowed.
    None,
    Any,
    /// This one of a list.
    One(HeaderValue),
}

/// For answers that say nothing of a project.
pub fn any_origin(request: &HeaderMap) -> AllowedOrigin {
    if request.contains_key(header::ORIGIN) { AllowedOrigin::Any } else { AllowedOrigin::None }
}

/// Looks the request's origin up among the allowed ones (`*` is any).
pub fn allowed_origin(request: &HeaderMap, allowed: &[String]) -> AllowedOrigin {
    let Some(origin) = request.get(header::ORIGIN) else { return AllowedOrigin::None };
    if allowed.iter().any(|entry| entry == "*") {
        return AllowedOrigin::Any;
    }
    let fits = |entry: &String| entry.trim_end_matches('/').as_bytes().eq_ignore_ascii_case(origin.as_bytes());
    if allowed.iter().any(fits) { AllowedOrigin::One(origin.clone()) } else { AllowedOrigin::None }
}

/// Answers a preflight. An origin that is not allowed gets an answer without permissions, which the browser refuses.
pub fn preflight(request: &HeaderMap, origin: &AllowedOrigin) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(header::VARY, PREFLIGHT_VARY);
    if insert_origin(headers, origin) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        let asked = request.get(header::ACCESS_CONTROL_REQUEST_HEADERS).filter(|v| is_list_of_names(v)).cloned();
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked.unwrap_or(DEFAULT_HEADERS));
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    }
    response
}

/// Puts the permissions on the answer to a real request.
pub fn decorate(response: &mut HeaderMap, origin: &AllowedOrigin) {
    if insert_origin(response, origin) {
        response.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    }
    if matches!(origin, AllowedOrigin::One(_)) {
        response.append(header::VARY, HeaderValue::from_static("Origin"));
    }
}

fn insert_origin(headers: &mut HeaderMap, origin: &AllowedOrigin) -> bool {
    const NAME: HeaderName = header::ACCESS_CONTROL_ALLOW_ORIGIN;
    match origin {
        AllowedOrigin::None => return false,
        AllowedOrigin::Any => headers.insert(NAME, HeaderValue::from_static("*")),
        AllowedOrigin::One(origin) => headers.insert(NAME, origin.clone()),
    };
    true
}

/// Header names and commas only, and not absurdly many.
fn is_list_of_names(value: &HeaderValue) -> bool {
    let bytes = value.as_bytes();
    bytes.len() <= 2048 && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"-_, ".contains(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(origin: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::ORIGIN, origin.parse().unwrap());
        headers
    }

    #[test]
    fn origins_are_looked_up() {
        let any = ["*".to_owned()];
        let list = ["https://app.example".to_owned(), "http://localhost:3000/".to_owned()];
        assert_eq!(allowed_origin(&HeaderMap::new(), &any), AllowedOrigin::None);
        assert_eq!(allowed_origin(&from("https://x.example"), &any), AllowedOrigin::Any);
        assert_eq!(allowed_origin(&from("https://x.example"), &list), AllowedOrigin::None);
        assert_eq!(allowed_origin(&from("https://app.example.evil"), &list), AllowedOrigin::None);
        let one = AllowedOrigin::One("http://localhost:3000".parse().unwrap());
        assert_eq!(allowed_origin(&from("http://localhost:3000"), &list), one);
    }

    #[test]
    fn a_preflight_allows_the_headers_it_asks_for() {
        let mut request = from("https://x.example");
        request.insert(header::ACCESS_CONTROL_REQUEST_HEADERS, "apikey,tus-resumable".parse().unwrap());
        let response = preflight(&request, &AllowedOrigin::Any);
        assert_eq!(response.status(), StatusCode::NO_CONTENT);
        assert_eq!(response.headers()["access-control-allow-origin"], "*");
        assert_eq!(response.headers()["access-control-allow-headers"], "apikey,tus-resumable");
        request.insert(header::ACCESS_CONTROL_REQUEST_HEADERS, "a\"b".parse().unwrap());
        let response = preflight(&request, &AllowedOrigin::Any);
        assert!(response.headers()["access-control-allow-headers"].to_str().unwrap().contains("apikey"));
        let refused = preflight(&request, &AllowedOrigin::None);
        assert!(!refused.headers().contains_key("access-control-allow-methods"));
    }
}
