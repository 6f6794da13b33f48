//! How long autovacuum's workers run projects' stored code. There are few of them for all databases, and an index on a
//! function of the owner's lets them wait for as long as he likes.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use super::Measure;

/// So often a project's work is cancelled or ended within [`REMEMBERED`] before less time is given to it.
const PATIENCE: u32 = 2;
/// The part of the usual time that is given then.
const PART: u32 = 10;
const REMEMBERED: Duration = Duration::from_secs(60 * 60);
/// The most that counts between two looks.
const LONGEST_STEP: Duration = Duration::from_secs(15);

/// How long what was cancelled may take to end.
const GRACE: Duration = Duration::from_secs(5);

/// A worker in a project's database.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Worker {
    pub(super) pid: i32,
    /// With the pid its identity. Microseconds since the Unix epoch, as `xact_start`.
    pub(super) backend_start: i64,
    /// When it began what it is at.
    pub(super) xact_start: Option<i64>,
    pub(super) project: String,
    /// Whether it pauses just now at what it vacuums or analyzes.
    pub(super) pauses: bool,
    /// Whether no other worker can begin.
    pub(super) all_taken: bool,
    /// The part of its time that counts as time of stored code: 0 when it can be at none, 1 when it is at some as far as
    /// anybody can see.
    pub(super) counts: f64,
}

/// What was seen of a worker so far.
#[derive(Clone, Copy, Default)]
struct Seen {
    /// Time that it has run code, since it was cancelled if it was.
    spent: Duration,
    /// When it was seen to run code, if it did at the last look.
    at: Option<Instant>,
    /// What was done about it.
    done: Option<Done>,
}

#[derive(Clone, Copy)]
struct Done {
    measure: Measure,
    at: Instant,
    /// What it was at then.
    xact_start: Option<i64>,
}

/// What was seen of workers so far.
#[derive(Default)]
pub(super) struct AutovacuumWatch {
    seen: HashMap<(i32, i64), Seen>,
    /// How often work for a project took too long, and when last.
    late: HashMap<String, (u32, Instant)>,
    /// How long workers have paused at a project's tables since those were looked at, and when last.
    paused: HashMap<String, (Duration, Instant)>,
    /// When that was last counted.
    counted: Option<Instant>,
    /// Projects whose work took too long since the last count.
    suspects: HashSet<String>,
    /// Projects whose tables are looked at just now.
    looked_at: HashSet<String>,
    /// The project that all workers are at, and since when.
    hoards: Option<(String, Instant)>,
}

impl AutovacuumWatch {
    /// Projects whose tables are to be looked at, until [`Self::looked`] says so: they may ask for slow work in a way that nobody is
    /// told of. Workers have paused there for longer than `usual` since the last time, all in all, or took too long for something.
    pub(super) fn slow(&mut self, workers: &[Worker], usual: Duration, now: Instant) -> Vec<String> {
        let step = self.counted.map_or(Duration::ZERO, |last| now.duration_since(last).min(LONGEST_STEP));
        self.counted = Some(now);
        self.paused.retain(|_, (_, last)| now.duration_since(*last) < REMEMBERED);
        let mut slow: Vec<_> = self.suspects.drain().filter(|project| !self.looked_at.contains(project)).collect();
        for worker in workers.iter().filter(|worker| worker.pauses && !self.looked_at.contains(&worker.project)) {
            let often = self.is_often_late(&worker.project);
            let (spent, last) = self.paused.entry(worker.project.clone()).or_insert((Duration::ZERO, now));
            *spent += step;
            *last = now;
            if *spent >= if often { usual / PART } else { usual } && !slow.contains(&worker.project) {
                *spent = Duration::ZERO;
                slow.push(worker.project.clone());
            }
        }
        self.looked_at.extend(slow.iter().cloned());
        slow
    }

    /// The youngest worker, when all that there can be are at one project's tables for longer than `usual`: whatever the reason, the
    /// others get one. The youngest has least to do again.
    pub(super) fn hoarded(&mut self, workers: &[Worker], usual: Duration, now: Instant) -> Option<Worker> {
        let youngest = workers.iter().max_by_key(|worker| worker.backend_start);
        let hoards = |youngest: &&Worker| {
            // Who is alone cannot share.
            workers.len() > 1 && workers.iter().all(|worker| worker.all_taken && worker.project == youngest.project)
        };
        let Some(youngest) = youngest.filter(hoards) else {
            self.hoards = None;
            return None;
        };
        match &self.hoards {
            Some((project, since)) if *project == youngest.project => {
                let late = now.duration_since(*since) >= usual;
                late.then(|| {
                    self.hoards = None;
                    youngest.clone()
                })
            }
            _ => {
                self.hoards = Some((youngest.project.clone(), now));
                None
            }
        }
    }

