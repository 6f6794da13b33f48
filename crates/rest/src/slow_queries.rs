//! Requests whose statements took longer than their project wants them to, until somebody writes them down.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base::slow_query::{LONGEST_PATH, LONGEST_STATEMENT, SlowQuery, beginning};
use base::{Caller, Clock, ProjectRef, ProjectTable};
use http::request::Parts;
use web::RequestId;

use crate::error::Error;
use crate::main_tx::DbResult;

/// Kept of all projects, and of one, until the next time they are taken. Those beyond are only counted.
const MOST: usize = 512;
const MOST_OF_PROJECT: usize = 32;

/// Of all projects in one process.
#[derive(Debug, Default)]
pub(crate) struct SlowQueries {
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    kept: Vec<SlowQuery>,
    /// All there were, by project.
    totals: HashMap<ProjectRef, u64>,
}

impl SlowQueries {
    /// What came since the last time, oldest first.
    pub(crate) fn take(&self) -> Vec<SlowQuery> {
        std::mem::take(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner).kept)
    }

    pub(crate) fn totals(&self) -> Vec<(ProjectRef, u64)> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.totals.iter().map(|(project, total)| (project.clone(), *total)).collect()
    }

    pub(crate) fn forget_inactive(&self, projects: &ProjectTable) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.totals.retain(|project, _| projects.get(project).is_some());
    }

    fn add(&self, project: &ProjectRef, make: impl FnOnce() -> SlowQuery) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state.totals.entry(project.clone()).or_default() += 1;
        let of_project = state.kept.iter().filter(|kept| kept.project_ref == *project).count();
        if state.kept.len() < MOST && of_project < MOST_OF_PROJECT {
            state.kept.push(make());
        }
    }
}

/// Of one project.
#[derive(Clone)]
pub(crate) struct SlowQueryLog {
    pub(crate) project_ref: ProjectRef,
    /// Who took less is not noted.
    pub(crate) threshold: Duration,
    pub(crate) queries: Arc<SlowQueries>,
}

impl SlowQueryLog {
    /// None when the project wants none.
    pub(crate) fn new(project_ref: &ProjectRef, threshold_ms: u32, queries: &Arc<SlowQueries>) -> Option<Self> {
        let threshold = Duration::from_millis(threshold_ms.into());
        (threshold_ms > 0).then(|| Self { project_ref: project_ref.clone(), threshold, queries: queries.clone() })
    }

    /// Notes a request whose statements took as long as `took`.
    #[cold]
    pub(crate) fn note(
        &self,
        took: Duration,
        statement: &str,
        caller: &Caller,
        parts: &Parts,
        result: &Result<DbResult, Error>,
    ) {
        self.queries.add(&self.project_ref, || SlowQuery {
            project_ref: self.project_ref.clone(),
            at: self.queries.clock.since_epoch(),
            took,
            statement: beginning(statement, LONGEST_STATEMENT),
            role: caller.role.as_str().to_owned(),
            method: parts.method.as_str().to_owned(),
            path: beginning(parts.uri.path(), LONGEST_PATH),
            request_id: parts.extensions.get::<RequestId>().map(|id| id.as_str().to_owned()).unwrap_or_default(),
            rows: result.as_ref().ok().and_then(DbResult::rows),
            error_code: result.as_ref().err().map(|error| error.code().to_string()),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_project_leaves_room_for_the_others() {
        let queries = SlowQueries::default();
        let project = |n: usize| ProjectRef::parse(&format!("proj_{n:016x}")).unwrap();
        let slow = |project_ref: &ProjectRef| SlowQuery {
            project_ref: project_ref.clone(),
            at: Duration::ZERO,
            took: Duration::from_secs(1),
            statement: "select 1".to_owned(),
            role: "anon".to_owned(),
            method: "GET".to_owned(),
            path: "/items".to_owned(),
            request_id: "abc".to_owned(),
            rows: Some(1),
            error_code: None,
        };
        let add = |project: &ProjectRef| queries.add(project, || slow(project));
        for _ in 0..100 {
            add(&project(0));
        }
        add(&project(1));
        let taken = queries.take();
        let of = |wanted: &ProjectRef| taken.iter().filter(|slow| slow.project_ref == *wanted).count();
        assert_eq!((of(&project(0)), of(&project(1))), (MOST_OF_PROJECT, 1));
        let mut totals = queries.totals();
        totals.sort_by_key(|(project, _)| project.as_str().to_owned());
        assert_eq!(totals, [(project(0), 100), (project(1), 1)]);

        assert!(queries.take().is_empty());
        for n in 0..1000 {
            add(&project(n));
        }
        assert_eq!(queries.take().len(), MOST);
        queries.forget_inactive(&ProjectTable::new());
        assert!(queries.totals().is_empty());
    }
}
