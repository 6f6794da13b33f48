//! A connection that one exchange has to itself, and what becomes of it afterwards.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::{Idle, PoolInner, lock, trivial};
use crate::driver::{Connection, Ending, LongRows, NewUnit, UnitError, UnitReply};
use crate::error::Error;
use crate::exchange::{Exchange, Resets};
use crate::query::{Query, Rows};

/// How long an abandoned connection may take to become usable again before it is closed.
const SETTLE: Duration = Duration::from_secs(5);
/// How long an abandoned exchange may still run before it is cancelled.
const GRACE: Duration = Duration::from_millis(50);

/// A connection checked out by one exchange. However it is dropped, the connection goes back to the pool only when
/// its answers were read to the end and no transaction is open.
pub(crate) struct Lease {
    pub(super) connection: Option<Connection>,
    pub(super) opened: Instant,
    pub(super) pool: Arc<PoolInner>,
    pub(super) slot: Option<OwnedSemaphorePermit>,
    pub(super) in_flight: Option<oneshot::Receiver<UnitReply>>,
    /// An explicit transaction is open.
    pub(super) transaction: bool,
    /// Its settling has begun; when that is dropped (the runtime ends), the connection is closed.
    pub(super) settling: bool,
}

impl Lease {
    pub(super) async fn exchange(
        &mut self,
        exchange: &Exchange,
        ending: Ending,
        unnamed: bool,
    ) -> Result<UnitReply, Error> {
        let connection = self.connection.as_ref().ok_or(Error::Lost)?;
        self.in_flight = Some(self.pool.submit(connection, exchange, ending, unnamed)?);
        self.transaction = exchange.begin.is_some();
        self.reply().await
    }

    async fn reply(&mut self) -> Result<UnitReply, Error> {
        let Some(receiver) = &mut self.in_flight else { return Err(Error::Lost) };
        let reply = receiver.await.map_err(|_| Error::Lost);
        self.in_flight = None;
        let mut reply = reply?;
        // While a long row is handed on, the unit goes on.
        self.in_flight = reply.end.take();
        self.transaction = reply.transaction.unwrap_or(self.transaction);
        Ok(reply)
    }

    /// One statement of our own, in the open transaction.
    async fn finish(&mut self, sql: &str) -> Result<UnitReply, Error> {
        let connection = self.connection.as_ref().ok_or(Error::Lost)?;
        self.in_flight = Some(connection.submit_simple(sql)?);
        self.reply().await
    }

    /// Resets the session after an error that can come of what is left in it, although it was reset: the transaction began
    /// before, with the session's `default_transaction_read_only` (SQLSTATE 25006), and undid that when it failed.
    pub(super) async fn reset_after(&mut self, exchange: &Exchange, error: &Error) {
        if is_read_only(error) && exchange.resets != Resets::Nothing && !exchange.read_only && self.connection.is_some()
        {
            let reset = self.exchange(&trivial(Resets::Settings), Ending::Sync, false).await;
            if !reset.is_ok_and(|reply| reply.result.is_ok()) {
                self.connection = None;
            }
        }
    }

    /// Closes the connection where [`Lease::reset_after`] would be too late: its transaction is open.
    fn doubt(&mut self, error: &Error) {
        if is_read_only(error) {
            self.connection = None;
        }
    }

    /// The connection for good, with when it was opened and its place.
    pub(super) fn keep(mut self) -> Option<(Connection, Instant, OwnedSemaphorePermit)> {
        Some((self.connection.take()?, self.opened, self.slot.take()?))
    }

    /// Leaves a transaction that failed, or whose exchange did not get an answer.
    pub(super) async fn abort(&mut self) {
        let synced = match self.connection.as_ref().map(Connection::submit_sync) {
            Some(Ok(receiver)) => {
                self.in_flight = Some(receiver);
                self.reply().await.is_ok()
            }
            _ => false,
        };
        if !synced || self.transaction && self.finish("rollback").await.is_err() {
            // The connection is not in a known state: it must not be used again.
            self.connection = None;
        }
    }
}

