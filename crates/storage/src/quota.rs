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
/// The same while less than half of what it may have is used: adding all up takes time.
const STALE_AT_EASE: Duration = Duration::from_secs(600);
/// Projects remembered before those that are not asked for are forgotten.
const MANY: usize = 4_096;

#[derive(Clone, Copy)]
struct Known {
    at: Instant,
    bytes: u64,
    /// Something was removed since.
    less: bool,
}

/// Sizes of the projects that have a limit.
#[derive(Default)]
pub(crate) struct Quotas {
    /// Most bytes of any project, whatever its owner sets; 0 is none.
    ceiling: u64,
    known: Mutex<HashMap<ProjectRef, Known>>,
    promised: Arc<Mutex<HashMap<ProjectRef, u64>>>,
}

/// Bytes of an upload under way, which count as if they were there. Given back when dropped.
pub(crate) struct Share {
    promised: Arc<Mutex<HashMap<ProjectRef, u64>>>,
    project: ProjectRef,
    bytes: u64,
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut promised = self.promised.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = promised.get_mut(&self.project) {
            *bytes = bytes.saturating_sub(self.bytes);
            if *bytes == 0 {
                promised.remove(&self.project);
            }
        }
    }
}

impl Quotas {
    pub(crate) fn new(ceiling: u64) -> Self {
        Self { ceiling, ..Self::default() }
    }

    /// Whether `bytes` more fit into the project, beside all uploads under way.
    pub(crate) async fn check(&self, project: &Project, database: &Database, bytes: u64) -> Result<(), Error> {
        self.promise(project, database, bytes).await.map(drop)
    }

    /// Admits an upload of so many bytes: no other is promised the same room.
    pub(crate) async fn promise(&self, project: &Project, database: &Database, bytes: u64) -> Result<Share, Error> {
        let project_ref = &project.project_ref;
        let limit = match (project.storage.total_size_limit, self.ceiling) {
            (0, ceiling) => ceiling,
            (own, 0) => own,
            (own, ceiling) => own.min(ceiling),
        };
        // Counted first, so that of two that come at once one sees the other.
        let share = Share { promised: self.promised.clone(), project: project_ref.clone(), bytes };
        let promised = {
            let mut all = self.promised.lock().unwrap_or_else(PoisonError::into_inner);
            let own = all.entry(project_ref.clone()).or_default();
            *own = own.saturating_add(bytes);
            *own
        };
        if limit > 0 && self.used(project_ref, database, limit, promised).await?.saturating_add(promised) > limit {
            return Err(Error::QuotaExceeded(limit));
        }
        Ok(share)
    }

    /// Bytes of the project. Counted anew when what is known is old, or may be why `more` do not fit into `limit`.
    async fn used(&self, project: &ProjectRef, database: &Database, limit: u64, more: u64) -> Result<u64, Error> {
        let known = self.lock().get(project).copied();
        if let Some(known) = known
            && known.at.elapsed() < if known.bytes < limit / 2 { STALE_AT_EASE } else { STALE }
            && (!known.less || known.bytes.saturating_add(more) <= limit)
        {
            return Ok(known.bytes);
        }
        let rows = database.look_up(object::total_size()).await?;
        let used = rows.rows.first().and_then(|row| row.int(0)).and_then(|n| u64::try_from(n).ok());
        let used = used.unwrap_or_default();
        let mut all = self.lock();
        if all.len() >= MANY {
            all.retain(|_, known| known.at.elapsed() < STALE_AT_EASE);
        }
        all.insert(project.clone(), Known { at: Instant::now(), bytes: used, less: false });
        Ok(used)
    }

    /// Notes what was uploaded.
    pub(crate) fn add(&self, project: &ProjectRef, bytes: u64) {
        if let Some(known) = self.lock().get_mut(project) {
            known.bytes = known.bytes.saturating_add(bytes);
        }
    }

    /// Something was removed: what is known is too much.
    pub(crate) fn forget(&self, project: &ProjectRef) {
        if let Some(known) = self.lock().get_mut(project) {
            known.less = true;
        }
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
