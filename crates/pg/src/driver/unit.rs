//! A unit: what goes to PostgreSQL up to one Sync or Flush, and what came back so far. A unit of an exclusive connection
//! serves one request; on a shared one, reads of many requests that act for the same caller may be one unit.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::Message;
use tokio::sync::oneshot;

use super::long_row::{JoinedRows, LongRowSender};
use super::statements::{StatementKey, Statements};
use crate::error::DbError;
use crate::exchange::joined;
use crate::query::{Query, Row, Rows};

/// How a unit ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// With Sync: committed before the result is seen.
    Sync,
    /// With Flush: the transaction stays open until a second unit decides.
    Flush,
    /// By itself: it is one simple query.
    Query,
}

/// What to do with a row that is too long to be held in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LongRows {
    /// Hold it all the same, because nothing may be answered before the commit; not more than so many bytes of rows
    /// together.
    Keep(usize),
    /// Hand its last value on piece by piece. Of rows that are not long, not more than so many bytes together.
    Stream(usize),
    /// Hand the rows on as one array, whether they are long or not.
    Join,
    /// Drop it, and let the requester ask again on a connection of its own.
    Requeue,
}

/// What an exclusive connection is to do. Every statement's results are kept but those of the first `quiet`.
pub(crate) struct NewUnit<'a> {
    pub(crate) scope: &'a Arc<str>,
    pub(crate) queries: &'a [&'a Query],
    /// How many leading statements' results nobody wants (BEGIN, the claims statement).
    pub(crate) quiet: usize,
    pub(crate) ending: Ending,
    pub(crate) long_rows: LongRows,
    /// Parse every statement anew, whatever is prepared: stored code of others may drop that again and again.
    pub(crate) unnamed: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum UnitError {
    Db(Box<DbError>),
    /// The connection broke.
    Lost,
    /// Nothing was answered, because something else on the shared connection failed or took long, or the server said
    /// goodbye before it began; ask elsewhere.
    Requeue,
    Protocol(&'static str),
}

#[derive(Debug)]
pub(crate) struct UnitReply {
    pub(crate) result: Result<Vec<Rows>, UnitError>,
    /// How long PostgreSQL worked on these statements.
    pub(crate) elapsed: Duration,
    /// The unit goes on, because a long row is being handed on; its end comes here.
    pub(crate) end: Option<oneshot::Receiver<UnitReply>>,
    /// Whether a transaction is open now (or one that failed); None while the server did not say.
    pub(crate) transaction: Option<bool>,
}

/// The statements of one request in a unit.
pub(super) struct Member {
    /// None when the requester was answered already.
    reply: Option<oneshot::Sender<UnitReply>>,
    expected: usize,
    results: Vec<Rows>,
}

impl Member {
    pub(super) fn new(reply: oneshot::Sender<UnitReply>, expected: usize) -> Self {
        Self { reply: Some(reply), expected, results: Vec::with_capacity(expected) }
    }

    /// Tells the requester to ask elsewhere.
    pub(super) fn requeue(&mut self) {
        self.answer(Err(UnitError::Requeue), Duration::ZERO, None);
    }

    fn answer(&mut self, result: Result<Vec<Rows>, UnitError>, elapsed: Duration, transaction: Option<bool>) {
        if let Some(reply) = self.reply.take() {
            // The requester may be gone; the answer was read to its end all the same.
            reply.send(UnitReply { result, elapsed, end: None, transaction }).ok();
        }
    }
}

pub(super) struct Unit {
    /// Leading statements whose results nobody wants.
    quiet: usize,
    ending: Ending,
    pub(super) long_rows: LongRows,
    joined: Option<JoinedRows>,
    /// Answers members as soon as their own results are there, which only reads allow.
    early: bool,
    /// The Parse messages sent, in order; `None` for unnamed ones.
    pub(super) parses: VecDeque<Option<StatementKey>>,
    /// Named statements that were bound without a Parse, and which of the unit's statements each is: to forget them when
    /// the server lost them.
    pub(super) bound: Vec<(usize, StatementKey)>,
    /// Statements that the server bound.
    binds: usize,
    /// Bytes of the rows that are held.
    held: usize,
    /// Since when PostgreSQL has worked on the unit.
    started: Instant,
    /// Since when, as far as is known, it has worked on the current member.
    pub(super) progressed: Instant,
    /// Members that the unit had when it was sent.
    shares: u32,
    pub(super) members: VecDeque<Member>,
    /// Statements that were completed, of those of the unit.
    completed: usize,
    current: Rows,
    error: Option<UnitError>,
    transaction: Option<bool>,
    /// Nothing came back for the unit yet.
    untouched: bool,
    /// The session was ended instead of an answer.
    farewell: Option<Farewell>,
}

/// Who ended a session. PostgreSQL says goodbye before what it executes next, a pooler knows nothing of what was executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Farewell {
    Server,
    Pooler,
}

impl Farewell {
    pub(super) fn of(error: &DbError) -> Option<Self> {
        error.is_fatal().then_some(if error.by_pooler { Self::Pooler } else { Self::Server })
    }
}

