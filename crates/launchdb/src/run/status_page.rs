//! The plain page on `/` until the dashboard exists: health and URLs, no secrets, nothing loaded from elsewhere.

use std::fmt::Write as _;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse as _, Response};
use web::health::HealthPart;

/// What the page shows.
#[derive(Clone, Debug)]
pub struct StatusView<'a> {
    pub parts: &'a [HealthPart],
    pub public_url: &'a str,
    pub version: &'a str,
    /// Seconds since the start.
    pub uptime_seconds: u64,
    pub projects: usize,
}

impl StatusView<'_> {
    fn is_healthy(&self) -> bool {
        self.parts.iter().all(|part| part.problem.is_none())
    }
}

/// The page with its security headers; 503 when a part does not work.
pub fn respond(view: &StatusView<'_>) -> Response {
    let status = if view.is_healthy() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut headers = HeaderMap::new();
    let policy =
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    (status, headers, Html(render(view))).into_response()
}

fn render(view: &StatusView<'_>) -> String {
    let mut rows = String::new();
    for part in view.parts {
        let (class, text) = match &part.problem {
            None => ("ok", "works"),
            Some(problem) => ("bad", problem.as_str()),
        };
        let _ = write!(rows, "<tr><th>{}</th><td class={class}>{}</td></tr>", escape(part.name), escape(text));
    }
    let url = escape(view.public_url);
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>LaunchDB</title>\
         <style>body{{font:16px/1.5 system-ui,sans-serif;max-width:44rem;margin:3rem auto;padding:0 1rem}}\
         th{{text-align:left;padding-right:2rem;font-weight:600}}.ok{{color:#15803d}}.bad{{color:#b91c1c}}\
         code{{background:#8882;padding:.1em .3em;border-radius:3px}}@media(prefers-color-scheme:dark){{\
         body{{background:#111;color:#eee}}.ok{{color:#4ade80}}.bad{{color:#f87171}}}}</style>\
         <h1>LaunchDB</h1><p>{headline}</p><table>{rows}\
         <tr><th>version</th><td>{version}</td></tr><tr><th>running for</th><td>{uptime}</td></tr>\
         <tr><th>projects</th><td>{projects}</td></tr></table>\
         <h2>URLs</h2><table>\
         <tr><th>projects</th><td><code>{url}/p/&lt;project id&gt;</code></td></tr>\
         <tr><th>platform API</th><td><code>{url}/api</code>, described in <code>{url}/api/openapi.json</code></td></tr>\
         <tr><th>health</th><td><code>{url}/health</code></td></tr></table>\
         <p>Projects are made with <code>launchdb project create NAME</code>; a dashboard is not built yet.</p></html>",
        headline = if view.is_healthy() { "All parts work." } else { "Something does not work." },
        version = escape(view.version),
        uptime = uptime(view.uptime_seconds),
        projects = view.projects,
    )
}

fn uptime(seconds: u64) -> String {
    match (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_says_what_does_not_work_and_escapes_it() {
        let parts = [HealthPart::ok("platform"), HealthPart::failing("postgres", "<down>")];
        let view = StatusView {
            parts: &parts,
            public_url: "http://127.0.0.1:8000",
            version: "0.0.0",
            uptime_seconds: 3_700,
            projects: 2,
        };
        let page = render(&view);
        assert!(page.contains("&lt;down&gt;") && !page.contains("<down>") && page.contains("1 h 1 min"), "{page}");
        assert_eq!(respond(&view).status(), StatusCode::SERVICE_UNAVAILABLE);
        let healthy = StatusView { parts: &parts[..1], ..view };
        let response = respond(&healthy);
        assert_eq!(response.status(), StatusCode::OK);
        assert!(response.headers().contains_key(header::CONTENT_SECURITY_POLICY));
    }
}
