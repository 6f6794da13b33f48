//! The connections of one project: made on demand, checked out per exchange or shared by short ones, closed when idle.

mod durations;
mod lease;
mod tries;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, SemaphorePermit, oneshot};
use tokio_util::task::TaskTracker;

use crate::budget::{Budget, PoolUsage};
use crate::claims::SCHEMA_MOVED;
use crate::driver::{
    ConnectConfig, Connection, Ending, LongRows, NewUnit, STATEMENTS_PER_CONNECTION, UnitError, UnitReply,
};
use crate::error::Error;
use crate::exchange::{Exchange, Resets, Streams};
use crate::query::{Query, Rows};
use crate::turns::{self, Crowded, Turns};

use durations::Durations;
pub(crate) use lease::Lease;
pub use lease::OpenTransaction;
use tries::Tries;

/// Work that may wait on one shared connection before the next one is taken: the more reads are together, the more of them
/// share a transaction.
const TOGETHER: Duration = Duration::from_millis(1);
/// Work that may wait on one before reads get connections of their own, and how many reads that are at most.
const CROWD: Duration = Duration::from_millis(10);
const CROWD_READS: usize = 256;

/// How many connections a pool makes and how long it waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolConfig {
    /// Most connections of this pool.
    pub max_connections: usize,
    /// How many of them short reads may share; 0 switches sharing off.
    pub interleaved: usize,
    /// Most bytes of rows that are held in memory for one exchange; a longer result is refused (SQLSTATE 54000). What is
    /// streamed does not count. An exchange that commits with its message has committed all the same.
    pub most_held: usize,
    /// How long a request waits for a connection.
    pub acquire_timeout: Duration,
    /// Requests that may wait at once; further ones are refused with [`Error::Overloaded`].
    pub max_waiting: usize,
    /// Whether the server keeps named prepared statements (not behind a transaction pooler).
    pub prepared_statements: bool,
    /// How long a login that is refused is tried again, see [`Route`](crate::Route).
    pub login_patience: Duration,
    /// Age at which a connection is replaced, once it has nothing to do; None lets it live.
    pub max_lifetime: Option<Duration>,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            max_connections: 10,
            interleaved: 2,
            most_held: 128 * 1024 * 1024,
            acquire_timeout: Duration::from_secs(10),
            max_waiting: 1_000,
            prepared_statements: true,
            login_patience: Duration::ZERO,
            max_lifetime: None,
        }
    }
}

/// A pool of connections to one database as one role. Clones share it. With it the name that sessions show while they work
/// for this handle, see [`Pool::traced`].
#[derive(Clone)]
pub struct Pool(Arc<PoolInner>, pub(crate) Option<Arc<str>>);

struct Idle {
    connection: Connection,
    opened: Instant,
    since: Instant,
}

struct SharedConnection {
    connection: Arc<Connection>,
    opened: Instant,
    used: Instant,
    /// Its place among the pool's connections.
    _slot: OwnedSemaphorePermit,
}

#[derive(Default)]
struct Shared {
    connections: Vec<SharedConnection>,
    /// Another shared connection is being made.
    opening: bool,
}

pub(crate) struct PoolInner {
    connect: Arc<ConnectConfig>,
    config: PoolConfig,
    budget: Arc<Budget>,
    turns: Turns,
    tasks: TaskTracker,
    slots: Arc<Semaphore>,
    waiting: AtomicUsize,
    idle: Mutex<Vec<Idle>>,
    /// Connections that are checked out.
    leased: AtomicUsize,
    /// A connection became idle, or its place free.
    freed: Notify,
    shared: Mutex<Shared>,
    durations: Durations,
    created: Instant,
    /// Connections opened before this are replaced as soon as they have nothing to do; in microseconds after `created`.
    renewed: AtomicU64,
    closed: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    /// A pool without connections yet. Its background work runs on `tasks`.
    pub fn new(connect: ConnectConfig, config: PoolConfig, budget: Arc<Budget>, tasks: TaskTracker) -> Self {
        let inner = Arc::new(PoolInner {
            turns: Turns::new(&budget.neighbours, &connect.host, &connect.database),
            connect: Arc::new(connect),
            slots: Arc::new(Semaphore::new(config.max_connections.max(1))),
            config,
            budget: budget.clone(),
            tasks,
            waiting: AtomicUsize::new(0),
            idle: Mutex::default(),
            leased: AtomicUsize::new(0),
            freed: Notify::new(),
            shared: Mutex::default(),
            durations: Durations::default(),
            created: Instant::now(),
            renewed: AtomicU64::new(0),
            closed: AtomicBool::new(false),
        });
        budget.register(&inner);
        Self(inner, None)
    }

