//! Turns: how much of one database's work is under way at once while others have work too.
//!
//! A flood of one project makes every queue long that it shares with others: the event loop's, PostgreSQL's, the processors'.
//! The length of those queues, not their order, is what the others wait for. So while several databases have work, each
//! with a longer queue than another has only so much of it under way, and the rest waits where it costs nobody anything. Who is alone has no
//! such bound, nor who asks for little: one after another, its writes would each wait for the disk.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit};

/// How long a database that had work counts as one that has.
const LATELY: Duration = Duration::from_millis(100);
/// How long one waits for its turn before it goes on without.
const PATIENCE: Duration = Duration::from_millis(100);
/// How long one keeps its turn: what is long under way (a slow query) must not keep the same project's quick ones from
/// connections that are free.
const KEPT: Duration = Duration::from_millis(10);

/// As many databases with work are remembered.
const MOST_REMEMBERED: usize = 64;

/// Exchanges of one database that were asked for and not ended, of all its pools.
type Exchanges = Arc<AtomicUsize>;

/// Which databases had work lately.
pub(crate) struct Neighbours {
    created: Instant,
    exchanges: Mutex<HashMap<u64, Weak<AtomicUsize>>>,
    recent: Mutex<Vec<Work>>,
}

struct Work {
    database: u64,
    /// Since [`Neighbours::created`].
    at: Duration,
    exchanges: Exchanges,
}

impl Neighbours {
    pub(crate) fn new() -> Self {
        Self { created: Instant::now(), exchanges: Mutex::default(), recent: Mutex::default() }
    }

    fn exchanges(&self, database: u64) -> Exchanges {
        let mut all = self.exchanges.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get(&database).and_then(Weak::upgrade) {
            return known;
        }
        all.retain(|_, exchanges| exchanges.strong_count() > 0);
        let exchanges = Exchanges::default();
        all.insert(database, Arc::downgrade(&exchanges));
        exchanges
    }

    /// Notes work of a database, and gives the fewest exchanges that another one has which had work lately.
    fn note(&self, database: u64, exchanges: &Exchanges, at: Duration) -> Option<usize> {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.retain(|work| work.database == database || at.saturating_sub(work.at) < LATELY);
        match recent.iter_mut().find(|work| work.database == database) {
            Some(work) => work.at = at,
            None => {
                if recent.len() == MOST_REMEMBERED
                    && let Some((oldest, _)) = recent.iter().enumerate().min_by_key(|(_, work)| work.at)
                {
                    recent.swap_remove(oldest);
                }
                recent.push(Work { database, at, exchanges: exchanges.clone() });
            }
        }
        let others = recent.iter().filter(|work| work.database != database);
        others.map(|work| work.exchanges.load(Ordering::Relaxed)).min()
    }
}

/// The turns of one pool: half as many as the machine has processors, and one at least, so that what two databases have under
/// way together fits the machine. A flood does as much with those as with twice as many (`bench/fairness`, docs/performance.md).
pub(crate) struct Turns {
    database: u64,
    free: Semaphore,
    /// Of this pool.
    own: AtomicUsize,
    exchanges: Exchanges,
    /// So many of them are not a flood.
    few: usize,
}

