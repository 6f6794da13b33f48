//! The vocabulary of LaunchDB: ids, roles, claims, secrets, project snapshots and the clock.
//!
//! Nothing here does IO; every other crate may depend on it.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod api_key;
pub mod auth_settings;
pub mod calendar;
pub mod claims;
pub mod clock;
pub mod digest;
pub mod ids;
pub mod jwt;
pub mod project;
pub mod random;
pub mod role;
pub mod sealed;
pub mod secret;
pub mod settings;
pub mod signing;
pub mod slow_query;
pub mod write_gate;

pub use auth_settings::AuthSettings;
pub use claims::{Caller, Credential};
pub use clock::Clock;
pub use ids::{OwnerId, ProjectRef};
pub use project::{Project, ProjectStatus, ProjectTable};
pub use role::RoleName;
pub use secret::Secret;
pub use write_gate::WriteGate;