    /// Runs an exchange and commits it with the same message. Results are those of `exchange.queries`.
    ///
    /// A statement that the server lost or can no longer use is sent again; so is a read whose connection broke, and
    /// what a connection was given that had ended before.
    pub async fn run(&self, exchange: &Exchange) -> Result<Vec<Rows>, Error> {
        let mut tries = Tries::default();
        loop {
            let result = match exchange.begin {
                None => self.attempt(exchange, tries.stale).await,
                Some(_) => Box::pin(self.attempt_to_commit(exchange, tries.stale)).await,
            };
            match result {
                Err(error) if tries.allow(&error, exchange) => {}
                result => return result,
            }
        }
    }

    /// An exchange with a BEGIN, which a Sync does not end.
    async fn attempt_to_commit(&self, exchange: &Exchange, afresh: bool) -> Result<Vec<Rows>, Error> {
        let (rows, transaction) = self.attempt_begin(exchange, afresh).await?;
        transaction.commit().await?;
        Ok(rows)
    }

    /// `afresh` relies on nothing that is prepared, and shares no connection.
    async fn attempt(&self, exchange: &Exchange, afresh: bool) -> Result<Vec<Rows>, Error> {
        let _counted = self.0.turns.count();
        match self.0.turn().await? {
            None => self.attempt_now(exchange, afresh).await,
            // Only while others have work: boxed, so that a request that is alone does not carry the room for it.
            Some(turn) => Box::pin(turns::keep(turn, self.attempt_now(exchange, afresh))).await,
        }
    }

    async fn attempt_now(&self, exchange: &Exchange, afresh: bool) -> Result<Vec<Rows>, Error> {
        let main = exchange.queries.last().map(|query| &query.sql);
        let unshared = exchange.resets != Resets::Nothing && !exchange.joins;
        let alone = afresh || exchange.begin.is_some() || unshared || exchange.streams == Streams::Rows;
        let sharable = main.filter(|_| exchange.read_only && !alone && self.0.config.interleaved > 0);
        if let Some(usual) = sharable.and_then(|sql| self.0.durations.short(sql))
            && let Some(connection) = self.0.shared_connection(usual)
        {
            let reply = match connection.share(exchange) {
                Ok(receiver) => receiver.await.ok(),
                Err(_) => None,
            };
            match reply {
                Some(UnitReply { result: Err(UnitError::Requeue), .. }) | None => {}
                Some(reply) => return self.0.outcome(exchange, reply, 1),
            }
        }
        let mut lease = self.0.check_out().await?;
        let reply = lease.exchange(exchange, Ending::Sync, afresh).await?;
        let mut results = match self.0.outcome(exchange, reply, self.0.competitors()) {
            Ok(results) => results,
            Err(error) => {
                Box::pin(lease.reset_after(exchange, &error)).await;
                return Err(error);
            }
        };
        if let Some(long) = results.last_mut().and_then(|rows| rows.long.as_mut()) {
            long.hold(lease);
        }
        Ok(results)
    }

    /// Runs an exchange and leaves its transaction open, for a commit that depends on the results.
    pub async fn begin(&self, exchange: &Exchange) -> Result<(Vec<Rows>, OpenTransaction), Error> {
        let mut tries = Tries::default();
        loop {
            match self.attempt_begin(exchange, tries.stale).await {
                Err(error) if tries.allow(&error, exchange) => {}
                result => return result,
            }
        }
    }

    async fn attempt_begin(&self, exchange: &Exchange, afresh: bool) -> Result<(Vec<Rows>, OpenTransaction), Error> {
        // Only for the first exchange: who has a transaction open must be able to end it.
        let _counted = self.0.turns.count();
        match self.0.turn().await? {
            None => self.attempt_begin_now(exchange, afresh).await,
            Some(turn) => Box::pin(turns::keep(turn, self.attempt_begin_now(exchange, afresh))).await,
        }
    }

    async fn attempt_begin_now(
        &self,
        exchange: &Exchange,
        afresh: bool,
    ) -> Result<(Vec<Rows>, OpenTransaction), Error> {
        let mut lease = self.0.check_out().await?;
        let reply = lease.exchange(exchange, Ending::Flush, afresh).await?;
        match self.0.outcome(exchange, reply, self.0.competitors()) {
            Ok(rows) => Ok((rows, OpenTransaction { lease, scope: exchange.scope.clone(), failed: false })),
            Err(error) => {
                lease.abort().await;
                Box::pin(lease.reset_after(exchange, &error)).await;
                Err(error)
            }
        }
    }

