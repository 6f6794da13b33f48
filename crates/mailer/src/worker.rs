//! The loop that sends: one drain of a project's queue at a time, many projects at once, and nothing for projects that
//! nobody named.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use base::{Project, ProjectRef, ProjectStatus};
use pg::Pool;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::mailer::{Inner, Way};
use crate::smtp::{Connection, SendError};
use crate::store::{self, Mail, Outcome};

/// Projects whose mails are sent at once.
const MOST_DRAINS: usize = 64;
/// Mails of one project before others that wait have their turn.
const MAILS_OF_A_DRAIN: usize = 50;
/// How long a mail is somebody's, and how often that is said again: a worker that died loses it soon.
const TURN: Duration = Duration::from_secs(20);
const TURN_RENEWED: Duration = Duration::from_secs(6);
/// Between two looks at a database that could not be asked.
const DATABASE_RETRY: Duration = Duration::from_secs(15);
/// Longest that a project's database is asked while others wait for their turn to ask.
const ASKING: Duration = Duration::from_secs(2);
/// Attempts, and age in seconds, after which a mail is given up. Its code has expired long before.
const MOST_ATTEMPTS: i64 = 12;
const OLDEST: i64 = 24 * 3600;
/// Seconds before the second attempt; each later one waits twice as long, up to an hour.
const FIRST_DELAY: i64 = 15;
const LONGEST_DELAY: i64 = 3600;

/// Which projects have something to do, and when.
#[derive(Default)]
struct Schedule {
    due: HashMap<ProjectRef, Instant>,
    running: HashSet<ProjectRef>,
    /// Notified while they ran.
    again: HashSet<ProjectRef>,
}

impl Schedule {
    fn wake(&mut self, project: ProjectRef, now: Instant) {
        if self.running.contains(&project) {
            self.again.insert(project);
        } else {
            self.due.insert(project, now);
        }
    }

    /// The project that is due longest, marked as running.
    fn next(&mut self, now: Instant) -> Option<ProjectRef> {
        let (project, _) = self.due.iter().filter(|(_, at)| **at <= now).min_by_key(|(_, at)| **at)?;
        let project = project.clone();
        self.due.remove(&project);
        self.running.insert(project.clone());
        Some(project)
    }

    fn earliest(&self) -> Option<Instant> {
        self.due.values().min().copied()
    }

    /// A drain ended; `next` says when there is more to do.
    fn done(&mut self, project: ProjectRef, next: Option<Duration>, now: Instant) {
        self.running.remove(&project);
        let again = self.again.remove(&project).then_some(Duration::ZERO);
        if let Some(delay) = again.or(next) {
            self.due.insert(project, now + delay);
        }
    }
}

pub(crate) async fn run(inner: Arc<Inner>, shutdown: CancellationToken) {
    let mut schedule = Schedule::default();
    let active = inner.config.projects.all().into_iter().filter(|project| project.status == ProjectStatus::Active);
    active.for_each(|project| schedule.wake(project.project_ref.clone(), Instant::now()));
    let mut drains: JoinSet<(ProjectRef, Option<Duration>)> = JoinSet::new();
    loop {
        let named: Vec<ProjectRef> = inner.wanted().drain().collect();
        let now = Instant::now();
        named.into_iter().for_each(|project| schedule.wake(project, now));
        while drains.len() < MOST_DRAINS
            && let Some(project) = schedule.next(now)
        {
            drains.spawn(drain(inner.clone(), project, shutdown.clone()));
        }
        inner.projects_waiting.store(schedule.due.len() + drains.len(), Ordering::Relaxed);
        // Without a place no timer is of interest: whoever ends makes room.
        let next = schedule.earliest().filter(|_| drains.len() < MOST_DRAINS);
        let timer = async {
            match next {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = inner.woken.notified() => {}
            () = timer => {}
            Some(ended) = drains.join_next() => match ended {
                Ok((project, next)) => schedule.done(project, next, Instant::now()),
                Err(error) => {
                    tracing::error!(cause = %error, "a mail worker broke off");
                    // Which one is not known any more: all that run are looked at again.
                    let broken: Vec<ProjectRef> = schedule.running.drain().collect();
                    broken.into_iter().for_each(|project| schedule.wake(project, Instant::now() + DATABASE_RETRY));
                }
            },
        }
    }
    while drains.join_next().await.is_some() {}
}

/// Sends what is due of one project; the time until there is more to do.
async fn drain(
    inner: Arc<Inner>,
    project_ref: ProjectRef,
    shutdown: CancellationToken,
) -> (ProjectRef, Option<Duration>) {
    let project = inner.config.projects.get(&project_ref).filter(|project| project.status == ProjectStatus::Active);
    // What a suspended project left is sent when it has its next mail, or at the next start.
    let Some(project) = project else { return (project_ref, None) };
    let next = match send_due(&inner, &project, &shutdown).await {
        Ok(next) => next,
        Err(error) => {
            tracing::warn!(project.ref = %project_ref, cause = %error, "the queue of mails could not be read");
            Some(DATABASE_RETRY)
        }
    };
    (project_ref, next)
}

async fn send_due(
    inner: &Inner,
    project: &Arc<Project>,
    shutdown: &CancellationToken,
) -> Result<Option<Duration>, pg::Error> {
    let pool = inner.config.pools.of(project);
    let clock = &inner.config.clock;
    let mut connection = None;
    for _ in 0..MAILS_OF_A_DRAIN {
        if shutdown.is_cancelled() {
            break;
        }
        let mail = {
            let _place = inner.asking.acquire().await;
            match tokio::time::timeout(ASKING, store::mail_take(&pool, clock.unix_seconds(), TURN)).await {
                Ok(mail) => mail?,
                // Its connections are busy: it waits, and nobody waits for it.
                Err(_) => return Ok(Some(DATABASE_RETRY)),
            }
        };
        let Some(mail) = mail else {
            close(connection).await;
            let due = {
                let _place = inner.asking.acquire().await;
                match tokio::time::timeout(ASKING, store::mail_next_due(&pool, clock.unix_seconds())).await {
                    Ok(due) => due?,
                    Err(_) => return Ok(Some(DATABASE_RETRY)),
                }
            };
            // At least a second: another worker may be at it.
            let seconds = due.map(|at| (at - clock.unix_seconds()).clamp(1, LONGEST_DELAY));
            return Ok(seconds.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs));
        };
        attempt(inner, project, &pool, &mut connection, mail, shutdown).await?;
    }
    close(connection).await;
    Ok(Some(Duration::ZERO))
}

