//! What tests stand on: a scratch PostgreSQL per test run, databases from templates, ports, tokens and patience.
//!
//! Dev-only. It hands out URLs, ports and texts, never types of the crates under test, so that no crate is built twice.

// A test that cannot be set up has nothing better to do than to panic.
#![allow(clippy::unwrap_used)]

mod oidc_provider;
mod process;
mod scratch_cluster;
mod scratch_dir;
mod smtp_server;
mod test_cluster;
mod wait;
mod watcher;

pub use oidc_provider::{CLIENT_ID, CLIENT_SECRET, OidcProvider};
pub use process::{process_with, signal};
pub use scratch_dir::ScratchDir;
pub use smtp_server::{ReceivedMail, SmtpOptions, SmtpServer, SmtpTls};
pub use test_cluster::{TestCluster, TestDatabase, connect};
pub use wait::{eventually, eventually_within};

/// A TCP port on 127.0.0.1 that was free a moment ago.
///
/// # Panics
/// When the system gives none.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind(("127.0.0.1", 0)).and_then(|socket| socket.local_addr()).unwrap().port()
}

/// A JWT over `claims`, a JSON object, signed with HS256.
///
/// # Panics
/// When `claims` is no JSON.
pub fn sign_jwt(secret: &[u8], claims: &str) -> String {
    base::jwt::sign_hs256(secret, &serde_json::from_str(claims).unwrap())
}

#[cfg(test)]
mod tests;
