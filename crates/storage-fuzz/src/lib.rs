//! Fuzzing of what storage reads before anything else: names and paths, headers of TUS, range headers, signatures and
//! bodies of the S3 protocol. Random inputs go through the crate's own functions ([`storage::fuzz`]), and what comes out is
//! held against what must always be true.
//!
//! A short run is part of the tests; `cargo xtask fuzz storage --inputs N` is a long one.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::print_stdout))]

pub mod chunked;
pub mod keys;
pub mod ranges;
pub mod sigv4;
pub mod tus;

#[cfg(test)]
mod tests;

/// What became of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reached {
    /// It was refused.
    Refused,
    /// It meant something.
    Accepted,
}

/// Tries the input of a seed; says what is wrong with what became of it.
pub type Check = fn(u64) -> Result<Reached, String>;

/// What is tried, each by its name.
pub const TARGETS: [(&str, Check); 5] = [
    ("keys", keys::check),
    ("tus", tus::check),
    ("ranges", ranges::check),
    ("sigv4", sigv4::check),
    ("chunked", chunked::check),
];
