//! Connections of the services that work in a project's database statement by statement (auth, storage): one small pool
//! for each project, shared by all of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base::project::DatabaseTarget;
use base::{Project, ProjectRef, ProjectStatus, ProjectTable};
use tokio_util::task::TaskTracker;

use crate::budget::Budget;
use crate::claims::{Claims, application_name};
use crate::driver::ConnectConfig;
use crate::error::Error;
use crate::exchange::{Exchange, Resets, Streams};
use crate::pool::{OpenTransaction, Pool, PoolConfig};
use crate::query::{Query, Rows};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The pools of all projects. A project that nobody asks for has none.
pub struct ServicePools {
    budget: Arc<Budget>,
    tasks: TaskTracker,
    config: PoolConfig,
    pools: Mutex<HashMap<ProjectRef, Entry>>,
}

struct Entry {
    target: DatabaseTarget,
    pool: Pool,
}

impl ServicePools {
    /// Nothing is connected yet; what is counts against `budget`, and its background work runs on `tasks`.
    pub fn new(budget: Arc<Budget>, tasks: TaskTracker, config: PoolConfig) -> Arc<Self> {
        Arc::new(Self { budget, tasks, config, pools: Mutex::default() })
    }

    /// The pool of a project, as its authenticator. It is another one as soon as the database's address or password is.
    pub fn of(&self, project: &Project) -> Pool {
        self.pool(&project.project_ref, &project.database)
    }

    fn pool(&self, project_ref: &ProjectRef, target: &DatabaseTarget) -> Pool {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = pools.get(project_ref) {
            if entry.target == *target {
                return entry.pool.clone();
            }
            entry.pool.retire();
        }
        let connect = ConnectConfig {
            host: target.host.clone(),
            port: target.port,
            database: target.database.clone(),
            user: target.user.clone(),
            password: Some(target.password.clone()),
            session_settings: Vec::new(),
            connect_timeout: CONNECT_TIMEOUT,
        };
        let pool = Pool::new(connect, self.config.clone(), self.budget.clone(), self.tasks.clone());
        pools.insert(project_ref.clone(), Entry { target: target.clone(), pool: pool.clone() });
        pool
    }

    /// Gives up what belongs to projects that are no longer there or no longer active.
    pub fn forget_inactive(&self, projects: &ProjectTable) {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        pools.retain(|project_ref, entry| {
            let active = projects.get(project_ref).is_some_and(|project| project.status == ProjectStatus::Active);
            if !active {
                entry.pool.retire();
            }
            active
        });
    }
}

impl Pool {
    /// This pool on behalf of one request: sessions show its id as `application_name` while they work for it. Reads then
    /// share no exchange with those of other requests.
    #[must_use]
    pub fn traced(mut self, request_id: Option<&str>) -> Self {
        self.1 = request_id.map(|id| application_name(id).into());
        self
    }

    /// Opens a transaction that acts as `claims` say, and runs `first` in it: one round trip. Its end is the caller's to
    /// decide.
    pub async fn transaction(
        &self,
        claims: &Claims<'_>,
        first: Vec<Query>,
    ) -> Result<(Vec<Rows>, OpenTransaction), Error> {
        let begin = Query { sql: "begin".into(), params: Vec::new() };
        self.begin(&Exchange { begin: Some(begin), ..self.committed(claims, first) }).await
    }

    /// Runs `queries` in one transaction that acts as `claims` say, and commits it: one round trip.
    pub async fn execute(&self, claims: &Claims<'_>, queries: Vec<Query>) -> Result<Vec<Rows>, Error> {
        self.run(&self.committed(claims, queries)).await
    }

    /// Runs `queries`, which only read and run no stored code of the project, in one round trip that others with the same
    /// claims may share.
    pub async fn read(&self, claims: &Claims<'_>, queries: Vec<Query>) -> Result<Vec<Rows>, Error> {
        let exchange = Exchange { joins: true, ..self.committed(claims, queries) };
        self.run(&exchange).await
    }

    fn committed(&self, claims: &Claims<'_>, queries: Vec<Query>) -> Exchange {
        let path = claims.settings.iter().find(|(name, _)| *name == "search_path").map_or("", |(_, path)| path);
        Exchange {
            scope: format!("{} {path}", claims.role).into(),
            begin: None,
            setup: self.setup(claims).into(),
            queries,
            read_only: claims.read_only,
            // Triggers and policies may have left something behind.
            resets: if claims.read_only { Resets::Settings } else { Resets::Session },
            joins: false,
            streams: Streams::Nothing,
        }
    }

    fn setup(&self, claims: &Claims<'_>) -> Query {
        let Some(name) = &self.1 else { return claims.statement() };
        let mut settings = claims.settings.to_vec();
        settings.push(("application_name", name));
        Claims { settings: &settings, ..claims.clone() }.statement()
    }
}

#[cfg(test)]
mod tests {
    use base::Secret;

    use super::*;

    #[test]
    fn a_pool_lasts_until_its_target_changes_or_its_project_is_gone() {
        let pools = ServicePools::new(Budget::new(4), TaskTracker::new(), PoolConfig::default());
        let project = ProjectRef::parse("proj_pools").unwrap();
        let mut target = DatabaseTarget {
            host: "127.0.0.1".to_owned(),
            port: 1,
            database: "proj_pools".to_owned(),
            user: "proj_pools_authenticator".to_owned(),
            password: Secret::new("first".to_owned()),
        };
        let first = pools.pool(&project, &target);
        assert!(first.is_same(&pools.pool(&project, &target)));
        target.password = Secret::new("second".to_owned());
        let second = pools.pool(&project, &target);
        assert!(!second.is_same(&first));
        pools.forget_inactive(&ProjectTable::new());
        assert!(!pools.pool(&project, &target).is_same(&second));
    }
}
