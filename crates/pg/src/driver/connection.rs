//! One connection and the task that drives its socket. Units are answered in the order in which they were sent.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use futures_util::task::AtomicWaker;
use postgres_protocol::message::{backend::Message, frontend};
use tokio::io::{AsyncReadExt as _, AsyncWrite};
use tokio::sync::oneshot;
use tokio_util::io::poll_read_buf;
use tokio_util::task::TaskTracker;

use super::connect::{self, CancelKey, ConnectConfig};
use super::long_row::{Head, LONG_ERROR, LONG_NOTICE, LONG_ROW, LONG_SHARED_ROW, LongRow, take_head};
use super::outbox::Outbox;
use super::stream::Stream;
use super::unit::{Ending, Farewell, LongRows, Member, NewUnit, Progress, Unit, UnitReply};
use crate::error::{DbError, Error};
use crate::exchange::Exchange;

/// How long units may wait behind a slow one before they are sent elsewhere.
const STUCK: Duration = Duration::from_millis(20);

/// How long a unit may take before newcomers rather take another connection.
const STALLS: Duration = Duration::from_millis(5);

/// How long a process of PostgreSQL that said goodbye may take to go, and how long its last words are waited for.
const GOING: Duration = Duration::from_secs(1);

/// Prepared statements kept on one connection; a plan costs PostgreSQL some 20-50 KiB.
pub(crate) const STATEMENTS_PER_CONNECTION: usize = 128;

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
    outbox: Outbox,
    /// Units that were sent.
    pending: VecDeque<Unit>,
    /// Terminate was asked for; no further unit is taken.
    closing: bool,
    /// The socket is gone.
    closed: bool,
    /// Reads of many requests share the connection, so one that waits behind a slow one is sent elsewhere.
    shared: bool,
}

impl Shared {
    // A panic while the lock is held leaves plain data behind; going on is safe.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// Connects; the socket's task runs on `tasks` until the connection closes and holds `guard` as long. `statements` is how
    /// many prepared ones are kept; 0 behind a pooler that cannot keep any. A login that is refused is tried again for
    /// `login_patience`.
    pub(crate) async fn open(
        config: Arc<ConnectConfig>,
        statements: usize,
        login_patience: Duration,
        tasks: &TaskTracker,
        guard: impl std::marker::Send + 'static,
    ) -> Result<Self, Error> {
        let (stream, cancel_key) = connect::connect_patiently(&config, login_patience).await?;
        let state = State {
            outbox: Outbox::new(statements),
            pending: VecDeque::new(),
            closing: false,
            closed: false,
            shared: false,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), waker: AtomicWaker::new() });
        let driver = Driver {
            shared: shared.clone(),
            stream,
            incoming: BytesMut::with_capacity(READ),
            outgoing: BytesMut::new(),
            stuck: None,
            long_row: None,
            broken: None,
            farewell: None,
        };
        tasks.spawn(async move {
            if let Err(error) = driver.run().await {
                tracing::debug!(error = %error, "a connection to PostgreSQL ended");
            }
            drop(guard);
        });
        Ok(Self { shared, config, cancel_key })
    }

    /// From now on reads of many requests share it.
    pub(crate) fn make_shared(&self) {
        self.shared.lock().shared = true;
    }

    /// Queues a unit of its own; the reply comes on the receiver, also when the connection breaks.
    pub(crate) fn submit(&self, new: &NewUnit<'_>) -> Result<oneshot::Receiver<UnitReply>, Error> {
        self.queue(|outbox, reply| outbox.push(new, reply))
    }

    /// Queues a read on a shared connection, together with others that have the same claims statement where it may be.
    pub(crate) fn share(&self, exchange: &Exchange) -> Result<oneshot::Receiver<UnitReply>, Error> {
        self.queue(|outbox, reply| outbox.join(exchange, reply))
    }

    fn queue(
        &self,
        push: impl FnOnce(&mut Outbox, oneshot::Sender<UnitReply>) -> Result<(), Error>,
    ) -> Result<oneshot::Receiver<UnitReply>, Error> {
        let (reply, receiver) = oneshot::channel();
        let wake = {
            let mut state = self.shared.lock();
            if state.closed || state.closing {
                return Err(Error::NotStarted);
            }
            push(&mut state.outbox, reply)?;
            state.may_send()
        };
        if wake {
            self.shared.waker.wake();
        }
        Ok(receiver)
    }

    /// Queues one statement of ours whose results nobody wants.
    pub(crate) fn submit_simple(&self, sql: &str) -> Result<oneshot::Receiver<UnitReply>, Error> {
        self.queue(|outbox, reply| outbox.push_simple(sql, reply))
    }

    /// Ends a transaction that failed behind a [`Ending::Flush`]: the server skips everything up to the Sync.
    pub(crate) fn submit_sync(&self) -> Result<oneshot::Receiver<UnitReply>, Error> {
        let scope = Arc::from("");
        let long_rows = LongRows::Keep(0);
        self.submit(&NewUnit { scope: &scope, queries: &[], quiet: 0, ending: Ending::Sync, long_rows, unnamed: false })
    }

    /// Requests that were not answered yet.
    pub(crate) fn load(&self) -> usize {
        let state = self.shared.lock();
        state.outbox.load() + state.pending.iter().map(|unit| unit.members.len()).sum::<usize>()
    }

    /// Whether PostgreSQL has worked for a while on what it has.
    pub(crate) fn stalls(&self, now: Instant) -> bool {
        let state = self.shared.lock();
        state.pending.front().is_some_and(|head| now.saturating_duration_since(head.progressed) > STALLS)
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
    /// What waits while PostgreSQL works can still be joined by others, which saves it a transaction for each.
    fn may_send(&self) -> bool {
        !self.shared || self.pending.is_empty()
    }
}

