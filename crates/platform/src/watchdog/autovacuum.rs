//! How long autovacuum's workers run projects' stored code. There are few of them for all databases, and an index on a
//! function of the owner's lets them wait for as long as he likes.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// So often a project's work is ended within [`REMEMBERED`] before less time is given to it.
const PATIENCE: u32 = 2;
/// The part of the usual time that is given then.
const PART: u32 = 10;
const REMEMBERED: Duration = Duration::from_secs(60 * 60);

/// A worker in a project's database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Worker {
    pub(super) pid: i32,
    /// With the pid its identity. Microseconds since the Unix epoch.
    pub(super) backend_start: i64,
    pub(super) project: String,
    /// Whether it is at something that may run stored code.
    pub(super) runs_code: bool,
}

/// What was seen of workers so far.
#[derive(Default)]
pub(super) struct AutovacuumWatch {
    /// Time that a worker has run code, and since when it was seen to.
    spent: HashMap<(i32, i64), (Duration, Option<Instant>)>,
    /// How often work for a project was ended, and when first.
    ended: HashMap<String, (u32, Instant)>,
}

impl AutovacuumWatch {
    /// The workers that have run code for longer than `usual`, all in all: those to end.
    pub(super) fn overdue(&mut self, workers: Vec<Worker>, usual: Duration, now: Instant) -> Vec<Worker> {
        let before = std::mem::take(&mut self.spent);
        self.ended.retain(|_, (_, first)| now.duration_since(*first) < REMEMBERED);
        let mut overdue = Vec::new();
        for worker in workers {
            let key = (worker.pid, worker.backend_start);
            let (mut spent, since) = before.get(&key).copied().unwrap_or_default();
            if let Some(since) = since.filter(|_| worker.runs_code) {
                spent += now.duration_since(since);
            }
            self.spent.insert(key, (spent, worker.runs_code.then_some(now)));
            let often = self.ended.get(&worker.project).is_some_and(|(times, _)| *times >= PATIENCE);
            if worker.runs_code && spent >= if often { usual / PART } else { usual } {
                self.ended.entry(worker.project.clone()).or_insert((0, now)).0 += 1;
                overdue.push(worker);
            }
        }
        overdue
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_adds_up_over_a_workers_tables_and_shrinks_for_who_kept_it_before() {
        let (mut watch, begin) = (AutovacuumWatch::default(), Instant::now());
        let worker = |pid, runs_code| Worker { pid, backend_start: 7, project: "proj_one".to_owned(), runs_code };
        let usual = Duration::from_secs(100);
        // pid, second, whether it runs code, whether it is ended
        let mut check = |pid, second, runs_code, expected: bool| {
            let ended = watch.overdue(vec![worker(pid, runs_code)], usual, begin + Duration::from_secs(second));
            assert_eq!(!ended.is_empty(), expected, "{pid} at {second}");
        };
        check(1, 0, true, false);
        check(1, 60, true, false);
        // What it vacuums meanwhile does not count.
        check(1, 61, false, false);
        check(1, 500, true, false);
        check(1, 539, true, false);
        check(1, 540, true, true);
        check(2, 600, true, false);
        check(2, 700, true, true);
        // The third time has less.
        check(3, 800, true, false);
        check(3, 809, true, false);
        check(3, 810, true, true);
        check(4, 4_200, true, false);
        check(4, 4_299, true, false);
        check(4, 4_300, true, true);
    }
}
