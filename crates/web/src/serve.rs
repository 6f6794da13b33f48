//! The HTTP server: bounded connections, bounded heads, a guard against slow clients, and a graceful end.
//!
//! The guard works without a timer per request: connections note in coarse ticks since when they wait for a head or
//! write an answer, and the accept loop looks them through once a second.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use futures_util::task::AtomicWaker;
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use crate::Peer;
use crate::metrics::HttpMetrics;

/// Answers requests. Implemented by the gateway, and by `axum::Router` (which gets [`Peer`] as an extension).
pub trait Handler: Send + Sync + 'static {
    fn handle(&self, request: Request, peer: SocketAddr) -> impl Future<Output = Response> + Send;
}

impl Handler for axum::Router {
    async fn handle(&self, mut request: Request, peer: SocketAddr) -> Response {
        request.extensions_mut().insert(Peer(peer));
        match self.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

/// How a listener serves.
#[derive(Clone, Copy, Debug)]
pub struct ServeConfig {
    /// Open connections; one more is told 503 and closed.
    pub max_connections: usize,
    /// Request line and headers together, in bytes; hyper answers 431 beyond. The finer limits with answers in the
    /// protocol's shape are [`crate::limits::HeadLimits`], which should be smaller.
    pub max_head_bytes: usize,
    /// How long a connection may wait for a whole head, be it the first or the next, or not take any of its answer.
    pub idle_timeout: Duration,
    /// How long requests in work may take to end after the shutdown began.
    pub drain_deadline: Duration,
}

impl Default for ServeConfig {
    fn default() -> Self {
        Self {
            max_connections: 8192,
            max_head_bytes: 96 * 1024,
            idle_timeout: Duration::from_secs(30),
            drain_deadline: Duration::from_secs(10),
        }
    }
}

/// Length of a tick of the guard.
const TICK: Duration = Duration::from_secs(1);
/// Ticks that an answer of unknown length may go without a byte, because its service is waiting for something.
const STREAM_GRACE: u64 = 600;
/// Refused connections that are told so at the same time; any more are just closed.
const MAX_REFUSALS: usize = 64;

#[derive(Debug, Default)]
struct Connection {
    /// The tick since which the client is waited for; 0 while a service works on its request.
    waiting_since: AtomicU64,
    /// Set when the server ends: finish what is in work, then close.
    closing: AtomicBool,
    /// Set when the connection has to end now.
    expired: AtomicBool,
    waker: AtomicWaker,
}

impl Connection {
    fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.waker.wake();
    }

    fn expire(&self) {
        self.expired.store(true, Ordering::Release);
        self.waker.wake();
    }
}

/// The open connections of one listener.
#[derive(Debug)]
struct Connections {
    tick: AtomicU64,
    open: Mutex<HashMap<u64, Arc<Connection>>>,
}

impl Connections {
    fn new() -> Self {
        Self { tick: AtomicU64::new(1), open: Mutex::default() }
    }

    fn open(&self) -> MutexGuard<'_, HashMap<u64, Arc<Connection>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tick(&self) -> u64 {
        self.tick.load(Ordering::Relaxed)
    }

    /// Ends the connections whose clients let the server wait for more than `limit` ticks.
    fn sweep(&self, limit: u64) {
        let tick = self.tick.fetch_add(1, Ordering::Relaxed) + 1;
        for connection in self.open().values() {
            let since = connection.waiting_since.load(Ordering::Relaxed);
            if since != 0 && tick.saturating_sub(since) > limit {
                connection.expire();
            }
        }
    }
}

/// Takes the connection off the list however its task ends.
struct Listed {
    id: u64,
    connections: Arc<Connections>,
    connection: Arc<Connection>,
    metrics: HttpMetrics,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.connections.open().remove(&self.id);
        self.metrics.connections.dec();
    }
}

/// Notes that a client takes its answer.
struct WatchedStream {
    stream: TcpStream,
    connection: Arc<Connection>,
    connections: Arc<Connections>,
}

impl WatchedStream {
    fn wrote(&self, result: &Poll<io::Result<usize>>) {
        if matches!(result, Poll::Ready(Ok(1..))) {
            let since = self.connection.waiting_since.load(Ordering::Relaxed);
            let tick = self.connections.tick();
            if since != 0 && tick > since {
                self.connection.waiting_since.store(tick, Ordering::Relaxed);
            }
        }
    }
}

