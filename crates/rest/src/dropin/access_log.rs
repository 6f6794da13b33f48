//! A line for each request on standard output, in the form of Apache's combined log (PostgREST docs, "Logs").

use std::fmt;
use std::io::Write as _;
use std::net::IpAddr;

use axum::response::Response as HttpResponse;
use base::RoleName;
use http::header::{CONTENT_LENGTH, REFERER, USER_AGENT};
use http::request::Parts;
use http::{HeaderMap, HeaderName, StatusCode};

use super::bind::Peer;
use crate::config::LogLevel;

pub(super) struct AccessLog {
    level: LogLevel,
}

/// What a line is made of.
pub(super) struct Line<'a> {
    pub(super) peer: Peer,
    /// None when the caller could not be told.
    pub(super) role: Option<&'a RoleName>,
    /// Unix seconds.
    pub(super) now: i64,
    pub(super) request: &'a Parts,
    pub(super) response: &'a HttpResponse,
}

impl AccessLog {
    pub(super) fn new(level: LogLevel) -> Self {
        Self { level }
    }

    /// Whether answers of this status are logged.
    pub(super) fn wants(&self, status: StatusCode) -> bool {
        match self.level {
            LogLevel::Crit => false,
            LogLevel::Error => status.is_server_error(),
            LogLevel::Warn => status.as_u16() >= 400,
            LogLevel::Info | LogLevel::Debug => true,
        }
    }

    pub(super) fn write(&self, line: &Line<'_>) {
        // Nobody is there to be told that the log cannot be written.
        let _ = std::io::stdout().lock().write_all(format!("{line}\n").as_bytes());
    }
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.peer.address.map(|address| address.ip().to_canonical()) {
            Some(IpAddr::V4(address)) => write!(f, "{address}")?,
            Some(IpAddr::V6(address)) => write!(f, "{address}")?,
            None => f.write_str("-")?,
        }
        let role = self.role.map_or("-", |role| role.as_str());
        let (request, response) = (self.request, self.response);
        let target = request.uri.path_and_query().map_or("/", |target| target.as_str());
        write!(
            f,
            " - {role} [{}] \"{} {target} {:?}\" {} {} \"{}\" \"{}\"",
            Timestamp(self.now),
            request.method,
            request.version,
            response.status().as_u16(),
            header(response.headers(), CONTENT_LENGTH).unwrap_or("-"),
            Quoted(header(&request.headers, REFERER).unwrap_or_default()),
            Quoted(header(&request.headers, USER_AGENT).unwrap_or_default()),
        )
    }
}

fn header(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Text that must not end its quotes.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, part) in self.0.split('"').enumerate() {
            f.write_str(if i > 0 { "\\\"" } else { "" })?;
            f.write_str(part)?;
        }
        Ok(())
    }
}

/// Unix seconds as `26/Jul/2021:01:56:38 +0000`.
struct Timestamp(i64);

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let (days, seconds) = (self.0.div_euclid(86_400), self.0.rem_euclid(86_400));
        // Days in years that begin in March, so that the leap day is the last (Howard Hinnant, "chrono-compatible
        // low-level date algorithms").
        let days = days + 719_468;
        let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month + 2) / 5 + 1;
        let year = era * 400 + year_of_era + i64::from(month >= 10);
        let name = usize::try_from((month + 2) % 12).ok().and_then(|month| MONTHS.get(month)).unwrap_or(&"-");
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        write!(f, "{day:02}/{name}/{year}:{hour:02}:{minute:02}:{second:02} +0000")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_printed() {
        let check = |seconds, expected: &str| assert_eq!(Timestamp(seconds).to_string(), expected);
        check(0, "01/Jan/1970:00:00:00 +0000");
        check(951_782_399, "28/Feb/2000:23:59:59 +0000");
        check(951_782_400, "29/Feb/2000:00:00:00 +0000");
        check(951_868_800, "01/Mar/2000:00:00:00 +0000");
        check(1_627_264_598, "26/Jul/2021:01:56:38 +0000");
        check(4_102_444_799, "31/Dec/2099:23:59:59 +0000");
    }

    #[test]
    fn lines_are_those_of_apache() {
        let check = |peer: Option<&str>, role: Option<&str>, agent: &str, length: Option<u32>, expected: &str| {
            let request = http::Request::get("/items?id=eq.1").header(USER_AGENT, agent).body(()).unwrap();
            let mut response = HttpResponse::new(axum::body::Body::empty());
            if let Some(length) = length {
                response.headers_mut().insert(CONTENT_LENGTH, length.into());
            }
            let role = role.map(RoleName::new);
            let peer = Peer { address: peer.map(|peer| peer.parse().unwrap()) };
            let parts = request.into_parts().0;
            let line = Line { peer, role: role.as_ref(), now: 0, request: &parts, response: &response };
            assert_eq!(line.to_string(), expected);
        };
        let at = "[01/Jan/1970:00:00:00 +0000] \"GET /items?id=eq.1 HTTP/1.1\" 200";
        check(
            Some("[::ffff:127.0.0.1]:9"),
            Some("anon"),
            "curl",
            Some(5),
            &format!("127.0.0.1 - anon {at} 5 \"\" \"curl\""),
        );
        check(None, None, "a\"b", None, &format!("- - - {at} - \"\" \"a\\\"b\""));
    }

    #[test]
    fn the_level_decides_what_is_logged() {
        let logged = |level| {
            let log = AccessLog::new(level);
            [200, 304, 400, 404, 500, 503].iter().filter(|s| log.wants(StatusCode::from_u16(**s).unwrap())).count()
        };
        let levels = [LogLevel::Crit, LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug];
        assert_eq!(levels.map(logged), [0, 2, 4, 6, 6]);
    }
}
