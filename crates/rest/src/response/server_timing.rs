//! The `Server-Timing` header: where a request's time went (PostgREST docs, "Server-Timing Header").

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue};

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// The durations of a request's stages; measures nothing when it is off.
pub(crate) struct ServerTiming {
    last: Option<Instant>,
    stages: [Option<Duration>; 5],
}

/// The stages in the order in which the header names them.
#[derive(Clone, Copy)]
pub(crate) enum Stage {
    Jwt = 0,
    Parse = 1,
    Plan = 2,
    Transaction = 3,
    Response = 4,
}

const NAMES: [&str; 5] = ["jwt", "parse", "plan", "transaction", "response"];

impl ServerTiming {
    pub(crate) fn start(enabled: bool) -> Self {
        Self { last: enabled.then(Instant::now), stages: [None; 5] }
    }

    /// The stage ends now; it began where the one before ended.
    pub(crate) fn end(&mut self, stage: Stage) {
        if let Some(last) = &mut self.last {
            let now = Instant::now();
            self.stages[stage as usize] = Some(now - *last);
            *last = now;
        }
    }

    pub(crate) fn add_header(&self, headers: &mut HeaderMap) {
        if self.last.is_none() {
            return;
        }
        let mut text = String::with_capacity(96);
        for (name, duration) in NAMES.iter().zip(&self.stages) {
            let separator = if text.is_empty() { "" } else { ", " };
            let millis = duration.unwrap_or_default().as_secs_f64() * 1000.0;
            write!(text, "{separator}{name};dur={millis:.1}").ok();
        }
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(SERVER_TIMING, value);
        }
    }
}
