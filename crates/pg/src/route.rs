//! What stands between the pools of a process and PostgreSQL.

use std::time::Duration;

use crate::pool::PoolConfig;

/// A pooler learns of a new database, role or password a moment after PostgreSQL has it.
const LOGIN_PATIENCE: Duration = Duration::from_secs(4);

/// The way to a database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Route {
    /// Nothing stands between: a connection is a session, whose settings and prepared statements last.
    #[default]
    Direct,
    /// A pooler that gives a session to each transaction (PgBouncer docs, "pool_mode"): settings last as long as a
    /// transaction, the startup message may hold none, and there are neither LISTEN nor locks of sessions.
    Pooler {
        /// Whether named statements are kept all the same (PgBouncer from 1.21 on, `max_prepared_statements`).
        prepared_statements: bool,
    },
}

impl Route {
    /// Whether what is set for a session lasts as long as its connection.
    pub fn keeps_sessions(self) -> bool {
        self == Self::Direct
    }

    /// `config` as this way allows it.
    pub fn pool(self, config: PoolConfig) -> PoolConfig {
        match self {
            Self::Direct => config,
            Self::Pooler { prepared_statements } => PoolConfig {
                prepared_statements: prepared_statements && config.prepared_statements,
                login_patience: LOGIN_PATIENCE,
                ..config
            },
        }
    }
}
