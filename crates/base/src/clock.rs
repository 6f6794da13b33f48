//! Time as a parameter, so that tests of expiry need not sleep.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Where "now" comes from wherever something expires.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    /// Seconds added to the system's time; only tests move it.
    offset: Arc<AtomicI64>,
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self::default()
    }

    /// The system's time since the Unix epoch, for lines of a log; [`Self::advance`] does not move it.
    pub fn since_epoch(&self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }

    /// Seconds since the Unix epoch.
    pub fn unix_seconds(&self) -> i64 {
        let since = self.since_epoch();
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX).saturating_add(self.offset.load(Ordering::Relaxed))
    }

    /// A time that no setting of the system's clock moves, for what counts seconds and never shows them.
    pub fn instant(&self) -> Instant {
        let offset = self.offset.load(Ordering::Relaxed);
        let (now, distance) = (Instant::now(), Duration::from_secs(offset.unsigned_abs()));
        let moved = if offset < 0 { now.checked_sub(distance) } else { now.checked_add(distance) };
        moved.unwrap_or(now)
    }

    /// Moves this clock and its clones forward (or back) by `seconds`.
    pub fn advance(&self, seconds: i64) {
        self.offset.fetch_add(seconds, Ordering::Relaxed);
    }
}