    /// Ends what [`Self::slow`] began; `found` says whether the tables were at fault.
    pub(super) fn looked(&mut self, project: String, found: bool, now: Instant) {
        self.looked_at.remove(&project);
        if found {
            self.note_late(project, now);
        }
    }

    /// The workers that have run code for longer than `usual`, all in all, and what is to be done: at first only what is
    /// under way is cancelled, and a worker goes on with the next table. One that is still at it when [`GRACE`] is over is
    /// ended: stored code can catch what cancels it.
    pub(super) fn overdue(&mut self, workers: Vec<Worker>, usual: Duration, now: Instant) -> Vec<(Worker, Measure)> {
        let before = std::mem::take(&mut self.seen);
        self.late.retain(|_, (_, last)| now.duration_since(*last) < REMEMBERED);
        let mut overdue = Vec::new();
        for worker in workers {
            let key = (worker.pid, worker.backend_start);
            let mut seen = before.get(&key).copied().unwrap_or_default();
            let runs_code = worker.counts > 0.0;
            if let Some(at) = seen.at.filter(|_| runs_code) {
                // Nobody knows what it did while nobody looked.
                seen.spent += now.duration_since(at).min(LONGEST_STEP).mul_f64(worker.counts);
            }
            seen.at = runs_code.then_some(now);
            let often = self.is_often_late(&worker.project);
            let late = runs_code && seen.spent >= if often { usual / PART } else { usual };
            let measure = match seen.done {
                None => late.then_some(Measure::Cancelled),
                Some(Done { measure: Measure::Cancelled, at, xact_start }) => {
                    let still = worker.xact_start == xact_start && now.duration_since(at) >= GRACE;
                    (late || still).then_some(Measure::Ended)
                }
                // On its way out.
                Some(Done { measure: Measure::Ended, .. }) => None,
            };
            self.seen.insert(key, seen);
            overdue.extend(measure.map(|measure| (worker, measure)));
        }
        overdue
    }

    /// Notes that this was done.
    pub(super) fn done(&mut self, worker: &Worker, measure: Measure, now: Instant) {
        let seen = self.seen.entry((worker.pid, worker.backend_start)).or_default();
        seen.spent = Duration::ZERO;
        seen.done = Some(Done { measure, at: now, xact_start: worker.xact_start });
        self.note_late(worker.project.clone(), now);
        self.suspects.insert(worker.project.clone());
    }

    fn note_late(&mut self, project: String, now: Instant) {
        let (times, last) = self.late.entry(project).or_insert((0, now));
        *times += 1;
        *last = now;
    }

