//! Turns: how much of one database's work is under way at once while others have work too.
//!
//! A flood of one project makes every queue long that it shares with others: the event loop's, PostgreSQL's, the processors'.
//! The length of those queues, not their order, is what the others wait for. So while several databases have work, the one with
//! the longer queue has only so much of it under way, and the rest waits where it costs nobody anything. Who is alone has no
//! such bound, nor who asks for little: one after another, its writes would each wait for the disk.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit};

/// How long a database that had work counts as one that has.
const LATELY: Duration = Duration::from_millis(100);
/// How long one waits for its turn before it goes on without.
const PATIENCE: Duration = Duration::from_millis(100);
/// How long one keeps its turn: what is long under way (a slow query) must not keep the same project's quick ones from
/// connections that are free.
const KEPT: Duration = Duration::from_millis(10);

/// Which databases had work lately.
pub(crate) struct Neighbours {
    created: Instant,
    recent: Mutex<Recent>,
}

/// The last database that had work and the last other one.
#[derive(Clone, Copy, Default)]
struct Recent {
    last: Option<Work>,
    other: Option<Work>,
}

#[derive(Clone, Copy)]
struct Work {
    database: u64,
    /// Since [`Neighbours::created`].
    at: Duration,
    /// Exchanges that were asked for and not ended.
    exchanges: usize,
}

impl Recent {
    /// Notes work of a database, and gives that of another one, if it had some lately.
    fn note(&mut self, work: Work) -> Option<Work> {
        let other = if self.last.is_some_and(|last| last.database != work.database) { self.last } else { self.other };
        *self = Self { last: Some(work), other };
        other.filter(|other| other.database != work.database && work.at.saturating_sub(other.at) < LATELY)
    }
}

impl Neighbours {
    pub(crate) fn new() -> Self {
        Self { created: Instant::now(), recent: Mutex::default() }
    }

    fn note(&self, database: u64, exchanges: usize) -> Option<Work> {
        let work = Work { database, at: self.created.elapsed(), exchanges };
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).note(work)
    }
}

/// The turns of one pool: half as many as the machine has processors, and one at least, so that what two databases have under
/// way together fits the machine. A flood does as much with those as with twice as many (`bench/fairness`, docs/performance.md).
pub(crate) struct Turns {
    database: u64,
    free: Semaphore,
    /// Exchanges that were asked for and not ended.
    exchanges: AtomicUsize,
    /// So many of them are not a flood.
    few: usize,
}

/// An exchange that counts, until it is dropped.
pub(crate) struct Counted<'a>(&'a AtomicUsize);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Turns {
    pub(crate) fn new(host: &str, database: &str) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self::of(host, database, (processors / 2).max(1))
    }

    fn of(host: &str, database: &str, most: usize) -> Self {
        let mut hasher = DefaultHasher::new();
        (host, database).hash(&mut hasher);
        Self { database: hasher.finish(), free: Semaphore::new(most), exchanges: AtomicUsize::new(0), few: 4 * most }
    }

    /// Counts an exchange.
    pub(crate) fn count(&self) -> Counted<'_> {
        self.exchanges.fetch_add(1, Ordering::Relaxed);
        Counted(&self.exchanges)
    }

    /// Whether one has to wait for a turn; if not, it has it until the permit is dropped. `Ok(None)`: nobody needs one.
    pub(crate) fn try_take(&self, neighbours: &Neighbours) -> Result<Option<SemaphorePermit<'_>>, Crowded> {
        let exchanges = self.exchanges.load(Ordering::Relaxed);
        let floods = |other: Work| exchanges > self.few && exchanges >= other.exchanges;
        if !neighbours.note(self.database, exchanges).is_some_and(floods) {
            return Ok(None);
        }
        self.free.try_acquire().map(Some).map_err(|_| Crowded)
    }

    /// Waits for a turn, but not for ever.
    pub(crate) async fn wait(&self) -> Option<SemaphorePermit<'_>> {
        tokio::time::timeout(PATIENCE, self.free.acquire()).await.ok()?.ok()
    }
}