/// What a message means for the unit at the head.
pub(super) enum Progress {
    Goes,
    Finished,
}

impl Unit {
    pub(super) fn new(quiet: usize, ending: Ending, long_rows: LongRows, early: bool) -> Self {
        let now = Instant::now();
        Self {
            quiet,
            ending,
            long_rows,
            joined: None,
            early,
            parses: VecDeque::new(),
            bound: Vec::new(),
            binds: 0,
            held: 0,
            started: now,
            progressed: now,
            shares: 1,
            members: VecDeque::with_capacity(1),
            completed: 0,
            current: Rows::default(),
            error: None,
            transaction: None,
            untouched: true,
            farewell: None,
        }
    }

    /// PostgreSQL begins to work on the unit.
    pub(super) fn begin(&mut self, now: Instant) {
        self.started = now;
        self.progressed = now;
        self.shares = u32::try_from(self.members.len()).unwrap_or(u32::MAX).max(1);
    }

    /// Whether the results of the statement under way are wanted.
    pub(super) fn wants_rows(&self) -> bool {
        self.completed >= self.quiet
    }

    pub(super) fn receive(&mut self, message: Message, statements: &mut Statements) -> io::Result<Progress> {
        // The first answer to a unit is to its first message, and comes before anything is executed.
        self.untouched &= matches!(
            message,
            Message::ErrorResponse(_)
                | Message::NoticeResponse(_)
                | Message::NotificationResponse(_)
                | Message::ParameterStatus(_)
        );
        match message {
            Message::DataRow(body) if self.wants_rows() => {
                let columns = body.ranges().collect()?;
                self.held += body.buffer_bytes().len() + size_of::<Row>();
                let row = Row::new(body.buffer_bytes().clone(), columns);
                if self.long_rows == LongRows::Join && self.current_is_last() {
                    self.join(row);
                } else {
                    self.current.rows.push(row);
                }
            }
            Message::CommandComplete(body) => return self.complete(body.tag()?),
            Message::ParseComplete => {
                if let Some(Some(key)) = self.parses.pop_front() {
                    statements.parsed(&key, true);
                }
            }
            Message::BindComplete => self.binds += 1,
            Message::ErrorResponse(body) => return Ok(self.fail(DbError::read(body.fields())?, statements)),
            Message::ReadyForQuery(body) => {
                self.transaction = Some(body.status() != b'I');
                return Ok(Progress::Finished);
            }
            Message::CopyInResponse(_) | Message::CopyOutResponse(_) => {
                self.error = Some(UnitError::Protocol("COPY is not possible here"));
            }
            _ => {}
        }
        Ok(Progress::Goes)
    }

    /// Whether the statement under way is the last of its member.
    fn current_is_last(&self) -> bool {
        self.members.front().is_some_and(|member| member.results.len() + 1 >= member.expected) || self.joined.is_some()
    }

    /// A row of an array; the first one brings the array's length.
    fn join(&mut self, row: Row) {
        let json = row.bytes(joined::JSON).unwrap_or_default();
        let first = self.joined.is_none();
        if first {
            let number = |column| row.int(column).and_then(|number| usize::try_from(number).ok()).unwrap_or(0);
            let length = JoinedRows::length(number(joined::ROWS), number(joined::BYTES));
            let sender = self.begin_long_row(row, length);
            self.joined = Some(JoinedRows::new(sender));
        }
        if let Some(joined) = &mut self.joined {
            joined.push(&json, first);
        }
    }

    /// Longest row that can still be taken, in bytes, if there is such a limit.
    pub(super) fn room(&self) -> Option<usize> {
        match self.long_rows {
            LongRows::Keep(most) => Some(most.saturating_sub(self.held)),
            LongRows::Stream(most) => (self.held >= most).then_some(0),
            LongRows::Join | LongRows::Requeue => None,
        }
    }

    /// Its rows are longer than may be held: what there is of them is dropped. The server does not know, and goes on.
    pub(super) fn overflow(&mut self) {
        self.error.get_or_insert_with(|| UnitError::Db(Box::new(DbError::result_too_long())));
        self.current.rows = Vec::new();
        self.members.iter_mut().flat_map(|member| &mut member.results).for_each(|rows| rows.rows = Vec::new());
    }

    /// Hands on rows that were joined. Pending while the client takes none.
    pub(super) fn poll_joined(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.joined.as_mut().map_or(Poll::Ready(()), |joined| joined.poll_forward(cx))
    }

    /// A statement failed.
    pub(super) fn fail(&mut self, mut error: DbError, statements: &mut Statements) -> Progress {
        for key in self.parses.drain(..).flatten() {
            statements.parsed(&key, false);
        }
        if error.code == LOST_STATEMENT {
            // DEALLOCATE ALL or DISCARD ALL: the others are lost too.
            statements.forget_all();
            error.stale = true;
        } else if is_stale_statement(&error) {
            for (_, key) in self.bound.drain(..) {
                statements.forget(&key);
            }
            error.stale = true;
        } else if let Some(key) = self.revalidated(&error) {
            statements.forget(key);
            error.stale = true;
        }
        self.joined = None;
        // An error at commit comes after the results; the first error is the cause of any later one.
        self.farewell = self.farewell.or(Farewell::of(&error));
        let not_begun = self.untouched && is_farewell(&error);
        let error = if not_begun { UnitError::Requeue } else { UnitError::Db(Box::new(error)) };
        self.error.get_or_insert(error);
        if self.ending == Ending::Flush { Progress::Finished } else { Progress::Goes }
    }

