//! The control plane: owners, projects, keys, secrets, settings, provisioning and the audit log.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::print_stdout))]

pub mod config;

pub use config::{Address, PlatformConfig};
