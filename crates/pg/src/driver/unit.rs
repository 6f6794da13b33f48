//! A unit: the statements of one request on a connection, and what came back so far.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::Message;
use tokio::sync::oneshot;

use super::statements::{StatementKey, Statements};
use crate::error::DbError;
use crate::query::{Query, Row, Rows};

/// How a unit ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// With Sync: committed before the result is seen.
    Sync,
    /// With Flush: the transaction stays open until a second unit decides.
    Flush,
}

/// What a unit is made of. Every statement's results are kept but those of the first `quiet`.
pub(crate) struct NewUnit<'a> {
    pub(crate) scope: &'a Arc<str>,
    pub(crate) queries: &'a [&'a Query],
    /// How many leading statements' results nobody wants (BEGIN, the claims statement).
    pub(crate) quiet: usize,
    pub(crate) ending: Ending,
}

#[derive(Debug)]
pub(crate) enum UnitError {
    Db(Box<DbError>),
    /// The connection broke.
    Lost,
    /// The unit sat behind a slow one and was not started; it may run elsewhere.
    Requeue,
    Protocol(&'static str),
}

#[derive(Debug)]
pub(crate) struct UnitReply {
    pub(crate) result: Result<Vec<Rows>, UnitError>,
    /// How long the unit was at the head of its connection.
    pub(crate) elapsed: Duration,
}

pub(super) struct Unit {
    pub(super) quiet: usize,
    pub(super) expected: usize,
    pub(super) ending: Ending,
    /// The Parse messages sent, in order; `None` for unnamed ones.
    pub(super) parses: VecDeque<Option<StatementKey>>,
    /// Named statements that were bound, to forget them when the server lost them.
    pub(super) bound: Vec<StatementKey>,
    pub(super) started: Instant,
    pub(super) reply: Option<oneshot::Sender<UnitReply>>,
    pub(super) completed: usize,
    pub(super) results: Vec<Rows>,
    pub(super) current: Rows,
    pub(super) error: Option<UnitError>,
}

/// What a message means for the unit at the head.
pub(super) enum Progress {
    Goes,
    Finished,
}

impl Unit {
    pub(super) fn receive(&mut self, message: Message, statements: &mut Statements) -> std::io::Result<Progress> {
        match message {
            Message::DataRow(body) if self.completed >= self.quiet => {
                let columns = body.ranges().collect()?;
                self.current.rows.push(Row { bytes: body.buffer_bytes().clone(), columns });
            }
            Message::CommandComplete(body) => {
                let mut rows = std::mem::take(&mut self.current);
                if self.completed >= self.quiet {
                    rows.tag = body.tag()?.to_owned();
                    self.results.push(rows);
                }
                self.completed += 1;
                if self.ending == Ending::Flush && self.completed == self.expected {
                    return Ok(Progress::Finished);
                }
            }
            Message::ParseComplete => {
                if let Some(Some(key)) = self.parses.pop_front() {
                    statements.parsed(&key, true);
                }
            }
            Message::ErrorResponse(body) => {
                let error = DbError::read(body.fields())?;
                for key in self.parses.drain(..).flatten() {
                    statements.parsed(&key, false);
                }
                if is_stale_statement(&error) {
                    for key in self.bound.drain(..) {
                        statements.forget(&key);
                    }
                }
                // An error at commit comes after the results; the first error is the cause of any later one.
                self.error.get_or_insert(UnitError::Db(Box::new(error)));
                if self.ending == Ending::Flush {
                    return Ok(Progress::Finished);
                }
            }
            Message::ReadyForQuery(_) => return Ok(Progress::Finished),
            Message::CopyInResponse(_) | Message::CopyOutResponse(_) => {
                self.error = Some(UnitError::Protocol("COPY is not possible here"));
            }
            _ => {}
        }
        Ok(Progress::Goes)
    }

    pub(super) fn finish(mut self) -> Option<(oneshot::Sender<UnitReply>, UnitReply)> {
        let result = match self.error.take() {
            Some(error) => Err(error),
            None => Ok(std::mem::take(&mut self.results)),
        };
        let elapsed = self.started.elapsed();
        self.reply.take().map(|reply| (reply, UnitReply { result, elapsed }))
    }
}

/// Whether the server refused a named statement because of its age, not because of the request: it was dropped, its
/// result type changed, or its plan refers to an object that is gone.
pub(crate) fn is_stale_statement(error: &DbError) -> bool {
    match error.code.as_str() {
        "26000" => true,
        "0A000" => error.message.contains("cached plan must not change result type"),
        "XX000" => error.message.starts_with("cache lookup failed"),
        _ => false,
    }
}
