//! One request at a time for each resumable upload. A client that comes back after its connection broke must not wait for
//! what the server still believes in: the newcomer ends the one before.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lru::LruCache;

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};
use tokio_util::sync::CancellationToken;

use super::record::Record;
use crate::error::Error;

/// How long the one before may take to put away what it has.
const PATIENCE: Duration = Duration::from_secs(15);
/// Uploads remembered before those that nobody works on are forgotten.
const MANY: usize = 1_024;
/// Finished uploads that are remembered, for clients that missed the last answer.
const FINISHED: NonZeroUsize = NonZeroUsize::new(1_024).expect("1024 is not 0");

pub(crate) struct UploadLocks {
    uploads: Mutex<HashMap<String, Upload>>,
    finished: Mutex<LruCache<String, Record>>,
}

impl Default for UploadLocks {
    fn default() -> Self {
        Self { uploads: Mutex::default(), finished: Mutex::new(LruCache::new(FINISHED)) }
    }
}

struct Upload {
    lock: Arc<AsyncMutex<()>>,
    /// Of whoever holds the lock or comes next.
    ends: CancellationToken,
}

/// The right to work on an upload.
pub(crate) struct UploadLock {
    _guard: OwnedMutexGuard<()>,
    /// Somebody else wants it.
    pub(crate) ends: CancellationToken,
}

impl UploadLocks {
    /// Remembers an upload whose object is there.
    pub(crate) fn finish(&self, name: String, record: Record) {
        self.finished.lock().unwrap_or_else(PoisonError::into_inner).put(name, record);
    }

    /// The record of an upload that was finished lately.
    pub(crate) fn finished(&self, name: &str) -> Option<Record> {
        self.finished.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// `name` tells uploads of all projects apart.
    pub(crate) async fn acquire(&self, name: &str) -> Result<UploadLock, Error> {
        let ends = CancellationToken::new();
        let lock = {
            let mut uploads = self.uploads.lock().unwrap_or_else(PoisonError::into_inner);
            if uploads.len() >= MANY {
                uploads.retain(|_, upload| Arc::strong_count(&upload.lock) > 1);
            }
            let upload = uploads
                .entry(name.to_owned())
                .or_insert_with(|| Upload { lock: Arc::default(), ends: CancellationToken::new() });
            upload.ends.cancel();
            upload.ends = ends.clone();
            upload.lock.clone()
        };
        match tokio::time::timeout(PATIENCE, lock.lock_owned()).await {
            Ok(guard) => Ok(UploadLock { _guard: guard, ends }),
            Err(_) => Err(Error::Locked),
        }
    }
}
