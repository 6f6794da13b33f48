//! Data APIs in processes of their own: the postgrest-manager, which keeps one instance for each project that wants it
//! (contracts, section 5), and the way of requests to them.
//!
//! What is started is `launchdb rest` or a real `postgrest`; nothing here speaks to a database.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod api;
pub mod backend;
pub mod conf;
mod docker;
mod engine_api;
pub mod error;
pub mod fleet;
mod folder;
mod keeper;
mod probe;
mod process;
pub mod way;

pub use backend::BackendConfig;
pub use error::Error;
pub use fleet::{Fleet, FleetConfig};
pub use way::{Way, WayConfig};
