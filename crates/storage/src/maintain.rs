//! What the service does without being asked: files of projects that are gone, expired uploads, and what crashes left.

use std::collections::{BTreeSet, HashSet};
use std::error::Error as StdError;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use base::{Project, ProjectRef, ProjectStatus, ProjectTable};
use futures_util::{StreamExt as _, stream};
use tokio_util::sync::CancellationToken;

use crate::Storage;
use crate::backend::BackendError;
use crate::reconcile::Scope;

/// When [`Storage::maintain`] goes round.
#[derive(Clone, Copy, Debug)]
pub struct Rounds {
    /// From the start to the first round.
    pub first: Duration,
    pub between: Duration,
    /// Longest comparison of one project.
    pub longest: Duration,
}

impl Default for Rounds {
    /// The first one waits until a start is over.
    fn default() -> Self {
        Self {
            first: Duration::from_secs(60),
            between: Duration::from_secs(6 * 3600),
            longest: Duration::from_secs(15 * 60),
        }
    }
}

/// Projects that are compared at once, so that one that takes long holds up no other.
const AT_ONCE: usize = 2;
/// Between two projects of a round, so that it takes nothing from anybody.
const BREATH: Duration = Duration::from_millis(200);
/// Files without a row are removed once they are older, in seconds.
const GRACE: i64 = 3600;

impl Storage {
    /// Goes round all projects that have files until `shutdown`. `purged` tells which of some projects are gone for good;
    /// files of those go, and of no others.
    pub async fn maintain<F, E>(
        self,
        projects: Arc<ProjectTable>,
        purged: impl Fn(Vec<ProjectRef>) -> F + Send,
        shutdown: CancellationToken,
    ) where
        F: Future<Output = Result<Vec<ProjectRef>, E>> + Send,
        E: StdError + 'static,
    {
        let Rounds { first, between, .. } = self.shared.config.rounds;
        let mut wait = first;
        while shutdown.run_until_cancelled(tokio::time::sleep(wait)).await.is_some() {
            wait = between;
            if shutdown.run_until_cancelled(self.round(&projects, &purged)).await.is_none() {
                return;
            }
        }
    }

    /// One round.
    pub(crate) async fn round<F, E>(&self, projects: &ProjectTable, purged: &(impl Fn(Vec<ProjectRef>) -> F + Send))
    where
        F: Future<Output = Result<Vec<ProjectRef>, E>> + Send,
        E: StdError + 'static,
    {
        let backend = &self.shared.backend;
        // Uploads under way are on the disk, wherever contents are.
        let staging = &self.shared.config.staging;
        let both = async { Ok::<_, BackendError>((backend.projects().await?, staging.projects().await?)) };
        let kept: BTreeSet<ProjectRef> = match both.await {
            Ok((contents, uploads)) => contents.into_iter().chain(uploads).collect(),
            Err(error) => {
                tracing::warn!(cause = %web::error::chain(&error), "the projects with files cannot be listed");
                return;
            }
        };
        let unknown: Vec<ProjectRef> = kept.iter().filter(|id| projects.get(id).is_none()).cloned().collect();
        let gone: HashSet<ProjectRef> = match purged(unknown).await {
            Ok(gone) => gone.into_iter().collect(),
            Err(error) => {
                tracing::warn!(cause = %web::error::chain(&error), "whose files can go is not known");
                HashSet::new()
            }
        };
        for id in &gone {
            let removed = async {
                backend.remove_project(id).await?;
                staging.remove_project(id).await
            };
            match removed.await {
                Ok(()) => tracing::info!(project.r#ref = %id, "the files of a project that is gone are removed"),
                Err(error) => {
                    tracing::warn!(project.r#ref = %id, cause = %web::error::chain(&error), "files of a project stay");
                }
            }
        }
        let there = kept.iter().filter(|id| !gone.contains(*id));
        let mut active: Vec<Arc<Project>> = there.filter_map(|id| projects.get(id)).collect();
        active.retain(|project| project.status == ProjectStatus::Active);
        stream::iter(active).for_each_concurrent(AT_ONCE, |project| self.compare(project)).await;
    }

    /// Compares rows and files of one project, mends what can be, and tells the log of the rest.
    async fn compare(&self, project: Arc<Project>) {
        let id = &project.project_ref;
        let scope = Scope { checksums: false, repair: true, grace: GRACE, uploads_grace: GRACE };
        let compared = tokio::time::timeout(self.shared.config.rounds.longest, self.reconcile(&project, scope)).await;
        match compared {
            Ok(Ok(report)) if report.is_clean() && report.orphans == 0 => {}
            Ok(Ok(report)) => {
                let faults = report.faults.len() as u64 + report.more_faults;
                tracing::warn!(
                    project.r#ref = %id, files = report.files, orphans = report.orphans, repaired = report.repaired,
                    faults, "rows and files did not agree"
                );
                for fault in report.faults.iter().take(10) {
                    tracing::error!(project.r#ref = %id, object = fault.object, "{}", fault.what);
                }
            }
            Ok(Err(error)) => {
                tracing::warn!(project.r#ref = %id, cause = %web::error::chain(&error), "rows and files were not compared");
            }
            // Its owner can have its tables answer for ever; others must not wait for it.
            Err(_) => {
                tracing::warn!(project.r#ref = %id, "comparing rows and files took too long and was ended");
            }
        }
        tokio::time::sleep(BREATH).await;
    }
}
