//! The pipelined driver of the data API: one write, one Sync and one wake-up for everything a request needs.
//!
//! `tokio-postgres` waits for each answer before the next statement; this driver sends the claims statement and the
//! query together, keeps prepared statements per role, and lets short statements of many requests share a connection.
//! See `ARCHITECTURE.md`, "The exchange".

mod connect;
mod connection;
mod long_row;
mod outbox;
mod script;
mod statements;
mod stream;
mod unit;

pub use connect::ConnectConfig;
pub(crate) use connection::{Connection, STATEMENTS_PER_CONNECTION};
pub use long_row::LongValue;
pub use script::{Canceller, Script, ScriptColumn, ScriptError, ScriptResult, ScriptSession, StatementResult};
pub(crate) use unit::{Ending, LongRows, NewUnit, UnitError, UnitReply};
