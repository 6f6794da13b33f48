//! A session for SQL that a project's owner wrote: any number of statements, results as text, nothing prepared.
//!
//! `tokio-postgres` can ask for binary results only (which nobody can read for every type) or hides the types of the
//! columns, and it has no bound on what one answer may hold.

use std::io;

use bytes::{Buf, BytesMut};
use fallible_iterator::FallibleIterator;
use postgres_protocol::IsNull;
use postgres_protocol::message::backend::{DataRowBody, Message};
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::connect::{self, CancelKey, ConnectConfig};
use super::stream::Stream;
use crate::error::{DbError, Error};

/// A longer message than this is skipped and not held in memory, in bytes.
const LONGEST_MESSAGE: usize = 32 * 1024 * 1024;
/// Notices kept of one script.
const MOST_NOTICES: usize = 100;

/// What to run and how much of the answer to keep.
#[derive(Clone, Copy, Debug)]
pub struct Script<'a> {
    pub sql: &'a str,
    /// Values in PostgreSQL's text format for `$1`, `$2`, ...; with them, `sql` is one statement.
    pub params: Option<&'a [Option<String>]>,
    /// Runs `sql`, one statement, in a read-only transaction that it cannot leave.
    pub read_only: bool,
    /// Rows kept of each statement.
    pub most_rows: usize,
    /// Bytes of values kept of the whole script.
    pub most_bytes: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptColumn {
    pub name: String,
    pub type_oid: u32,
    pub type_modifier: i32,
}

/// What one statement answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatementResult {
    /// The command tag, for instance `INSERT 0 3`.
    pub tag: String,
    /// Empty for a statement without rows.
    pub columns: Vec<ScriptColumn>,
    /// Values in text format; `None` is NULL.
    pub rows: Vec<Vec<Option<String>>>,
    /// Whether rows are missing because of a limit. The statement itself ran to its end.
    pub truncated: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScriptResult {
    pub statements: Vec<StatementResult>,
    /// The first notices and warnings.
    pub notices: Vec<DbError>,
}

/// Why a script ended early.
#[derive(Clone, Debug, thiserror::Error)]
#[error("statement {statement} failed: {error}")]
pub struct ScriptError {
    /// How many statements of the script were finished before.
    pub statement: usize,
    #[source]
    pub error: Error,
}

/// One connection that runs scripts.
pub struct ScriptSession {
    stream: Stream,
    incoming: BytesMut,
    canceller: Canceller,
}

/// Cancels what a session is running, from anywhere.
#[derive(Clone)]
pub struct Canceller {
    config: ConnectConfig,
    key: CancelKey,
}

impl Canceller {
    /// Asks PostgreSQL to cancel; it may come too late, which is no error.
    pub async fn cancel(&self) -> io::Result<()> {
        connect::cancel(&self.config, self.key).await
    }
}

enum Event {
    Message(Message),
    /// A row too long to be kept.
    LongRow,
}

impl ScriptSession {
    /// Logs in as `config.user`.
    pub async fn open(config: ConnectConfig) -> Result<Self, Error> {
        let (stream, key) = connect::connect(&config).await?;
        Ok(Self { stream, incoming: BytesMut::with_capacity(8 * 1024), canceller: Canceller { config, key } })
    }

    pub fn canceller(&self) -> Canceller {
        self.canceller.clone()
    }

    /// Runs a script. Without parameters and when it may write, it is one simple query: several statements are one
    /// transaction unless they say otherwise.
    pub async fn run(&mut self, script: &Script<'_>) -> Result<ScriptResult, ScriptError> {
        let mut answer = Answer::new(script);
        if script.read_only {
            self.simple("begin transaction read only", &mut Answer::new(script)).await?;
        }
        let extended = script.read_only || script.params.is_some();
        let done = if extended {
            self.extended(script.sql, script.params.unwrap_or_default(), &mut answer).await
        } else {
            self.simple(script.sql, &mut answer).await
        };
        if script.read_only {
            let ended = self.simple("commit", &mut Answer::new(script)).await;
            return done.and(ended).map(|()| answer.result);
        }
        done.map(|()| answer.result)
    }

    /// The SQL names of types, in the order asked for.
    pub async fn type_names(&mut self, types: &[(u32, i32)]) -> Result<Vec<String>, ScriptError> {
        let list =
            |values: &mut dyn Iterator<Item = String>| Some(format!("{{{}}}", values.collect::<Vec<_>>().join(",")));
        let params = [
            list(&mut types.iter().map(|(oid, _)| oid.to_string())),
            list(&mut types.iter().map(|(_, modifier)| modifier.to_string())),
        ];
        let script = Script {
            sql: "select pg_catalog.format_type(t.oid, t.modifier) from rows from \
                  (pg_catalog.unnest($1::pg_catalog.oid[]), pg_catalog.unnest($2::pg_catalog.int4[])) \
                  with ordinality t (oid, modifier, n) order by t.n",
            params: Some(&params),
            read_only: false,
            most_rows: types.len(),
            most_bytes: usize::MAX,
        };
        let result = self.run(&script).await?;
        let rows = result.statements.into_iter().flat_map(|statement| statement.rows);
        Ok(rows.map(|row| row.into_iter().flatten().next().unwrap_or_default()).collect())
    }

    /// Says goodbye; dropping the session would leave PostgreSQL to find out.
    pub async fn close(mut self) {
        let mut out = BytesMut::new();
        frontend::terminate(&mut out);
        // The session is over either way.
        let _ = self.stream.write_all(&out).await;
    }

    async fn simple(&mut self, sql: &str, answer: &mut Answer) -> Result<(), ScriptError> {
        let mut out = BytesMut::new();
        frontend::query(sql, &mut out).map_err(|_| refused(NUL))?;
        self.exchange(&out, answer).await
    }

