//! The guard of the disk: uploads end before the disk is full, so that PostgreSQL can go on.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use base::WriteGate;

use crate::backend::Staging;
use crate::error::Error;

/// How old what is known of the disk may be.
const STALE: Duration = Duration::from_millis(500);

pub(crate) struct DiskGuard {
    staging: Staging,
    reserve: u64,
    gate: WriteGate,
    known: Mutex<Option<(Instant, u64)>>,
}

impl DiskGuard {
    pub(crate) fn new(staging: Staging, reserve: u64, gate: WriteGate) -> Self {
        Self { staging, reserve, gate, known: Mutex::default() }
    }

    /// Whether `bytes` more would leave the reserve free.
    pub(crate) fn check(&self, bytes: u64) -> Result<(), Error> {
        self.gate.check().map_err(|_| Error::DiskFull)?;
        let free = self.free();
        if free.is_some_and(|free| free < self.reserve.saturating_add(bytes)) { Err(Error::DiskFull) } else { Ok(()) }
    }

    /// None when the system does not say.
    fn free(&self) -> Option<u64> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if let Some((at, free)) = *known
            && now.duration_since(at) < STALE
        {
            return Some(free);
        }
        let free = self.staging.free_bytes().ok()?;
        *known = Some((now, free));
        Some(free)
    }
}
