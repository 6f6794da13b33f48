//! Ends what one project's sessions do to the others, and keeps the disk from filling up.
//!
//! Limits that PostgreSQL has are set where the roles are made. What anybody can do from SQL in spite of them (switch
//! timeouts off, fill the lock table or the notification queue that all databases share, write until the disk is full)
//! is looked for here once a second. Only sessions of projects' roles are ever ended.

mod disk;
mod store;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

use crate::provision::{ProvisionError, Provisioner};

use disk::{DiskGuard, DiskVerdict};
pub use store::Reason;

/// What a session of a project may take.
#[derive(Clone, Debug)]
pub struct WatchdogConfig {
    /// How often it looks.
    pub interval: Duration,
    /// Longest a statement runs.
    pub statement: Duration,
    /// Longest a transaction is open without a statement: it holds locks and keeps vacuum from cleaning up.
    pub idle_in_transaction: Duration,
    /// Most advisory locks of a session. The lock table is shared by the cluster.
    pub advisory_locks: i64,
    /// Most locks of a session, of every kind.
    pub locks: i64,
    /// Share of the notification queue (0 to 1) at which the sessions that hold it back are ended.
    pub notification_queue: f64,
    pub disk: Option<DiskConfig>,
}

impl Default for WatchdogConfig {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            statement: Duration::from_secs(300),
            idle_in_transaction: Duration::from_secs(60),
            advisory_locks: 2_000,
            locks: 6_000,
            notification_queue: 0.25,
            disk: None,
        }
    }
}

/// The disk that PostgreSQL writes to, when it is one of this machine.
#[derive(Clone, Debug)]
pub struct DiskConfig {
    /// A folder on it, where the ballast file is kept.
    pub data_folder: PathBuf,
    /// Below so many free bytes, projects become read-only. They can write again half as much above it.
    pub low_bytes: u64,
    /// Size of a file that is given up when the disk runs full all the same: a full disk makes PostgreSQL panic.
    pub ballast_bytes: u64,
}

impl DiskConfig {
    /// The sizes for an ordinary server.
    pub fn new(data_folder: PathBuf) -> Self {
        Self { data_folder, low_bytes: 1 << 30, ballast_bytes: 128 << 20 }
    }
}

/// A session that was ended, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    pub pid: i32,
    pub role: String,
    pub reason: Reason,
}

/// Every so many rounds, the roles are looked at too.
const ROUNDS_PER_SWEEP: u64 = 30;

/// Watches until it is told to stop.
pub struct Watchdog {
    provisioner: Provisioner,
    config: WatchdogConfig,
    disk: Option<DiskGuard>,
    client: Option<Client>,
    rounds: u64,
    /// Rounds in a row in which the notification queue was too full.
    queue_full_rounds: u32,
}

impl Watchdog {
    pub fn new(provisioner: Provisioner, config: WatchdogConfig) -> Self {
        let disk = config.disk.clone().map(|disk| DiskGuard::new(disk, provisioner.write_gate().clone()));
        Self { provisioner, config, disk, client: None, rounds: 0, queue_full_rounds: 0 }
    }

    /// Looks at everything once in each interval. A failure is logged and the connection made anew.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut interval = tokio::time::interval(self.config.interval);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = interval.tick() => {}
            }
            if let Err(error) = self.round().await {
                tracing::warn!(cause = ?error, "the watchdog could not look");
                self.client = None;
            }
        }
    }

    /// Looks once, and says which sessions it ended.
    pub async fn round(&mut self) -> Result<Vec<Ended>, ProvisionError> {
        if self.client.as_ref().is_none_or(Client::is_closed) {
            self.client = Some(self.provisioner.monitor().await?);
        }
        let Some(client) = &self.client else { return Ok(Vec::new()) };
        let mut ended = store::sessions_end(client, &self.config).await?;

        if store::notification_queue(client).await? > self.config.notification_queue {
            self.queue_full_rounds += 1;
            // First those that cannot be reading it; when that was not enough, whoever listens or might.
            ended.extend(store::queue_holders_end(client, self.queue_full_rounds > 3).await?);
        } else {
            self.queue_full_rounds = 0;
        }

        if let Some(disk) = &mut self.disk {
            match disk.look().await {
                DiskVerdict::Enough => {}
                DiskVerdict::BecameLow => {
                    let databases = store::databases_read_only(client, true).await?;
                    ended.extend(store::all_sessions_end(client).await?);
                    tracing::error!(databases, "the disk is nearly full: projects are read-only");
                }
                DiskVerdict::StillLow => {
                    store::databases_read_only(client, true).await?;
                    // Anybody can switch read-only off for a session of their own.
                    ended.extend(store::writers_end(client).await?);
                }
                DiskVerdict::Recovered => {
                    let databases = store::databases_read_only(client, false).await?;
                    if databases > 0 {
                        // Sessions keep the setting they began with.
                        store::all_sessions_end(client).await?;
                        tracing::info!(databases, "there is room on the disk again: projects can write");
                    }
                    disk.recovered();
                }
            }
        }
        for session in &ended {
            tracing::warn!(
                pid = session.pid, role = session.role, reason = session.reason.as_str(),
                "a session of a project was ended"
            );
        }
        self.rounds += 1;
        if self.rounds.is_multiple_of(ROUNDS_PER_SWEEP) {
            self.provisioner.sweep_roles().await?;
        }
        Ok(ended)
    }
}