/// An exchange that counts, until it is dropped.
pub(crate) struct Counted<'a>(&'a Turns);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.own.fetch_sub(1, Ordering::Relaxed);
        self.0.exchanges.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Turns {
    pub(crate) fn new(neighbours: &Neighbours, host: &str, database: &str) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self::of(neighbours, host, database, (processors / 2).max(1))
    }

    fn of(neighbours: &Neighbours, host: &str, database: &str, most: usize) -> Self {
        let mut hasher = DefaultHasher::new();
        (host, database).hash(&mut hasher);
        let database = hasher.finish();
        let exchanges = neighbours.exchanges(database);
        Self { database, free: Semaphore::new(most), own: AtomicUsize::new(0), exchanges, few: 4 * most }
    }

    /// Counts an exchange.
    pub(crate) fn count(&self) -> Counted<'_> {
        self.own.fetch_add(1, Ordering::Relaxed);
        self.exchanges.fetch_add(1, Ordering::Relaxed);
        Counted(self)
    }

    /// Whether one has to wait for a turn; if not, it has it until the permit is dropped. `Ok(None)`: nobody needs one.
    pub(crate) fn try_take(&self, neighbours: &Neighbours) -> Result<Option<SemaphorePermit<'_>>, Crowded> {
        let fewest = neighbours.note(self.database, &self.exchanges, neighbours.created.elapsed());
        // What this pool has is not a flood, whatever other pools of its database do.
        let few = self.own.load(Ordering::Relaxed) <= self.few;
        if few || fewest.is_none_or(|fewest| self.exchanges.load(Ordering::Relaxed) < fewest) {
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
        let neighbours = Neighbours::new();
        let known: Vec<Exchanges> = (0..4).map(|database| neighbours.exchanges(database)).collect();
        for (database, exchanges) in known.iter().enumerate() {
            exchanges.store(10 * database, Ordering::Relaxed);
        }
        // database, milliseconds, the fewest exchanges of another one that had work lately
        let check = |database: u64, at, expected: Option<usize>| {
            let exchanges = neighbours.exchanges(database);
            let fewest = neighbours.note(database, &exchanges, Duration::from_millis(at));
            assert_eq!(fewest, expected, "{database} at {at}");
        };
        check(1, 0, None);
        check(1, 10, None);
        check(2, 20, Some(10));
        check(3, 30, Some(10));
        check(1, 90, Some(20));
        check(2, 120, Some(10));
        check(3, 189, Some(10));
        check(3, 190, Some(20));
        check(1, 5_000, None);
    }

    #[test]
    fn many_databases_are_not_remembered_for_ever() {
        let neighbours = Neighbours::new();
        for database in 0..1_000 {
            neighbours.note(database, &neighbours.exchanges(database), Duration::ZERO);
        }
        assert_eq!(neighbours.recent.lock().unwrap().len(), MOST_REMEMBERED);
        neighbours.note(0, &neighbours.exchanges(0), Duration::from_secs(1));
        assert_eq!(neighbours.recent.lock().unwrap().len(), 1);
        // One with two pools has one count.
        let (one, other) = (Turns::of(&neighbours, "h", "one", 1), Turns::of(&neighbours, "h", "one", 1));
        let _counted = one.count();
        assert_eq!(other.exchanges.load(Ordering::Relaxed), 1);
        assert_eq!(neighbours.exchanges.lock().unwrap().len(), 2);
    }

    #[tokio::test]
    async fn a_crowd_waits_for_its_turns_only_beside_others() {
        let neighbours = Neighbours::new();
        let (crowd, quiet) = (Turns::of(&neighbours, "h", "crowd", 2), Turns::of(&neighbours, "h", "quiet", 2));
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
        let (large, small) = (Turns::of(&neighbours, "h", "large", 1), Turns::of(&neighbours, "h", "small", 1));
        let _large: Vec<_> = (0..20).map(|_| large.count()).collect();
        let _small: Vec<_> = (0..10).map(|_| small.count()).collect();
        large.try_take(&neighbours).ok();
        assert!(matches!(small.try_take(&neighbours), Ok(None)));
        assert!(matches!(large.try_take(&neighbours), Ok(Some(_))));

        // Beside one that asks for little, both do.
        let quiet = Turns::of(&neighbours, "h", "quiet", 1);
        let _quiet = quiet.count();
        assert!(matches!(quiet.try_take(&neighbours), Ok(None)));
        assert!(matches!(small.try_take(&neighbours), Ok(Some(_))));
        assert!(matches!(large.try_take(&neighbours), Ok(Some(_))));
    }

    #[tokio::test]
    async fn what_takes_long_gives_its_turn_back() {
        let turns = Turns::of(&Neighbours::new(), "h", "slow", 1);
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