    async fn extended(&mut self, sql: &str, params: &[Option<String>], answer: &mut Answer) -> Result<(), ScriptError> {
        let mut out = BytesMut::new();
        frontend::parse("", sql, [], &mut out).map_err(|_| refused(NUL))?;
        frontend::bind(
            "",
            "",
            [],
            params,
            |value, out| match value {
                Some(text) => {
                    out.extend_from_slice(text.as_bytes());
                    Ok(IsNull::No)
                }
                None => Ok(IsNull::Yes),
            },
            [],
            &mut out,
        )
        .map_err(|_| refused("there are too many or too long parameters"))?;
        frontend::describe(b'P', "", &mut out).map_err(|_| refused(NUL))?;
        frontend::execute("", 0, &mut out).map_err(|_| refused(NUL))?;
        frontend::sync(&mut out);
        self.exchange(&out, answer).await
    }

    /// Sends and reads until the session is ready again. All is written before anything is read, which cannot block
    /// for ever: PostgreSQL takes in a whole message before it answers it, and only the last one answers at length.
    async fn exchange(&mut self, out: &[u8], answer: &mut Answer) -> Result<(), ScriptError> {
        let lost = |answer: &Answer| ScriptError { statement: answer.finished, error: Error::Lost };
        if self.stream.write_all(out).await.is_err() {
            return Err(lost(answer));
        }
        let mut failure: Option<DbError> = None;
        loop {
            let event = match self.next().await {
                Ok(event) => event,
                Err(_) => {
                    let statement = answer.finished;
                    let error = failure.map_or(Error::Lost, |error| Error::Db(Box::new(error)));
                    return Err(ScriptError { statement, error });
                }
            };
            match event {
                Event::Message(Message::ReadyForQuery(_)) => break,
                Event::Message(Message::ErrorResponse(body)) => {
                    failure = Some(DbError::read(body.fields()).map_err(|_| lost(answer))?);
                }
                Event::Message(Message::CopyInResponse(_)) => {
                    let mut out = BytesMut::new();
                    // The message has no NUL.
                    let _ = frontend::copy_fail("COPY FROM STDIN has nothing to read here", &mut out);
                    if self.stream.write_all(&out).await.is_err() {
                        return Err(lost(answer));
                    }
                }
                other => answer.take(other).map_err(|_| lost(answer))?,
            }
        }
        match failure {
            Some(error) => Err(ScriptError { statement: answer.finished, error: Error::Db(Box::new(error)) }),
            None => Ok(()),
        }
    }

    async fn next(&mut self) -> io::Result<Event> {
        loop {
            if let Some((kind, length)) = header(&self.incoming)
                && length > LONGEST_MESSAGE
            {
                self.skip(1 + length).await?;
                if kind == b'D' {
                    return Ok(Event::LongRow);
                }
                continue;
            }
            if let Some(message) = Message::parse(&mut self.incoming)? {
                return Ok(Event::Message(message));
            }
            if self.stream.read_buf(&mut self.incoming).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    async fn skip(&mut self, mut length: usize) -> io::Result<()> {
        loop {
            let here = length.min(self.incoming.len());
            self.incoming.advance(here);
            length -= here;
            if length == 0 {
                return Ok(());
            }
            self.incoming.reserve(64 * 1024);
            if self.stream.read_buf(&mut self.incoming).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

const NUL: &str = "SQL text cannot hold a NUL character";

fn refused(why: &'static str) -> ScriptError {
    ScriptError { statement: 0, error: Error::Protocol(why) }
}

/// Type and length (without the type byte) of the message at the front.
fn header(incoming: &[u8]) -> Option<(u8, usize)> {
    let (kind, rest) = incoming.split_first()?;
    let length = u32::from_be_bytes(*rest.first_chunk()?);
    Some((*kind, length as usize))
}

/// The answer so far.
struct Answer {
    result: ScriptResult,
    current: StatementResult,
    finished: usize,
    most_rows: usize,
    bytes_left: usize,
}

impl Answer {
    fn new(script: &Script<'_>) -> Self {
        Self {
            result: ScriptResult::default(),
            current: StatementResult::default(),
            finished: 0,
            most_rows: script.most_rows,
            bytes_left: script.most_bytes,
        }
    }

    fn take(&mut self, event: Event) -> io::Result<()> {
        match event {
            Event::LongRow => self.current.truncated = true,
            Event::Message(Message::RowDescription(body)) => {
                self.current.columns = body
                    .fields()
                    .map(|field| {
                        Ok(ScriptColumn {
                            name: field.name().to_owned(),
                            type_oid: field.type_oid(),
                            type_modifier: field.type_modifier(),
                        })
                    })
                    .collect()?;
            }
            Event::Message(Message::DataRow(body)) => self.row(&body)?,
            Event::Message(Message::CommandComplete(body)) => {
                self.current.tag = body.tag()?.to_owned();
                self.result.statements.push(std::mem::take(&mut self.current));
                self.finished += 1;
            }
            Event::Message(Message::NoticeResponse(body)) if self.result.notices.len() < MOST_NOTICES => {
                self.result.notices.push(DbError::read(body.fields())?);
            }
            Event::Message(_) => {}
        }
        Ok(())
    }

    fn row(&mut self, body: &DataRowBody) -> io::Result<()> {
        let size = body.buffer().len();
        if self.current.truncated || self.current.rows.len() >= self.most_rows || size > self.bytes_left {
            self.current.truncated = true;
            return Ok(());
        }
        self.bytes_left -= size;
        let row = body
            .ranges()
            .map(|range| Ok(range.map(|range| String::from_utf8_lossy(&body.buffer()[range]).into_owned())))
            .collect()?;
        self.current.rows.push(row);
        Ok(())
    }
}