/// Does `work` and gives the turn back at its end, or as soon as it has taken long.
pub(crate) async fn keep<T>(turn: SemaphorePermit<'_>, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    if let Ok(done) = tokio::time::timeout(KEPT, &mut work).await {
        return done;
    }
    drop(turn);
    work.await
}

/// All turns are taken.
pub(crate) struct Crowded;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_alone_until_another_has_work() {
        let mut recent = Recent::default();
        // database, milliseconds, the exchanges of another one that had work lately
        let check = |recent: &mut Recent, database: u64, at, expected: Option<usize>| {
            let work = Work { database, at: Duration::from_millis(at), exchanges: 10 * database as usize };
            assert_eq!(recent.note(work).map(|other| other.exchanges), expected, "{database} at {at}");
        };
        check(&mut recent, 1, 0, None);
        check(&mut recent, 1, 10, None);
        check(&mut recent, 2, 20, Some(10));
        check(&mut recent, 2, 80, Some(10));
        check(&mut recent, 1, 90, Some(20));
        check(&mut recent, 1, 179, Some(20));
        check(&mut recent, 1, 180, None);
        check(&mut recent, 3, 181, Some(10));
        check(&mut recent, 1, 182, Some(30));
        check(&mut recent, 1, 5_000, None);
    }

    #[tokio::test]
    async fn a_crowd_waits_for_its_turns_only_beside_others() {
        let neighbours = Neighbours::new();
        let (crowd, quiet) = (Turns::of("h", "crowd", 2), Turns::of("h", "quiet", 2));
        let counted: Vec<_> = (0..10).map(|_| crowd.count()).collect();
        for _ in 0..10 {
            assert!(matches!(crowd.try_take(&neighbours), Ok(None)));
        }
        let _one = quiet.count();
        let held: Vec<_> = (0..2).map(|_| crowd.try_take(&neighbours).ok().flatten()).collect();
        assert!(held.iter().all(Option::is_none), "nobody else had work yet");
        assert!(matches!(quiet.try_take(&neighbours), Ok(None)), "one that asks for little");
        let held: Vec<_> = (0..2).map(|_| crowd.try_take(&neighbours).ok().flatten()).collect();
        assert!(held.iter().all(Option::is_some));
        assert!(matches!(crowd.try_take(&neighbours), Err(Crowded)));
        assert!(crowd.wait().await.is_none(), "a turn that nobody gave back");
        drop(held);
        assert!(crowd.wait().await.is_some());
        drop(counted);
        assert!(matches!(crowd.try_take(&neighbours), Ok(None)), "no crowd any more");
    }

    #[tokio::test]
    async fn of_two_crowds_the_larger_waits() {
        let neighbours = Neighbours::new();
        let (large, small) = (Turns::of("h", "large", 1), Turns::of("h", "small", 1));
        let _large: Vec<_> = (0..20).map(|_| large.count()).collect();
        let _small: Vec<_> = (0..10).map(|_| small.count()).collect();
        large.try_take(&neighbours).ok();
        assert!(matches!(small.try_take(&neighbours), Ok(None)));
        assert!(matches!(large.try_take(&neighbours), Ok(Some(_))));
    }

    #[tokio::test]
    async fn what_takes_long_gives_its_turn_back() {
        let turns = Turns::of("h", "slow", 1);
        let turn = turns.free.try_acquire().unwrap();
        let others = tokio::sync::Notify::new();
        // The slow one ends only when a quick one had the turn.
        let quick = async {
            drop(turns.free.acquire().await.unwrap());
            others.notify_one();
        };
        let both = async { tokio::join!(keep(turn, others.notified()), quick) };
        tokio::time::timeout(Duration::from_secs(20), both).await.unwrap();
        assert!(turns.free.try_acquire().is_ok());
    }
}