impl AsyncRead for WatchedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for WatchedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.wrote(&result);
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.wrote(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Serves until `shutdown` is cancelled, then takes no more connections, lets requests in work end within
/// [`ServeConfig::drain_deadline`], and returns.
pub async fn serve<H: Handler>(
    listener: TcpListener,
    handler: Arc<H>,
    config: ServeConfig,
    metrics: HttpMetrics,
    shutdown: CancellationToken,
) {
    let mut http = http1::Builder::new();
    // hyper's own head timeout would make and drop a timer for every request; `Connections::sweep` takes its place.
    http.header_read_timeout(None).max_header_size(config.max_head_bytes).keep_alive(true);
    let connections = Arc::new(Connections::new());
    let refusals = Arc::new(Semaphore::new(MAX_REFUSALS));
    let tasks = TaskTracker::new();
    let idle_ticks = config.idle_timeout.as_secs().max(1);
    let max = i64::try_from(config.max_connections).unwrap_or(i64::MAX);
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut next_id = 0u64;

    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            _ = ticks.tick() => {
                connections.sweep(idle_ticks);
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, mostly: waiting lets some connections end.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        if metrics.connections.inc() >= max {
            metrics.connections.dec();
            metrics.connections_refused.inc();
            if let Ok(permit) = refusals.clone().try_acquire_owned() {
                tasks.spawn(async move {
                    let _ = timeout(TICK, refuse(stream)).await;
                    drop(permit);
                });
            }
            continue;
        }
        let _ = stream.set_nodelay(true);
        next_id += 1;
        let connection =
            Arc::new(Connection { waiting_since: AtomicU64::new(connections.tick()), ..Connection::default() });
        connections.open().insert(next_id, connection.clone());
        let listed = Listed { id: next_id, connections: connections.clone(), connection, metrics: metrics.clone() };
        tasks.spawn(serve_connection(http.clone(), stream, peer, handler.clone(), listed));
    }

    drop(listener);
    tasks.close();
    for connection in connections.open().values() {
        connection.close();
    }
    if timeout(config.drain_deadline, tasks.wait()).await.is_err() {
        tracing::warn!(connections = tasks.len(), "requests still in work at the end of the drain are dropped");
        for connection in connections.open().values() {
            connection.expire();
        }
        // A task that never yields cannot be ended; do not wait for it.
        let _ = timeout(TICK, tasks.wait()).await;
    }
}

async fn serve_connection<H: Handler>(
    http: http1::Builder,
    stream: TcpStream,
    peer: SocketAddr,
    handler: Arc<H>,
    listed: Listed,
) {
    let connection = &*listed.connection;
    let io = TokioIo::new(WatchedStream {
        stream,
        connection: listed.connection.clone(),
        connections: listed.connections.clone(),
    });
    let service = service_fn(|request: http::Request<Incoming>| {
        let handler = handler.clone();
        let (connection, connections) = (listed.connection.clone(), listed.connections.clone());
        async move {
            connection.waiting_since.store(0, Ordering::Relaxed);
            let response = handler.handle(request.map(request_body), peer).await;
            let known_length = response.body().size_hint().exact().is_some();
            let grace = if known_length { 0 } else { STREAM_GRACE };
            connection.waiting_since.store(connections.tick() + grace, Ordering::Relaxed);
            Ok::<_, Infallible>(response)
        }
    });
    let mut http = pin!(http.serve_connection(io, service).with_upgrades());
    let (mut registered, mut told) = (false, false);
    let served = poll_fn(|cx| {
        // A task's waker stays the same, so that once is enough.
        if !registered {
            connection.waker.register(cx.waker());
            registered = true;
        }
        if connection.expired.load(Ordering::Acquire) {
            return Poll::Ready(Ok(()));
        }
        if !told && connection.closing.load(Ordering::Acquire) {
            http.as_mut().graceful_shutdown();
            told = true;
        }
        http.as_mut().poll(cx)
    });
    if let Err(error) = served.await {
        // Clients hang up and send nonsense all the time.
        tracing::debug!(%error, %peer, "connection ended");
    }
}

/// A request without a body needs no box around nothing.
fn request_body(incoming: Incoming) -> Body {
    if incoming.is_end_stream() { Body::empty() } else { Body::new(incoming) }
}

/// Reads what fits of the request, so that the answer is not lost to a reset, and says 503.
async fn refuse(mut stream: TcpStream) -> io::Result<()> {
    const ANSWER: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n\
        Content-Type: application/json; charset=utf-8\r\nContent-Length: 85\r\n\r\n\
        {\"error\":{\"code\":\"overloaded\",\"message\":\"Too many open connections\",\"details\":null}}\n";
    let mut head = [0; 4096];
    let _ = stream.read(&mut head).await?;
    stream.write_all(ANSWER).await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests;