    /// Whether the server answers a trivial statement as this pool's role.
    pub async fn ping(&self) -> Result<(), Error> {
        let exchange = trivial(Resets::Nothing);
        let mut lease = self.0.check_out().await?;
        let reply = lease.exchange(&exchange, Ending::Sync, false).await?;
        self.0.outcome(&exchange, reply, 1).map(drop)
    }

    /// Replaces every connection, those in use as soon as they are free: new ones see what has changed for their role
    /// and in the catalog.
    pub fn renew(&self) {
        let now = self.0.age_at(Instant::now());
        self.0.renewed.store(now, Ordering::Relaxed);
        self.0.close_expired();
    }

    /// Whether the other one is a clone of this.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Connections that are open and have nothing to do.
    pub fn available(&self) -> usize {
        let shared = lock(&self.0.shared).connections.iter().filter(|shared| shared.connection.load() == 0).count();
        shared + lock(&self.0.idle).len()
    }

    /// Requests that wait for a connection, or for their turn.
    pub fn waiting(&self) -> usize {
        self.0.waiting.load(Ordering::Relaxed)
    }

    /// Closes every connection, those in use as soon as they are free. What is still to be run gets connections for
    /// one use.
    pub fn retire(&self) {
        self.0.closed.store(true, Ordering::Relaxed);
        lock(&self.0.shared).connections.clear();
        lock(&self.0.idle).clear();
    }

    /// Closes every connection, those in use as soon as they are free, and refuses further work.
    pub fn close(&self) {
        self.0.closed.store(true, Ordering::Relaxed);
        self.0.slots.close();
        self.0.close_idle(None);
        lock(&self.0.shared).connections.clear();
        lock(&self.0.idle).clear();
    }
}

/// An exchange that asks for nothing.
fn trivial(resets: Resets) -> Exchange {
    let query = Query { sql: "select 1".into(), params: Vec::new() };
    Exchange {
        scope: "".into(),
        begin: None,
        setup: query.into(),
        queries: Vec::new(),
        read_only: true,
        resets,
        joins: false,
        streams: Streams::Nothing,
    }
}

/// How many reads of this length make so much work; one at least.
fn fitting(work: Duration, usual: Duration) -> usize {
    usize::try_from(work.as_micros() / usual.as_micros().max(20)).unwrap_or(usize::MAX).max(1)
}

impl PoolInner {
    /// A shared connection for a read that usually takes this long, if one is open and has room. The first use and a crowd
    /// start the making of another one.
    fn shared_connection(self: &Arc<Self>, usual: Duration) -> Option<Arc<Connection>> {
        let mut shared = lock(&self.shared);
        shared.connections.retain(|shared| shared.connection.is_open());
        let (now, together) = (Instant::now(), fitting(TOGETHER, usual));
        let mut best: Option<(bool, usize, usize)> = None;
        for (index, one) in shared.connections.iter().enumerate() {
            let load = one.connection.load();
            let stalls = load > 0 && one.connection.stalls(now);
            if best.is_none_or(|(stalled, least, _)| (stalls, load) < (stalled, least)) {
                best = Some((stalls, load, index));
            }
            if load < together && !stalls {
                break;
            }
        }
        let wanted = self.config.interleaved.min(self.config.max_connections.saturating_sub(1));
        if !shared.opening
            && shared.connections.len() < wanted
            && best.is_none_or(|(stalls, load, _)| stalls || load >= together)
        {
            shared.opening = true;
            let pool = self.clone();
            self.tasks.spawn(async move { pool.open_shared().await });
        }
        let (_, load, index) = best?;
        if load >= fitting(CROWD, usual).min(CROWD_READS) {
            return None;
        }
        let entry = shared.connections.get_mut(index)?;
        entry.used = now;
        Some(entry.connection.clone())
    }

    /// Gets a connection as any request does, waiting for its turn, and lets reads share it from then on: in a crowd that
    /// keeps all places taken, sharing would never begin if it did not wait, and is needed most.
    async fn open_shared(self: Arc<Self>) {
        let kept = self.check_out_clean().await.and_then(Lease::keep);
        let mut shared = lock(&self.shared);
        shared.opening = false;
        if let Some((connection, opened, slot)) = kept
            && !self.closed.load(Ordering::Relaxed)
        {
            connection.make_shared();
            let (connection, used) = (Arc::new(connection), Instant::now());
            shared.connections.push(SharedConnection { connection, opened, used, _slot: slot });
        }
    }

