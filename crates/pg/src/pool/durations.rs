//! How long statements take, to tell those that may share a connection from those that others would wait for.
//!
//! What is measured is time on the clock, which on a busy machine is mostly time in which PostgreSQL did not get to run. An
//! average would take the privilege from every statement whenever the machine is busy, and a crowd on connections of its own
//! keeps it busy. So the estimate follows short times at once and long ones slowly, and what it misses by that, statements
//! that are slow now and then, is counted aside.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use foldhash::fast::RandomState;
use lru::LruCache;

/// Statements whose durations are remembered for each pool.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(128).expect("128 is not 0");
/// A read that usually takes less than this may share a connection with others.
const SHORT: Duration = Duration::from_millis(2);
/// One run of this length holds up those behind it.
const SLOW: Duration = Duration::from_millis(20);
/// Share of slow runs among the last ones at which a statement is not short; of [`ALL`].
const OFTEN: u32 = ALL / 8;
/// All of them.
const ALL: u32 = 1 << 16;
/// Runs over which the share is taken.
const WINDOW: u32 = 8;
/// What a statement counts as that has rows too long to share a connection.
const LONG: Duration = Duration::from_secs(1);

#[derive(Clone, Copy)]
struct Record {
    /// What it usually takes, in microseconds: about the lower quartile.
    usual: u32,
    /// Share of slow runs, of [`ALL`].
    slow: u32,
}

impl Record {
    fn note(&mut self, micros: u32) {
        if micros < self.usual {
            self.usual -= (self.usual - micros) / 2;
        } else {
            self.usual += (micros - self.usual) / 16;
        }
        self.slow -= self.slow / WINDOW;
        if micros >= to_micros(SLOW) {
            self.slow += ALL / WINDOW;
        }
    }

    fn is_short(self) -> bool {
        self.usual < to_micros(SHORT) && self.slow <= OFTEN
    }
}

/// The durations of a pool's statements.
#[derive(Default)]
pub(super) struct Durations(Mutex<Option<LruCache<Arc<str>, Record, RandomState>>>);

impl Durations {
    /// What a statement usually takes, if it is short.
    pub(super) fn short(&self, sql: &Arc<str>) -> Option<Duration> {
        let mut records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let record = *records.as_mut()?.get(sql)?;
        record.is_short().then(|| Duration::from_micros(record.usual.into()))
    }

    /// Notes one run.
    pub(super) fn note(&self, sql: &Arc<str>, elapsed: Duration) {
        let micros = to_micros(elapsed);
        let mut records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let records = records.get_or_insert_with(|| LruCache::with_hasher(REMEMBERED, RandomState::default()));
        match records.get_mut(sql) {
            Some(record) => record.note(micros),
            None => {
                records.put(sql.clone(), Record { usual: micros, slow: 0 });
            }
        }
    }

    /// Notes a run with a row that is too long for a connection which others wait for.
    pub(super) fn note_long(&self, sql: &Arc<str>) {
        let mut records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let records = records.get_or_insert_with(|| LruCache::with_hasher(REMEMBERED, RandomState::default()));
        records.put(sql.clone(), Record { usual: to_micros(LONG), slow: ALL });
    }
}

fn to_micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a statement is short after these runs, in microseconds.
    fn is_short(runs: &[u64]) -> bool {
        let (durations, sql) = (Durations::default(), Arc::from("select 1"));
        runs.iter().for_each(|micros| durations.note(&sql, Duration::from_micros(*micros)));
        durations.short(&sql).is_some()
    }

    #[test]
    fn a_busy_machine_takes_the_privilege_from_nobody() {
        let runs = |pattern: &[u64]| pattern.repeat(40);
        assert!(!is_short(&[]), "nothing is known of it");
        assert!(is_short(&[100]));
        assert!(is_short(&[100, 30_000]), "once is no habit");
        assert!(is_short(&runs(&[300, 1_500, 8_000])), "waiting for the processor");
        assert!(is_short(&[30_000, 300, 300, 300, 300, 300, 300]), "a cold start");
    }

    #[test]
    fn what_is_slow_loses_it_and_gets_it_back() {
        let runs = |pattern: &[u64], times: usize| pattern.repeat(times);
        assert!(!is_short(&[3_000]));
        assert!(!is_short(&[runs(&[100], 40), runs(&[50_000], 2)].concat()), "slow from now on");
        assert!(!is_short(&[runs(&[100], 40), runs(&[9_000], 5)].concat()), "slower from now on");
        assert!(!is_short(&runs(&[100, 100, 100, 50_000], 40)), "slow each fourth time");
        assert!(is_short(&[runs(&[50_000], 40), runs(&[100], 20)].concat()), "fast from now on");
        let (durations, sql) = (Durations::default(), Arc::from("select 1"));
        runs(&[100], 40).iter().for_each(|micros| durations.note(&sql, Duration::from_micros(*micros)));
        durations.note_long(&sql);
        assert_eq!(durations.short(&sql), None);
    }
}
