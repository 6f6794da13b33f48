//! How long autovacuum's workers run projects' stored code. There are few of them for all databases, and an index on a
//! function of the owner's lets them wait for as long as he likes.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::Measure;

/// So often a project's work is cancelled or ended within [`REMEMBERED`] before less time is given to it.
const PATIENCE: u32 = 2;
/// The part of the usual time that is given then.
const PART: u32 = 10;
const REMEMBERED: Duration = Duration::from_secs(60 * 60);
/// The most that counts between two looks.
const LONGEST_STEP: Duration = Duration::from_secs(15);

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

/// What was seen of a worker so far.
#[derive(Clone, Copy, Default)]
struct Seen {
    /// Time that it has run code, since it was cancelled if it was.
    spent: Duration,
    /// When it was seen to run code, if it did at the last look.
    at: Option<Instant>,
    /// What was done about it.
    measure: Option<Measure>,
}

/// What was seen of workers so far.
#[derive(Default)]
pub(super) struct AutovacuumWatch {
    seen: HashMap<(i32, i64), Seen>,
    /// How often work for a project took too long, and when first.
    late: HashMap<String, (u32, Instant)>,
}

impl AutovacuumWatch {
    /// The workers that have run code for longer than `usual`, all in all, and what is to be done: at first only what is
    /// under way is cancelled, and a worker goes on with the next table.
    pub(super) fn overdue(&mut self, workers: Vec<Worker>, usual: Duration, now: Instant) -> Vec<(Worker, Measure)> {
        let before = std::mem::take(&mut self.seen);
        self.late.retain(|_, (_, first)| now.duration_since(*first) < REMEMBERED);
        let mut overdue = Vec::new();
        for worker in workers {
            let key = (worker.pid, worker.backend_start);
            let mut seen = before.get(&key).copied().unwrap_or_default();
            if let Some(at) = seen.at.filter(|_| worker.runs_code) {
                // Nobody knows what it did while nobody looked.
                seen.spent += now.duration_since(at).min(LONGEST_STEP);
            }
            seen.at = worker.runs_code.then_some(now);
            let often = self.late.get(&worker.project).is_some_and(|(times, _)| *times >= PATIENCE);
            if worker.runs_code && seen.spent >= if often { usual / PART } else { usual } {
                let measure = match seen.measure {
                    None => Some(Measure::Cancelled),
                    Some(Measure::Cancelled) => Some(Measure::Ended),
                    // On its way out.
                    Some(Measure::Ended) => None,
                };
                if let Some(measure) = measure {
                    seen = Seen { spent: Duration::ZERO, measure: Some(measure), ..seen };
                    self.late.entry(worker.project.clone()).or_insert((0, now)).0 += 1;
                    overdue.push((worker, measure));
                }
            }
            self.seen.insert(key, seen);
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
        let usual = Duration::from_secs(50);
        // pid, second, whether it runs code, what is done about it
        let mut check = |pid, second, runs_code, expected: Option<Measure>| {
            let taken = watch.overdue(vec![worker(pid, runs_code)], usual, begin + Duration::from_secs(second));
            assert_eq!(taken.first().map(|(_, measure)| *measure), expected, "{pid} at {second}");
        };
        let (cancelled, ended) = (Some(Measure::Cancelled), Some(Measure::Ended));
        check(1, 0, true, None);
        for second in [10, 20, 30] {
            check(1, second, true, None);
        }
        // What it vacuums meanwhile does not count, nor a long time without a look.
        check(1, 31, false, None);
        check(1, 400, true, None);
        check(1, 500, true, None);
        check(1, 504, true, None);
        check(1, 505, true, cancelled);
        for second in [515, 525, 535, 545] {
            check(1, second, true, None);
        }
        check(1, 555, true, ended);
        check(1, 556, true, None);
        // The third time has less.
        check(2, 800, true, None);
        check(2, 804, true, None);
        check(2, 805, true, cancelled);
        check(2, 810, true, ended);
        for second in [4_200, 4_210, 4_220, 4_230, 4_240] {
            check(3, second, true, None);
        }
        check(3, 4_250, true, cancelled);
    }
}
