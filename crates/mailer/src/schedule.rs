//! Whose turn it is: which projects have mails to send, and when. A project whose database or mail server takes its time stands
//! in a line of its own from then on, so that however many such there are, the others do not wait behind them.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use base::ProjectRef;
use tokio::time::Instant;

/// Projects whose mails are sent at once: of those that are quick about it, of the others, and together, because a quick one
/// may turn out to be none while it runs.
const MOST_QUICK: usize = 64;
const MOST_SLOW: usize = 32;
const MOST: usize = 192;
/// Who takes longer at a time is slow, for so long.
const PATIENCE: Duration = Duration::from_secs(5);
const SLOW_FOR: Duration = Duration::from_secs(600);
/// Between two looks at a database that could not be asked; each later one waits twice as long, up to the second.
const FIRST_RETRY: Duration = Duration::from_secs(15);
const LONGEST_RETRY: Duration = Duration::from_secs(600);

/// The line that a project stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    Quick,
    Slow,
}

/// How a project's turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// After this time there is more to do; none when nothing waits.
    Next(Option<Duration>),
    /// Its database had no answer in time.
    NoAnswer,
}

#[derive(Default)]
pub(crate) struct Schedule {
    due: HashMap<ProjectRef, Instant>,
    running: HashMap<ProjectRef, Run>,
    /// Named while they ran.
    again: HashSet<ProjectRef>,
    slow: HashMap<ProjectRef, Slow>,
}

#[derive(Clone, Copy)]
struct Run {
    began: Instant,
    line: Line,
}

impl Run {
    fn is_slow(self, now: Instant) -> bool {
        self.line == Line::Slow || now - self.began >= PATIENCE
    }
}

/// What is remembered of a project that was slow.
#[derive(Clone, Copy)]
struct Slow {
    until: Instant,
    /// Turns without an answer, one after the other, and when the next one may be, whoever names the project.
    failures: u32,
    not_before: Instant,
}

impl Schedule {
    /// A project has something to do.
    pub(crate) fn wake(&mut self, project: ProjectRef, now: Instant) {
        if self.running.contains_key(&project) {
            self.again.insert(project);
        } else {
            self.put(project, now);
        }
    }

    fn put(&mut self, project: ProjectRef, at: Instant) {
        let at = self.slow.get(&project).map_or(at, |slow| at.max(slow.not_before));
        let due = self.due.entry(project).or_insert(at);
        *due = at.min(*due);
    }

    fn line(&self, project: &ProjectRef, now: Instant) -> Line {
        let slow = self.slow.get(project).is_some_and(|slow| slow.until > now);
        if slow { Line::Slow } else { Line::Quick }
    }

    /// Whether one more of a line may run.
    fn has_place(&self, line: Line, now: Instant) -> bool {
        let slow = self.running.values().filter(|run| run.is_slow(now)).count();
        let taken = match line {
            Line::Quick => self.running.len() - slow < MOST_QUICK,
            Line::Slow => slow < MOST_SLOW,
        };
        taken && self.running.len() < MOST
    }

    /// The project that is due longest in a line that has a place; from now on it runs.
    pub(crate) fn next(&mut self, now: Instant) -> Option<(ProjectRef, Line)> {
        let places = [Line::Quick, Line::Slow].map(|line| self.has_place(line, now));
        let ready = self.due.iter().filter(|(_, at)| **at <= now);
        let ready = ready.map(|(project, at)| (project, *at, self.line(project, now)));
        let (project, _, line) = ready.filter(|(_, _, line)| places[*line as usize]).min_by_key(|(_, at, _)| *at)?;
        let project = project.clone();
        self.due.remove(&project);
        self.running.insert(project.clone(), Run { began: now, line });
        Some((project, line))
    }

    /// When [`Self::next`] may have one without anybody having ended.
    pub(crate) fn earliest(&self, now: Instant) -> Option<Instant> {
        let places = [Line::Quick, Line::Slow].map(|line| self.has_place(line, now));
        let quick = self.running.values().filter(|run| !run.is_slow(now));
        // Then it counts among the slow ones, and its place is free.
        let freed = quick.map(|run| run.began + PATIENCE).min().filter(|_| self.running.len() < MOST);
        let times = self.due.iter().filter_map(|(project, at)| match self.line(project, now) {
            line if places[line as usize] => Some(*at),
            Line::Quick => freed.map(|freed| freed.max(*at)),
            Line::Slow => None,
        });
        times.min()
    }

    pub(crate) fn done(&mut self, project: ProjectRef, ended: Ended, now: Instant) {
        self.slow.retain(|_, slow| slow.until > now);
        let run = self.running.remove(&project);
        let again = self.again.remove(&project);
        let before = self.slow.get(&project).copied();
        let next = match ended {
            Ended::NoAnswer => {
                let failures = before.map_or(0, |slow| slow.failures);
                let wait = FIRST_RETRY.saturating_mul(1 << failures.min(16)).min(LONGEST_RETRY);
                let slow = Slow { until: now + wait + SLOW_FOR, failures: failures + 1, not_before: now + wait };
                self.slow.insert(project.clone(), slow);
                Some(wait)
            }
            Ended::Next(next) => {
                if run.is_some_and(|run| now - run.began >= PATIENCE) {
                    self.slow.insert(project.clone(), Slow { until: now + SLOW_FOR, failures: 0, not_before: now });
                } else if let Some(slow) = self.slow.get_mut(&project) {
                    slow.failures = 0;
                }
                if again { Some(Duration::ZERO) } else { next }
            }
        };
        if let Some(wait) = next {
            self.put(project, now + wait);
        }
    }