/// Room for one read, in bytes, and for one read of a long row.
const READ: usize = 16 * 1024;
const LONG_READ: usize = 64 * 1024;

struct Driver {
    shared: Arc<Shared>,
    stream: Stream,
    incoming: BytesMut,
    outgoing: BytesMut,
    stuck: Option<Pin<Box<tokio::time::Sleep>>>,
    long_row: Option<LongRow>,
    /// Nothing can be written any more: how long what is left is read.
    broken: Option<Pin<Box<tokio::time::Sleep>>>,
    /// Who said that the session ends.
    farewell: Option<Farewell>,
}

impl Driver {
    async fn run(mut self) -> io::Result<()> {
        let result = std::future::poll_fn(|cx| self.poll(cx)).await;
        let (sent, waiting): (Vec<Unit>, Vec<Unit>) = {
            let mut state = self.shared.lock();
            state.closed = true;
            let state = &mut *state;
            (state.pending.drain(..).collect(), state.outbox.drain().collect())
        };
        for mut unit in sent {
            unit.lose(self.farewell == Some(Farewell::Server));
            unit.finish();
        }
        for mut unit in waiting {
            unit.lose(true);
            unit.finish();
        }
        if self.farewell.is_some() {
            // The process takes its time to go, and counts among PostgreSQL's connections until then.
            let mut rest = [0; 512];
            let gone = async { while self.stream.read(&mut rest).await.is_ok_and(|read| read > 0) {} };
            tokio::time::timeout(GOING, gone).await.ok();
        }
        result
    }

