//! Removing the files that no row means any more, as `_launchdb.storage_removals` lists them. At most one sweep of a
//! project runs at a time; who asks meanwhile gets another round.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base::ProjectRef;
use tokio::sync::watch;

use crate::Shared;
use crate::backend::Location;
use crate::database::{Database, Session};
use crate::error::Error;
use crate::key::{BucketId, ObjectKey, Version};
use crate::store;
use crate::store::removal::{self, Removal};

/// Removals of one round.
const BATCH: u64 = 500;

/// Which projects are being swept.
#[derive(Default)]
pub(crate) struct Sweeper {
    running: Mutex<HashMap<ProjectRef, Running>>,
}

#[derive(Default)]
struct Running {
    /// Another round was asked for.
    again: bool,
    /// Gone at the end.
    end: watch::Sender<()>,
}

impl Sweeper {
    /// Whether the caller is to sweep; otherwise somebody who does will go round again.
    fn begin(&self, project: &ProjectRef) -> bool {
        let mut running = self.lock();
        match running.get_mut(project) {
            Some(sweep) => {
                sweep.again = true;
                false
            }
            None => {
                running.insert(project.clone(), Running::default());
                true
            }
        }
    }

    /// Whether to go round again.
    fn again(&self, project: &ProjectRef) -> bool {
        let mut running = self.lock();
        match running.get_mut(project) {
            Some(sweep) if sweep.again => {
                sweep.again = false;
                true
            }
            _ => {
                running.remove(project);
                false
            }
        }
    }

    /// Fails at the end of the sweep that is running.
    fn end(&self, project: &ProjectRef) -> Option<watch::Receiver<()>> {
        self.lock().get(project).map(|sweep| sweep.end.subscribe())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ProjectRef, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Removes in the background what the last transaction left.
    pub(crate) fn sweep(self: &Arc<Self>, project: &ProjectRef, database: &Database) {
        if !self.sweeper.begin(project) {
            return;
        }
        let (shared, project, database) = (self.clone(), project.clone(), database.clone());
        self.config.tasks.spawn(async move {
            loop {
                if let Err(error) = shared.sweep_all(&project, &database).await {
                    tracing::warn!(
                        project.r#ref = %project, cause = %web::error::chain(&error),
                        "files of deleted objects stay until the next sweep"
                    );
                }
                if !shared.sweeper.again(&project) {
                    return;
                }
            }
        });
    }

    /// Waits until what was listed up to now has been removed, but no longer than `patience`.
    pub(crate) async fn swept(self: &Arc<Self>, project: &ProjectRef, database: &Database, patience: Duration) {
        self.sweep(project, database);
        if let Some(mut end) = self.sweeper.end(project) {
            // Nothing is ever sent.
            let _ = tokio::time::timeout(patience, end.changed()).await;
        }
    }

    /// Works the list off; gives how many files went.
    pub(crate) async fn sweep_all(&self, project: &ProjectRef, database: &Database) -> Result<usize, Error> {
        let mut swept = 0;
        loop {
            let rows = database.look_up(removal::removal_list(BATCH)).await?;
            let removals: Vec<Removal> = match rows.rows.first() {
                Some(row) => store::json(row, 0)?.unwrap_or_default(),
                None => Vec::new(),
            };
            let mut done = Vec::with_capacity(removals.len());
            for removal in &removals {
                if let Some(location) = location(project, removal) {
                    self.backend.remove(&location).await?;
                    swept += 1;
                }
                done.push(removal.id);
            }
            if !done.is_empty() {
                let session = Session::admin("storage.sweep");
                database.write(&session, vec![removal::removal_delete(&done)]).await?;
            }
            if (removals.len() as u64) < BATCH {
                return Ok(swept);
            }
        }
    }
}

/// None for what never had a file, or has it again.
fn location(project: &ProjectRef, removal: &Removal) -> Option<Location> {
    if removal.wanted {
        return None;
    }
    Some(Location {
        project: project.clone(),
        bucket: BucketId::parse(removal.bucket_id.as_deref()?)?,
        key: ObjectKey::parse(removal.name.as_deref()?)?,
        version: Version::parse(&removal.version)?,
    })
}
