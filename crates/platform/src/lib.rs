//! The control plane: owners, projects, keys, secrets, settings, provisioning and the audit log.
//!
//! [`Platform`] serves `/api/*` and fills the [`base::ProjectTable`] that every service reads. A process that only
//! serves requests fills its table through [`Directory::start`].

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::print_stdout))]

mod api_keys;
mod attempts;
mod audit;
pub mod backup;
pub mod baseline;
mod certificates;
pub mod config;
mod connection;
pub mod database;
mod directory;
mod domains;
mod error;
mod extensions;
mod first_owner;
mod internal;
mod openapi;
mod owner_password;
mod owners;
mod password;
mod platform;
pub mod pooler;
mod projects;
pub mod provision;
mod request;
pub mod rotation;
mod router;
mod s3_keys;
pub mod secrets;
mod settings;
mod signing_keys;
mod slow_queries;
mod sql;
mod store;
#[cfg(test)]
mod tests;
mod timestamp;
mod usage;
mod user_migrations;
pub mod watchdog;

pub use config::{Address, PlatformConfig};
pub use directory::Directory;
pub use error::{Error, Problem};
pub use first_owner::FirstOwner;
pub use platform::{Platform, StartError};
pub use settings::{Ceilings, SettingDefaults};
pub use timestamp::Timestamp;
pub use user_migrations::MigrationFailure;
