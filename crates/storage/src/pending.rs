//! Contents that have a place and no row yet. Whoever compares rows and files leaves them alone.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use crate::key::Version;

#[derive(Clone, Default)]
pub(crate) struct Pending {
    versions: Arc<Mutex<HashSet<Version>>>,
}

/// One such content, until it is dropped.
pub(crate) struct PendingVersion {
    versions: Arc<Mutex<HashSet<Version>>>,
    version: Version,
}

impl Drop for PendingVersion {
    fn drop(&mut self) {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.version);
    }
}

impl Pending {
    /// To be called before the content gets its place, and kept until its row is committed or its place taken away.
    pub(crate) fn enter(&self, version: &Version) -> PendingVersion {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner).insert(version.clone());
        PendingVersion { versions: self.versions.clone(), version: version.clone() }
    }

    /// Those of now. A content that had its place before this was asked is among them, or has its row, or will get none.
    pub(crate) fn now(&self) -> HashSet<Version> {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
