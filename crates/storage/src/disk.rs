//! The guard of the disk: uploads end before the disk is full, so that PostgreSQL can go on.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base::WriteGate;

use crate::backend::{Free, Staging};
use crate::error::Error;

/// How old what is known of the disk may be.
const STALE: Duration = Duration::from_millis(500);
/// Files and folders that uploads leave free.
const INODE_RESERVE: u64 = 16 * 1024;

pub(crate) struct DiskGuard {
    staging: Staging,
    reserve: u64,
    gate: WriteGate,
    known: Mutex<Option<(Instant, Free)>>,
    /// Bytes of uploads that were admitted and are not on the disk yet.
    promised: Arc<AtomicU64>,
}

/// Bytes that an upload may still write. Given back when dropped.
pub(crate) struct Promise {
    promised: Arc<AtomicU64>,
    bytes: u64,
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.promised.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl DiskGuard {
    pub(crate) fn new(staging: Staging, reserve: u64, gate: WriteGate) -> Self {
        Self { staging, reserve, gate, known: Mutex::default(), promised: Arc::default() }
    }

    /// Whether `bytes` more would leave the reserve free, whatever was promised to others.
    pub(crate) fn check(&self, bytes: u64) -> Result<(), Error> {
        self.gate.check().map_err(|_| Error::DiskFull)?;
        let Some(free) = self.free(STALE) else { return Ok(()) };
        let wanted = self.reserve.saturating_add(bytes).saturating_add(self.promised.load(Ordering::Relaxed));
        if lacks(free, wanted) { Err(Error::DiskFull) } else { Ok(()) }
    }

    /// Admits an upload that will write so many bytes: nobody else is promised the same.
    pub(crate) fn promise(&self, bytes: u64) -> Result<Promise, Error> {
        // Counted first, so that of two that come at once one sees the other.
        self.promised.fetch_add(bytes, Ordering::Relaxed);
        let promise = Promise { promised: self.promised.clone(), bytes };
        self.check(0)?;
        Ok(promise)
    }

    /// So many of the promised bytes are on the disk, or will be without being counted any more; `more` are asked for.
    pub(crate) fn wrote(&self, promise: &mut Promise, bytes: u64, more: u64) -> Result<(), Error> {
        let written = bytes.min(promise.bytes);
        promise.bytes -= written;
        promise.bytes += more;
        self.promised.fetch_add(more, Ordering::Relaxed);
        // Known anew before the promise shrinks: otherwise the bytes would count nowhere for a moment.
        let _ = self.free(Duration::ZERO);
        self.promised.fetch_sub(written, Ordering::Relaxed);
        self.check(0)
    }

    /// None when the system does not say.
    fn free(&self, stale: Duration) -> Option<Free> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if let Some((at, free)) = *known
            && now.duration_since(at) < stale
        {
            return Some(free);
        }
        let free = self.staging.free().ok()?;
        *known = Some((now, free));
        Some(free)
    }
}

/// Whether a disk has less than is wanted, or no more files can be made on it.
fn lacks(free: Free, wanted: u64) -> bool {
    free.bytes < wanted || free.inodes.is_some_and(|inodes| inodes < INODE_RESERVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    fn guard(reserve: impl FnOnce(u64) -> u64) -> (DiskGuard, test_support::ScratchDir) {
        let root = test_support::ScratchDir::new();
        let staging = Staging::new(root.path());
        let free = staging.free().unwrap().bytes;
        (DiskGuard::new(staging, reserve(free), WriteGate::new()), root)
    }

    /// Uploads that are admitted at the same moment see each other, though none has written anything.
    #[test]
    fn what_is_promised_to_one_is_promised_to_no_other() {
        let (disk, _root) = guard(|free| free / 2);
        let third = disk.free(STALE).unwrap().bytes / 3;
        let first = disk.promise(third).unwrap();
        assert!(disk.promise(third).is_err(), "two thirds are more than the half that is not reserved");
        let promises: Vec<Promise> = (0..10_000).map_while(|_| disk.promise(8 * MIB).ok()).collect();
        assert!(promises.len() as u64 * 8 * MIB <= third, "{}", promises.len());
        drop((first, promises));
        assert!(disk.promise(third).is_ok(), "given back");
    }

    /// An upload of unknown length asks for as much again each time it has written something, before it writes on.
    #[test]
    fn an_upload_without_a_length_is_promised_no_more_than_there_is() {
        let (disk, _root) = guard(|free| free / 2);
        let mut promise = disk.promise(8 * MIB).unwrap();
        let quarter = disk.free(STALE).unwrap().bytes / 4;
        assert!(disk.wrote(&mut promise, 8 * MIB, quarter).is_ok());
        assert!(disk.wrote(&mut promise, 0, 2 * quarter).is_err());
    }

    /// Folders and files are made of more than bytes.
    #[test]
    fn inodes_are_left_for_others() {
        let disk = |inodes| Free { bytes: 10 * MIB, inodes };
        assert!(!lacks(disk(None), MIB) && !lacks(disk(Some(INODE_RESERVE)), MIB));
        assert!(lacks(disk(Some(INODE_RESERVE - 1)), MIB));
        assert!(lacks(disk(None), 11 * MIB));
    }
}
