//! How long messages took lately: who has none to send answers as late, so that the time does not tell whose number is known.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base::{ProjectRef, random};

/// Messages that are remembered of a project, and projects.
const MESSAGES: usize = 16;
const PROJECTS: usize = 4_096;

#[derive(Default)]
pub(crate) struct Took(Mutex<HashMap<ProjectRef, Lately>>);

#[derive(Default)]
struct Lately {
    times: Vec<Duration>,
    next: usize,
}

impl Took {
    pub(super) fn note(&self, project: &ProjectRef, time: Duration) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= PROJECTS && !all.contains_key(project) {
            // Whichever: it is learned again with the next message.
            if let Some(one) = all.keys().next().cloned() {
                all.remove(&one);
            }
        }
        let lately = all.entry(project.clone()).or_default();
        match lately.times.get_mut(lately.next) {
            Some(oldest) => *oldest = time,
            None => lately.times.push(time),
        }
        lately.next = (lately.next + 1) % MESSAGES;
    }

    /// One of the last times, any of them; none where no message was sent.
    pub(super) fn any(&self, project: &ProjectRef) -> Duration {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let times = all.get(project).map(|lately| lately.times.as_slice()).unwrap_or_default();
        let [byte] = random::bytes::<1>();
        times.get(usize::from(byte) % times.len().max(1)).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn times_are_those_of_the_last_messages() {
        let took = Took::default();
        let project = |n: usize| ProjectRef::parse(&format!("proj_{n:08x}")).unwrap();
        assert_eq!(took.any(&project(1)), Duration::ZERO);
        for n in 0..40 {
            took.note(&project(1), Duration::from_millis(n));
        }
        let seen: BTreeSet<Duration> = (0..2_000).map(|_| took.any(&project(1))).collect();
        assert_eq!(seen, (24..40).map(Duration::from_millis).collect());
        for n in 0..PROJECTS + 10 {
            took.note(&project(n), Duration::ZERO);
        }
        assert_eq!(took.0.lock().unwrap().len(), PROJECTS);
    }
}
