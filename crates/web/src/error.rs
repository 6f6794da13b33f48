//! Errors on the wire. Each protocol keeps its own shape (contracts, section 7), and one function renders them all.

use std::borrow::Cow;
use std::error::Error;
use std::fmt::Write as _;

use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::{Value, json};

/// Header with which a client of the auth service asks for the newer shape of errors.
pub const API_VERSION_HEADER: &str = "x-supabase-api-version";
/// The only value of [`API_VERSION_HEADER`] that changes anything.
pub const API_VERSION_2024: &str = "2024-01-01";

/// Which error shape a caller understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// PostgREST: `{code, message, details, hint}`, all four always there.
    Rest,
    /// Auth: `{code: <status>, error_code, msg}`, or `{code, message}` from the API version 2024-01-01 on.
    Auth { version_2024: bool },
    /// Storage: `{statusCode: "<status>", error, message}`.
    Storage,
    /// Realtime and functions: `{code, message}`.
    Plain,
    /// GraphQL: `{errors: [{message, extensions: {code}}]}`.
    Graphql,
    /// The control plane: `{error: {code, message, details}}`.
    Platform,
}

impl Protocol {
    /// The auth protocol in the version that the request asks for.
    pub fn auth(request: &HeaderMap) -> Self {
        let asked = request.get(API_VERSION_HEADER).is_some_and(|v| v.as_bytes() == API_VERSION_2024.as_bytes());
        Self::Auth { version_2024: asked }
    }

    /// Renders an error in this protocol's shape. `details` and `hint` are dropped by protocols without them.
    pub fn body(
        self,
        status: StatusCode,
        code: &str,
        message: &str,
        details: Option<&Value>,
        hint: Option<&str>,
    ) -> Vec<u8> {
        let to_vec = |value: &Value| value.to_string().into_bytes();
        match self {
            Self::Rest => rest_body(code, message, details, hint),
            Self::Auth { version_2024: true } => to_vec(&json!({"code": code, "message": message})),
            Self::Auth { version_2024: false } => {
                to_vec(&json!({"code": status.as_u16(), "error_code": code, "msg": message}))
            }
            Self::Storage => to_vec(&json!({"statusCode": status.as_str(), "error": code, "message": message})),
            Self::Plain => to_vec(&json!({"code": code, "message": message})),
            Self::Graphql => to_vec(&json!({"errors": [{"message": message, "extensions": {"code": code}}]})),
            Self::Platform => to_vec(&json!({"error": {"code": code, "message": message, "details": details}})),
        }
    }

    /// Headers that every error of this protocol carries.
    pub fn error_headers(self, code: &str, headers: &mut HeaderMap) {
        match self {
            Self::Rest => {
                if let Ok(value) = HeaderValue::try_from(format!("PostgREST; error={code}")) {
                    headers.insert("proxy-status", value);
                }
            }
            Self::Auth { version_2024: true } => {
                headers.insert(API_VERSION_HEADER, HeaderValue::from_static(API_VERSION_2024));
            }
            _ => {}
        }
    }
}

/// The body of a data API error.
pub fn rest_body(code: &str, message: &str, details: Option<&Value>, hint: Option<&str>) -> Vec<u8> {
    #[derive(Serialize)]
    struct Body<'a> {
        code: &'a str,
        details: Option<&'a Value>,
        hint: Option<&'a str>,
        message: &'a str,
    }
    serde_json::to_vec(&Body { code, details, hint, message }).unwrap_or_default()
}

/// An error as one wire protocol shows it. The public part (status, code, body, headers) is all that a client sees;
/// the private cause goes to the log, once, in [`respond`].
pub trait WireError {
    fn status(&self) -> StatusCode;

    /// The protocol's code, for the log.
    fn code(&self) -> Cow<'_, str>;

    /// The whole body, as JSON.
    fn body(&self) -> Vec<u8>;

    /// Adds headers to the answer.
    fn headers(&self, headers: &mut HeaderMap) {
        let _ = headers;
    }

    /// What really happened; never shown to a client.
    fn cause(&self) -> Option<&(dyn Error + 'static)> {
        None
    }
}

/// The code of an error answer, as an extension of the response: the request log prints it.
#[derive(Clone, Debug)]
pub struct ErrorCode(pub String);

/// Logs the private cause once and renders the public part.
pub fn respond(error: &dyn WireError) -> Response {
    let status = error.status();
    let code = error.code().into_owned();
    if let Some(cause) = error.cause() {
        let cause = chain(cause);
        if status.is_server_error() {
            tracing::error!(status = status.as_u16(), error.code = %code, error.cause = %cause, "request failed");
        } else {
            tracing::debug!(status = status.as_u16(), error.code = %code, error.cause = %cause, "request refused");
        }
    }
    let mut response = Response::new(Body::from(error.body()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    error.headers(headers);
    response.extensions_mut().insert(ErrorCode(code));
    response
}

/// An error and its sources in one line.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let part = error.to_string();
        // Many errors print their source themselves.
        if !text.ends_with(&part) {
            let _ = write!(text, ": {part}");
        }
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_protocol_has_its_shape() {
        let check = |protocol: Protocol, expected: Value| {
            let details = json!("d");
            let body = protocol.body(StatusCode::NOT_FOUND, "c", "m", Some(&details), Some("h"));
            assert_eq!(serde_json::from_slice::<Value>(&body).unwrap(), expected, "{protocol:?}");
        };
        check(Protocol::Rest, json!({"code": "c", "message": "m", "details": "d", "hint": "h"}));
        check(Protocol::Auth { version_2024: false }, json!({"code": 404, "error_code": "c", "msg": "m"}));
        check(Protocol::Auth { version_2024: true }, json!({"code": "c", "message": "m"}));
        check(Protocol::Storage, json!({"statusCode": "404", "error": "c", "message": "m"}));
        check(Protocol::Plain, json!({"code": "c", "message": "m"}));
        check(Protocol::Graphql, json!({"errors": [{"message": "m", "extensions": {"code": "c"}}]}));
        check(Protocol::Platform, json!({"error": {"code": "c", "message": "m", "details": "d"}}));
    }

    #[test]
    fn rest_bodies_keep_all_four_keys() {
        let body: Value = serde_json::from_slice(&rest_body("PGRST125", "m", None, None)).unwrap();
        assert_eq!(body, json!({"code": "PGRST125", "message": "m", "details": null, "hint": null}));
    }

    #[test]
    fn the_cause_is_not_shown() {
        #[derive(Debug, thiserror::Error)]
        #[error("password authentication failed for user x")]
        struct Cause;
        struct Failed(Cause);
        impl WireError for Failed {
            fn status(&self) -> StatusCode {
                StatusCode::INTERNAL_SERVER_ERROR
            }
            fn code(&self) -> Cow<'_, str> {
                "XX000".into()
            }
            fn body(&self) -> Vec<u8> {
                rest_body("XX000", "internal error", None, None)
            }
            fn cause(&self) -> Option<&(dyn Error + 'static)> {
                Some(&self.0)
            }
        }
        let response = respond(&Failed(Cause));
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert!(response.headers().values().all(|v| !v.to_str().unwrap().contains("password")));
    }
}
