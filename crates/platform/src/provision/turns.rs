//! Who works on a project. Work on one is serialized by an advisory lock among processes, and by a turn within one.
//!
//! A project can be busy for as long as its owner likes: while a backup of it is loaded, its data and its code decide. So
//! nobody waits for a project's lock with one of the few superuser connections in hand, and nobody waits for ever.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base::ProjectRef;
use tokio::sync::{OwnedMutexGuard, Semaphore};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::store;
use super::{Admin, ProvisionError, Provisioner};

/// How long a change of a project waits for another one.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);
/// As long as it takes to make a project: when somebody else is at it, the result is worth waiting for.
pub(super) const PATIENCE_TO_BUILD: Duration = Duration::from_secs(60);
/// As long as a verification takes that is not of a large project.
pub(super) const PATIENCE_TO_RESTORE: Duration = Duration::from_secs(15 * 60);
/// Shortest and longest time between two looks at a lock that another session has. One that ended here a moment ago may
/// still be ending there.
const LOOK: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(200)];

/// The turns of all projects that somebody works on.
#[derive(Default)]
pub(super) struct Turns(Mutex<HashMap<ProjectRef, Arc<tokio::sync::Mutex<()>>>>);

/// Held while somebody works on a project.
pub(super) struct Turn(#[expect(dead_code, reason = "held, not read")] OwnedMutexGuard<()>);

impl Turns {
    async fn take(&self, id: &ProjectRef, deadline: Instant) -> Result<Turn, ProvisionError> {
        let turn = {
            let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // Those that nobody has or waits for.
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            Arc::clone(turns.entry(id.clone()).or_default())
        };
        timeout_at(deadline, turn.lock_owned()).await.map(Turn).map_err(|_| ProvisionError::Busy)
    }
}

impl Provisioner {
    /// A superuser's session that holds the project's lock.
    ///
    /// # Errors
    /// [`ProvisionError::Busy`] when somebody else has it for longer than [`PATIENCE`].
    pub(super) async fn locked(&self, id: &ProjectRef) -> Result<Admin, ProvisionError> {
        self.locked_within(id, PATIENCE, &self.0.admin_connections).await
    }

    /// As [`Provisioner::locked`], waiting at most so long, with a connection of `class`.
    pub(super) async fn locked_within(
        &self,
        id: &ProjectRef,
        patience: Duration,
        class: &Arc<Semaphore>,
    ) -> Result<Admin, ProvisionError> {
        self.cluster().await?;
        let deadline = Instant::now() + patience;
        let turn = self.0.turns.take(id, deadline).await?;
        let mut pause = LOOK[0];
        loop {
            let mut admin = self.admin_of(class).await?;
            if store::cluster::try_lock(&admin.client, id.as_str()).await? {
                admin._turn = Some(turn);
                return Ok(admin);
            }
            drop(admin);
            let next = Instant::now() + pause;
            if next > deadline {
                return Err(ProvisionError::Busy);
            }
            sleep_until(next).await;
            pause = (pause * 2).min(LOOK[1]);
        }
    }
}
