//! A JSON request body whose refusal names the problem in the control plane's shape.

use std::borrow::Cow;

use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;
use serde_json::{Value, error::Category, json};

use crate::error::{Protocol, WireError, respond};
use crate::limits::{BodyError, read_body};
use crate::rejection::Rejection;

/// Reads the whole body as JSON. Unknown fields are refused when `T` says so (`deny_unknown_fields`).
#[derive(Clone, Copy, Debug)]
pub struct Json<T>(pub T);

/// Why a body is not the JSON that a route wants.
#[derive(Debug)]
pub enum JsonRejection {
    Body(BodyError),
    /// The `Content-Type` is something else; holds it, for the answer.
    ContentType,
    /// No JSON at all, with the position of the fault.
    Malformed {
        message: String,
        line: usize,
        column: usize,
    },
    /// JSON, but of the wrong shape: a missing or unknown field, a wrong type.
    Shape {
        message: String,
        line: usize,
        column: usize,
    },
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = JsonRejection;

    async fn from_request(request: Request, _state: &S) -> Result<Self, JsonRejection> {
        if !is_json(request.headers()) {
            return Err(JsonRejection::ContentType);
        }
        let body = read_body(request.into_body()).await.map_err(JsonRejection::Body)?;
        serde_json::from_slice(&body).map(Json).map_err(|error| json_rejection(&error))
    }
}

/// Clients without a content type are taken at their body's word.
fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return true };
    let essence = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

fn json_rejection(error: &serde_json::Error) -> JsonRejection {
    let (line, column) = (error.line(), error.column());
    // The position is told beside the message.
    let text = error.to_string();
    let message = text.split(" at line ").next().unwrap_or_default().to_owned();
    match error.classify() {
        Category::Data => JsonRejection::Shape { message, line, column },
        Category::Syntax | Category::Eof | Category::Io => JsonRejection::Malformed { message, line, column },
    }
}

impl WireError for JsonRejection {
    fn status(&self) -> StatusCode {
        match self {
            Self::Body(_) => StatusCode::BAD_REQUEST,
            Self::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Malformed { .. } | Self::Shape { .. } => StatusCode::BAD_REQUEST,
        }
    }

    fn code(&self) -> Cow<'_, str> {
        match self {
            Self::Body(_) => "body_unreadable",
            Self::ContentType => "unsupported_media_type",
            Self::Malformed { .. } => "invalid_json",
            Self::Shape { .. } => "validation_failed",
        }
        .into()
    }

    fn body(&self) -> Vec<u8> {
        let (message, details): (String, Option<Value>) = match self {
            Self::Body(_) => ("The request body could not be read".into(), None),
            Self::ContentType => ("Send the body as application/json".into(), None),
            Self::Malformed { message, line, column } => (
                format!("The request body is not valid JSON: {message}"),
                Some(json!({"line": line, "column": column})),
            ),
            Self::Shape { message, line, column } => {
                (format!("The request body does not fit: {message}"), Some(json!({"line": line, "column": column})))
            }
        };
        Protocol::Platform.body(self.status(), &self.code(), &message, details.as_ref(), None)
    }
}

impl IntoResponse for JsonRejection {
    fn into_response(self) -> Response {
        match self {
            Self::Body(error) => Rejection::Body(error).respond(Protocol::Platform),
            other => respond(&other),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http_body_util::BodyExt as _;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct NewThing {
        #[expect(dead_code, reason = "only its presence and type matter")]
        name: String,
    }

    async fn check(content_type: &str, body: &[u8], status: u16, code: &str, message: &str) {
        let request = http::Request::post("/").header("content-type", content_type).body(Body::from(body.to_vec()));
        let response = match Json::<NewThing>::from_request(request.unwrap(), &()).await {
            Ok(_) => panic!("accepted"),
            Err(rejection) => rejection.into_response(),
        };
        assert_eq!(response.status(), status);
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let value: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(value["error"]["code"], code, "{value}");
        assert!(value["error"]["message"].as_str().unwrap().contains(message), "{value}");
    }

    #[tokio::test]
    async fn refusals_name_the_problem() {
        let json = "application/json";
        check(json, b"{\"name\": ", 400, "invalid_json", "EOF").await;
        check(json, b"nonsense", 400, "invalid_json", "expected").await;
        check(json, b"{\"name\": \"\xff\"}", 400, "invalid_json", "").await;
        check(json, b"{\"name\": 1}", 400, "validation_failed", "expected a string").await;
        check(json, b"{}", 400, "validation_failed", "missing field `name`").await;
        check(json, b"{\"name\": \"a\", \"nmae\": 1}", 400, "validation_failed", "unknown field `nmae`").await;
        check(json, "[".repeat(1000).as_bytes(), 400, "validation_failed", "").await;
        check("text/plain", b"{\"name\": \"a\"}", 415, "unsupported_media_type", "application/json").await;
        let request = http::Request::post("/").body(Body::from(r#"{"name": "a"}"#)).unwrap();
        assert!(Json::<NewThing>::from_request(request, &()).await.is_ok());
    }
}
