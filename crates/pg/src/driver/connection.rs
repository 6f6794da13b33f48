//! One connection and the task that drives its socket. Units are answered in the order in which they were sent.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, BytesMut};
use futures_util::task::AtomicWaker;
use postgres_protocol::IsNull;
use postgres_protocol::message::{backend::Message, frontend};
use tokio::io::AsyncWrite;
use tokio::sync::oneshot;
use tokio_util::io::poll_read_buf;
use tokio_util::task::TaskTracker;

use super::connect::{self, CancelKey, ConnectConfig};
use super::statements::{Send, StatementKey, Statements};
use super::stream::Stream;
use super::unit::{Ending, NewUnit, Progress, Unit, UnitError, UnitReply};
use crate::error::Error;
use crate::query::Query;

/// How long units may wait behind a slow one before they are sent elsewhere.
const STUCK: Duration = Duration::from_millis(20);

/// Prepared statements kept on one connection; a plan costs PostgreSQL some 20-50 KiB.
pub(crate) const STATEMENTS_PER_CONNECTION: usize = 128;

/// What a connection is for.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    /// Prepared statements to keep; 0 behind a pooler that cannot keep any.
    pub(crate) statements: usize,
    /// Whether units of many requests share it.
    pub(crate) interleaved: bool,
}

pub(crate) struct Connection {
    shared: Arc<Shared>,
    config: Arc<ConnectConfig>,
    cancel_key: CancelKey,
}

struct Shared {
    state: Mutex<State>,
    waker: AtomicWaker,
}

struct State {
    out: BytesMut,
    pending: VecDeque<Unit>,
    statements: Statements,
    /// Terminate was asked for; no further unit is taken.
    closing: bool,
    /// The socket is gone.
    closed: bool,
    /// Units of many requests share the connection, so one that waits behind a slow one is sent elsewhere.
    interleaved: bool,
}

impl Shared {
    // A panic while the lock is held leaves plain data behind; going on is safe.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// Connects; the socket's task runs on `tasks` until the connection closes and holds `guard` as long.
    pub(crate) async fn open(
        config: Arc<ConnectConfig>,
        kind: Kind,
        tasks: &TaskTracker,
        guard: impl std::marker::Send + 'static,
    ) -> Result<Self, Error> {
        let (stream, cancel_key) = connect::connect(&config).await?;
        let state = State {
            out: BytesMut::with_capacity(4096),
            pending: VecDeque::new(),
            statements: Statements::new(kind.statements),
            closing: false,
            closed: false,
            interleaved: kind.interleaved,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), waker: AtomicWaker::new() });
        let driver = Driver {
            shared: shared.clone(),
            stream,
            incoming: BytesMut::with_capacity(16 * 1024),
            outgoing: BytesMut::new(),
            stuck: None,
        };
        tasks.spawn(async move {
            if let Err(error) = driver.run().await {
                tracing::debug!(error = %error, "a connection to PostgreSQL ended");
            }
            drop(guard);
        });
        Ok(Self { shared, config, cancel_key })
    }

    /// Queues a unit; the reply comes on the receiver, also when the connection breaks.
    pub(crate) fn submit(&self, new: &NewUnit<'_>) -> Result<oneshot::Receiver<UnitReply>, Error> {
        let (reply, receiver) = oneshot::channel();
        {
            let mut state = self.shared.lock();
            if state.closed || state.closing {
                return Err(Error::Lost);
            }
            state.push(new, reply)?;
        }
        self.shared.waker.wake();
        Ok(receiver)
    }

    /// Ends a transaction that failed behind a [`Ending::Flush`]: the server skips everything up to the Sync.
    pub(crate) fn submit_sync(&self) -> Result<oneshot::Receiver<UnitReply>, Error> {
        let scope = Arc::from("");
        self.submit(&NewUnit { scope: &scope, queries: &[], quiet: 0, ending: Ending::Sync })
    }

    /// Units sent and not yet answered.
    pub(crate) fn load(&self) -> usize {
        self.shared.lock().pending.len()
    }

    pub(crate) fn is_open(&self) -> bool {
        let state = self.shared.lock();
        !state.closed && !state.closing
    }

    /// Says goodbye after what is under way; later units are refused.
    pub(crate) fn close(&self) {
        self.shared.lock().closing = true;
        self.shared.waker.wake();
    }

    /// Asks the server to stop the statement under way.
    pub(crate) async fn cancel(&self) {
        if let Err(error) = connect::cancel(&self.config, self.cancel_key).await {
            tracing::debug!(error = %error, "a cancel request could not be sent");
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.close();
    }
}

impl State {
    fn push(&mut self, new: &NewUnit<'_>, reply: oneshot::Sender<UnitReply>) -> Result<(), Error> {
        let mut unit = Unit {
            quiet: new.quiet,
            expected: new.queries.len(),
            ending: new.ending,
            parses: VecDeque::with_capacity(new.queries.len()),
            bound: Vec::with_capacity(new.queries.len()),
            started: Instant::now(),
            reply: Some(reply),
            completed: 0,
            results: Vec::with_capacity(1),
            current: crate::query::Rows::default(),
            error: None,
        };
        let before = self.out.len();
        if self.encode(new, &mut unit).is_err() {
            self.out.truncate(before);
            for key in unit.parses.into_iter().flatten() {
                self.statements.parsed(&key, false);
            }
            return Err(Error::Protocol("a statement with a NUL byte or too many parameters"));
        }
        self.pending.push_back(unit);
        Ok(())
    }

