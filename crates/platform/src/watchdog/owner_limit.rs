//! Owners' roles that may have fewer sessions than usual, for as long as there is a reason.

use std::collections::HashMap;
use std::time::Instant;

use tokio_postgres::Client;

use super::{WatchdogConfig, store};
use crate::provision::{ConnectionLimits, ProvisionError};

/// Sessions of an owner that are ended for writing while that is refused, or times that sessions of his were ended because
/// the table of locks was full, before the role is locked out.
const STRIKES: u32 = 3;

/// Limits that the watchdog lowers, and gives back. What an earlier watchdog lowered is found in the roles themselves.
pub(super) struct OwnerLimits {
    /// Sessions that were ended for writing since writes are refused.
    strikes: HashMap<String, u32>,
    /// Times that the table of locks was full of a role's locks, and when the first one of them was.
    lock_strikes: HashMap<String, (u32, Instant)>,
    /// Roles that are locked out because of their locks, and since when.
    locked_out: HashMap<String, Instant>,
    /// Roles of a crowd, and when that was last so.
    crowds: HashMap<String, Instant>,
    /// Whether some limit may be lower without a reason.
    stale: bool,
}

impl OwnerLimits {
    pub(super) fn new() -> Self {
        Self {
            strikes: HashMap::new(),
            lock_strikes: HashMap::new(),
            locked_out: HashMap::new(),
            crowds: HashMap::new(),
            stale: true,
        }
    }

    /// Counts a session that was ended for writing.
    pub(super) fn strike(&mut self, role: &str) {
        *self.strikes.entry(role.to_owned()).or_default() += 1;
    }

    /// Counts a time that the table of locks was full of this role's locks.
    pub(super) fn strike_for_locks(&mut self, role: &str) {
        let strikes = self.lock_strikes.entry(role.to_owned()).or_insert_with(|| (0, Instant::now()));
        strikes.0 += 1;
    }

    /// Writes are allowed again, or nothing is known of the cluster.
    pub(super) fn forget_strikes(&mut self) {
        self.strikes.clear();
        self.stale = true;
    }

    /// Keeps owners out who go on writing while that is refused, or fill the table of locks again and again.
    pub(super) async fn lock_out(&mut self, client: &Client, config: &WatchdogConfig) -> Result<(), ProvisionError> {
        self.lock_strikes.retain(|_, (_, since)| since.elapsed() < config.crowd_hold);
        let fillers: Vec<String> = self
            .lock_strikes
            .iter()
            .filter(|(_, (strikes, _))| *strikes >= STRIKES)
            .map(|(role, _)| role.clone())
            .collect();
        for role in fillers {
            store::connection_limit_put(client, &role, 0).await?;
            self.lock_strikes.remove(&role);
            tracing::warn!(
                "project.ref" = role,
                "the owner's role is locked out for a while: it filled the table of locks"
            );
            self.locked_out.insert(role, Instant::now());
        }
        let incorrigible: Vec<String> =
            self.strikes.iter().filter(|(_, strikes)| **strikes >= STRIKES).map(|(role, _)| role.clone()).collect();
        for role in incorrigible {
            store::connection_limit_put(client, &role, 0).await?;
            self.strikes.remove(&role);
            tracing::warn!("project.ref" = role, "the owner's role is locked out until writes are allowed again");
        }
        Ok(())
    }

    /// Lets each of these roles have only so many sessions for a while, so that the others do not come back at once.
    pub(super) async fn lower(
        &mut self,
        client: &Client,
        config: &WatchdogConfig,
        kept: &HashMap<String, i32>,
    ) -> Result<(), ProvisionError> {
        if kept.is_empty() {
            return Ok(());
        }
        let present = store::owner_limits(client, config, usual()).await?;
        for (role, kept) in kept {
            let limit = (*kept).max(1);
            // Nobody who is locked out gets in by this.
            if present.get(role).is_none_or(|present| *present > limit) {
                store::connection_limit_put(client, role, limit).await?;
                tracing::warn!(
                    "project.ref" = role,
                    limit,
                    "the owner's role may have only so many sessions for a while"
                );
            }
            self.crowds.insert(role.clone(), Instant::now());
        }
        Ok(())
    }

    /// Gives the usual limit back to roles that have no lower one for a reason.
    pub(super) async fn restore(
        &mut self,
        client: &Client,
        config: &WatchdogConfig,
        writes_refused: bool,
    ) -> Result<(), ProvisionError> {
        let before = self.crowds.len() + self.locked_out.len();
        self.crowds.retain(|_, since| since.elapsed() < config.crowd_hold);
        self.locked_out.retain(|_, since| since.elapsed() < config.crowd_hold);
        if !self.stale && self.crowds.len() + self.locked_out.len() == before {
            return Ok(());
        }
        self.stale = true;
        for (role, limit) in store::owner_limits(client, config, usual()).await? {
            let has_reason = match limit {
                0 => writes_refused || self.locked_out.contains_key(&role),
                _ => self.crowds.contains_key(&role),
            };
            if !has_reason {
                store::connection_limit_put(client, &role, usual()).await?;
            }
        }
        self.stale = false;
        Ok(())
    }
}

fn usual() -> i32 {
    ConnectionLimits::default().owner
}
