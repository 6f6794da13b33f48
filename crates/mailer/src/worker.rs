//! The loop that sends: one drain of a project's queue at a time, many projects at once, and nothing for projects that
//! nobody named.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use base::{Project, ProjectRef, ProjectStatus};
use pg::Pool;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::mailer::{Inner, Way};
use crate::schedule::{Ended, Line, Schedule};
use crate::smtp::{Connection, SendError};
use crate::store::{self, Mail, Outcome};

/// Mails of one project before others that wait have their turn.
const MAILS_OF_A_DRAIN: usize = 50;
/// How long a mail is somebody's, and how often that is said again: a worker that died loses it soon.
const TURN: Duration = Duration::from_secs(20);
const TURN_RENEWED: Duration = Duration::from_secs(6);
/// Between two looks at a database that refuses to be asked.
const DATABASE_RETRY: Duration = Duration::from_secs(15);
/// Longest that a project's database is asked while others wait for their turn to ask.
const ASKING: Duration = Duration::from_secs(2);
/// Time after which a project's other mails wait for its next turn.
const LONGEST_DRAIN: Duration = Duration::from_secs(20);
/// Attempts, and age in seconds, after which a mail is given up. Its code has expired long before.
const MOST_ATTEMPTS: i64 = 12;
const OLDEST: i64 = 24 * 3600;
/// Seconds before the second attempt; each later one waits twice as long, up to an hour.
const FIRST_DELAY: i64 = 15;
const LONGEST_DELAY: i64 = 3600;

pub(crate) async fn run(inner: Arc<Inner>, shutdown: CancellationToken) {
    let mut schedule = Schedule::default();
    let active = inner.config.projects.all().into_iter().filter(|project| project.status == ProjectStatus::Active);
    active.for_each(|project| schedule.wake(project.project_ref.clone(), Instant::now()));
    let mut drains: JoinSet<(ProjectRef, Ended)> = JoinSet::new();
    loop {
        let named: Vec<ProjectRef> = inner.wanted().drain().collect();
        let now = Instant::now();
        named.into_iter().for_each(|project| schedule.wake(project, now));
        while let Some((project, line)) = schedule.next(now) {
            drains.spawn(drain(inner.clone(), project, line, shutdown.clone()));
        }
        inner.projects_waiting.store(schedule.waiting() + drains.len(), Ordering::Relaxed);
        let next = schedule.earliest(now);
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
                Ok((project, ended)) => schedule.done(project, ended, Instant::now()),
                Err(error) => {
                    tracing::error!(cause = %error, "a mail worker broke off");
                    // Which one is not known any more: all that run are looked at again.
                    schedule.broke_off(Instant::now());
                }
            },
        }
    }
    while drains.join_next().await.is_some() {}
}

/// Sends what is due of one project.
async fn drain(
    inner: Arc<Inner>,
    project_ref: ProjectRef,
    line: Line,
    shutdown: CancellationToken,
) -> (ProjectRef, Ended) {
    let project = inner.config.projects.get(&project_ref).filter(|project| project.status == ProjectStatus::Active);
    // What a suspended project left is sent when it has its next mail, or at the next start.
    let Some(project) = project else { return (project_ref, Ended::Next(None)) };
    let ended = match send_due(&inner, &project, line, &shutdown).await {
        Ok(ended) => ended,
        Err(error) => {
            tracing::warn!(project.ref = %project_ref, cause = %error, "the queue of mails could not be read");
            Ended::Next(Some(DATABASE_RETRY))
        }
    };
    (project_ref, ended)
}

/// Asks a project's database, at a place of its line; none when it has no answer in time.
async fn asked<T>(
    inner: &Inner,
    line: Line,
    question: impl Future<Output = Result<T, pg::Error>>,
) -> Result<Option<T>, pg::Error> {
    // Never closed.
    let _place = inner.asking(line).acquire().await;
    match tokio::time::timeout(ASKING, question).await {
        Ok(answer) => answer.map(Some),
        // Its connections are busy, perhaps: it waits, and nobody waits for it.
        Err(_) => Ok(None),
    }
}

async fn send_due(
    inner: &Inner,
    project: &Arc<Project>,
    line: Line,
    shutdown: &CancellationToken,
) -> Result<Ended, pg::Error> {
    let pool = inner.config.pools.of(project);
    let clock = &inner.config.clock;
    let began = Instant::now();
    let mut connection = None;
    for _ in 0..MAILS_OF_A_DRAIN {
        if shutdown.is_cancelled() || began.elapsed() >= LONGEST_DRAIN {
            break;
        }
        let Some(mail) = asked(inner, line, store::mail_take(&pool, clock.unix_seconds(), TURN)).await? else {
            return Ok(Ended::NoAnswer);
        };
        let Some(mail) = mail else {
            close(connection).await;
            let due = asked(inner, line, store::mail_next_due(&pool, clock.unix_seconds())).await?;
            let Some(due) = due else { return Ok(Ended::NoAnswer) };
            // At least a second: another worker may be at it.
            let seconds = due.map(|at| (at - clock.unix_seconds()).clamp(1, LONGEST_DELAY));
            let seconds = seconds.and_then(|seconds| u64::try_from(seconds).ok());
            return Ok(Ended::Next(seconds.map(Duration::from_secs)));
        };
        attempt(inner, project, &pool, &mut connection, mail, shutdown).await?;
    }
    close(connection).await;
    Ok(Ended::Next(Some(Duration::ZERO)))
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
}
