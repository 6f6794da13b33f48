//! What the server knows of each connection, and the sweep that ends those whose clients are too slow.
//!
//! No request has a timer of its own: connections note what they wait for, in coarse ticks, and the sweep looks them
//! through once a tick.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::refusal::Refusal;
use crate::limits::BodyFault;
use crate::metrics::HttpMetrics;
use crate::overload::ClientPlace;
use crate::request_id::RequestIds;

/// Length of a tick of the guard.
pub(super) const TICK: Duration = Duration::from_secs(1);
/// Ticks that an answer of unknown length may go without a byte, because its service is waiting for something.
const STREAM_GRACE: u64 = 600;

/// A request in work, as its handler and the sweep see it.
#[derive(Debug, Default)]
pub struct Work {
    /// Which request of its connection it is, from 1 on.
    serial: AtomicU64,
    since: AtomicU64,
    /// Ticks that it may take; 0 is no limit.
    limit: AtomicU64,
    /// The request that has taken longer.
    overdue: AtomicU64,
}

impl Work {
    /// Sets a limit, which counts from the request's head on, in whole seconds. Once it has passed the handler is woken
    /// and [`Self::is_overdue`]; 0 is no limit.
    pub fn must_end_in(&self, seconds: u64) {
        self.limit.store(seconds, Ordering::Relaxed);
    }

    pub fn is_overdue(&self) -> bool {
        let overdue = self.overdue.load(Ordering::Relaxed);
        overdue != 0 && overdue == self.serial.load(Ordering::Relaxed)
    }

    fn begin(&self, tick: u64) {
        self.limit.store(0, Ordering::Relaxed);
        self.since.store(tick, Ordering::Relaxed);
        // The connection's task is the only one that counts.
        self.serial.store(self.serial.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    fn end(&self) {
        self.limit.store(0, Ordering::Relaxed);
    }

    /// Whether its time has just passed.
    fn look(&self, tick: u64) -> bool {
        let serial = self.serial.load(Ordering::Acquire);
        let limit = self.limit.load(Ordering::Relaxed);
        let since = self.since.load(Ordering::Relaxed);
        let passed = limit != 0 && tick.saturating_sub(since) > limit;
        passed && self.overdue.swap(serial, Ordering::Relaxed) != serial
    }
}

#[derive(Debug, Default)]
pub(super) struct Connection {
    /// The tick since which the client is waited for; 0 while a service works on its request.
    waiting_since: AtomicU64,
    /// The client does not take what is written.
    write_blocked: AtomicBool,
    /// The client does not send the rest of a body that is asked for.
    body_blocked: AtomicBool,
    /// The body came so slowly that its reader gets an error.
    body_too_slow: AtomicBool,
    /// Bytes of answers and bodies so far.
    moved: AtomicU64,
    pub(super) work: Work,
    /// Set when the server ends: finish what is in work, then close.
    pub(super) closing: AtomicBool,
    /// Set when the connection has to end now.
    pub(super) expired: AtomicBool,
    /// The waker of the connection's task; gone when it was used.
    waker: AtomicWaker,
    waker_used: AtomicBool,
}

impl Connection {
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.wake();
    }

    pub(super) fn expire(&self) {
        self.expired.store(true, Ordering::Release);
        self.wake();
    }

    fn wake(&self) {
        self.waker_used.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Leaves the task's waker here, `first` or when the last one was used; before the task looks at anything.
    pub(super) fn register(&self, first: bool, cx: &Context<'_>) {
        if first || self.waker_used.load(Ordering::Acquire) {
            self.waker_used.store(false, Ordering::Release);
            self.waker.register(cx.waker());
        }
    }

    /// A request has come.
    pub(super) fn begin(&self, tick: u64) {
        self.waiting_since.store(0, Ordering::Relaxed);
        self.work.begin(tick);
    }

    /// Its answer begins.
    pub(super) fn answer(&self, tick: u64, known_length: bool) {
        self.work.end();
        let grace = if known_length { 0 } else { STREAM_GRACE };
        self.waiting_since.store(tick + grace, Ordering::Relaxed);
    }

    /// Waits until the client has taken what was written. Otherwise one that sends many requests and reads no answer would
    /// have all the answers made and held.
    pub(super) fn poll_taken(&self) -> Poll<()> {
        // Woken by `WatchedStream::wrote`.
        if self.write_blocked.load(Ordering::Relaxed) { Poll::Pending } else { Poll::Ready(()) }
    }

    fn count(&self, bytes: usize) {
        // The connection's task is the only one that counts.
        self.moved.store(self.moved.load(Ordering::Relaxed) + bytes as u64, Ordering::Relaxed);
    }
}

/// When the sweep ends connections.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// Ticks without a head, or without any of an answer taken.
    pub(super) idle: u64,
    /// Ticks over which rates are judged.
    pub(super) window: u64,
    /// Least bytes in a tick.
    pub(super) write_rate: u64,
    pub(super) body_rate: u64,
}

struct Entry {
    connection: Arc<Connection>,
    /// Since when its client has been waited for at every look, and what had moved until then.
    blocked_since: u64,
    moved: u64,
}

/// The open connections of one listener, and what they share.
pub(super) struct Connections {
    tick: AtomicU64,
    open: Mutex<HashMap<u64, Entry>>,
    pub(super) metrics: HttpMetrics,
    pub(super) ids: RequestIds,
    pub(super) max_head_bytes: usize,
}

impl Connections {
    pub(super) fn new(metrics: HttpMetrics, max_head_bytes: usize) -> Self {
        Self { tick: AtomicU64::new(1), open: Mutex::default(), metrics, ids: RequestIds::new(), max_head_bytes }
    }

