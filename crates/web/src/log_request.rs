//! One line in the log per request. Never a query, a header or a body: they carry keys, tokens and data.
//!
//! Written by hand, with the fields that `tracing` would write: its JSON formatter takes a quarter of the instructions of
//! a whole request.

use std::io::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use base::calendar::civil_date;
use base::{Clock, ProjectRef};
use tracing::Level;

use crate::log_buffer::LogBuffer;
use crate::request_id::RequestId;

/// The target of the lines, for the log's filter: `request=info`.
pub const TARGET: &str = "request";

/// Longest path that is printed, in bytes.
const MAX_PATH: usize = 512;

/// What a line says.
#[derive(Debug)]
pub struct RequestLine<'a> {
    pub request_id: &'a RequestId,
    pub method: &'a str,
    /// The path as the client wrote it, without the query.
    pub path: &'a str,
    pub service: &'static str,
    pub status: u16,
    pub duration: Duration,
    pub project_ref: Option<&'a ProjectRef>,
    pub client_ip: IpAddr,
    /// The code of an error answer.
    pub error_code: Option<&'a str>,
}

/// How lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Pretty,
}

/// Where the lines of requests go.
#[derive(Clone, Debug)]
pub struct RequestLog {
    buffer: LogBuffer,
    format: LineFormat,
    clock: Clock,
}

impl RequestLog {
    pub fn new(buffer: LogBuffer, format: LineFormat) -> Self {
        Self { buffer, format, clock: Clock::system() }
    }

    /// Writes the line, if the log's filter wants it: at `warn` for answers of 500 and above, at `info` otherwise.
    pub fn write(&self, line: &RequestLine<'_>) {
        let (level, wanted) = if line.status >= 500 {
            ("WARN", tracing::enabled!(target: TARGET, Level::WARN))
        } else {
            ("INFO", tracing::enabled!(target: TARGET, Level::INFO))
        };
        if wanted {
            let now = self.clock.since_epoch();
            match self.format {
                LineFormat::Json => self.buffer.append(|out| json(out, line, level, now)),
                LineFormat::Pretty => self.buffer.append(|out| pretty(out, line, level, now)),
            }
        }
    }
}

