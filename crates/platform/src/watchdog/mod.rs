//! What keeps one project's owner from harming the others while the cluster is shared: a watchdog over sessions, and a
//! guard over the disk.
//!
//! Limits like `statement_timeout` can be set by anyone who writes SQL, and the lock table, the notification queue, the
//! connections, the memory and the disk belong to the whole cluster. So the limits that count are enforced from outside,
//! by one session of the superuser. Only sessions of projects' roles are ever ended, and no text of a statement is ever
//! read.
//!
//! The server's connections add up to three parts: what the services may open ([`WatchdogConfig::service_sessions`]), what
//! the control plane opens, and the rest, which owners share. When they take more, those with most sessions lose the
//! ones beyond, and may have only what is left to them for a while.
//!
//! While the disk is nearly full, writes are refused three times: by the services, which ask the [`base::WriteGate`];
//! by PostgreSQL, whose transactions are read-only by default; and by the watchdog, which ends the sessions of those who
//! say otherwise, and locks out a role that keeps saying so until there is room again. On a disk that is full already,
//! PostgreSQL cannot be told (nor a role be locked out); the watchdog ends who writes all the same, and tries again.

mod autovacuum;
mod config;
mod half_open;
mod lock_sentry;
mod low_disk;
mod memory;
mod offence;
mod owner_limit;
mod store;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use base::ProjectRef;
use tokio::task::JoinSet;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tokio_util::sync::CancellationToken;

use crate::database;
use crate::provision::{ProvisionError, Provisioner};

use autovacuum::{AutovacuumWatch, Worker};
pub use config::WatchdogConfig;
use half_open::HalfOpenLogins;
use lock_sentry::LockSentry;
pub(crate) use low_disk::health_part;
pub use low_disk::{DiskConfig, DiskGuard, DiskSpace, DiskState, SpaceSource};
pub use memory::MemoryConfig;
pub use offence::{Action, Measure, Reason};
use offence::{Docket, Offence};
use owner_limit::OwnerLimits;

/// How often the roles are looked at too.
const SWEEP_INTERVAL: Duration = Duration::from_secs(30);
/// The longest that one look may take before its connection is given up.
const ROUND_DEADLINE: Duration = Duration::from_secs(10);
/// The longest pause after failures.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How long processes that were ended take to go.
const ENDS_WITHIN: Duration = Duration::from_secs(1);
/// Sessions ended at once because of the notification queue; then it is looked at again.
const QUEUE_HOLDERS_AT_ONCE: usize = 4;
/// Temporary bytes of a project while the disk is nearly full: reading can fill it, too.
const TEMPORARY_BYTES_WHEN_LOW: i64 = 64 << 20;
/// For each database so long passes at least between two looks at their sizes.
const MEASURE_EACH: Duration = Duration::from_millis(200);

/// Watches until it is told to stop.
pub struct Watchdog {
    provisioner: Provisioner,
    config: WatchdogConfig,
    disk: Option<DiskGuard>,
    client: Option<Client>,
    sentry: Option<LockSentry>,
    /// The table of locks was full at the last look.
    locks_are_full: bool,
    /// Since when processes are ended because nothing else helps.
    last_resort: Option<Instant>,
    docket: Docket,
    autovacuum: AutovacuumWatch,
    /// Looks at the tables of projects for which autovacuum was slow, and how many of its workers were ended.
    looks_at_tables: JoinSet<(String, usize)>,
    /// What the cluster was last told; none when that is not known.
    refusing: Option<bool>,
    /// What could not be done at the last try, so that it is logged once.
    unable: BTreeSet<&'static str>,
    limits: OwnerLimits,
    /// Sessions that owners may have together; none when that is not known.
    owner_share: Option<i64>,
    /// Sessions (pid and start) whose clients took nothing at any look since then.
    unread: HashMap<(i32, i64), Instant>,
    sizes: DatabaseSizes,
    over_quota: Vec<String>,
    half_open: HalfOpenLogins,
    measured: Option<Instant>,
    swept: Instant,
}

