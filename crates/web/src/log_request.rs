//! One line in the log per request. Never a query, a header or a body: they carry keys, tokens and data.

use std::net::IpAddr;
use std::time::Duration;

use base::ProjectRef;
use tracing::Level;

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

/// Whether any request is logged at all; lets the caller spare itself the line's parts.
pub fn is_enabled() -> bool {
    tracing::enabled!(target: TARGET, Level::INFO) || tracing::enabled!(target: TARGET, Level::WARN)
}

/// Writes the line: at `warn` for answers of 500 and above, at `info` otherwise.
pub fn log_request(line: &RequestLine<'_>) {
    let duration_ms = line.duration.as_secs_f64() * 1e3;
    let project_ref = line.project_ref.map(ProjectRef::as_str);
    let mut end = line.path.len().min(MAX_PATH);
    while !line.path.is_char_boundary(end) {
        end -= 1;
    }
    let path = &line.path[..end];
    macro_rules! write_line {
        ($level:expr) => {
            tracing::event!(
                target: TARGET,
                $level,
                request.id = line.request_id.as_str(),
                method = line.method,
                path,
                service = line.service,
                status = line.status,
                duration_ms,
                project.r#ref = project_ref,
                client.ip = %line.client_ip,
                error.code = line.error_code,
                "request"
            )
        };
    }
    if line.status >= 500 { write_line!(Level::WARN) } else { write_line!(Level::INFO) }
}
