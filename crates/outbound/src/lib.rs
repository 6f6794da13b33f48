//! The way out to targets that a project configures: hooks, sign-in providers, SMS gateways, captcha services, mail servers.
//!
//! Whoever configures a project is not the operator, and must not reach through the server into the operator's network
//! (invariant 14). So a target of a project is spoken to over TLS only, and only at addresses that belong to the public
//! internet; they are looked at after DNS, and the connection goes to exactly those addresses. Of the machine's own public
//! addresses only port 443 is one of them. Redirects are not followed, answers have a size and a time. What the operator configures is exempt, and the operator may lift the rule for all
//! ([`Rules::private_targets_allowed`]).

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod address;
mod client;
mod error;
mod own;
mod places;
mod resolve;

pub use client::{Client, Request, Response};
pub use error::Error;
pub use own::{OwnAddress, system_own_address};
pub use resolve::{Lookup, Rules, system_lookup};

/// Whose wish a target is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfiguredBy {
    /// A project's settings: public addresses over TLS only, unless the operator allows more.
    Project,
    /// The operator's configuration: exempt from the rules of addresses.
    Operator,
}

#[cfg(test)]
mod tests;