    /// Nobody knows what became of those that run: they are looked at once more.
    pub(crate) fn broke_off(&mut self, now: Instant) {
        let running: Vec<ProjectRef> = self.running.keys().cloned().collect();
        running.into_iter().for_each(|project| self.done(project, Ended::Next(Some(FIRST_RETRY)), now));
    }

    /// Projects that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.due.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(n: usize) -> ProjectRef {
        ProjectRef::parse(&format!("proj_{n:08x}")).unwrap()
    }

    #[test]
    fn a_project_that_is_named_while_it_runs_runs_again() {
        let (a, b) = (project(1), project(2));
        let now = Instant::now();
        let mut schedule = Schedule::default();
        schedule.wake(a.clone(), now);
        assert_eq!(schedule.next(now), Some((a.clone(), Line::Quick)));
        assert_eq!((schedule.next(now), schedule.earliest(now)), (None, None));
        schedule.wake(a.clone(), now);
        schedule.wake(b.clone(), now);
        assert_eq!(schedule.next(now), Some((b.clone(), Line::Quick)));
        schedule.done(a.clone(), Ended::Next(None), now);
        schedule.done(b, Ended::Next(Some(Duration::from_secs(5))), now);
        assert_eq!(schedule.next(now), Some((a, Line::Quick)));
        assert_eq!(schedule.earliest(now), Some(now + Duration::from_secs(5)));
    }

    #[test]
    fn a_database_that_does_not_answer_is_asked_less_and_less_whoever_names_it() {
        let start = Instant::now();
        let (mut schedule, evil) = (Schedule::default(), project(1));
        schedule.wake(evil.clone(), start);
        let mut now = start;
        let mut asked = Vec::new();
        for _ in 0..9 {
            while schedule.next(now).is_none() {
                now += Duration::from_secs(1);
                schedule.wake(evil.clone(), now);
            }
            asked.push((now - start).as_secs());
            schedule.done(evil.clone(), Ended::NoAnswer, now);
        }
        assert_eq!(asked, [0, 15, 45, 105, 225, 465, 945, 1545, 2145]);
        // An answer makes good for it, but for a while it stands among the slow ones.
        now += LONGEST_RETRY;
        assert_eq!(schedule.next(now), Some((evil.clone(), Line::Slow)));
        schedule.done(evil.clone(), Ended::Next(Some(Duration::ZERO)), now);
        assert_eq!(schedule.next(now), Some((evil.clone(), Line::Slow)));
        schedule.done(evil.clone(), Ended::Next(Some(SLOW_FOR)), now);
        assert_eq!(schedule.next(now + SLOW_FOR), Some((evil, Line::Quick)));
    }

    #[test]
    fn projects_that_take_their_time_keep_nobody_waiting() {
        let mut now = Instant::now();
        let mut schedule = Schedule::default();
        // More than there are places of both lines, each with a mail server that takes a minute for a mail.
        for n in 0..MOST_QUICK + MOST_SLOW {
            schedule.wake(project(n), now);
        }
        let began: Vec<_> = std::iter::from_fn(|| schedule.next(now)).collect();
        assert_eq!(began.len(), MOST_QUICK);
        // Whoever comes now waits for a moment, once.
        let honest = project(9_999);
        schedule.wake(honest.clone(), now);
        assert_eq!(schedule.earliest(now), Some(now + PATIENCE));
        now += PATIENCE;
        let next: Vec<_> = std::iter::from_fn(|| schedule.next(now)).collect();
        assert!(next.contains(&(honest.clone(), Line::Quick)), "{next:?}");
        schedule.done(honest.clone(), Ended::Next(None), now);
        // When they are known, they fill the slow line and no more.
        now += Duration::from_secs(60);
        for n in 0..MOST_QUICK + MOST_SLOW {
            schedule.done(project(n), Ended::Next(Some(Duration::ZERO)), now);
        }
        let lines: Vec<Line> = std::iter::from_fn(|| schedule.next(now)).map(|(_, line)| line).collect();
        assert_eq!(lines, [Line::Slow; MOST_SLOW]);
        schedule.wake(honest.clone(), now);
        assert_eq!(schedule.earliest(now), Some(now));
        assert_eq!(schedule.next(now), Some((honest, Line::Quick)));
        assert_eq!(schedule.earliest(now), None);
    }

    #[test]
    fn what_runs_is_bounded() {
        let mut now = Instant::now();
        let mut schedule = Schedule::default();
        for n in 0..2 * MOST {
            schedule.wake(project(n), now);
        }
        let mut running = 0;
        for _ in 0..10 {
            running += std::iter::from_fn(|| schedule.next(now)).count();
            now += PATIENCE;
        }
        assert_eq!((running, schedule.waiting()), (MOST, MOST));
        assert_eq!((schedule.next(now), schedule.earliest(now)), (None, None));
        schedule.broke_off(now);
        assert_eq!(schedule.waiting(), 2 * MOST);
        assert!(schedule.next(now).is_some());
    }
}