    /// The statement that failed, if it was analyzed anew with the parameter types of before: the server does that when
    /// it is bound after the schema has changed (PostgreSQL docs, PREPARE), and a column may have another type now.
    fn revalidated(&self, error: &DbError) -> Option<&StatementKey> {
        let analysis = error.code.starts_with("42") && self.binds == self.completed;
        self.bound.iter().find(|(statement, _)| analysis && *statement == self.completed).map(|(_, key)| key)
    }

    /// A statement ended.
    fn complete(&mut self, tag: &str) -> io::Result<Progress> {
        let mut rows = std::mem::take(&mut self.current);
        let wanted = self.wants_rows();
        if let Some(joined) = &mut self.joined {
            joined.end();
        }
        self.completed += 1;
        if !wanted {
            let over = self.wants_rows() && self.members.iter().all(|member| member.expected == 0);
            return Ok(if over && self.ending == Ending::Flush { Progress::Finished } else { Progress::Goes });
        }
        let Some(member) = self.members.front_mut() else { return Ok(Progress::Goes) };
        tag.clone_into(&mut rows.tag);
        member.results.push(rows);
        if member.results.len() < member.expected {
            return Ok(Progress::Goes);
        }
        if self.early {
            let results = std::mem::take(&mut member.results);
            let now = Instant::now();
            // What PostgreSQL writes for a unit mostly comes at once, so that nobody knows which member took how long.
            member.answer(Ok(results), now.duration_since(self.started) / self.shares, None);
            self.members.pop_front();
            self.progressed = now;
        } else if self.ending == Ending::Flush {
            return Ok(Progress::Finished);
        }
        Ok(Progress::Goes)
    }

    /// The current row's last value is long: the requester is answered with the rest, and gets the value piece by piece.
    pub(super) fn begin_long_row(&mut self, row: Row, length: usize) -> Option<LongRowSender> {
        let member = self.members.front_mut()?;
        let reply = member.reply.take()?;
        let (sender, value) = super::long_row::channel(length);
        let (end_sender, end) = oneshot::channel();
        let mut rows = std::mem::take(&mut self.current);
        rows.rows.push(row);
        rows.long = Some(value);
        let mut results = std::mem::take(&mut member.results);
        results.push(rows);
        member.reply = Some(end_sender);
        let answer =
            UnitReply { result: Ok(results), elapsed: self.started.elapsed(), end: Some(end), transaction: None };
        reply.send(answer).is_ok().then_some(sender)
    }

    /// The current member's row is dropped unread.
    pub(super) fn requeue_current(&mut self) {
        if let Some(member) = self.members.front_mut() {
            member.requeue();
        }
    }

    /// The connection broke; `unexecuted` when the server had said goodbye before, or never got the unit.
    pub(super) fn lose(&mut self, unexecuted: bool) {
        let not_begun = unexecuted && self.untouched;
        self.error.get_or_insert(if not_begun { UnitError::Requeue } else { UnitError::Lost });
    }

    /// Who ended the session instead of answering.
    pub(super) fn farewell(&self) -> Option<Farewell> {
        self.farewell
    }

    /// The unit is over: answers everybody who was not answered yet.
    pub(super) fn finish(mut self) {
        let (elapsed, transaction) = (self.started.elapsed(), self.transaction);
        let mut members = self.members.drain(..);
        match self.error.take() {
            Some(error) if self.completed < self.quiet || matches!(error, UnitError::Lost | UnitError::Requeue) => {
                // What is wrong with the claims is wrong for all.
                members.for_each(|mut member| member.answer(Err(error.clone()), elapsed, transaction));
            }
            Some(error) => {
                if let Some(mut failed) = members.next() {
                    failed.answer(Err(error), elapsed, transaction);
                }
                members.for_each(|mut innocent| innocent.requeue());
            }
            None => members.for_each(|mut member| {
                let results = std::mem::take(&mut member.results);
                member.answer(Ok(results), elapsed, transaction);
            }),
        }
    }
}

/// invalid_sql_statement_name
const LOST_STATEMENT: &str = "26000";

/// Whether the server said goodbye (administrator shutdown, crash, the database is being dropped, nothing to do for long).
fn is_farewell(error: &DbError) -> bool {
    Farewell::of(error) == Some(Farewell::Server)
        && matches!(error.code.as_str(), "57P01" | "57P02" | "57P03" | "57P05")
}

/// Whether the server refused a named statement because of its age, not because of the request: it was dropped, its
/// result type changed, or its plan refers to an object that is gone.
fn is_stale_statement(error: &DbError) -> bool {
    match error.code.as_str() {
        LOST_STATEMENT => true,
        "0A000" => error.message.contains("cached plan must not change result type"),
        "XX000" => error.message.starts_with("cache lookup failed"),
        _ => false,
    }
}