impl Watchdog {
    /// Connects to nothing yet. The guard of `config.disk` moves the provisioner's gate.
    pub fn new(provisioner: Provisioner, config: WatchdogConfig) -> Self {
        let disk = config.disk.clone().map(|disk| DiskGuard::new(disk, provisioner.write_gate().clone()));
        Self::with_disk(provisioner, config, disk)
    }

    /// As [`Watchdog::new`] with another guard than that of `config.disk`.
    pub fn with_disk(provisioner: Provisioner, config: WatchdogConfig, disk: Option<DiskGuard>) -> Self {
        Self {
            provisioner,
            config,
            disk,
            client: None,
            sentry: None,
            locks_are_full: false,
            last_resort: None,
            docket: Docket::default(),
            autovacuum: AutovacuumWatch::default(),
            looks_at_tables: JoinSet::new(),
            refusing: None,
            unable: BTreeSet::new(),
            limits: OwnerLimits::new(),
            owner_share: None,
            unread: HashMap::new(),
            sizes: DatabaseSizes::default(),
            over_quota: Vec::new(),
            half_open: HalfOpenLogins::default(),
            measured: None,
            swept: Instant::now(),
        }
    }

    /// Sizes of the databases as they were last measured, for metrics.
    pub fn sizes(&self) -> DatabaseSizes {
        self.sizes.clone()
    }

    /// The guard of the disk, for health checks.
    pub fn disk(&self) -> Option<DiskGuard> {
        self.disk.clone()
    }

