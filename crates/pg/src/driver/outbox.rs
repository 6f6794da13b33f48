//! What waits to be sent on one connection, encoded.
//!
//! On a shared connection, reads whose claims statements are the same become one unit: one claims statement, one
//! transaction, one Sync for all of them. PostgreSQL takes a snapshot for each statement, so that each sees what was
//! committed before it ran. When one fails, those behind it were not run and are sent again alone.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use bytes::{BufMut, BytesMut};
use postgres_protocol::IsNull;
use postgres_protocol::message::frontend;
use tokio::sync::oneshot;

use super::statements::{Send, StatementKey, Statements};
use super::unit::{Ending, LongRows, Member, NewUnit, Unit, UnitReply};
use crate::error::Error;
use crate::exchange::Exchange;
use crate::query::Query;

/// Reads that become one unit, at most: the last of them waits for all.
const MOST_MEMBERS: usize = 64;

pub(super) struct Outbox {
    statements: Statements,
    /// In the order in which they came.
    waiting: Vec<Waiting>,
    /// Buffers that were sent, for reuse.
    spare: Vec<BytesMut>,
}

/// A unit that was not sent yet.
struct Waiting {
    bytes: BytesMut,
    unit: Unit,
    ending: Ending,
    /// Role and search path, and the claims statement, of those that may join.
    open: Option<(Arc<str>, Arc<Query>)>,
}

impl Outbox {
    pub(super) fn new(statements: usize) -> Self {
        Self { statements: Statements::new(statements), waiting: Vec::new(), spare: Vec::new() }
    }

    pub(super) fn statements(&mut self) -> &mut Statements {
        &mut self.statements
    }

    /// Requests that were not sent yet.
    pub(super) fn load(&self) -> usize {
        self.waiting.iter().map(|waiting| waiting.unit.members.len()).sum()
    }

    /// A unit for one request.
    pub(super) fn push(&mut self, new: &NewUnit<'_>, reply: oneshot::Sender<UnitReply>) -> Result<(), Error> {
        let unit = Unit::new(new.quiet, new.ending, new.long_rows, false);
        let mut waiting = self.start(unit, new.ending, None);
        let wanted = new.queries.len() - new.quiet;
        for query in new.queries {
            if let Err(error) = self.add(&mut waiting, new.scope, query, new.unnamed) {
                self.withdraw(&waiting.unit);
                return Err(error);
            }
        }
        waiting.unit.members.push_back(Member::new(reply, wanted));
        self.waiting.push(waiting);
        Ok(())
    }

    /// One statement of ours without parameters, for which nothing is prepared: stored code may have dropped what was.
    pub(super) fn push_simple(&mut self, sql: &str, reply: oneshot::Sender<UnitReply>) -> Result<(), Error> {
        let mut waiting = self.start(Unit::new(1, Ending::Query, LongRows::Keep(0), false), Ending::Query, None);
        frontend::query(sql, &mut waiting.bytes).map_err(|_| Error::Protocol("a statement with a NUL byte"))?;
        waiting.unit.members.push_back(Member::new(reply, 0));
        self.waiting.push(waiting);
        Ok(())
    }

    /// A read, in a unit that already waits if there is one with the same claims statement.
    pub(super) fn join(&mut self, exchange: &Exchange, reply: oneshot::Sender<UnitReply>) -> Result<(), Error> {
        let found = self.waiting.iter().rposition(|waiting| waiting.lets_join(exchange));
        let mut waiting = match found {
            Some(at) => self.waiting.swap_remove(at),
            None => {
                let unit = Unit::new(1, Ending::Sync, LongRows::Requeue, true);
                let open = exchange.joins.then(|| (exchange.scope.clone(), exchange.setup.clone()));
                let mut waiting = self.start(unit, Ending::Sync, open);
                self.add(&mut waiting, &exchange.scope, &exchange.setup, false)?;
                waiting
            }
        };
        let (bytes, parses, bound) = (waiting.bytes.len(), waiting.unit.parses.len(), waiting.unit.bound.len());
        let mut added = Ok(());
        for query in &exchange.queries {
            added = added.and_then(|()| self.add(&mut waiting, &exchange.scope, query, false));
        }
        if added.is_ok() {
            waiting.unit.members.push_back(Member::new(reply, exchange.queries.len()));
        } else {
            // Nothing of it may be left behind in the unit of others.
            waiting.bytes.truncate(bytes);
            waiting.unit.bound.truncate(bound);
            for key in waiting.unit.parses.drain(parses..).flatten() {
                self.statements.parsed(&key, false);
            }
        }
        if waiting.unit.members.is_empty() {
            self.withdraw(&waiting.unit);
        } else {
            self.waiting.push(waiting);
        }
        added
    }

    /// Forgets what a unit that is not sent would have prepared.
    fn withdraw(&mut self, unit: &Unit) {
        for key in unit.parses.iter().flatten() {
            self.statements.parsed(key, false);
        }
    }

