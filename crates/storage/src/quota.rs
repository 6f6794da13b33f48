//! What a project may have: bytes of all its objects together, and uploads under way.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base::{Project, ProjectRef};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::database::Database;
use crate::error::Error;
use crate::store::object;

/// How old what is known of a project's size may be; what was uploaded since is added.
const STALE: Duration = Duration::from_secs(10);

struct Known {
    at: Instant,
    bytes: u64,
}

/// Sizes of the projects that have a limit.
#[derive(Default)]
pub(crate) struct Quotas {
    known: Mutex<HashMap<ProjectRef, Known>>,
}

impl Quotas {
    /// Whether `bytes` more fit into the project.
    pub(crate) async fn check(&self, project: &Project, database: &Database, bytes: u64) -> Result<(), Error> {
        let limit = project.storage.total_size_limit;
        if limit == 0 {
            return Ok(());
        }
        let used = match self.fresh(&project.project_ref) {
            Some(used) => used,
            None => {
                let rows = database.look_up(object::total_size()).await?;
                let used = rows.rows.first().and_then(|row| row.int(0)).and_then(|n| u64::try_from(n).ok());
                let used = used.unwrap_or_default();
                self.lock().insert(project.project_ref.clone(), Known { at: Instant::now(), bytes: used });
                used
            }
        };
        if used.saturating_add(bytes) > limit { Err(Error::QuotaExceeded(limit)) } else { Ok(()) }
    }

    /// Notes what was uploaded.
    pub(crate) fn add(&self, project: &ProjectRef, bytes: u64) {
        if let Some(known) = self.lock().get_mut(project) {
            known.bytes = known.bytes.saturating_add(bytes);
        }
    }

    /// Something was removed: what is known is too much.
    pub(crate) fn forget(&self, project: &ProjectRef) {
        self.lock().remove(project);
    }

    fn fresh(&self, project: &ProjectRef) -> Option<u64> {
        self.lock().get(project).filter(|known| known.at.elapsed() < STALE).map(|known| known.bytes)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<ProjectRef, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Places for uploads under way.
pub(crate) struct UploadSlots {
    all: Arc<Semaphore>,
    per_project: usize,
    projects: Mutex<HashMap<ProjectRef, Arc<Semaphore>>>,
}

/// A place, given back when dropped.
pub(crate) struct UploadSlot {
    _all: OwnedSemaphorePermit,
    _project: OwnedSemaphorePermit,
}

impl UploadSlots {
    pub(crate) fn new(all: usize, per_project: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(all)), per_project, projects: Mutex::default() }
    }

    pub(crate) fn enter(&self, project: &ProjectRef) -> Result<UploadSlot, Error> {
        let of_project = {
            let mut projects = self.projects.lock().unwrap_or_else(PoisonError::into_inner);
            if projects.len() > 1_024 {
                // Those that nobody is in need not be remembered.
                projects.retain(|_, places| places.available_permits() < self.per_project);
            }
            projects.entry(project.clone()).or_insert_with(|| Arc::new(Semaphore::new(self.per_project))).clone()
        };
        let all = self.all.clone().try_acquire_owned().map_err(|_| Error::TooManyUploads)?;
        let own = of_project.try_acquire_owned().map_err(|_| Error::TooManyUploads)?;
        Ok(UploadSlot { _all: all, _project: own })
    }
}