    /// Goes on until the socket closes (`Ok` after our Terminate).
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shared.waker.register(cx.waker());
        loop {
            let goodbye = self.take_outgoing();
            while !self.outgoing.is_empty() && self.broken.is_none() {
                match Pin::new(&mut self.stream).poll_write(cx, &self.outgoing) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(Ok(n)) => self.outgoing.advance(n),
                    // Why it cannot be written may be there to be read: a farewell, and then the end.
                    Poll::Ready(Err(_)) => self.broken = Some(Box::pin(tokio::time::sleep(GOING))),
                    Poll::Pending => break,
                }
            }
            if goodbye && self.outgoing.is_empty() {
                return Poll::Ready(Ok(()));
            }
            // While a client does not take its long row, nothing more is read.
            ready!(self.poll_receive(cx))?;
            match poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.incoming) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Poll::Ready(Ok(_)) => ready!(self.poll_receive(cx))?,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    if let Some(patience) = &mut self.broken {
                        ready!(patience.as_mut().poll(cx));
                        return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
                    }
                    self.poll_stuck(cx);
                    return Poll::Pending;
                }
            }
        }
    }

    /// Moves what was queued to the socket's buffer; true once Terminate is part of it.
    fn take_outgoing(&mut self) -> bool {
        let mut state = self.shared.lock();
        let state = &mut *state;
        if state.may_send() {
            state.outbox.flush(&mut self.outgoing, &mut state.pending);
        }
        let goodbye = state.closing && state.pending.is_empty();
        if goodbye && !state.closed {
            state.closed = true;
            frontend::terminate(&mut self.outgoing);
        }
        goodbye
    }

    /// Takes in what has arrived. Pending while a long row waits for its client.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut finished = Vec::new();
        let received = self.poll_messages(cx, &mut finished);
        finished.into_iter().for_each(Unit::finish);
        let wanted = if self.long_row.is_some() { LONG_READ } else { READ };
        if self.incoming.capacity() - self.incoming.len() < 4096 {
            self.incoming.reserve(wanted);
        }
        received
    }

    fn poll_messages(&mut self, cx: &mut Context<'_>, finished: &mut Vec<Unit>) -> Poll<io::Result<()>> {
        loop {
            if let Some(long_row) = &mut self.long_row {
                if !ready!(long_row.poll_forward(cx, &mut self.incoming)) {
                    return Poll::Ready(Ok(()));
                }
                self.long_row = None;
            }
            let mut state = self.shared.lock();
            let state = &mut *state;
            loop {
                if let Some(unit) = state.pending.front_mut() {
                    ready!(unit.poll_joined(cx));
                }
                if self.incoming.is_empty() {
                    return Poll::Ready(Ok(()));
                }
                if let Some(length) = long_length(&self.incoming, b'E', LONG_ERROR)
                    && let Some(unit) = state.pending.front_mut()
                {
                    if let Progress::Finished = unit.fail(DbError::too_long(), state.outbox.statements()) {
                        finished.extend(state.pending.pop_front());
                    }
                    self.long_row = Some(LongRow::new(length, None));
                    break;
                }
                // Nobody reads notices, and stored code can raise any.
                if let Some(length) = long_length(&self.incoming, b'N', LONG_NOTICE) {
                    self.long_row = Some(LongRow::new(length, None));
                    break;
                }
                if let Some(unit) = state.pending.front_mut().filter(|unit| unit.wants_rows())
                    && let Some(room) = unit.room()
                    && let Some(length) = long_length(&self.incoming, b'D', room)
                {
                    unit.overflow();
                    self.long_row = Some(LongRow::new(length, None));
                    break;
                }
                if let Some(length) =
                    long_length(&self.incoming, b'D', if state.shared { LONG_SHARED_ROW } else { LONG_ROW })
                    && let Some(unit) = state.pending.front_mut().filter(|unit| unit.wants_rows())
                {
                    match (unit.long_rows, take_head_for(unit.long_rows, &mut self.incoming)) {
                        (LongRows::Keep(_) | LongRows::Join, _) | (_, Head::Whole) => {}
                        (_, Head::Unknown) => return Poll::Ready(Ok(())),
                        (LongRows::Requeue, _) => {
                            unit.requeue_current();
                            self.long_row = Some(LongRow::new(length, None));
                            break;
                        }
                        (LongRows::Stream(_), Head::Long(row, length)) => {
                            let sender = unit.begin_long_row(row, length);
                            self.long_row = Some(LongRow::new(length, sender));
                            break;
                        }
                    }
                }
                let Some(message) = Message::parse(&mut self.incoming)? else { return Poll::Ready(Ok(())) };
                if let Some(unit) = state.pending.front_mut() {
                    let progress = unit.receive(message, state.outbox.statements())?;
                    self.farewell = unit.farewell();
                    if let Progress::Finished = progress {
                        finished.extend(state.pending.pop_front());
                        if let Some(next) = state.pending.front_mut() {
                            next.begin(Instant::now());
                        }
                    }
                } else if let Message::ErrorResponse(body) = message {
                    self.farewell = Farewell::of(&DbError::read(body.fields())?);
                }
                // Some time before the socket closes: nobody must be given this connection meanwhile.
                if self.farewell.is_some() {
                    return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
                }
            }
        }
    }

    /// Sends requests that wait behind a slow one elsewhere. One timer, armed at most once every [`STUCK`].
    fn poll_stuck(&mut self, cx: &mut Context<'_>) {
        loop {
            if let Some(timer) = &mut self.stuck
                && timer.as_mut().poll(cx).is_pending()
            {
                return;
            }
            self.stuck = None;
            let mut state = self.shared.lock();
            let state = &mut *state;
            let Some(head) = state.pending.front().filter(|_| state.shared) else { return };
            // Who comes later does not wake this task, so the timer runs as long as anything is under way.
            let mut deadline = head.progressed + STUCK;
            let now = Instant::now();
            if deadline <= now {
                let sent = state.pending.iter_mut().flat_map(|unit| unit.members.iter_mut());
                sent.skip(1).for_each(Member::requeue);
                let waiting: Vec<Unit> = state.outbox.drain().collect();
                waiting.into_iter().flat_map(|unit| unit.members).for_each(|mut member| member.requeue());
                deadline = now + STUCK;
            }
            self.stuck = Some(Box::pin(tokio::time::sleep_until(deadline.into())));
        }
    }
}

/// The length of the whole message at the front, when it is of this kind and longer than `limit`.
fn long_length(incoming: &[u8], kind: u8, limit: usize) -> Option<usize> {
    let length = incoming.first().filter(|first| **first == kind).and(incoming.get(1..5))?.first_chunk()?;
    let length = u32::from_be_bytes(*length) as usize + 1;
    (length > limit).then_some(length)
}

fn take_head_for(long_rows: LongRows, incoming: &mut BytesMut) -> Head {
    match long_rows {
        LongRows::Stream(_) => take_head(incoming),
        LongRows::Keep(_) | LongRows::Join => Head::Whole,
        LongRows::Requeue => Head::Long(crate::query::Row::default(), 0),
    }
}