    fn is_often_late(&self, project: &str) -> bool {
        self.late.get(project).is_some_and(|(times, _)| *times >= PATIENCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_adds_up_over_a_workers_tables_and_shrinks_for_who_kept_it_before() {
        let (mut watch, begin) = (AutovacuumWatch::default(), Instant::now());
        let usual = Duration::from_secs(50);
        // pid, what it is at, second, how much its time counts, what is done about it
        let mut check_at = |pid, work, second, counts, expected: Option<Measure>| {
            let project = "proj_one".to_owned();
            let worker = Worker {
                pid,
                backend_start: 7,
                xact_start: Some(work),
                project,
                pauses: false,
                all_taken: false,
                counts,
            };
            let now = begin + Duration::from_secs(second);
            let taken = watch.overdue(vec![worker], usual, now);
            assert_eq!(taken.first().map(|(_, measure)| *measure), expected, "{pid} at {second}");
            for (worker, measure) in taken {
                watch.done(&worker, measure, now);
            }
        };
        let (cancelled, ended) = (Some(Measure::Cancelled), Some(Measure::Ended));
        // Each time at something else. What it vacuums does not count, nor a long time without a look.
        let rows = [
            (1, 0, 1.0, None),
            (1, 10, 1.0, None),
            (1, 20, 1.0, None),
            (1, 30, 1.0, None),
            (1, 31, 0.0, None),
            (1, 400, 1.0, None),
            (1, 500, 1.0, None),
            (1, 504, 1.0, None),
            (1, 505, 1.0, cancelled),
            (1, 515, 1.0, None),
            (1, 525, 1.0, None),
            (1, 535, 1.0, None),
            (1, 545, 1.0, None),
            (1, 555, 1.0, ended),
            (1, 556, 1.0, None),
            // The third time has less, unless an hour passed since the last.
            (2, 800, 1.0, None),
            (2, 804, 1.0, None),
            (2, 805, 1.0, cancelled),
            (2, 810, 1.0, ended),
            (3, 4_400, 1.0, None),
            (3, 4_405, 1.0, cancelled),
            // A pause counts for a part of it.
            (4, 9_000, 0.125, None),
            (4, 9_008, 0.125, None),
            (4, 9_020, 1.0, None),
            (4, 9_035, 1.0, None),
            (4, 9_050, 1.0, None),
            (4, 9_056, 1.0, None),
            (4, 9_058, 1.0, cancelled),
        ];
        for (work, (pid, second, counts, expected)) in (1..).zip(rows) {
            check_at(pid, work, second, counts, expected);
        }
        // What cannot be cancelled is ended.
        for second in [20_000, 20_015, 20_030, 20_045] {
            check_at(5, 0, second, 1.0, None);
        }
        for (second, expected) in [(20_060, cancelled), (20_064, None), (20_065, ended), (20_071, None)] {
            check_at(5, 0, second, 1.0, expected);
        }
    }

    #[test]
    fn pauses_add_up_over_a_projects_tables() {
        let (mut watch, begin) = (AutovacuumWatch::default(), Instant::now());
        let usual = Duration::from_secs(30);
        let mut check = |second, pauses: &[bool], expected: bool, found: bool| {
            let workers = pauses.iter().zip(1..).map(|(pauses, pid)| Worker {
                pid,
                backend_start: 7,
                xact_start: Some(second),
                project: "proj_one".to_owned(),
                pauses: *pauses,
                all_taken: false,
                counts: 0.0,
            });
            let now = begin + Duration::from_secs(u64::try_from(second).unwrap());
            let slow = watch.slow(&workers.collect::<Vec<_>>(), usual, now);
            assert_eq!(slow, if expected { vec!["proj_one".to_owned()] } else { Vec::new() }, "at {second}");
            for project in slow {
                watch.looked(project, found, now);
            }
        };
        check(0, &[true], false, false);
        check(10, &[true], false, false);
        check(20, &[false], false, false);
        check(30, &[true], false, false);
        check(40, &[false, true], true, false);
        check(50, &[true], false, false);
        // Two at once; nobody knows what was while nobody looked.
        check(100, &[true, true], true, true);
        check(110, &[true, false], false, false);
        check(120, &[true, false], false, false);
        // Whose tables were found to be slow twice has less.
        check(130, &[true, false], true, true);
        check(133, &[true, false], true, true);
    }

    #[test]
    fn no_project_has_all_workers_for_long() {
        let (mut watch, begin) = (AutovacuumWatch::default(), Instant::now());
        // Second, projects of the workers from the oldest to the youngest, whether there can be more, the pid that is ended.
        let mut check = |second, projects: &[&str], all_taken, expected: Option<i32>| {
            let workers = projects.iter().zip(1..).map(|(project, pid)| Worker {
                pid,
                backend_start: i64::from(pid),
                xact_start: Some(second),
                project: (*project).to_owned(),
                pauses: true,
                all_taken,
                counts: 0.0,
            });
            let now = begin + Duration::from_secs(u64::try_from(second).unwrap());
            let ended = watch.hoarded(&workers.collect::<Vec<_>>(), Duration::from_secs(300), now);
            assert_eq!(ended.map(|worker| worker.pid), expected, "at {second}");
        };
        check(0, &["one", "one"], true, None);
        check(299, &["one", "one"], true, None);
        check(300, &["one", "one"], true, Some(2));
        check(301, &["one", "one"], true, None);
        check(500, &["one", "two"], true, None);
        check(601, &["one", "one"], true, None);
        check(901, &["one", "one"], true, Some(2));
        check(902, &["two", "two"], true, None);
        check(1_000, &["one", "one"], true, None);
        check(1_299, &["one", "one"], false, None);
        check(1_300, &["one", "one"], true, None);
        check(1_301, &[], true, None);
        check(1_700, &["one", "one"], true, None);
        check(1_701, &["one"], true, None);
        check(2_001, &["one"], true, None);
    }
}
