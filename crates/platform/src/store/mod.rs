//! The control plane's SQL; none is anywhere else in this crate but in `*.sql` files and in provisioning.
//!
//! Functions are named noun first and take the executor first; those that end in `_in_tx` are right only inside an
//! open transaction. Secrets come in and go out sealed or hashed: plain text never reaches this module. What is not
//! stored: passwords, bearer tokens, opaque keys (hashes only) and the SQL that owners run.

pub(crate) mod api_key;
pub(crate) mod audit;
pub(crate) mod bootstrap;
pub(crate) mod certificate_name;
pub(crate) mod directory;
pub(crate) mod domain;
pub(crate) mod extension;
pub(crate) mod owner;
pub(crate) mod project;
pub(crate) mod s3_key;
pub(crate) mod secret;
pub(crate) mod settings;
pub(crate) mod slow_query;
pub(crate) mod usage;

use tokio_postgres::error::SqlState;

/// Whether a statement failed at the unique constraint or index called `name`.
pub(crate) fn violates(error: &tokio_postgres::Error, name: &str) -> bool {
    error.as_db_error().is_some_and(|db| *db.code() == SqlState::UNIQUE_VIOLATION && db.constraint() == Some(name))
}
