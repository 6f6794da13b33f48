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
        let few = free.inodes.is_some_and(|inodes| inodes < INODE_RESERVE);
        if free.bytes < wanted || few { Err(Error::DiskFull) } else { Ok(()) }
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
