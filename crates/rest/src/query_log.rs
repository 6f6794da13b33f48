//! What a request runs, for the log of a drop-in server (setting `log-query`).

use std::sync::{Arc, Mutex, PoisonError};

use crate::query::MainQuery;

/// The SQL of one request, for the log; goes along in the request's extensions where it is wanted.
#[derive(Clone, Default)]
pub(crate) struct QueryLog(Arc<Mutex<Vec<Arc<str>>>>);

impl QueryLog {
    pub(crate) fn note(&self, query: &MainQuery) {
        let open_api = query.open_api.iter();
        let open_api = open_api.flat_map(|q| [&q.accessible_tables, &q.accessible_functions, &q.schema_description]);
        let all = query.pre_request.iter().chain(&query.main).chain(open_api).chain(&query.explain_count);
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Planned anew, a request runs other statements.
        noted.clear();
        noted.extend(all.map(|query| query.sql.clone()));
    }

    /// What was run.
    pub(crate) fn take(&self) -> Vec<Arc<str>> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
