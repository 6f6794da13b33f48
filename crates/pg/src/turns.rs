//! Turns: how much of one database's work is under way at once while others have work too.
//!
//! A flood of one project makes every queue long that it shares with others: the event loop's, PostgreSQL's, the processors'.
//! The length of those queues, not their order, is what the others wait for. So while several databases have work, each has
//! only so much of it under way, and the rest waits where it costs nobody anything. Who is alone has no such bound.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
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
}

impl Recent {
    /// Notes work of `database`, and says whether another one had some lately.
    fn note(&mut self, database: u64, at: Duration) -> bool {
        let other = if self.last.is_some_and(|last| last.database != database) { self.last } else { self.other };
        *self = Self { last: Some(Work { database, at }), other };
        other.is_some_and(|other| other.database != database && at.saturating_sub(other.at) < LATELY)
    }
}

impl Neighbours {
    pub(crate) fn new() -> Self {
        Self { created: Instant::now(), recent: Mutex::default() }
    }

    fn note(&self, database: u64) -> bool {
        let at = self.created.elapsed();
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).note(database, at)
    }
}

/// The turns of one pool: half as many as the machine has processors, and one at least, so that what two databases have under
/// way together fits the machine. A flood does as much with those as with twice as many (`bench/fairness`, docs/performance.md).
pub(crate) struct Turns {
    database: u64,
    free: Semaphore,
}

impl Turns {
    pub(crate) fn new(host: &str, database: &str) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self::of(host, database, (processors / 2).max(1))
    }

    fn of(host: &str, database: &str, most: usize) -> Self {
        let mut hasher = DefaultHasher::new();
        (host, database).hash(&mut hasher);
        Self { database: hasher.finish(), free: Semaphore::new(most) }
    }

    /// Whether one has to wait for a turn; if not, it has it until the permit is dropped. `Ok(None)`: nobody needs one.
    pub(crate) fn try_take(&self, neighbours: &Neighbours) -> Result<Option<SemaphorePermit<'_>>, Crowded> {
        if !neighbours.note(self.database) {
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
        // database, milliseconds, whether another one had work lately
        let check = |recent: &mut Recent, database, at, expected| {
            assert_eq!(recent.note(database, Duration::from_millis(at)), expected, "{database} at {at}");
        };
        check(&mut recent, 1, 0, false);
        check(&mut recent, 1, 10, false);
        check(&mut recent, 2, 20, true);
        check(&mut recent, 2, 80, true);
        check(&mut recent, 1, 90, true);
        check(&mut recent, 1, 179, true);
        check(&mut recent, 1, 180, false);
        check(&mut recent, 3, 181, true);
        check(&mut recent, 1, 182, true);
        check(&mut recent, 1, 5_000, false);
    }

    #[tokio::test]
    async fn a_crowd_waits_for_its_turns_only_beside_others() {
        let neighbours = Neighbours::new();
        let (crowd, quiet) = (Turns::of("h", "crowd", 2), Turns::of("h", "quiet", 2));
        for _ in 0..10 {
            assert!(matches!(crowd.try_take(&neighbours), Ok(None)));
        }
        assert!(matches!(quiet.try_take(&neighbours), Ok(Some(_))));
        let held: Vec<_> = (0..2).map(|_| crowd.try_take(&neighbours).ok().flatten()).collect();
        assert!(held.iter().all(Option::is_some));
        assert!(matches!(crowd.try_take(&neighbours), Err(Crowded)));
        assert!(crowd.wait().await.is_none(), "a turn that nobody gave back");
        drop(held);
        assert!(crowd.wait().await.is_some());
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
