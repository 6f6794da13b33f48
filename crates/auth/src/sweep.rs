//! The task that removes what has expired. A project that nobody uses costs one look a day; one whose users come and go is
//! looked at every few minutes.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base::{Project, ProjectRef, ProjectStatus, ProjectTable};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::config::{Auth, Shared};
use crate::error::Error;
use crate::store::sweep as store;
use crate::timestamp::Timestamp;

/// Between two looks at the projects in which something was done.
const EVERY: Duration = Duration::from_secs(600);
/// Between two looks at all of them, and before the first one.
const ALL_EVERY: Duration = Duration::from_secs(24 * 3600);
const FIRST_ALL: Duration = Duration::from_secs(3600);
/// Batches of one kind in one look: what remains has its turn at the next one.
const MOST_BATCHES: usize = 20;
/// Anonymous users that are looked at in one look.
const MOST_ANONYMOUS: usize = 5_000;

/// Projects in which something was done since the last look.
#[derive(Default)]
pub(crate) struct Noted(Mutex<HashSet<ProjectRef>>);

impl Noted {
    pub(crate) fn note(&self, project: &ProjectRef) {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !noted.contains(project) {
            noted.insert(project.clone());
        }
    }

    fn take(&self) -> HashSet<ProjectRef> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Auth {
    /// Removes what has expired, for ever; returns at the shutdown.
    pub async fn maintain(self, projects: Arc<ProjectTable>, shutdown: CancellationToken) {
        let mut ticks = tokio::time::interval_at(Instant::now() + EVERY, EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut all_at = Instant::now() + FIRST_ALL;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let noted = self.0.noted.take();
            let all = Instant::now() >= all_at;
            if all {
                all_at = Instant::now() + ALL_EVERY;
            }
            let due = projects.all().into_iter().filter(|project| {
                project.status == ProjectStatus::Active && (all || noted.contains(&project.project_ref))
            });
            for project in due {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    result = sweep(&self.0, &project) => if let Err(cause) = result {
                        tracing::warn!(project.ref = %project.project_ref, ?cause, "what has expired could not be removed");
                    },
                }
            }
        }
    }

    /// One look at one project.
    #[cfg(test)]
    pub(crate) async fn sweep(&self, project: &Project) -> Result<(), Error> {
        sweep(&self.0, project).await
    }
}

async fn sweep(shared: &Shared, project: &Project) -> Result<(), Error> {
    // While the disk is nearly full nothing writes that need not: removing rows makes no room by itself.
    if shared.config.write_gate.check().is_err() {
        return Ok(());
    }
    let pool = shared.config.pools.of(project);
    let now = Timestamp::now(&shared.config.clock);
    for sql in store::EXPIRED {
        for _ in 0..MOST_BATCHES {
            if store::sweep_expired(&pool, sql, now).await? < store::BATCH {
                break;
            }
        }
    }
    for _ in 0..MOST_BATCHES {
        if store::sweep_sessions(&pool, &project.auth, now).await? < store::BATCH {
            break;
        }
    }
    if project.auth.external_anonymous_users_enabled {
        sweep_anonymous(&pool, now).await?;
    }
    Ok(())
}

async fn sweep_anonymous(pool: &pg::Pool, now: Timestamp) -> Result<(), Error> {
    let (mut after, mut looked) = (Uuid::nil(), 0);
    while looked < MOST_ANONYMOUS {
        let ids = store::sweep_anonymous_candidates(pool, after, now).await?;
        let Some(last) = ids.last() else { break };
        (after, looked) = (*last, looked + ids.len());
        for id in ids {
            // A table of the project may want to keep its user.
            if let Err(cause) = store::sweep_anonymous(pool, id, now).await {
                tracing::debug!(user.id = %id, ?cause, "an anonymous user stays");
            }
        }
    }
    Ok(())
}
