//! Who empties the cluster's table of locks when it is full. Then nobody can connect, and a look at the sessions fails
//! like every other statement that wants a lock; whatever room is made is taken by those who try again in a loop. So one
//! session has all the locks that it needs before. Where even that fails, or could not connect in time, processes are ended
//! by the machine, when PostgreSQL is ours.

use base::ProjectRef;
use procs::process::Signal;
use tokio_postgres::{Client, Statement};

use super::store::{self, LockHolder};
use super::{Action, Measure, Reason, WatchdogConfig};
use crate::provision::{ProvisionError, Provisioner};

pub(super) struct LockSentry {
    client: Client,
    statement: Statement,
}

impl LockSentry {
    /// Connects, and runs everything once that it will have to run.
    pub(super) async fn post(provisioner: &Provisioner, config: &WatchdogConfig) -> Result<Self, ProvisionError> {
        let client = provisioner.monitor().await?;
        let statement = store::lock_sentry_prepare(&client).await?;
        let sentry = Self { client, statement };
        store::lock_holders_end(&sentry.client, &sentry.statement, config, false).await?;
        Ok(sentry)
    }

    pub(super) fn is_gone(&self) -> bool {
        self.client.is_closed()
    }

    /// Ends the sessions that hold most of the table. Gives what was done, each with whether a limit was passed.
    pub(super) async fn end_holders(&self, config: &WatchdogConfig) -> Result<Vec<(Action, bool)>, ProvisionError> {
        let ended = store::lock_holders_end(&self.client, &self.statement, config, true).await?;
        let action = |LockHolder { pid, role, project, beyond }: LockHolder| {
            tracing::warn!(
                "project.ref" = project,
                pid,
                role,
                reason = Reason::Locks.as_str(),
                "a project's session was ended: the table of locks is full"
            );
            (Action { pid, role, project, reason: Reason::Locks, measure: Measure::Ended }, beyond)
        };
        Ok(ended.into_iter().map(action).collect())
    }
}

/// Ends all processes of owners' sessions, parallel workers and autovacuum's work for projects; `thoroughly`, the services'
/// sessions too. Whose the locks are cannot be known any more. Gives how many were told.
pub(super) fn end_without_sql(config: &WatchdogConfig, thoroughly: bool) -> usize {
    let Some(backends) = &config.backends else { return 0 };
    // A role, or a database: the project's, or one for a restore.
    let is_meant = |name: &str| {
        let (end, suffix) = match name.match_indices('_').nth(1) {
            Some((at, _)) => (at, &name[at..]),
            None => (name.len(), ""),
        };
        let Ok(project) = ProjectRef::parse(&name[..end]) else { return false };
        (thoroughly || suffix != "_authenticator") && config.only.as_ref().is_none_or(|only| only.contains(&project))
    };
    let processes = backends.titles();
    let is_meant = |title: &str| {
        let name = title.strip_prefix("autovacuum worker ").unwrap_or(title);
        name.split(' ').next().is_some_and(is_meant)
    };
    let leader = |title: &str| {
        let pid: u32 = title.strip_prefix("parallel worker for PID ")?.trim_end().parse().ok()?;
        processes.iter().find(|(id, _)| id.pid == pid)
    };
    let meant = processes
        .iter()
        .filter(|(_, title)| is_meant(title) || leader(title).is_some_and(|(_, title)| is_meant(title)));
    meant.filter(|(id, _)| id.signal(Signal::TERM).is_ok()).count()
}