    fn encode(&mut self, new: &NewUnit<'_>, unit: &mut Unit) -> io::Result<()> {
        let start = self.out.len();
        for query in new.queries {
            let key = StatementKey { scope: new.scope.clone(), sql: query.sql.clone() };
            match self.statements.send(&key) {
                Send::Unnamed => {
                    frontend::parse("", &query.sql, None, &mut self.out)?;
                    unit.parses.push_back(None);
                    bind("", query, &mut self.out)?;
                }
                Send::Prepare(number) => {
                    let name = statement_name(number);
                    unit.parses.push_back(Some(key));
                    frontend::parse(&name, &query.sql, None, &mut self.out)?;
                    bind(&name, query, &mut self.out)?;
                }
                Send::Bind(number) => {
                    bind(&statement_name(number), query, &mut self.out)?;
                    unit.bound.push(key);
                }
            }
            frontend::execute("", 0, &mut self.out)?;
        }
        let closing = self.statements.take_closing();
        if !closing.is_empty() {
            // In front of the unit: behind a failing statement the server would skip it.
            let rest = self.out.split_off(start);
            for number in closing {
                frontend::close(b'S', &statement_name(number), &mut self.out)?;
            }
            self.out.unsplit(rest);
        }
        match new.ending {
            Ending::Sync => frontend::sync(&mut self.out),
            Ending::Flush => frontend::flush(&mut self.out),
        }
        Ok(())
    }
}

fn statement_name(number: u32) -> String {
    format!("s{number}")
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

struct Driver {
    shared: Arc<Shared>,
    stream: Stream,
    incoming: BytesMut,
    outgoing: BytesMut,
    stuck: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Driver {
    async fn run(mut self) -> io::Result<()> {
        let result = std::future::poll_fn(|cx| self.poll(cx)).await;
        let units: Vec<Unit> = {
            let mut state = self.shared.lock();
            state.closed = true;
            state.pending.drain(..).collect()
        };
        for mut unit in units {
            unit.error.get_or_insert(UnitError::Lost);
            answer(unit);
        }
        result
    }

    /// Goes on until the socket closes (`Ok` after our Terminate).
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shared.waker.register(cx.waker());
        loop {
            let goodbye = self.take_outgoing();
            while !self.outgoing.is_empty() {
                match Pin::new(&mut self.stream).poll_write(cx, &self.outgoing) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(Ok(n)) => self.outgoing.advance(n),
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => break,
                }
            }
            if goodbye && self.outgoing.is_empty() {
                return Poll::Ready(Ok(()));
            }
            match poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.incoming) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Poll::Ready(Ok(_)) => self.receive()?,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.poll_stuck(cx);
                    return Poll::Pending;
                }
            }
        }
    }

    /// Moves what was queued to the socket's buffer; true once Terminate is part of it.
    fn take_outgoing(&mut self) -> bool {
        let mut state = self.shared.lock();
        if !state.out.is_empty() {
            if self.outgoing.is_empty() {
                std::mem::swap(&mut self.outgoing, &mut state.out);
            } else {
                self.outgoing.extend_from_slice(&state.out);
                state.out.clear();
            }
        }
        let goodbye = state.closing && state.pending.is_empty();
        if goodbye && !state.closed {
            state.closed = true;
            frontend::terminate(&mut self.outgoing);
        }
        goodbye
    }

    fn receive(&mut self) -> io::Result<()> {
        let mut finished = Vec::new();
        {
            let mut state = self.shared.lock();
            let state = &mut *state;
            while let Some(message) = Message::parse(&mut self.incoming)? {
                let Some(unit) = state.pending.front_mut() else { continue };
                if let Progress::Finished = unit.receive(message, &mut state.statements)? {
                    finished.extend(state.pending.pop_front());
                    if let Some(next) = state.pending.front_mut() {
                        next.started = Instant::now();
                    }
                }
            }
        }
        finished.into_iter().for_each(answer);
        if self.incoming.capacity() - self.incoming.len() < 4096 {
            self.incoming.reserve(16 * 1024);
        }
        Ok(())
    }

    /// Sends units that wait behind a slow one elsewhere. One timer, armed at most once every [`STUCK`].
    fn poll_stuck(&mut self, cx: &mut Context<'_>) {
        loop {
            if let Some(timer) = &mut self.stuck
                && timer.as_mut().poll(cx).is_pending()
            {
                return;
            }
            self.stuck = None;
            let mut state = self.shared.lock();
            let waiting = state.pending.len();
            let Some(head) = state.pending.front() else { return };
            if waiting < 2 || !state.interleaved {
                return;
            }
            let deadline = head.started + STUCK;
            if deadline > Instant::now() {
                self.stuck = Some(Box::pin(tokio::time::sleep_until(deadline.into())));
                continue;
            }
            let replies: Vec<_> = state.pending.iter_mut().skip(1).filter_map(|unit| unit.reply.take()).collect();
            drop(state);
            for reply in replies {
                let requeue = UnitReply { result: Err(UnitError::Requeue), elapsed: Duration::ZERO };
                // The requester may be gone.
                reply.send(requeue).ok();
            }
            return;
        }
    }
}

fn answer(unit: Unit) {
    if let Some((reply, answer)) = unit.finish() {
        // The requester may be gone; the answer was read to its end all the same.
        reply.send(answer).ok();
    }
}
