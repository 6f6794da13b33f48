//! Fuzzing of the data API's pure stages: random requests go through `ApiRequest::parse`, `action_plan` and `main_query`,
//! and what comes out is held against what must always be true ([`property`]).
//!
//! A short run is part of the tests; `cargo xtask fuzz --inputs N` is a long one.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::print_stdout))]

pub mod generate;
pub mod property;
pub mod repeated;
pub mod schema;
pub mod sql_text;
mod text;

#[cfg(test)]
mod tests;