    fn open(&self) -> MutexGuard<'_, HashMap<u64, Entry>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn tick(&self) -> u64 {
        self.tick.load(Ordering::Relaxed)
    }

    /// Lists a new connection until what comes back is dropped.
    pub(super) fn list(self: &Arc<Self>, id: u64, place: Option<ClientPlace>) -> Listed {
        let tick = self.tick();
        let connection = Arc::new(Connection { waiting_since: AtomicU64::new(tick), ..Connection::default() });
        self.open().insert(id, Entry { connection: connection.clone(), blocked_since: tick, moved: 0 });
        Listed { id, connections: self.clone(), connection, _place: place }
    }

    pub(super) fn for_each(&self, act: impl Fn(&Connection)) {
        self.open().values().for_each(|entry| act(&entry.connection));
    }

    /// Looks after every connection; once a tick.
    pub(super) fn sweep(&self, patience: Patience) {
        let tick = self.tick.fetch_add(1, Ordering::Relaxed) + 1;
        for entry in self.open().values_mut() {
            let connection = &*entry.connection;
            if connection.work.look(tick) {
                connection.wake();
            }
            let since = connection.waiting_since.load(Ordering::Relaxed);
            if since != 0 && tick.saturating_sub(since) > patience.idle {
                connection.expire();
            }
            let write_blocked = connection.write_blocked.load(Ordering::Relaxed);
            let body_blocked = connection.body_blocked.load(Ordering::Relaxed);
            let moved = connection.moved.load(Ordering::Relaxed);
            let ticks = tick - entry.blocked_since;
            if !write_blocked && !body_blocked {
                (entry.blocked_since, entry.moved) = (tick, moved);
            } else if ticks >= patience.window {
                let rate = if write_blocked { patience.write_rate } else { patience.body_rate };
                if moved - entry.moved < rate * ticks {
                    if write_blocked {
                        connection.expire();
                    } else {
                        connection.body_too_slow.store(true, Ordering::Relaxed);
                        connection.wake();
                    }
                }
                (entry.blocked_since, entry.moved) = (tick, moved);
            }
        }
    }
}

/// Takes the connection off the list however its task ends.
pub(super) struct Listed {
    id: u64,
    pub(super) connections: Arc<Connections>,
    pub(super) connection: Arc<Connection>,
    _place: Option<ClientPlace>,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.connections.open().remove(&self.id);
        self.connections.metrics.connections.dec();
    }
}

/// Notes whether a client takes what is written, and puts words into refusals that the HTTP parser makes by itself.
pub(super) struct WatchedStream<S> {
    stream: S,
    peer: SocketAddr,
    connection: Arc<Connection>,
    connections: Arc<Connections>,
    refusal: Option<Refusal>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> WatchedStream<S> {
    pub(super) fn new(stream: S, peer: SocketAddr, listed: &Listed) -> Self {
        let (connection, connections) = (listed.connection.clone(), listed.connections.clone());
        Self { stream, peer, connection, connections, refusal: None }
    }

    fn wrote(&self, result: &Poll<io::Result<usize>>, cx: &Context<'_>) {
        let connection = &*self.connection;
        match result {
            Poll::Pending => connection.write_blocked.store(true, Ordering::Relaxed),
            Poll::Ready(result) => {
                if connection.write_blocked.load(Ordering::Relaxed) {
                    connection.write_blocked.store(false, Ordering::Relaxed);
                    cx.waker().wake_by_ref();
                }
                if let Ok(bytes @ 1..) = result {
                    connection.count(*bytes);
                    let since = connection.waiting_since.load(Ordering::Relaxed);
                    let tick = self.connections.tick();
                    if since != 0 && tick > since {
                        connection.waiting_since.store(tick, Ordering::Relaxed);
                    }
                }
            }
        }
    }

    /// What is written before any request was handed to the service can only be the parser's refusal of the first head.
    fn is_refusal(&self) -> bool {
        self.connection.work.serial.load(Ordering::Relaxed) == 0
    }

    fn refuse(&mut self, head: &[u8]) {
        if self.refusal.is_none() {
            self.refusal = Some(Refusal::instead_of(head, &self.connections, self.peer));
        }
    }

    fn poll_refusal(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(refusal) = &mut self.refusal
            && !refusal.rest().is_empty()
        {
            let result = Pin::new(&mut self.stream).poll_write(cx, refusal.rest());
            refusal.advance(ready!(result)?);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WatchedStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WatchedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_refusal() {
            self.refuse(buf);
            return Poll::Ready(Ok(buf.len()));
        }
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.wrote(&result, cx);
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.is_refusal() {
            self.refuse(bufs.first().map_or(&[], |buf| &**buf));
            return Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()));
        }
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.wrote(&result, cx);
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_refusal(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_refusal(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A request without a body needs no box around nothing.
pub(super) fn request_body(incoming: Incoming, connection: &Arc<Connection>) -> Body {
    if incoming.is_end_stream() {
        return Body::empty();
    }
    Body::new(WatchedBody { incoming, connection: connection.clone() })
}

/// Notes whether the rest of a body is waited for.
struct WatchedBody {
    incoming: Incoming,
    connection: Arc<Connection>,
}

impl http_body::Body for WatchedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.incoming).poll_frame(cx);
        let connection = &*self.connection;
        if polled.is_pending() && connection.body_too_slow.load(Ordering::Relaxed) {
            return Poll::Ready(Some(Err(axum::Error::new(BodyFault::TooSlow))));
        }
        connection.body_blocked.store(polled.is_pending(), Ordering::Relaxed);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            connection.count(data.len());
        }
        polled.map_err(axum::Error::new)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Drop for WatchedBody {
    fn drop(&mut self) {
        self.connection.body_blocked.store(false, Ordering::Relaxed);
    }
}
