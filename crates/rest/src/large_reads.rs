//! Reads whose results PostgreSQL cannot make one value of, or should not: they are asked for row by row.

use std::collections::HashSet;
use std::sync::Arc;

use arc_swap::ArcSwapOption;

use crate::error::Error;
use crate::query::MainQuery;

/// Whether PostgreSQL could not hold a result in memory as one value: out of memory, or more than 1 GB.
pub(crate) fn is_too_large(error: &Error) -> bool {
    let Error::Db(cause) = error else { return false };
    match cause.code.as_str() {
        "53200" | "54000" => true,
        "XX000" => cause.message.starts_with("invalid memory alloc request size"),
        _ => false,
    }
}

/// Statements whose results were too large for one value.
#[derive(Default)]
pub(crate) struct LargeReads(ArcSwapOption<HashSet<Arc<str>>>);

/// Statements that are remembered; beyond it all are forgotten.
const MOST_LARGE_READS: usize = 64;

impl LargeReads {
    pub(crate) fn contains(&self, query: &MainQuery) -> bool {
        let known = self.0.load();
        known.as_ref().zip(query.main.as_ref()).is_some_and(|(known, main)| known.contains(&main.sql))
    }

    pub(crate) fn insert(&self, statement: Arc<str>) {
        let mut known = self.0.load().as_deref().filter(|known| known.len() < MOST_LARGE_READS).cloned();
        known.get_or_insert_default().insert(statement);
        self.0.store(known.map(Arc::new));
    }
}
