//! One budget of connections for all projects: a thousand idle projects hold none.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::pool::PoolInner;
use crate::turns::Neighbours;

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
    /// Whose pools had work lately.
    pub(crate) neighbours: Neighbours,
    /// Those who wait for a connection.
    waiting: AtomicUsize,
    /// Connections to close for them: what is idle at once, else what becomes free.
    wanted: AtomicUsize,
}

/// What pools hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolUsage {
    /// Connections that one request has for itself.
    pub leased: usize,
    /// Connections that nobody has.
    pub idle: usize,
    /// Connections that short reads share.
    pub shared: usize,
    /// Requests that wait for one, or for their turn.
    pub waiting: usize,
}

/// Somebody waits for a connection, until dropped.
struct Wanting<'a>(&'a Budget);

impl<'a> Wanting<'a> {
    fn new(budget: &'a Budget) -> Self {
        budget.waiting.fetch_add(1, Ordering::SeqCst);
        budget.wanted.fetch_add(1, Ordering::SeqCst);
        Self(budget)
    }
}

impl Drop for Wanting<'_> {
    fn drop(&mut self) {
        let waiting = self.0.waiting.fetch_sub(1, Ordering::SeqCst) - 1;
        // Who got another connection, or gave up, needs none closed any more.
        let surplus = |wanted: usize| (wanted > waiting).then_some(waiting);
        self.0.wanted.fetch_update(Ordering::SeqCst, Ordering::SeqCst, surplus).ok();
    }
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
            neighbours: Neighbours::new(),
            waiting: AtomicUsize::new(0),
            wanted: AtomicUsize::new(0),
        })
    }

    /// Connections in use or open at the moment.
    pub fn used(&self) -> usize {
        self.total - self.common.available_permits() - self.reserve.available_permits()
    }

    /// Connections that may be open at most.
    pub fn total(&self) -> usize {
        self.total
    }

    /// What each database's pools hold at the moment.
    pub fn usage(&self) -> BTreeMap<String, PoolUsage> {
        let mut usage: BTreeMap<String, PoolUsage> = BTreeMap::new();
        for pool in self.live_pools() {
            let (database, of_pool) = pool.usage();
            let sum = usage.entry(database).or_default();
            sum.leased += of_pool.leased;
            sum.idle += of_pool.idle;
            sum.shared += of_pool.shared;
            sum.waiting += of_pool.waiting;
        }
        usage
    }

    pub(crate) fn register(&self, pool: &Arc<PoolInner>) {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(pool));
    }

    fn live_pools(&self) -> Vec<Arc<PoolInner>> {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        pools.retain(|pool| pool.strong_count() > 0);
        pools.iter().filter_map(Weak::upgrade).collect()
    }

    /// Permission for one more connection of a pool that holds `held`, if the budget is not spent.
    pub(crate) fn try_acquire(&self, held: usize) -> Option<OwnedSemaphorePermit> {
        let permit = self.common.clone().try_acquire_owned().ok();
        permit.or_else(|| (held < GUARANTEED).then(|| self.reserve.clone().try_acquire_owned().ok())?)
    }

    /// As [`Self::try_acquire`], and waits: the connection that has been idle longest, of whatever project, is given up, or
    /// the next that becomes idle.
    pub(crate) async fn acquire(&self, held: usize, timeout: Duration) -> Result<OwnedSemaphorePermit, Error> {
        if let Some(permit) = self.try_acquire(held) {
            return Ok(permit);
        }
        let guaranteed = held < GUARANTEED;
        let _wanting = Wanting::new(self);
        self.close_wanted();
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
                    // Shared connections become idle without a word, and what was closed may have been of the reserve.
                    Err(_) => {
                        self.wanted.fetch_max(1, Ordering::SeqCst);
                        self.close_wanted();
                    }
                };
            }
        });
        match acquired.await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(Error::AcquireTimeout),
        }
    }

    /// Closes idle connections for those who wait, as far as there are any; what then is still wanted is closed when it
    /// becomes free.
    fn close_wanted(&self) {
        while self.take_wanted() {
            let since = |pool: Arc<PoolInner>| pool.idle_since().map(|since| (since, pool));
            match self.live_pools().into_iter().filter_map(since).min_by_key(|(since, _)| *since) {
                Some((_, pool)) => pool.close_idle(None),
                None => {
                    self.wanted.fetch_add(1, Ordering::SeqCst);
                    return;
                }
            }
        }
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
