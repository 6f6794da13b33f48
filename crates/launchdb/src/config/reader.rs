//! Reads values out of a [`Source`] and collects what is wrong with them.

use std::str::FromStr;

use base::Secret;
use base::project::DatabaseTarget;

use super::source::Source;
use super::{Problem, strength};

/// Takes values by name; problems are collected and reported at the end, all together.
pub struct Reader<'a> {
    source: &'a Source,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
}

impl<'a> Reader<'a> {
    pub fn new(source: &'a Source) -> Self {
        Self { source, problems: Vec::new(), warnings: Vec::new() }
    }

    /// What was found wrong, and what deserves a word.
    pub fn finish(self) -> (Vec<Problem>, Vec<Problem>) {
        (self.problems, self.warnings)
    }

    pub fn problem(&mut self, name: &str, what: &str, mend: &str) {
        self.problems.push(Problem::new(name, what, mend));
    }

    pub fn warning(&mut self, name: &str, what: &str, mend: &str) {
        self.warnings.push(Problem::new(name, what, mend));
    }

    pub fn text(&self, name: &str) -> Option<String> {
        self.source.get(name).map(str::to_owned)
    }

    /// A text that has to pass `check`; `wanted` says what it should be.
    pub fn checked_text(&mut self, name: &str, wanted: &str, check: impl Fn(&str) -> bool) -> Option<String> {
        let text = self.text(name)?;
        if check(&text) {
            return Some(text);
        }
        self.problem(name, "has a value that cannot be used", &format!("set it to {wanted}"));
        None
    }

    /// A value that parses as `T` and passes `check`.
    pub fn parsed_opt<T: FromStr>(&mut self, name: &str, wanted: &str, check: impl Fn(&T) -> bool) -> Option<T> {
        let text = self.text(name)?;
        match text.trim().parse::<T>() {
            Ok(value) if check(&value) => Some(value),
            _ => {
                self.problem(name, "has a value that cannot be used", &format!("set it to {wanted}"));
                None
            }
        }
    }

    pub fn parsed<T: FromStr>(&mut self, name: &str, default: T, wanted: &str, check: impl Fn(&T) -> bool) -> T {
        self.parsed_opt(name, wanted, check).unwrap_or(default)
    }

    /// A connection URL of PostgreSQL whose password, when it has one, is no known default.
    pub fn postgres_url(&mut self, name: &str) -> Option<DatabaseTarget> {
        let text = self.text(name)?;
        match postgres_url(&text) {
            Ok(target) => {
                if let Some(reason) = strength::placeholder_reason(target.password.expose()) {
                    self.problem(
                        name,
                        &format!("has a password that {reason}"),
                        "give the role another password (openssl rand -hex 24), in PostgreSQL and here",
                    );
                }
                Some(target)
            }
            Err(what) => {
                self.problem(name, what, "write it as postgresql://user:password@host:5432/platform");
                None
            }
        }
    }

    /// `host:port`.
    pub fn address(&mut self, name: &str) -> Option<(String, u16)> {
        let text = self.text(name)?;
        let parts = text.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
        match parts {
            Some((host, port)) if !host.is_empty() && port > 0 => {
                Some((host.trim_matches(['[', ']']).to_owned(), port))
            }
            _ => {
                self.problem(name, "is no host and port", "write it as db.example.org:5432");
                None
            }
        }
    }
}

/// Reads `postgresql://user:password@host:port/database`; the folder of a unix socket is given as `?host=/folder`.
fn postgres_url(text: &str) -> Result<DatabaseTarget, &'static str> {
    let url = url::Url::parse(text).map_err(|_| "is no URL")?;
    if !matches!(url.scheme(), "postgres" | "postgresql") {
        return Err("is no URL of a PostgreSQL database");
    }
    let decoded = |text: &str| -> Result<String, &'static str> {
        percent_decode(text).ok_or("has an escape that cannot be read")
    };
    let mut host = decoded(url.host_str().unwrap_or_default().trim_matches(['[', ']']))?;
    for (key, value) in url.query_pairs() {
        match (key.as_ref(), value.as_ref()) {
            ("host", folder) => host = folder.to_owned(),
            ("sslmode", "disable" | "allow" | "prefer") | ("application_name" | "connect_timeout", _) => {}
            ("sslmode", _) => return Err("asks for TLS to PostgreSQL, which is not built yet"),
            _ => return Err("has a parameter that is not known (known: host, sslmode)"),
        }
    }
    let database = decoded(url.path().trim_start_matches('/'))?;
    if host.is_empty() {
        return Err("names no host");
    }
    if database.is_empty() {
        return Err("names no database");
    }
    if url.username().is_empty() {
        return Err("names no user");
    }
    Ok(DatabaseTarget {
        host,
        port: url.port().unwrap_or(5432),
        database,
        user: decoded(url.username())?,
        password: Secret::new(decoded(url.password().unwrap_or_default())?),
    })
}

fn percent_decode(text: &str) -> Option<String> {
    // The form's own decoding, without its rule that "+" is a blank.
    let escaped = text.replace('+', "%2B");
    let mut pairs = url::form_urlencoded::parse(escaped.as_bytes());
    match pairs.next() {
        None => Some(String::new()),
        // An "=" or "&" in the text would have split it; both are written as escapes in a URL's user or password.
        Some((key, value)) if value.is_empty() && pairs.next().is_none() => Some(key.into_owned()),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn postgres_urls_are_read() {
        let target = postgres_url("postgresql://us%40er:p%2Fw+%3D@db:6432/platform?sslmode=disable").unwrap();
        assert_eq!((target.host.as_str(), target.port, target.user.as_str()), ("db", 6432, "us@er"));
        assert_eq!((target.password.expose().as_str(), target.database.as_str()), ("p/w+=", "platform"));
        let socket = postgres_url("postgres://a@/platform?host=/run/pg");
        assert!(socket.is_err() || socket.unwrap().host == "/run/pg");
        assert_eq!(postgres_url("postgres://a:b@[::1]/x").unwrap().host, "::1");
        for bad in ["mysql://a@h/d", "postgres://h/d", "postgres://a@h", "postgres://a@h/d?sslmode=require", "x"] {
            assert!(postgres_url(bad).is_err(), "{bad}");
        }
    }
}
