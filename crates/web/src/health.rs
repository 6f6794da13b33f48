//! `/health`: 200 when the process can serve, 503 with the failing parts named when it cannot.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};

/// One part that the process needs, for instance `postgres`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthPart {
    pub name: &'static str,
    /// What is wrong, in words that anybody may read; none when nothing is.
    pub problem: Option<String>,
}

impl HealthPart {
    pub fn ok(name: &'static str) -> Self {
        Self { name, problem: None }
    }

    pub fn failing(name: &'static str, problem: impl Into<String>) -> Self {
        Self { name, problem: Some(problem.into()) }
    }
}

/// Says how the parts of a process are. Called for each `/health` request: it must not wait, so the binary hands out
/// what a background check last found.
pub type HealthSource = Arc<dyn Fn() -> Vec<HealthPart> + Send + Sync>;

/// A process without parts that can fail.
pub fn always_healthy() -> HealthSource {
    Arc::new(Vec::new)
}

/// Renders the parts.
pub fn respond(parts: &[HealthPart]) -> Response {
    let failing: Vec<&str> = parts.iter().filter(|p| p.problem.is_some()).map(|p| p.name).collect();
    let healthy = failing.is_empty();
    let states: Map<String, Value> =
        parts.iter().map(|part| (part.name.to_owned(), part.problem.as_deref().unwrap_or("ok").into())).collect();
    let mut body = json!({"status": if healthy { "ok" } else { "unavailable" }, "parts": states});
    if !healthy {
        body["failing"] = failing.into();
    }
    let mut response = Response::new(Body::from(body.to_string()));
    if !healthy {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failing_parts_are_named() {
        let good = [HealthPart::ok("postgres")];
        assert_eq!(respond(&good).status(), StatusCode::OK);
        let bad = [HealthPart::ok("platform"), HealthPart::failing("postgres", "no connection")];
        assert_eq!(respond(&bad).status(), StatusCode::SERVICE_UNAVAILABLE);
    }
}
