//! CORS as PostgREST does it (PostgREST docs, "CORS").

use axum::response::Response as HttpResponse;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

/// Whether a browser asks what it may send.
pub(super) fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// Any origin, or those of `server-cors-allowed-origins` with credentials.
pub(super) struct Cors {
    allow_origin: HeaderValue,
    credentials: bool,
}

const EXPOSED: &str = "Content-Encoding, Content-Location, Content-Range, Content-Type, Date, Location, Server, \
                       Transfer-Encoding, Range-Unit";

impl Cors {
    pub(super) fn of(headers: &HeaderMap, allowed: Option<&[String]>) -> Option<Self> {
        let origin = headers.get(ORIGIN)?;
        match allowed {
            None | Some([]) => Some(Self { allow_origin: HeaderValue::from_static("*"), credentials: false }),
            Some(allowed) => allowed
                .iter()
                .any(|one| one.as_bytes() == origin.as_bytes())
                .then(|| Self { allow_origin: origin.clone(), credentials: true }),
        }
    }

    pub(super) fn add_to(&self, headers: &mut HeaderMap) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, self.allow_origin.clone());
        if self.credentials {
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    }

    pub(super) fn preflight(&self, request: &HeaderMap) -> HttpResponse {
        let mut response = HttpResponse::new(axum::body::Body::empty());
        *response.status_mut() = StatusCode::OK;
        let headers = response.headers_mut();
        headers.insert(
            ACCESS_CONTROL_ALLOW_METHODS,
            HeaderValue::from_static("GET, POST, PATCH, PUT, DELETE, OPTIONS, HEAD"),
        );
        let wanted = request.get(ACCESS_CONTROL_REQUEST_HEADERS).and_then(|value| value.to_str().ok()).unwrap_or("");
        // What is always allowed, then what was asked for.
        let mut allowed = String::from("Authorization");
        for name in wanted.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            allowed.push_str(", ");
            allowed.push_str(name);
        }
        allowed.push_str(", Accept, Accept-Language, Content-Language");
        if let Ok(value) = HeaderValue::from_str(&allowed) {
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, value);
        }
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
        response
    }
}