    /// A connection in which stored code has left nothing.
    async fn check_out_clean(self: &Arc<Self>) -> Option<Lease> {
        let mut lease = self.check_out().await.ok()?;
        let reset = lease.exchange(&trivial(Resets::Session), Ending::Sync, false).await.ok()?;
        reset.result.is_ok().then_some(lease)
    }

    async fn connect(&self, permit: OwnedSemaphorePermit) -> Result<Connection, Error> {
        let statements = if self.config.prepared_statements { STATEMENTS_PER_CONNECTION } else { 0 };
        let patience = self.config.login_patience;
        Connection::open(self.connect.clone(), statements, patience, &self.tasks, permit).await
    }

    async fn check_out(self: &Arc<Self>) -> Result<Lease, Error> {
        let slot = match self.slots.clone().try_acquire_owned() {
            Ok(slot) => slot,
            Err(_) => self.wait_for_slot().await?,
        };
        let (connection, opened) = self.obtain().await?;
        Ok(Lease {
            connection: Some(connection),
            opened,
            pool: self.clone(),
            slot: Some(slot),
            in_flight: None,
            transaction: false,
            settling: false,
        })
    }

    /// An idle connection, a new one, or the next of this pool that becomes idle. It counts as leased.
    async fn obtain(&self) -> Result<(Connection, Instant), Error> {
        let deadline = tokio::time::Instant::now() + self.config.acquire_timeout;
        loop {
            // Listens before it looks, so that nothing that becomes idle meanwhile is missed.
            let freed = self.freed.notified();
            let idle = lock(&self.idle).pop();
            if let Some(Idle { connection, opened, .. }) = idle {
                if connection.is_open() && !self.is_expired(opened) {
                    self.leased.fetch_add(1, Ordering::Relaxed);
                    return Ok((connection, opened));
                }
                continue;
            }
            let leased = self.leased.load(Ordering::Relaxed);
            let permit = match self.budget.try_acquire(leased) {
                Some(permit) => permit,
                // One of its own is as good: to take one from another pool, or even from itself, only moves the queue,
                // and opening it costs PostgreSQL more than many requests.
                None if leased > 0 => {
                    tokio::time::timeout_at(deadline, freed).await.map_err(|_| Error::AcquireTimeout)?;
                    continue;
                }
                None => Box::pin(self.budget.acquire(leased, self.config.acquire_timeout)).await?,
            };
            let leased = Leased::new(self);
            // Rare, and large: boxed, so that each request does not carry the room for it.
            let connection = Box::pin(self.connect(permit)).await?;
            leased.keep();
            return Ok((connection, Instant::now()));
        }
    }

    /// Whether a connection of this age is to be replaced.
    fn is_expired(&self, opened: Instant) -> bool {
        self.config.max_lifetime.is_some_and(|most| opened.elapsed() >= most)
            || self.age_at(opened) < self.renewed.load(Ordering::Relaxed)
    }

    /// The pool's age at that time, in microseconds.
    fn age_at(&self, time: Instant) -> u64 {
        u64::try_from(time.duration_since(self.created).as_micros()).unwrap_or(u64::MAX)
    }

    /// Closes connections that are to be replaced; units under way on shared ones end first.
    pub(crate) fn close_expired(&self) {
        lock(&self.idle).retain(|idle| !self.is_expired(idle.opened));
        lock(&self.shared).connections.retain(|shared| !self.is_expired(shared.opened));
    }

