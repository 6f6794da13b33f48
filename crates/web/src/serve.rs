//! The HTTP server: bounded connections, bounded heads, a guard against slow clients, and a graceful end.
//!
//! The guard works without a timer per request, see `watch`: the accept loop looks all connections through once a second.

mod refusal;
mod tls;
mod watch;

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use axum::extract::Request;
use axum::response::Response;
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

pub use self::tls::{Hello, Tls};
pub use self::watch::Work;
use self::watch::{Connections, Listed, Patience, TICK, WatchedStream, request_body};
use crate::Peer;
use crate::client_ip::TrustedProxies;
use crate::metrics::HttpMetrics;
use crate::overload::PerClient;

/// Answers requests. Implemented by the gateway, and by `axum::Router` (which gets [`Peer`] as an extension).
pub trait Handler: Send + Sync + 'static {
    /// `work` stands for the request as the server's sweep sees it.
    fn handle(&self, request: Request, peer: SocketAddr, work: &Work) -> impl Future<Output = Response> + Send;
}

impl Handler for axum::Router {
    async fn handle(&self, mut request: Request, peer: SocketAddr, _: &Work) -> Response {
        request.extensions_mut().insert(Peer(peer));
        match self.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

/// How a listener serves.
#[derive(Clone, Debug)]
pub struct ServeConfig {
    /// Open connections; one more is told 503 and closed.
    pub max_connections: usize,
    /// Connections of one client address, so that others find a place.
    pub max_connections_per_client: usize,
    /// Addresses that this does not hold for, because many clients stand behind each.
    pub proxies: TrustedProxies,
    /// Request line and headers together, in bytes; hyper answers 431 beyond. The finer limits with answers in the
    /// protocol's shape are [`crate::limits::HeadLimits`], which should be smaller.
    pub max_head_bytes: usize,
    /// How long a connection may wait for a whole head, be it the first or the next, or not take any of its answer.
    pub idle_timeout: Duration,
    /// Least bytes a second at which a client takes its answer, and sends a body that is waited for. Who stays below for
    /// `rate_window` is cut off, or told so.
    pub least_write_rate: u64,
    pub least_body_rate: u64,
    pub rate_window: Duration,
    /// How long requests in work may take to end after the shutdown began.
    pub drain_deadline: Duration,
    /// Connections are TLS with its certificates; none serves plain HTTP.
    pub tls: Option<Arc<dyn Tls>>,
}

impl Default for ServeConfig {
    fn default() -> Self {
        Self {
            max_connections: 8192,
            max_connections_per_client: 1024,
            proxies: TrustedProxies::default(),
            max_head_bytes: 96 * 1024,
            idle_timeout: Duration::from_secs(30),
            least_write_rate: 16 * 1024,
            least_body_rate: 1024,
            rate_window: Duration::from_secs(10),
            drain_deadline: Duration::from_secs(10),
            tls: None,
        }
    }
}

/// Refused connections that are told so at the same time; any more are just closed.
const MAX_REFUSALS: usize = 64;
/// Bytes that one connection reads at once, and that wait to be written to it, beyond the last piece of an answer.
const MOST_BUFFERED: usize = 128 * 1024;
/// Bytes of an answer that the kernel keeps beyond what is on its way. It shows us how fast a client takes its answer, and
/// bounds the kernel's memory.
#[cfg(target_os = "linux")]
const UNSENT_BYTES: u32 = 128 * 1024;

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
    http.max_buf_size(MOST_BUFFERED.max(2 * config.max_head_bytes));
    // Connections inherit it.
    #[cfg(target_os = "linux")]
    if let Err(error) = socket2::SockRef::from(&listener).set_tcp_notsent_lowat(UNSENT_BYTES) {
        tracing::debug!(%error, "the unsent bytes of connections cannot be bounded");
    }
    let connections = Arc::new(Connections::new(metrics.clone(), config.max_head_bytes));
    let clients = PerClient::new(config.max_connections_per_client.max(1));
    let refusals = Arc::new(Semaphore::new(MAX_REFUSALS));
    let tasks = TaskTracker::new();
    let patience = Patience {
        idle: config.idle_timeout.as_secs().max(1),
        window: config.rate_window.as_secs().max(1),
        write_rate: config.least_write_rate,
        body_rate: config.least_body_rate,
    };
    let max = i64::try_from(config.max_connections).unwrap_or(i64::MAX);
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut next_id = 0u64;

    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            _ = ticks.tick() => {
                connections.sweep(patience);
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
        let many = config.proxies.contains(peer.ip());
        let place = if many { None } else { clients.enter(peer.ip()) };
        if metrics.connections.inc() >= max || (place.is_none() && !many) {
            metrics.connections.dec();
            metrics.connections_refused.inc();
            if let Ok(permit) = refusals.clone().try_acquire_owned() {
                let handler = handler.clone();
                tasks.spawn(async move {
                    let _ = timeout(TICK, refusal::no_place(stream, peer, handler)).await;
                    drop(permit);
                });
            }
            continue;
        }
        let _ = stream.set_nodelay(true);
        next_id += 1;
        let listed = connections.list(next_id, place);
        match &config.tls {
            None => {
                tasks.spawn(serve_connection(http.clone(), stream, peer, handler.clone(), listed));
            }
            Some(tls) => {
                let (tls, http, handler) = (tls.clone(), http.clone(), handler.clone());
                let closing = shutdown.clone();
                tasks.spawn(async move {
                    match closing.run_until_cancelled(tls::accept(&*tls, stream)).await {
                        Some(Ok(stream)) => serve_connection(http, stream, peer, handler, listed).await,
                        Some(Err(error)) => tracing::debug!(%error, %peer, "a TLS handshake failed"),
                        None => {}
                    }
                });
            }
        }
    }

    drop(listener);
    tasks.close();
    connections.for_each(|connection| connection.close());
    if timeout(config.drain_deadline, tasks.wait()).await.is_err() {
        tracing::warn!(connections = tasks.len(), "requests still in work at the end of the drain are dropped");
        connections.for_each(|connection| connection.expire());
        // A task that never yields cannot be ended; do not wait for it.
        let _ = timeout(TICK, tasks.wait()).await;
    }
}

async fn serve_connection<H: Handler, S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    http: http1::Builder,
    stream: S,
    peer: SocketAddr,
    handler: Arc<H>,
    listed: Listed,
) {
    let connection = &*listed.connection;
    // Above TLS, so that what it says instead of the parser is encrypted, too.
    let io = TokioIo::new(WatchedStream::new(stream, peer, &listed));
    let service = service_fn(|request: http::Request<Incoming>| {
        let handler = handler.clone();
        let (connection, connections) = (listed.connection.clone(), listed.connections.clone());
        async move {
            poll_fn(|_| connection.poll_taken()).await;
            connection.begin(connections.tick());
            let request = request.map(|incoming| request_body(incoming, &connection));
            let response = handler.handle(request, peer, &connection.work).await;
            let known_length = response.body().size_hint().exact().is_some();
            connection.answer(connections.tick(), known_length);
            Ok::<_, Infallible>(response)
        }
    });
    let mut http = pin!(http.serve_connection(io, service).with_upgrades());
    let (mut first, mut told) = (true, false);
    let served = poll_fn(|cx| {
        // A task's waker stays the same, so that once is enough until it is used.
        connection.register(first, cx);
        first = false;
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

#[cfg(test)]
mod tests;