async fn close(connection: Option<Connection>) {
    if let Some(connection) = connection {
        connection.quit().await;
    }
}

async fn attempt(
    inner: &Inner,
    project: &Arc<Project>,
    pool: &Pool,
    connection: &mut Option<Connection>,
    mail: Mail,
    shutdown: &CancellationToken,
) -> Result<(), pg::Error> {
    let clock = &inner.config.clock;
    let now = clock.unix_seconds();
    // Also one whose attempts all ended with the process.
    let hopeless = if mail.too_long { Some("the mail is too long") } else { None };
    let hopeless = hopeless.or((mail.attempts > MOST_ATTEMPTS).then_some("it was tried too often"));
    if let Some(reason) = hopeless {
        tracing::warn!(project.ref = %project.project_ref, mail.id, reason, "a mail was given up");
        return store::mail_finish(pool, mail.id, now, Outcome::GivenUp { reason }).await;
    }
    if let Err(wait) = inner.admit(project, now) {
        let reason =
            "this server sends no more mails of the project in this hour; with a mail server of its own it may";
        return store::mail_finish(pool, mail.id, now, Outcome::Postponed { at: now + wait, reason }).await;
    }
    let result = {
        let sending = send(inner, project, connection, &mail);
        tokio::pin!(sending);
        let mut renewal = tokio::time::interval_at(Instant::now() + TURN_RENEWED, TURN_RENEWED);
        loop {
            tokio::select! {
                result = &mut sending => break Some(result),
                // Whether the server took it is not known: the same Message-ID will say so.
                () = shutdown.cancelled() => break None,
                _ = renewal.tick() => store::mail_keep(pool, mail.id, clock.unix_seconds(), TURN).await?,
            }
        }
    };
    let now = clock.unix_seconds();
    let outcome = match &result {
        None => Outcome::Released,
        Some(Ok(())) => Outcome::Sent,
        Some(Err(SendError::Refused(reason))) => Outcome::GivenUp { reason },
        Some(Err(SendError::Retry(reason))) if mail.attempts >= MOST_ATTEMPTS || now - mail.created_at > OLDEST => {
            Outcome::GivenUp { reason }
        }
        Some(Err(SendError::Retry(reason))) => Outcome::Again { at: now + delay(mail.attempts), reason },
    };
    if let Some(Err(error)) = &result {
        let given_up = matches!(outcome, Outcome::GivenUp { .. });
        tracing::warn!(project.ref = %project.project_ref, mail.id, mail.kind = %mail.kind, %error, given_up, "a mail was not sent");
    }
    store::mail_finish(pool, mail.id, now, outcome).await
}

async fn send(
    inner: &Inner,
    project: &Arc<Project>,
    connection: &mut Option<Connection>,
    mail: &Mail,
) -> Result<(), SendError> {
    let way = inner.way(project)?;
    if let Way::Hook(hook) = &way {
        return hook(project.clone(), mail.clone()).await;
    }
    let rendered = inner.rendered(project, mail).await?;
    let id = format!("{}.{}.{}", mail.created_at, mail.id, project.project_ref);
    inner.send(&way, connection, &mail.recipient, &rendered, &id).await
}

/// Seconds until the next attempt.
fn delay(attempts: i64) -> i64 {
    let doublings = u32::try_from(attempts - 1).unwrap_or_default().min(16);
    FIRST_DELAY.saturating_mul(1 << doublings).min(LONGEST_DELAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_an_hour() {
        let delays: Vec<i64> = (1..=10).map(delay).collect();
        assert_eq!(delays, [15, 30, 60, 120, 240, 480, 960, 1920, 3600, 3600]);
    }

    #[test]
    fn a_project_that_is_named_while_it_runs_runs_again() {
        let (a, b) = (ProjectRef::parse("proj_aaaa").unwrap(), ProjectRef::parse("proj_bbbb").unwrap());
        let now = Instant::now();
        let mut schedule = Schedule::default();
        schedule.wake(a.clone(), now);
        assert_eq!(schedule.next(now), Some(a.clone()));
        assert_eq!((schedule.next(now), schedule.earliest()), (None, None));
        schedule.wake(a.clone(), now);
        schedule.wake(b.clone(), now);
        assert_eq!(schedule.next(now), Some(b.clone()));
        schedule.done(a.clone(), None, now);
        schedule.done(b, Some(Duration::from_secs(5)), now);
        assert_eq!(schedule.next(now), Some(a));
        assert_eq!(schedule.earliest(), Some(now + Duration::from_secs(5)));
    }
}
