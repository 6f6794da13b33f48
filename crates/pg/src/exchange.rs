//! One exchange: everything a request sends to its project's database in one go.

use std::sync::Arc;

use crate::query::Query;

/// The statements of one request. They run in one transaction, in order; the first error undoes all.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// Role and search path, which prepared statements depend on.
    pub scope: Arc<str>,
    /// An explicit BEGIN with isolation level and access mode; without it the implicit transaction of the pipeline.
    pub begin: Option<Query>,
    /// The claims statement, see [`crate::claims`].
    pub setup: Arc<Query>,
    pub queries: Vec<Query>,
    /// Nothing is written, so the exchange may be run again when its connection breaks.
    pub read_only: bool,
    /// What of that which stored code may have left behind in the session is undone first.
    pub resets: Resets,
    /// May run behind the claims statement of another exchange that has the same one: nothing in it leaves a trace in the
    /// transaction (`set_config`) or is decided by when the transaction began.
    pub joins: bool,
    /// How the result of the last statement may be handed on before it is there whole. Only with `read_only`.
    pub streams: Streams,
}

/// What is undone before an exchange. Not on connections that short reads share: no stored code that leaves anything runs there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Resets {
    #[default]
    Nothing,
    /// Settings (`set_config(.., false)`, SET).
    Settings,
    /// Settings, open cursors, advisory locks of the session, and temporary tables.
    Session,
}

impl Resets {
    /// The statements; they may stand in a transaction.
    pub(crate) fn statements(self) -> &'static [&'static str] {
        const ALL: [&str; 4] = ["reset all", "close all", "select pg_catalog.pg_advisory_unlock_all()", "discard temp"];
        match self {
            Self::Nothing => &[],
            Self::Settings => &ALL[..1],
            Self::Session => &ALL,
        }
    }
}

/// What of a result may be handed on piece by piece, as [`Rows::long`](crate::Rows::long).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Streams {
    #[default]
    Nothing,
    /// The last value of the only row, if it is long.
    LastValue,
    /// The rows, which have the columns of [`joined`], as one JSON array with the line breaks of `json_agg`.
    Rows,
}

/// Columns of rows that are handed on as one array.
pub mod joined {
    /// int8: how many rows there are.
    pub const ROWS: usize = 1;
    /// text: the element.
    pub const JSON: usize = 6;
    /// int8: bytes of all elements together.
    pub const BYTES: usize = 7;
}
