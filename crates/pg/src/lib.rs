//! Everything about talking to PostgreSQL: pools, the pipelined claims transaction, identifiers, SQLSTATEs, the
//! migration runner and LISTEN.

pub mod error;
pub mod ident;
pub mod query;

pub use error::{DbError, Error};
pub use query::{Query, Rows};
