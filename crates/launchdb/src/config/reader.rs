//! Reads values out of a [`Source`] and collects what is wrong with them.

use std::str::FromStr;

use base::Secret;

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
    pub fn postgres_url(&mut self, name: &str) -> Option<Secret<String>> {
        const SHAPE: &str = "write it as postgresql://user:password@host:5432/platform";
        let text = self.text(name)?;
        let url = match url::Url::parse(&text) {
            Ok(url) if matches!(url.scheme(), "postgres" | "postgresql") => url,
            _ => {
                self.problem(name, "is no URL of a PostgreSQL database", SHAPE);
                return None;
            }
        };
        if let Some(reason) = url.password().and_then(strength::placeholder_reason) {
            self.problem(
                name,
                &format!("has a password that {reason}"),
                "give the role another password (openssl rand -hex 24), in PostgreSQL and here",
            );
        }
        if url.path().trim_matches('/').is_empty() {
            self.problem(name, "names no database", SHAPE);
        }
        Some(Secret::new(text))
    }
}