    /// What one needs to have work under way while other databases have some too.
    async fn turn(&self) -> Result<Option<SemaphorePermit<'_>>, Error> {
        match self.turns.try_take(&self.budget.neighbours) {
            Ok(turn) => Ok(turn),
            Err(Crowded) => {
                let _waiting = self.wait()?;
                Ok(Box::pin(self.turns.wait()).await)
            }
        }
    }

    async fn wait_for_slot(&self) -> Result<OwnedSemaphorePermit, Error> {
        let _waiting = self.wait()?;
        match tokio::time::timeout(self.config.acquire_timeout, self.slots.clone().acquire_owned()).await {
            Ok(Ok(slot)) => Ok(slot),
            Ok(Err(_)) => Err(Error::Lost),
            Err(_) => Err(Error::AcquireTimeout),
        }
    }

    /// A place among those who wait, until dropped: also when the request goes away while it waits.
    fn wait(&self) -> Result<Waiting<'_>, Error> {
        let waiting = Waiting(&self.waiting);
        match self.waiting.fetch_add(1, Ordering::Relaxed) >= self.config.max_waiting {
            true => Err(Error::Overloaded),
            false => Ok(waiting),
        }
    }

    fn submit(
        &self,
        connection: &Connection,
        exchange: &Exchange,
        ending: Ending,
        unnamed: bool,
    ) -> Result<oneshot::Receiver<UnitReply>, Error> {
        let statement = |sql: &&str| Query { sql: (*sql).into(), params: Vec::new() };
        let resets: Vec<Query> = exchange.resets.statements().iter().map(statement).collect();
        let mut queries: Vec<&Query> = Vec::with_capacity(exchange.queries.len() + resets.len() + 2);
        queries.extend(exchange.begin.as_ref());
        queries.extend(&resets);
        queries.push(&exchange.setup);
        let quiet = queries.len();
        queries.extend(&exchange.queries);
        let long_rows = match exchange.streams {
            Streams::LastValue if exchange.read_only && ending == Ending::Sync => {
                LongRows::Stream(self.config.most_held)
            }
            Streams::Rows if exchange.read_only && ending == Ending::Sync => LongRows::Join,
            _ => LongRows::Keep(self.config.most_held),
        };
        connection.submit(&NewUnit { scope: &exchange.scope, queries: &queries, quiet, ending, long_rows, unnamed })
    }

    /// Among how many statements of this pool PostgreSQL's processors are divided, roughly: it has two at least.
    fn competitors(&self) -> u32 {
        u32::try_from(self.leased.load(Ordering::Relaxed) / 2).unwrap_or(u32::MAX).max(1)
    }

    /// The results; `among` is how many shared the time that they took.
    fn outcome(&self, exchange: &Exchange, reply: UnitReply, among: u32) -> Result<Vec<Rows>, Error> {
        if exchange.read_only
            && let Some(main) = exchange.queries.last()
        {
            // What has long rows is not for a connection that others wait for.
            let long =
                reply.result.as_ref().is_ok_and(|results| results.last().is_some_and(|rows| rows.long.is_some()));
            match long {
                true => self.durations.note_long(&main.sql),
                false => self.durations.note(&main.sql, reply.elapsed / among),
            }
        }
        self.result(reply.result)
    }

    fn result(&self, result: Result<Vec<Rows>, UnitError>) -> Result<Vec<Rows>, Error> {
        result.map_err(|error| match error {
            UnitError::Db(cause) if cause.code == SCHEMA_MOVED => Error::SchemaMoved,
            // Whatever the session died of: where it ended may have been behind the commit.
            UnitError::Db(cause) if cause.is_fatal() => Error::Lost,
            UnitError::Db(cause) => Error::Db(cause),
            UnitError::Lost => Error::Lost,
            UnitError::Requeue => Error::NotStarted,
            UnitError::Protocol(what) => Error::Protocol(what),
        })
    }

    /// The database, and what is held there.
    pub(crate) fn usage(&self) -> (String, PoolUsage) {
        let usage = PoolUsage {
            leased: self.leased.load(Ordering::Relaxed),
            idle: lock(&self.idle).len(),
            shared: lock(&self.shared).connections.len(),
            waiting: self.waiting.load(Ordering::Relaxed),
        };
        (self.connect.database.clone(), usage)
    }

    /// Since when the pool's idlest connection has had nothing to do.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        let oldest = lock(&self.idle).iter().map(|idle| idle.since).min();
        let shared = lock(&self.shared);
        let unused = shared.connections.iter().filter(|shared| shared.connection.load() == 0);
        oldest.into_iter().chain(unused.map(|shared| shared.used)).min()
    }

    /// Closes what has been idle since `before`, or the one connection that has been idle longest.
    pub(crate) fn close_idle(&self, before: Option<Instant>) {
        let Some(before) = before.or_else(|| self.idle_since()) else { return };
        lock(&self.idle).retain(|idle| idle.since > before);
        lock(&self.shared).connections.retain(|shared| shared.used > before || shared.connection.load() > 0);
    }
}

/// Counts a connection as checked out, unless it cannot be made.
struct Leased<'a> {
    pool: &'a PoolInner,
    kept: bool,
}

impl<'a> Leased<'a> {
    fn new(pool: &'a PoolInner) -> Self {
        pool.leased.fetch_add(1, Ordering::Relaxed);
        Self { pool, kept: false }
    }

    fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Leased<'_> {
    fn drop(&mut self) {
        if !self.kept {
            self.pool.leased.fetch_sub(1, Ordering::Relaxed);
            self.pool.freed.notify_one();
        }
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
