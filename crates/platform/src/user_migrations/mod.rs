//! Migrations of a project's application: `/api/projects/{id}/migrations`.
//!
//! The ledger is Supabase's (`supabase_migrations.schema_migrations`), so that `supabase db push --db-url` and this see the
//! same history; beside it stands the SHA-256 of each file that was applied here. SQL runs in a session that logged in as
//! the project's own role, one transaction a file, under a lock in the project's database.

mod plan;
mod routes;
mod run;
mod store;
#[cfg(test)]
mod tests;

use serde::Serialize;
use serde_json::{Value, json};

pub(crate) use routes::{apply_migrations, list_migrations};

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MigrationFile {
    /// What orders files: the digits before the first `_` of a name.
    pub(crate) version: String,
    pub(crate) name: String,
    pub(crate) sql: String,
}

/// What is written down of a file that ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct AppliedMigration {
    pub(crate) version: String,
    pub(crate) name: Option<String>,
    /// How many statements the ledger has of it.
    pub(crate) statements: i64,
    /// None for what another tool applied.
    pub(crate) checksum: Option<String>,
    pub(crate) applied_at: Option<String>,
}

/// A file that could not be applied; those before it are.
#[derive(Debug)]
pub struct MigrationFailure {
    pub(crate) version: String,
    pub(crate) name: String,
    /// Line of the file, from 1.
    pub(crate) line: u64,
    /// The statement's beginning.
    pub(crate) statement: String,
    pub(crate) message: String,
    pub(crate) sqlstate: Option<String>,
    pub(crate) detail: Option<String>,
    pub(crate) hint: Option<String>,
    /// Versions that were applied before it in the same call.
    pub(crate) applied: Vec<String>,
}

impl MigrationFailure {
    pub(crate) fn details(&self) -> Value {
        json!({
            "version": self.version,
            "name": self.name,
            "line": self.line,
            "statement": self.statement,
            "sqlstate": self.sqlstate,
            "detail": self.detail,
            "hint": self.hint,
            "applied": self.applied,
        })
    }
}
