//! How much a project's files take. They are counted on the disk (or in the store), once after a start and then every hour
//! while somebody uploads, and what comes and goes meanwhile is added and taken away. Rows tell sizes too, but they are the
//! project owner's to write: they count only until the files were counted.

use std::sync::Arc;
use std::time::Duration;

use base::{Project, ProjectRef};
use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;

use crate::Shared;
use crate::backend::{Backend, BackendError, Location, Page, SharedBackend, StagedFile};
use crate::database::Database;
use crate::error::Error;
use crate::quota::{Quotas, Share};
use crate::store::object;

/// How old a count may be; it is made anew in the background.
const AGAIN: Duration = Duration::from_secs(3600);
/// How old the count may be by which an upload is refused, at the least, and as a multiple of how long counting takes.
const FRESH: Duration = Duration::from_secs(1);
const FRESH_TIMES: u32 = 10;
/// How long an upload waits for what is being removed anyway.
const PATIENCE: Duration = Duration::from_secs(5);

/// Counts the files of one project at a time, of all projects: it reads folders.
pub(crate) struct Counter(Semaphore);

impl Default for Counter {
    fn default() -> Self {
        Self(Semaphore::new(1))
    }
}

impl Shared {
    /// Whether `bytes` more fit into the project, beside all uploads under way.
    pub(crate) async fn check_quota(
        self: &Arc<Self>,
        project: &Project,
        database: &Database,
        bytes: u64,
    ) -> Result<(), Error> {
        self.promise(project, database, bytes).await.map(drop)
    }

    /// Admits an upload of so many bytes: no other is promised the same room.
    pub(crate) async fn promise(
        self: &Arc<Self>,
        project: &Project,
        database: &Database,
        bytes: u64,
    ) -> Result<Share, Error> {
        let id = &project.project_ref;
        let (share, promised) = self.quotas.share(id, bytes);
        let Some(limit) = self.quotas.limit(project) else { return Ok(share) };
        let fits = |used: u64| used.saturating_add(promised) <= limit;
        let Some(files) = self.quotas.files(id) else {
            self.count_later(id);
            return match fits(self.recorded(id, database, limit, promised).await?) {
                true => Ok(share),
                false => Err(Error::QuotaExceeded(limit)),
            };
        };
        if files.at.elapsed() >= AGAIN {
            self.count_later(id);
        }
        let still_fits = || self.quotas.files(id).is_none_or(|files| fits(files.bytes));
        if fits(files.bytes) {
            return Ok(share);
        }
        // What no row means any more is on its way out.
        self.swept(id, database, PATIENCE).await;
        if still_fits() {
            return Ok(share);
        }
        if files.at.elapsed() >= FRESH.max(files.took.saturating_mul(FRESH_TIMES)) && self.quotas.counting_begins(id) {
            let counting = self.config.tasks.spawn(self.clone().count(id.clone()));
            counting.await.map_err(|_| Error::Internal("the counting of files was aborted"))?;
            if still_fits() {
                return Ok(share);
            }
        }
        Err(Error::QuotaExceeded(limit))
    }

    /// Bytes as the project's rows tell.
    async fn recorded(&self, id: &ProjectRef, database: &Database, limit: u64, more: u64) -> Result<u64, Error> {
        if let Some(known) = self.quotas.rows(id, limit, more) {
            return Ok(known);
        }
        let rows = database.look_up(object::total_size()).await?;
        let used = rows.rows.first().and_then(|row| row.int(0)).and_then(|n| u64::try_from(n).ok());
        let used = used.unwrap_or_default();
        self.quotas.rows_say(id, used);
        Ok(used)
    }

    /// Has the files of a project counted, unless they are being counted.
    fn count_later(self: &Arc<Self>, id: &ProjectRef) {
        if self.quotas.counting_begins(id) {
            self.config.tasks.spawn(self.clone().count(id.clone()));
        }
    }

    pub(crate) async fn count(self: Arc<Self>, id: ProjectRef) {
        let counted = async {
            // Never closed.
            let _one = self.counter.0.acquire().await;
            self.quotas.counting_goes_on(&id);
            let contents = self.backend.bytes(&id).await?;
            Ok::<_, BackendError>(contents.saturating_add(self.config.staging.bytes(&id).await?))
        };
        let counted = counted.await;
        if let Err(error) = &counted {
            tracing::warn!(project.r#ref = %id, cause = %web::error::chain(error), "the files of a project were not counted");
        }
        self.quotas.counting_ends(&id, counted.ok());
    }
}

/// A backend whose contents count towards their projects.
pub(crate) struct Metered {
    pub(crate) inner: SharedBackend,
    pub(crate) quotas: Arc<Quotas>,
}

impl Backend for Metered {
    fn put<'a>(&'a self, staged: StagedFile, to: &'a Location) -> BoxFuture<'a, Result<(), BackendError>> {
        Box::pin(async move {
            let bytes = staged.size();
            self.inner.put(staged, to).await?;
            self.quotas.add(&to.project, bytes);
            Ok(())
        })
    }

    fn open<'a>(
        &'a self,
        at: &'a Location,
        range: std::ops::Range<u64>,
    ) -> BoxFuture<'a, Result<axum::body::Body, BackendError>> {
        self.inner.open(at, range)
    }

    fn size<'a>(&'a self, at: &'a Location) -> BoxFuture<'a, Result<u64, BackendError>> {
        self.inner.size(at)
    }

    fn copy<'a>(&'a self, from: &'a Location, to: &'a Location) -> BoxFuture<'a, Result<u64, BackendError>> {
        Box::pin(async move {
            let bytes = self.inner.copy(from, to).await?;
            self.quotas.add(&to.project, bytes);
            Ok(bytes)
        })
    }

    fn remove<'a>(&'a self, at: &'a Location) -> BoxFuture<'a, Result<u64, BackendError>> {
        Box::pin(async move {
            let bytes = self.inner.remove(at).await?;
            self.quotas.remove(&at.project, bytes);
            Ok(bytes)
        })
    }

    fn list<'a>(&'a self, project: &'a ProjectRef, from: Option<String>) -> BoxFuture<'a, Result<Page, BackendError>> {
        self.inner.list(project, from)
    }

    fn bytes<'a>(&'a self, project: &'a ProjectRef) -> BoxFuture<'a, Result<u64, BackendError>> {
        self.inner.bytes(project)
    }

    fn projects(&self) -> BoxFuture<'_, Result<Vec<ProjectRef>, BackendError>> {
        self.inner.projects()
    }

    fn remove_project<'a>(&'a self, project: &'a ProjectRef) -> BoxFuture<'a, Result<(), BackendError>> {
        self.inner.remove_project(project)
    }
}
