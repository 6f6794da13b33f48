//! What a project may have: bytes of all its files together, and uploads under way.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base::{Project, ProjectRef};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::Error;

/// How old what rows say of a project's size may be; what was uploaded since is added.
const STALE: Duration = Duration::from_secs(10);
/// The same while less than half of what it may have is used: adding all up takes time.
const STALE_AT_EASE: Duration = Duration::from_secs(600);
/// Projects remembered before those that nobody asked for lately are forgotten.
const MANY: usize = 4_096;

/// Bytes, and since when they are known.
#[derive(Clone, Copy)]
pub(crate) struct Known {
    pub(crate) at: Instant,
    pub(crate) bytes: u64,
    /// How long it took to find out.
    pub(crate) took: Duration,
}

/// What is known of one project.
struct Usage {
    asked: Instant,
    /// Its files, as they were counted; what came and went since is in it.
    files: Option<Known>,
    /// They are being counted since then; holds the bytes that came meanwhile.
    counting: Option<(Instant, u64)>,
    /// What its rows say, which counts until its files were counted.
    rows: Option<Known>,
    /// Something was removed since the rows were asked.
    less: bool,
}

/// Sizes of the projects that have a limit.
#[derive(Default)]
pub(crate) struct Quotas {
    /// Most bytes of any project, whatever its owner sets; 0 is none.
    ceiling: u64,
    projects: Mutex<HashMap<ProjectRef, Usage>>,
    promised: Arc<Mutex<HashMap<ProjectRef, u64>>>,
}

/// Bytes of an upload under way, which count as if they were there. Given back when dropped.
pub(crate) struct Share {
    promised: Arc<Mutex<HashMap<ProjectRef, u64>>>,
    project: ProjectRef,
    bytes: u64,
}

impl Share {
    /// One share of both.
    pub(crate) fn absorb(&mut self, mut other: Self) {
        debug_assert_eq!(self.project, other.project);
        self.bytes += std::mem::take(&mut other.bytes);
    }
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

    /// Most bytes of a project; none when nothing bounds them.
    pub(crate) fn limit(&self, project: &Project) -> Option<u64> {
        match (project.storage.total_size_limit, self.ceiling) {
            (0, 0) => None,
            (0, limit) | (limit, 0) => Some(limit),
            (own, ceiling) => Some(own.min(ceiling)),
        }
    }

    /// Promises bytes, and tells how many are promised to the project with them: of two that come at once, one sees the
    /// other.
    pub(crate) fn share(&self, project: &ProjectRef, bytes: u64) -> (Share, u64) {
        let mut all = self.promised.lock().unwrap_or_else(PoisonError::into_inner);
        let own = all.entry(project.clone()).or_default();
        *own = own.saturating_add(bytes);
        (Share { promised: self.promised.clone(), project: project.clone(), bytes }, *own)
    }

    /// Bytes of the project's files, once they were counted.
    pub(crate) fn files(&self, project: &ProjectRef) -> Option<Known> {
        self.with(project, |usage| usage.files)
    }

    /// What its rows say, unless that is too old, or may be why `more` do not fit into `limit`.
    pub(crate) fn rows(&self, project: &ProjectRef, limit: u64, more: u64) -> Option<u64> {
        self.with(project, |usage| {
            let rows = usage.rows?;
            let stale = if rows.bytes < limit / 2 { STALE_AT_EASE } else { STALE };
            let counts = !usage.less || rows.bytes.saturating_add(more) <= limit;
            (counts && rows.at.elapsed() < stale).then_some(rows.bytes)
        })
    }

    /// Notes what its rows say.
    pub(crate) fn rows_say(&self, project: &ProjectRef, bytes: u64) {
        self.with(project, |usage| {
            usage.rows = Some(Known { at: Instant::now(), bytes, took: Duration::ZERO });
            usage.less = false;
        });
    }

    /// Whether the caller is to count the project's files: nobody does.
    pub(crate) fn counting_begins(&self, project: &ProjectRef) -> bool {
        self.with(project, |usage| {
            let begins = usage.counting.is_none();
            usage.counting.get_or_insert((Instant::now(), 0));
            begins
        })
    }

    /// From here on, what comes may be counted or not.
    pub(crate) fn counting_goes_on(&self, project: &ProjectRef) {
        self.with(project, |usage| usage.counting = Some((Instant::now(), 0)));
    }

    /// The project's files were counted, or could not be.
    pub(crate) fn counting_ends(&self, project: &ProjectRef, bytes: Option<u64>) {
        self.with(project, |usage| {
            if let (Some((begun, came)), Some(bytes)) = (usage.counting.take(), bytes) {
                // What came meanwhile may count twice, until they are counted again.
                let bytes = bytes.saturating_add(came);
                usage.files = Some(Known { at: Instant::now(), bytes, took: begun.elapsed() });
            }
        });
    }

    /// Notes bytes that came.
    pub(crate) fn add(&self, project: &ProjectRef, bytes: u64) {
        if let Some(usage) = self.lock().get_mut(project) {
            for known in [&mut usage.files, &mut usage.rows].into_iter().flatten() {
                known.bytes = known.bytes.saturating_add(bytes);
            }
            if let Some((_, came)) = &mut usage.counting {
                *came = came.saturating_add(bytes);
            }
        }
    }

    /// Notes bytes that went.
    pub(crate) fn remove(&self, project: &ProjectRef, bytes: u64) {
        if let Some(usage) = self.lock().get_mut(project) {
            if let Some(files) = &mut usage.files {
                files.bytes = files.bytes.saturating_sub(bytes);
            }
            usage.less = true;
        }
    }

    /// Rows were removed: what they said is too much.
    pub(crate) fn rows_went(&self, project: &ProjectRef) {
        if let Some(usage) = self.lock().get_mut(project) {
            usage.less = true;
        }
    }

    fn with<T>(&self, project: &ProjectRef, work: impl FnOnce(&mut Usage) -> T) -> T {
        let mut all = self.lock();
        if all.len() >= MANY && !all.contains_key(project) {
            all.retain(|_, usage| usage.counting.is_some() || usage.asked.elapsed() < STALE_AT_EASE);
        }
        let asked = Instant::now();
        let fresh = || Usage { asked, files: None, counting: None, rows: None, less: false };
        let usage = all.entry(project.clone()).or_insert_with(fresh);
        usage.asked = asked;
        work(usage)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ProjectRef, Usage>> {
        self.projects.lock().unwrap_or_else(PoisonError::into_inner)
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
