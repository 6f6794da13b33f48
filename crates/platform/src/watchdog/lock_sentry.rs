//! Who empties the cluster's table of locks when it is full. Then nobody can connect, and a look at the sessions fails
//! like every other statement that wants a lock; whatever room is made is taken by those who try again in a loop. So one
//! session has all the locks that it needs before.

use tokio_postgres::{Client, Statement};

use super::{Action, Measure, Reason, WatchdogConfig, store};
use crate::provision::{ProvisionError, Provisioner};

pub(super) struct LockSentry {
    client: Client,
    statement: Statement,
}

impl LockSentry {
    /// Connects, and runs everything once that it will have to run: what PostgreSQL reads for it is in its caches then.
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

    /// Ends the sessions that hold most of the table.
    pub(super) async fn end_holders(&self, config: &WatchdogConfig) -> Result<Vec<Action>, ProvisionError> {
        let ended = store::lock_holders_end(&self.client, &self.statement, config, true).await?;
        let action = |(pid, role, project): (i32, String, String)| {
            tracing::warn!(
                "project.ref" = project,
                pid,
                role,
                reason = Reason::Locks.as_str(),
                "a project's session was ended: the table of locks is full"
            );
            Action { pid, role, project, reason: Reason::Locks, measure: Measure::Ended }
        };
        Ok(ended.into_iter().map(action).collect())
    }
}