    fn start(&mut self, unit: Unit, ending: Ending, open: Option<(Arc<str>, Arc<Query>)>) -> Waiting {
        let bytes = self.spare.pop().unwrap_or_else(|| BytesMut::with_capacity(4096));
        Waiting { bytes, unit, ending, open }
    }

    /// Appends one statement. When it cannot be encoded, nothing of it is left behind.
    fn add(&mut self, waiting: &mut Waiting, scope: &Arc<str>, query: &Query, unnamed: bool) -> Result<(), Error> {
        let before = waiting.bytes.len();
        let key = StatementKey { scope: scope.clone(), sql: query.sql.clone() };
        let send = if unnamed { Send::Unnamed } else { self.statements.send(&key, &waiting.unit.parses) };
        let statement = waiting.unit.parses.len() + waiting.unit.bound.len();
        let encoded = encode(send, query, &mut waiting.bytes);
        match (encoded, send) {
            (Ok(()), Send::Unnamed) => waiting.unit.parses.push_back(None),
            (Ok(()), Send::Prepare(_)) => waiting.unit.parses.push_back(Some(key)),
            (Ok(()), Send::Bind(_)) => waiting.unit.bound.push((statement, key)),
            (Err(_), _) => {
                waiting.bytes.truncate(before);
                if matches!(send, Send::Prepare(_)) {
                    self.statements.parsed(&key, false);
                }
                return Err(Error::Protocol("a statement with a NUL byte or too many parameters"));
            }
        }
        Ok(())
    }

    /// Moves everything to `out` and to the units that were sent.
    pub(super) fn flush(&mut self, out: &mut BytesMut, sent: &mut VecDeque<Unit>) {
        if self.waiting.is_empty() {
            return;
        }
        // In front of all units: behind a failing statement the server would skip it.
        for number in self.statements.take_closing() {
            // A name of ours has no NUL.
            frontend::close(b'S', StatementName::new(number).as_str(), out).ok();
        }
        let now = Instant::now();
        for mut waiting in self.waiting.drain(..) {
            match waiting.ending {
                Ending::Sync => frontend::sync(&mut waiting.bytes),
                Ending::Flush => frontend::flush(&mut waiting.bytes),
                Ending::Query => {}
            }
            if out.is_empty() {
                std::mem::swap(out, &mut waiting.bytes);
            } else {
                out.extend_from_slice(&waiting.bytes);
                waiting.bytes.clear();
            }
            if self.spare.len() < 2 && waiting.bytes.capacity() <= 64 * 1024 {
                self.spare.push(waiting.bytes);
            }
            waiting.unit.begin(now);
            sent.push_back(waiting.unit);
        }
    }

    /// Takes what was not sent back, and forgets the statements it would have prepared.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Unit> {
        let units: Vec<Unit> = self.waiting.drain(..).map(|waiting| waiting.unit).collect();
        units.iter().for_each(|unit| self.withdraw(unit));
        units.into_iter()
    }
}

impl Waiting {
    fn lets_join(&self, exchange: &Exchange) -> bool {
        let Some((scope, setup)) = self.open.as_ref().filter(|_| exchange.joins) else { return false };
        self.unit.members.len() < MOST_MEMBERS
            && *scope == exchange.scope
            && (Arc::ptr_eq(setup, &exchange.setup) || **setup == *exchange.setup)
    }
}

fn encode(send: Send, query: &Query, out: &mut BytesMut) -> io::Result<()> {
    match send {
        Send::Unnamed => {
            frontend::parse("", &query.sql, None, out)?;
            bind("", query, out)?;
        }
        Send::Prepare(number) => {
            let name = StatementName::new(number);
            frontend::parse(name.as_str(), &query.sql, None, out)?;
            bind(name.as_str(), query, out)?;
        }
        Send::Bind(number) => bind(StatementName::new(number).as_str(), query, out)?,
    }
    frontend::execute("", 0, out)
}

/// `s` and the statement's number, without an allocation.
struct StatementName {
    digits: [u8; 11],
    start: usize,
}

impl StatementName {
    fn new(mut number: u32) -> Self {
        let mut digits = [b's'; 11];
        let mut start = digits.len();
        loop {
            start -= 1;
            digits[start] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                return Self { digits, start: start - 1 };
            }
        }
    }

    fn as_str(&self) -> &str {
        // Digits and an `s` are UTF-8.
        std::str::from_utf8(&self.digits[self.start..]).unwrap_or_default()
    }
}

fn bind(statement: &str, query: &Query, out: &mut BytesMut) -> io::Result<()> {
    let value = |param: &Option<bytes::Bytes>, out: &mut BytesMut| match param {
        Some(text) => {
            out.put_slice(text);
            Ok(IsNull::No)
        }
        None => Ok(IsNull::Yes),
    };
    // No parameter formats: all text. One result format: all binary.
    frontend::bind("", statement, None, &query.params, value, Some(1), out)
        .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_numbered() {
        for number in [0, 7, 10, 4_294_967_295] {
            assert_eq!(StatementName::new(number).as_str(), format!("s{number}"));
        }
    }
}
