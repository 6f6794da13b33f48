//! One budget of connections for all projects: a thousand idle projects hold none.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::pool::PoolInner;

/// How often idle connections are looked for.
const SWEEP: Duration = Duration::from_secs(2);
/// How often those who wait look for connections that became idle without being given back.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// A pool's connections up to this many may come out of the reserve.
const GUARANTEED: usize = 2;

/// The connections that all pools together may hold. Must stay below the server's `max_connections`.
///
/// A sixth of them are a reserve for pools that have hardly any: busy projects cannot take everything from the others.
pub struct Budget {
    common: Arc<Semaphore>,
    reserve: Arc<Semaphore>,
    total: usize,
    pools: Mutex<Vec<Weak<PoolInner>>>,
    /// Connections to close when they become free, for those who wait.
    wanted: AtomicUsize,
}

impl Budget {
    pub fn new(total: usize) -> Arc<Self> {
        Self::with_reserve(total, total / 6)
    }

    /// All for one database, which needs no reserve.
    pub fn unshared(total: usize) -> Arc<Self> {
        Self::with_reserve(total, 0)
    }

    fn with_reserve(total: usize, reserve: usize) -> Arc<Self> {
        Arc::new(Self {
            common: Arc::new(Semaphore::new(total - reserve)),
            reserve: Arc::new(Semaphore::new(reserve)),
            total,
            pools: Mutex::default(),
            wanted: AtomicUsize::new(0),
        })
    }

    /// Connections in use or open at the moment.
    pub fn used(&self) -> usize {
        self.total - self.common.available_permits() - self.reserve.available_permits()
    }

    pub(crate) fn register(&self, pool: &Arc<PoolInner>) {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(pool));
    }

    fn live_pools(&self) -> Vec<Arc<PoolInner>> {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        pools.retain(|pool| pool.strong_count() > 0);
        pools.iter().filter_map(Weak::upgrade).collect()
    }

    /// Permission for one more connection of a pool that holds `held`, without waiting. When the budget is spent, None;
    /// the connection that has been idle longest, of whatever project, is then given up, so that a later try succeeds.
    pub(crate) fn try_acquire(&self, held: usize) -> Option<OwnedSemaphorePermit> {
        let permit = self.common.clone().try_acquire_owned().ok();
        let permit = permit.or_else(|| (held < GUARANTEED).then(|| self.reserve.clone().try_acquire_owned().ok())?);
        if permit.is_none() {
            self.close_idlest();
        }
        permit
    }

    /// As [`Self::try_acquire`], and waits. When no connection is idle, the next that would be is given up.
    pub(crate) async fn acquire(&self, held: usize, timeout: Duration) -> Result<OwnedSemaphorePermit, Error> {
        if let Some(permit) = self.try_acquire(held) {
            return Ok(permit);
        }
        let guaranteed = held < GUARANTEED;
        // Asked for before the look, so that what becomes idle between look and wait is not missed.
        self.wanted.fetch_add(1, Ordering::SeqCst);
        if self.close_idlest() {
            self.take_wanted();
        }
        let from_reserve = async {
            if guaranteed { self.reserve.clone().acquire_owned().await } else { std::future::pending().await }
        };
        let permit = async {
            tokio::select! {
                permit = self.common.clone().acquire_owned() => permit,
                permit = from_reserve => permit,
            }
        };
        let acquired = tokio::time::timeout(timeout, async {
            let mut permit = std::pin::pin!(permit);
            loop {
                match tokio::time::timeout(LOOK_AGAIN, &mut permit).await {
                    Ok(acquired) => return acquired,
                    // Shared connections become idle without a word.
                    Err(_) => self.close_idlest(),
                };
            }
        });
        match acquired.await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(Error::AcquireTimeout),
        }
    }

    /// Closes the connection that has been idle longest; false when there is none.
    fn close_idlest(&self) -> bool {
        let idlest = self.live_pools().into_iter().filter_map(|pool| pool.idle_since().map(|since| (since, pool)));
        let Some((_, pool)) = idlest.min_by_key(|(since, _)| *since) else { return false };
        pool.close_idle(None);
        true
    }

    /// Whether a connection that has become free is to be closed for somebody who waits.
    pub(crate) fn take_wanted(&self) -> bool {
        self.wanted.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |wanted| wanted.checked_sub(1)).is_ok()
    }

    /// Closes connections that were idle for `idle_timeout` or have lived long enough, until `shutdown`.
    pub async fn sweep(&self, idle_timeout: Duration, shutdown: CancellationToken) {
        while shutdown.run_until_cancelled(tokio::time::sleep(SWEEP)).await.is_some() {
            let Some(before) = Instant::now().checked_sub(idle_timeout) else { continue };
            for pool in self.live_pools() {
                pool.close_idle(Some(before));
                pool.close_expired();
            }
        }
    }
}