    /// Looks at sessions and disk until `shutdown`. Failures are logged once each time they begin; the connection is
    /// then made anew. The disk is looked at also while PostgreSQL is away.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let disk = self.disk();
        let disk = async {
            if let Some(disk) = disk {
                disk.run(shutdown.clone()).await;
            }
        };
        tokio::join!(disk, self.watch_sessions(&shutdown));
    }

    async fn watch_sessions(&mut self, shutdown: &CancellationToken) {
        let mut failures = 0u32;
        loop {
            let looked = tokio::select! {
                () = shutdown.cancelled() => return,
                looked = tokio::time::timeout(ROUND_DEADLINE, self.round()) => looked,
            };
            let failure = match looked {
                Ok(Ok(_)) => None,
                Ok(Err(error)) => Some(error),
                Err(_) => Some(ProvisionError::Database("PostgreSQL does not answer".into())),
            };
            match failure {
                None if failures > 0 => {
                    failures = 0;
                    tracing::info!("the watchdog can look again");
                }
                None => {}
                Some(error) => {
                    // While the table of locks is full, nobody could connect anew.
                    if !is_out_of_shared_memory(&error) {
                        self.client = None;
                    }
                    if failures == 0 {
                        tracing::warn!(cause = ?error, "the watchdog cannot look");
                    }
                    failures = failures.saturating_add(1);
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(self.pause(failures)) => {}
                () = self.memory_exceeded(), if failures == 0 => {}
            }
        }
    }

    async fn memory_exceeded(&self) {
        match &self.config.memory {
            Some(memory) => memory.exceeded().await,
            None => std::future::pending().await,
        }
    }

    fn pause(&self, failures: u32) -> Duration {
        let urgent = self.refuses_writes() || self.locks_are_full;
        let usual = if urgent { self.config.interval / 4 } else { self.config.interval };
        usual.saturating_mul(1 << failures.min(4)).min(LONGEST_PAUSE.max(usual))
    }

    /// Looks at the sessions once, and says what it did.
    ///
    /// # Errors
    /// When PostgreSQL cannot be reached or refuses; the next round needs no preparation.
    pub async fn round(&mut self) -> Result<Vec<Action>, ProvisionError> {
        let client = match self.client.take().filter(|client| !client.is_closed()) {
            Some(client) => client,
            None => match self.connect().await {
                Err(error) if is_out_of_shared_memory(&error) => {
                    self.locks_are_full = true;
                    let actions = self.empty_locks().await;
                    return if actions.is_empty() { Err(error) } else { Ok(actions) };
                }
                connected => connected?,
            },
        };
        let mut actions = Vec::new();
        let mut looked = self.look(&client).await;
        self.locks_are_full = looked.as_ref().is_err_and(is_out_of_shared_memory);
        if self.locks_are_full {
            actions.extend(self.empty_locks().await);
            looked = self.look(&client).await;
        }
        match looked {
            Ok(more) => actions.extend(more),
            Err(error) => {
                // Nobody could connect anew while it is full.
                self.client = Some(client).filter(|_| is_out_of_shared_memory(&error));
                return if actions.is_empty() { Err(error) } else { Ok(actions) };
            }
        }
        self.last_resort = None;
        self.post_sentry(&client).await?;
        if self.swept.elapsed() >= SWEEP_INTERVAL {
            self.swept = Instant::now();
            if let Err(error) = self.provisioner.sweep_roles().await {
                tracing::warn!(cause = ?error, "the roles of projects could not be looked at");
            }
        }
        self.client = Some(client);
        Ok(actions)
    }

    /// Sees to it that there is a session that can empty the table of locks when it is full.
    async fn post_sentry(&mut self, client: &Client) -> Result<(), ProvisionError> {
        if self.sentry.as_ref().is_some_and(|sentry| !sentry.is_gone()) {
            return Ok(());
        }
        let posted = LockSentry::post(&self.provisioner, &self.config).await.map(|sentry| self.sentry = Some(sentry));
        self.note(client, "keep what it takes to empty the table of locks", posted)
    }

    /// Ends the sessions that hold most of the table of locks, and strikes each of their owners once who passed a limit.
    async fn empty_locks(&mut self) -> Vec<Action> {
        let sentry = self.sentry.take().filter(|sentry| !sentry.is_gone());
        let ended = match &sentry {
            Some(sentry) => Some(sentry.end_holders(&self.config).await),
            None => None,
        };
        let cause = match ended {
            Some(Ok(ended)) => {
                self.sentry = sentry;
                let owners = ended.iter().filter(|(action, beyond)| *beyond && action.role == action.project);
                for role in owners.map(|(action, _)| &action.role).collect::<BTreeSet<_>>() {
                    self.limits.strike_for_locks(role);
                }
                return ended.into_iter().map(|(action, _)| action).collect();
            }
            Some(Err(error)) => Some(error),
            None => None,
        };
        let thoroughly = match self.last_resort {
            None => false,
            Some(since) if since.elapsed() > ENDS_WITHIN => true,
            // They are on their way out.
            Some(_) => return Vec::new(),
        };
        self.last_resort.get_or_insert_with(Instant::now);
        let ended = lock_sentry::end_without_sql(&self.config, thoroughly);
        tracing::error!(?cause, processes = ended, "the table of locks is full: processes of all projects were ended");
        Vec::new()
    }

    async fn look(&mut self, client: &Client) -> Result<Vec<Action>, ProvisionError> {
        // None of what is written keeps the offenders from being looked for: on a full disk, nothing can be written.
        let refusing = self.refuses_writes();
        let told = self.refuse_writes(client, refusing).await;
        self.note(client, "tell PostgreSQL whether writes are allowed", told)?;
        let restored = self.limits.restore(client, &self.config, refusing).await;
        self.note(client, "give roles their usual limit back", restored)?;
        let measured = self.measure_databases(client).await;
        self.note(client, "measure the databases", measured)?;
        // Nobody knows yet whose they are.
        if self.config.only.is_none() {
            let ended = self.half_open.end(client).await.map_err(ProvisionError::from);
            self.note(client, "end a login that is not through", ended)?;
        }
        let ended = self.free_autovacuum(client).await;
        self.note(client, "end what autovacuum is kept by", ended)?;
        let usual = self.config.temporary_bytes;
        let situation = store::Situation {
            writes_refused: refusing,
            over_quota: &self.over_quota,
            temporary_bytes: if refusing { usual.min(TEMPORARY_BYTES_WHEN_LOW) } else { usual },
        };
        let mut offences = store::offenders(client, &self.config, &situation).await?;
        offences.extend(self.crowd(client).await?);
        offences.extend(self.memory_hogs(client).await?);
        offences.extend(self.notification_queue_holders(client).await?);
        // Only now: a look that failed has seen nobody, and nothing is over.
        self.docket.begin(&offences, Instant::now());
        let (mut actions, mut known) = (Vec::new(), HashSet::new());
        for offence in &offences {
            // One measure a session; a write of autovacuum's that is waited for is none.
            if offence.is_autovacuums_write() || known.insert(offence.pid) {
                let acted = self.act(client, offence).await.map(|action| actions.extend(action));
                self.note(client, "end a session", acted)?;
            }
        }
        let locked_out = self.limits.lock_out(client, &self.config).await;
        self.note(client, "lock a role out", locked_out)?;
        Ok(actions)
    }

    /// Ends autovacuum's work where it runs stored code for too long.
    async fn free_autovacuum(&mut self, client: &Client) -> Result<(), ProvisionError> {
        let workers = store::autovacuum_workers(client, &self.config).await?;
        let now = Instant::now();
        self.speed_autovacuum_up(&workers, now);
        if let Some(worker) = self.autovacuum.hoarded(&workers, self.config.autovacuum_hoarding, now) {
            store::session_measure_take(client, worker.pid, worker.backend_start, Measure::Ended).await?;
            tracing::warn!(
                "project.ref" = worker.project,
                worker.pid,
                "all of autovacuum was at this project for long"
            );
        }
        for (worker, measure) in self.autovacuum.overdue(workers, self.config.autovacuum_code, now) {
            store::session_measure_take(client, worker.pid, worker.backend_start, measure).await?;
            self.autovacuum.done(&worker, measure, now);
            tracing::warn!(
                "project.ref" = worker.project,
                worker.pid,
                ?measure,
                "autovacuum ran code of this project for too long"
            );
        }
        Ok(())
    }

    /// Looks for tables that ask for slow work where it took long, in tasks of their own.
    fn speed_autovacuum_up(&mut self, workers: &[Worker], now: Instant) {
        while let Some(looked) = self.looks_at_tables.try_join_next() {
            let Ok((project, workers)) = looked else { continue };
            if workers > 0 {
                tracing::warn!("project.ref" = project, workers, "tables made autovacuum slow");
            }
            self.autovacuum.looked(project, workers > 0, now);
        }
        for project in self.autovacuum.slow(workers, self.config.autovacuum_pauses, now) {
            let Ok(id) = ProjectRef::parse(&project) else { continue };
            let provisioner = self.provisioner.clone();
            self.looks_at_tables.spawn(async move {
                let ended = provisioner.take_storage_parameters(&id).await.unwrap_or_else(|error| {
                    tracing::warn!(project.r#ref = %id, cause = ?error, "its tables could not be looked at");
                    0
                });
                (project, ended)
            });
        }
    }

    fn refuses_writes(&self) -> bool {
        self.disk.as_ref().is_some_and(|disk| !disk.writes_allowed())
    }

    /// Lets the round go on without what failed, as long as there is a session to go on with.
    fn note(
        &mut self,
        client: &Client,
        what: &'static str,
        done: Result<(), ProvisionError>,
    ) -> Result<(), ProvisionError> {
        match done {
            Ok(()) => {
                self.unable.remove(what);
                Ok(())
            }
            Err(error) if client.is_closed() || is_out_of_shared_memory(&error) => Err(error),
            Err(error) => {
                if self.unable.insert(what) {
                    tracing::error!(cause = ?error, "the watchdog cannot {what}");
                }
                Ok(())
            }
        }
    }

    /// Owners' sessions beyond their share, whose roles cannot have them again for a while.
    async fn crowd(&mut self, client: &Client) -> Result<Vec<Offence>, ProvisionError> {
        let share = match self.owner_share {
            Some(share) => share,
            None => *self.owner_share.insert(owner_share(store::slots(client).await?, self.config.service_sessions)),
        };
        let crowd = store::crowd(client, &self.config, share).await?;
        let kept = crowd.iter().map(|(offence, kept)| (offence.role.clone(), i32::try_from(*kept).unwrap_or(i32::MAX)));
        let lowered = self.limits.lower(client, &self.config, &kept.collect()).await;
        self.note(client, "lower the limit of a role", lowered)?;
        Ok(crowd.into_iter().map(|(offence, _)| offence).collect())
    }

    /// Sessions that have to go because of their project's memory, or all projects'.
    async fn memory_hogs(&self, client: &Client) -> Result<Vec<Offence>, ProvisionError> {
        let Some(memory) = &self.config.memory else { return Ok(Vec::new()) };
        let Some(sizes) = memory.excess() else { return Ok(Vec::new()) };
        let mut sessions = HashMap::<i32, (Offence, u64)>::new();
        for (offence, process) in store::processes(client, &self.config).await? {
            let bytes = u32::try_from(process).ok().and_then(|process| sizes.get(&process)).copied().unwrap_or(0);
            sessions.entry(offence.pid).or_insert((offence, 0)).1 += bytes;
        }
        Ok(memory.offences(sessions.into_values().collect()))
    }

    /// A few of the sessions that hold the notification queue back, when it is too full.
    async fn notification_queue_holders(&mut self, client: &Client) -> Result<Vec<Offence>, ProvisionError> {
        if store::notification_queue(client).await? <= self.config.notification_queue {
            self.unread.clear();
            return Ok(Vec::new());
        }
        let mut holders = store::notification_queue_holders(client, &self.config).await?;
        let (before, now) = (std::mem::take(&mut self.unread), Instant::now());
        holders.retain(|holder| {
            if holder.since.is_some() {
                return true;
            }
            let key = (holder.pid, holder.backend_start);
            let first = before.get(&key).copied().unwrap_or(now);
            self.unread.insert(key, first);
            now.duration_since(first) >= self.config.notification_stall
        });
        holders.truncate(QUEUE_HOLDERS_AT_ONCE);
        Ok(holders)
    }

    async fn connect(&mut self) -> Result<Client, ProvisionError> {
        let client = self.provisioner.monitor().await?;
        store::session_prepare(&client).await?;
        if self.disk.is_some() {
            let exempt = store::writers_exempt(&client).await.map_err(ProvisionError::from);
            self.note(&client, "let the control plane write at all times", exempt)?;
        }
        // PostgreSQL may have been started anew, with other settings.
        self.refusing = None;
        self.owner_share = None;
        Ok(client)
    }

    /// Tells everybody whether writes are allowed, when that has changed: other processes first, which needs no room.
    async fn refuse_writes(&mut self, client: &Client, refuse: bool) -> Result<(), ProvisionError> {
        let Some(disk) = &self.disk else { return Ok(()) };
        if self.refusing == Some(refuse) {
            return Ok(());
        }
        if refuse {
            store::refusal_mark(client, true).await?;
        }
        let mut told = store::writes_refuse(client, refuse).await;
        if refuse && told.as_ref().is_err_and(|error| error.code() == Some(&SqlState::DISK_FULL)) {
            let disk = disk.clone();
            if tokio::task::spawn_blocking(move || disk.make_room()).await.unwrap_or(false) {
                told = store::writes_refuse(client, refuse).await;
            }
        }
        told?;
        if refuse {
            // The pool of the control plane can be older than its exemption.
            store::writers_renew(client).await?;
        } else {
            store::refusal_mark(client, false).await?;
            self.limits.forget_strikes();
        }
        self.refusing = Some(refuse);
        Ok(())
    }

    /// Finds the databases that are larger than allowed and grow.
    async fn measure_databases(&mut self, client: &Client) -> Result<(), ProvisionError> {
        let Some(quota) = self.config.quota_bytes else { return Ok(()) };
        // PostgreSQL looks at every file of every database: with many of them, less often.
        let databases = u32::try_from(self.sizes.get().len()).unwrap_or(u32::MAX);
        let interval = self.config.quota_interval.max(MEASURE_EACH * databases);
        if self.measured.is_some_and(|measured| measured.elapsed() < interval) {
            return Ok(());
        }
        let sizes = store::database_sizes(client, &self.config).await?;
        // An owner who deletes must be able to.
        let before = self.sizes.get();
        let grows = |name: &String, bytes: i64| before.get(name).is_none_or(|before| before.bytes < bytes);
        self.over_quota = sizes
            .iter()
            .filter(|(name, size)| size.bytes > quota && grows(name, size.bytes))
            .map(|(n, _)| n.clone())
            .collect();
        self.sizes.put(sizes);
        self.measured = Some(Instant::now());
        Ok(())
    }

    async fn act(&mut self, client: &Client, offence: &Offence) -> Result<Option<Action>, ProvisionError> {
        let patience = if offence.is_autovacuums_write() { self.config.autovacuum_writes } else { Duration::ZERO };
        let Some(step) = self.docket.decide(offence, Instant::now(), patience, self.config.cancel_grace) else {
            return Ok(None);
        };
        store::measure_take(client, offence, step.measure).await?;
        if !step.new {
            return Ok(None);
        }
        let Offence { pid, role, project, reason, .. } = offence.clone();
        let message = match step.measure {
            Measure::Cancelled => "a project's statement was cancelled",
            Measure::Ended => "a project's session was ended",
        };
        tracing::warn!("project.ref" = project, pid, role, reason = reason.as_str(), "{message}");
        // The services' own role is not counted: whoever writes through them is told so by them.
        if reason == Reason::WritesRefused && role == project {
            self.limits.strike(&role);
        }
        Ok(Some(Action { pid, role, project, reason, measure: step.measure }))
    }
}

/// Sessions that all owners together may have of a server with so many `slots`: what services and control plane leave, less
/// a tenth for logins that are not through yet, which belong to nobody.
fn owner_share(slots: i64, services: i64) -> i64 {
    let rest = slots - services - database::MOST_SESSIONS - slots / 10;
    let least = (slots / 8).max(1);
    if rest < least {
        tracing::warn!(
            slots,
            services,
            "the services may take nearly all connections of this server: lower their budget"
        );
    }
    rest.max(least)
}

/// What there is of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatabaseSize {
    /// Bytes on disk.
    pub bytes: i64,
    /// Transactions since the oldest whose id it still needs (`age(datfrozenxid)`). PostgreSQL looks after it before anything
    /// else from 200 million on, and takes no more writes at 2,100 million.
    pub transaction_age: i32,
}

/// What there is of databases by name, as it was last measured; clones share it.
#[derive(Clone, Debug, Default)]
pub struct DatabaseSizes(Arc<RwLock<Arc<HashMap<String, DatabaseSize>>>>);

impl DatabaseSizes {
    pub fn get(&self) -> Arc<HashMap<String, DatabaseSize>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn put(&self, sizes: HashMap<String, DatabaseSize>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(sizes);
    }
}

/// Whether a statement failed because the cluster's table of locks is full (SQLSTATE 53200).
fn is_out_of_shared_memory(error: &ProvisionError) -> bool {
    let ProvisionError::Database(cause) = error else { return false };
    let code = cause.downcast_ref::<tokio_postgres::Error>().and_then(tokio_postgres::Error::code);
    code == Some(&SqlState::OUT_OF_MEMORY)
}
