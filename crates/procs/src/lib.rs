//! Child processes and the files they read: today PostgreSQL, later PgBouncer and PostgREST.
//!
//! Nothing here speaks to a database; that is the business of `pg`. Nothing here reads the environment either: whoever
//! calls hands in the search path.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::print_stdout))]

pub mod backoff;
pub mod binaries;
pub mod bounded_log;
pub mod client_program;
pub mod data_dir;
pub mod initdb;
pub mod machine;
pub mod pgbackrest;
pub mod pgbouncer;
pub mod postgres;
pub mod postgres_conf;
pub mod private_file;
pub mod process;
pub mod unprivileged;