impl Lease {
    /// The client hung up: lets a short statement end, cancels a long one, and only then gives the connection back.
    async fn settle(mut self) {
        let settled = tokio::time::timeout(SETTLE, async {
            if self.in_flight.is_some() && tokio::time::timeout(GRACE, self.reply()).await.is_err() {
                if let Some(connection) = &self.connection {
                    connection.cancel().await;
                }
                self.reply().await.ok();
            }
            if self.transaction {
                self.abort().await;
            }
        });
        if settled.await.is_err() {
            self.connection = None;
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let connection = self.connection.take();
        let handed_on = self.give_back(connection);
        if !handed_on {
            self.pool.leased.fetch_sub(1, Ordering::Relaxed);
            self.pool.freed.notify_one();
        }
    }
}

impl Lease {
    /// Puts the connection back, closes it, or lets it settle; true when a lease goes on with it.
    fn give_back(&mut self, connection: Option<Connection>) -> bool {
        let Some(connection) = connection else { return false };
        if self.pool.closed.load(Ordering::Relaxed) {
            return false;
        }
        let settled = self.in_flight.is_none() && !self.transaction;
        if settled {
            // Somebody may wait who found no idle connection to take the place of.
            if !self.pool.is_expired(self.opened) && !self.pool.budget.take_wanted() {
                lock(&self.pool.idle).push(Idle { connection, opened: self.opened, since: Instant::now() });
            }
            return false;
        }
        if self.settling || tokio::runtime::Handle::try_current().is_err() {
            return false;
        }
        let lease = Lease {
            connection: Some(connection),
            opened: self.opened,
            pool: self.pool.clone(),
            slot: self.slot.take(),
            in_flight: self.in_flight.take(),
            transaction: self.transaction,
            settling: true,
        };
        self.pool.tasks.spawn(lease.settle());
        true
    }
}

/// read_only_sql_transaction
fn is_read_only(error: &Error) -> bool {
    matches!(error, Error::Db(cause) if cause.code == "25006")
}

/// A transaction whose statements have run and whose end is not decided. Dropping it rolls back.
pub struct OpenTransaction {
    pub(super) lease: Lease,
    /// What prepared statements depend on, see [`Exchange::scope`].
    pub(super) scope: Arc<str>,
    /// A statement failed: nothing can be done any more but to roll back.
    pub(super) failed: bool,
}

impl OpenTransaction {
    /// Runs one more statement. After an error the transaction is lost: every further statement and the commit fail.
    pub async fn query(&mut self, query: &Query) -> Result<Rows, Error> {
        if self.failed {
            return Err(Error::Protocol("a statement in a transaction that failed"));
        }
        // Also when this is given up half-way.
        self.failed = true;
        let new = NewUnit {
            scope: &self.scope,
            queries: &[query],
            quiet: 0,
            ending: Ending::Flush,
            long_rows: LongRows::Keep(self.lease.pool.config.most_held),
            unnamed: false,
        };
        let connection = self.lease.connection.as_ref().ok_or(Error::Lost)?;
        self.lease.in_flight = Some(connection.submit(&new)?);
        let reply = self.lease.reply().await?;
        // The server says how things stand only behind a Sync.
        self.lease.transaction = true;
        let rows = self.lease.pool.result(reply.result).inspect_err(|error| self.lease.doubt(error))?;
        self.failed = false;
        Ok(rows.into_iter().next_back().unwrap_or_default())
    }

    /// Runs one last statement and commits, in one round trip. Where either fails nothing of the transaction stays.
    pub async fn query_and_commit(mut self, query: &Query) -> Result<Rows, Error> {
        if self.failed {
            return Err(Error::Protocol("a statement in a transaction that failed"));
        }
        let commit = Query { sql: "commit".into(), params: Vec::new() };
        let new = NewUnit {
            scope: &self.scope,
            queries: &[query, &commit],
            quiet: 0,
            // The server skips the commit where the statement fails.
            ending: Ending::Sync,
            long_rows: LongRows::Keep(self.lease.pool.config.most_held),
            unnamed: false,
        };
        let connection = self.lease.connection.as_ref().ok_or(Error::Lost)?;
        self.lease.in_flight = Some(connection.submit(&new)?);
        let reply = self.lease.reply().await?;
        let results = self.lease.pool.result(reply.result).inspect_err(|error| self.lease.doubt(error))?;
        Ok(results.into_iter().next().unwrap_or_default())
    }

    /// Commits; a deferred constraint may still fail.
    pub async fn commit(mut self) -> Result<(), Error> {
        if self.failed {
            return Err(Error::Protocol("a commit of a transaction that failed"));
        }
        let reply = self.lease.finish("commit").await?;
        match reply.result {
            Ok(_) => Ok(()),
            Err(UnitError::Db(cause)) if !cause.is_fatal() => Err(Error::Db(cause)),
            // Nobody knows whether it was done.
            Err(_) => Err(Error::Lost),
        }
    }

    /// Undoes everything.
    pub async fn rollback(mut self) -> Result<(), Error> {
        if self.failed {
            // The server skips everything up to a Sync.
            self.lease.abort().await;
            return Ok(());
        }
        self.lease.finish("rollback").await.map(drop)
    }
}
