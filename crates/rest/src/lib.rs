//! rest

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::print_stdout))]

pub mod api_request;
pub mod error;
pub mod identifier;
pub mod media_type;
pub mod range_query;
