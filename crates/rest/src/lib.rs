//! The PostgREST-compatible data API. A request goes through pure stages; only one of them does IO:
//!
//! ```text
//! ApiRequest::parse -> plan::action_plan -> query::main_query -> MainTx::run -> response::action_response
//! ```
//!
//! [`Engine`] serves any number of projects; [`dropin`] serves one database as `postgrest` does.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::print_stdout))]

pub mod api_request;
mod authenticate;
mod cache_slot;
pub mod config;
pub mod dropin;
mod engine;
pub mod error;
mod grant_hint;
pub mod identifier;
mod instance;
mod large_reads;
pub mod limit;
mod main_tx;
pub mod media_type;
mod openapi;
pub mod plan;
mod prepared;
pub mod query;
mod query_log;
pub mod range_query;
mod response;
pub mod schema_cache;
mod session;
mod slow_queries;
mod text_array;

pub use engine::Engine;
pub use instance::{Instance, Shared};