fn json(out: &mut Vec<u8>, line: &RequestLine<'_>, level: &str, now: Duration) {
    // Names of ours and request ids hold nothing that JSON escapes.
    out.extend_from_slice(b"{\"timestamp\":\"");
    timestamp(out, now);
    for part in ["\",\"level\":\"", level, "\",\"message\":\"request\",\"request.id\":\"", line.request_id.as_str()] {
        out.extend_from_slice(part.as_bytes());
    }
    let mut text = |name: &str, value: &str| {
        out.extend_from_slice(name.as_bytes());
        // Writing to memory does not fail.
        let _ = serde_json::to_writer(&mut *out, value);
    };
    text("\",\"method\":", line.method);
    text(",\"path\":", shown(line.path));
    for part in [",\"service\":\"", line.service, "\",\"status\":"] {
        out.extend_from_slice(part.as_bytes());
    }
    number(out, u64::from(line.status));
    out.extend_from_slice(b",\"duration_ms\":");
    milliseconds(out, line.duration);
    let mut text = |name: &str, value: &str| {
        out.extend_from_slice(name.as_bytes());
        let _ = serde_json::to_writer(&mut *out, value);
    };
    if let Some(project_ref) = line.project_ref {
        text(",\"project.ref\":", project_ref.as_str());
    }
    if let Some(code) = line.error_code {
        text(",\"error.code\":", code);
    }
    out.extend_from_slice(b",\"client.ip\":\"");
    address(out, line.client_ip);
    for part in ["\",\"target\":\"", TARGET, "\"}\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}

fn address(out: &mut Vec<u8>, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => {
            for (index, octet) in ip.octets().into_iter().enumerate() {
                if index > 0 {
                    out.push(b'.');
                }
                number(out, u64::from(octet));
            }
        }
        IpAddr::V6(ip) => {
            let _ = write!(out, "{ip}");
        }
    }
}

fn pretty(out: &mut Vec<u8>, line: &RequestLine<'_>, level: &str, now: Duration) {
    timestamp(out, now);
    let _ = write!(out, " {level:>5} {} {} {} ", line.method, shown(line.path), line.status);
    milliseconds(out, line.duration);
    let _ = write!(out, " ms {}", line.service);
    if let Some(code) = line.error_code {
        let _ = write!(out, " {}", code.escape_debug());
    }
    let _ = writeln!(out, " from {} ({})", line.client_ip, line.request_id.as_str());
}

fn shown(path: &str) -> &str {
    let mut end = path.len().min(MAX_PATH);
    while !path.is_char_boundary(end) {
        end -= 1;
    }
    &path[..end]
}

/// A number with leading zeros.
fn digits<const N: usize>(out: &mut Vec<u8>, mut number: u64) {
    let mut text = [b'0'; N];
    for digit in text.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
    out.extend_from_slice(&text);
}

fn number(out: &mut Vec<u8>, number: u64) {
    let mut buffer = itoa::Buffer::new();
    out.extend_from_slice(buffer.format(number).as_bytes());
}

/// With three decimals.
fn milliseconds(out: &mut Vec<u8>, duration: Duration) {
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    number(out, micros / 1000);
    out.push(b'.');
    digits::<3>(out, micros % 1000);
}

/// RFC 3339 in UTC with microseconds.
fn timestamp(out: &mut Vec<u8>, since_epoch: Duration) {
    let seconds = since_epoch.as_secs();
    let (year, month, day) = civil_date(i64::try_from(seconds / 86_400).unwrap_or(0));
    let positive = |part: i64| u64::try_from(part).unwrap_or(0);
    digits::<4>(out, positive(year));
    for (separator, part) in [
        (b'-', positive(month)),
        (b'-', positive(day)),
        (b'T', seconds / 3600 % 24),
        (b':', seconds / 60 % 60),
        (b':', seconds % 60),
    ] {
        out.push(separator);
        digits::<2>(out, part);
    }
    out.push(b'.');
    digits::<6>(out, u64::from(since_epoch.subsec_micros()));
    out.push(b'Z');
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;
    use crate::request_id::RequestIds;

    #[test]
    fn a_line_is_one_object_or_one_sentence() {
        let id = RequestIds::new().accept_or_make(&HeaderMap::new());
        let project = ProjectRef::generate();
        let line = RequestLine {
            request_id: &id,
            method: "GET",
            path: "/p/\"x",
            service: "rest",
            status: 503,
            duration: Duration::from_micros(1_234_567),
            project_ref: Some(&project),
            client_ip: "192.0.2.1".parse().unwrap(),
            error_code: Some("PGRST000"),
        };
        let now = Duration::from_micros(1_709_251_199_000_042);
        let mut out = Vec::new();
        json(&mut out, &line, "WARN", now);
        let object: serde_json::Value = serde_json::from_slice(&out).unwrap();
        let expected = serde_json::json!({
            "timestamp": "2024-02-29T23:59:59.000042Z", "level": "WARN", "message": "request", "request.id": id.as_str(),
            "method": "GET", "path": "/p/\"x", "service": "rest", "status": 503, "duration_ms": 1234.567,
            "project.ref": project.as_str(), "error.code": "PGRST000", "client.ip": "192.0.2.1", "target": "request",
        });
        assert_eq!(object, expected);
        out.clear();
        pretty(&mut out, &line, "WARN", now);
        let text = format!(
            "2024-02-29T23:59:59.000042Z  WARN GET /p/\"x 503 1234.567 ms rest PGRST000 from 192.0.2.1 ({})\n",
            id.as_str()
        );
        assert_eq!(String::from_utf8(out).unwrap(), text);
    }
}
