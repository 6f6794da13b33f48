//! Everything about talking to PostgreSQL: pools, the pipelined claims transaction, identifiers, scripts, and the
//! migration runner.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod budget;
pub mod claims;
mod driver;
pub mod error;
pub mod exchange;
pub mod ident;
pub mod listen;
pub mod migrate;
pub mod pool;
pub mod query;
mod route;
mod service_pools;
pub mod statements;
mod turns;
mod uri;

pub use budget::{Budget, PoolUsage};
pub use driver::{
    Canceller, ConnectConfig, LongValue, Script, ScriptColumn, ScriptError, ScriptResult, ScriptSession,
    StatementResult,
};
pub use error::{DbError, Error};
pub use exchange::{Exchange, Resets, Streams};
pub use listen::Listener;
pub use pool::{OpenTransaction, Pool, PoolConfig};
pub use query::{Query, Row, Rows};
pub use route::Route;
pub use service_pools::ServicePools;
pub use uri::LibpqDefaults;

#[cfg(test)]
mod tests;
