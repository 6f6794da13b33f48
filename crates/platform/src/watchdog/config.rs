//! What a session of a project may take.

use std::time::Duration;

use base::ProjectRef;
use procs::postgres::Backends;

use super::low_disk::DiskConfig;
use super::memory::MemoryConfig;

/// Limits that PostgreSQL either has not, or lets anybody switch off.
#[derive(Clone, Debug)]
pub struct WatchdogConfig {
    /// How often it looks; four times as often while writes are refused.
    pub interval: Duration,
    /// How long a cancelled statement may take to end before its session is ended.
    pub cancel_grace: Duration,
    /// Longest a statement runs.
    pub statement: Duration,
    /// Longest a transaction is open without a statement: it holds locks and keeps vacuum from cleaning up.
    pub idle_in_transaction: Duration,
    /// Longest a transaction is open, whatever it does.
    pub transaction: Duration,
    /// Longest that a worker of autovacuum's may run stored code of a project, all in all. To analyze a large table takes
    /// seconds. Then what it is at is cancelled, and the next time it is ended. A tenth of it where that was not enough
    /// twice within an hour.
    pub autovacuum_code: Duration,
    /// How long autovacuum may pause at a project's tables, all in all, before they are looked at: whether they ask for that. A
    /// tenth of it where that was so twice within an hour.
    pub autovacuum_pauses: Duration,
    /// How long all of autovacuum's workers may be at one project's tables before the youngest is ended, so that others have a turn.
    pub autovacuum_hoarding: Duration,
    /// How long autovacuum may write in one transaction for a project that may not, which is far longer than it does for
    /// itself.
    pub autovacuum_writes: Duration,
    /// Most locks of a session, of every kind. The cluster has one table for all (64 for each possible session).
    pub locks: i64,
    /// Most locks of a project's sessions together.
    pub project_locks: i64,
    /// Most sessions of a role; PostgreSQL refuses more than its connection limit by itself, where it has one.
    pub sessions: i64,
    /// Sessions that the services may open together; owners share what the server has besides.
    pub service_sessions: i64,
    /// How long a role keeps the lower connection limit that it got when owners together took more than their share.
    pub crowd_hold: Duration,
    /// PostgreSQL's processes, when it is ours: for what cannot be done by SQL any more.
    pub backends: Option<Backends>,
    /// The memory to guard, when PostgreSQL is ours.
    pub memory: Option<MemoryConfig>,
    /// Most bytes in temporary files of a project's sessions together; `temp_file_limit` is for each session.
    pub temporary_bytes: i64,
    /// Share of the notification queue (0 to 1) at which the sessions that hold it back are ended. Full it has 8 GB.
    pub notification_queue: f64,
    /// How long a session must have read nothing to be one of them.
    pub notification_stall: Duration,
    /// Bytes that a project's database may take on disk. While it is larger and grows, its writers are ended.
    pub quota_bytes: Option<i64>,
    /// How often the sizes are looked at.
    pub quota_interval: Duration,
    /// The disk to guard, when it is one of this machine.
    pub disk: Option<DiskConfig>,
    /// The only projects to look at; none for every role of the cluster that is named like a project's.
    pub only: Option<Vec<ProjectRef>>,
}

impl Default for WatchdogConfig {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            cancel_grace: Duration::from_secs(2),
            statement: Duration::from_secs(5 * 60),
            idle_in_transaction: Duration::from_secs(60),
            transaction: Duration::from_secs(15 * 60),
            autovacuum_code: Duration::from_secs(5 * 60),
            autovacuum_pauses: Duration::from_secs(60),
            autovacuum_hoarding: Duration::from_secs(5 * 60),
            autovacuum_writes: Duration::from_secs(15),
            locks: 2_000,
            project_locks: 4_000,
            sessions: 100,
            service_sessions: 60,
            crowd_hold: Duration::from_secs(5 * 60),
            backends: None,
            memory: None,
            temporary_bytes: 4 << 30,
            notification_queue: 0.05,
            notification_stall: Duration::from_secs(5),
            quota_bytes: None,
            quota_interval: Duration::from_secs(30),
            disk: None,
            only: None,
        }
    }
}
