//! `/health`: 200 when the process can serve, 503 with the failing parts named when it cannot. What only limits it (no writes
//! while the disk is nearly full) is told with 200: a load balancer would stop the reads, too.

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
    /// The process serves in spite of the problem.
    pub serves: bool,
}

impl HealthPart {
    pub fn ok(name: &'static str) -> Self {
        Self { name, problem: None, serves: true }
    }

    pub fn failing(name: &'static str, problem: impl Into<String>) -> Self {
        Self { name, problem: Some(problem.into()), serves: false }
    }

    pub fn limited(name: &'static str, problem: impl Into<String>) -> Self {
        Self { name, problem: Some(problem.into()), serves: true }
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
    let failing: Vec<&str> = parts.iter().filter(|p| !p.serves).map(|p| p.name).collect();
    let serves = failing.is_empty();
    let limited = parts.iter().any(|part| part.problem.is_some());
    let status = match (serves, limited) {
        (false, _) => "unavailable",
        (true, true) => "limited",
        (true, false) => "ok",
    };
    let states: Map<String, Value> =
        parts.iter().map(|part| (part.name.to_owned(), part.problem.as_deref().unwrap_or("ok").into())).collect();
    let mut body = json!({"status": status, "parts": states});
    if !serves {
        body["failing"] = failing.into();
    }
    let mut response = Response::new(Body::from(body.to_string()));
    if !serves {
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
        let limited = [HealthPart::ok("platform"), HealthPart::limited("disk", "nearly full")];
        assert_eq!(respond(&limited).status(), StatusCode::OK);
    }
}
