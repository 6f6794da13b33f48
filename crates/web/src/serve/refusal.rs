//! What is said to those who do not get as far as a handler: whose head is no HTTP or too large, and who find no place.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use http::{HeaderMap, Request};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::watch::Connections;
use super::{Handler, Work};
use crate::error::Protocol;
use crate::rejection::Rejection;

/// Longest request target that the HTTP parser takes, in bytes.
const PARSER_URI_BYTES: usize = 65_534;

/// The answer in place of one that the HTTP parser made, which is empty.
pub(super) struct Refusal {
    text: Vec<u8>,
    sent: usize,
}

impl Refusal {
    /// `head` is the parser's answer, of which only the status is kept.
    pub(super) fn instead_of(head: &[u8], connections: &Connections, peer: SocketAddr) -> Self {
        let rejection = match head.get(9..12) {
            Some(b"414") => Rejection::UriTooLong { limit: PARSER_URI_BYTES },
            Some(b"431") => Rejection::HeadersTooLarge { limit: connections.max_head_bytes },
            _ => Rejection::Malformed,
        };
        let id = connections.ids.accept_or_make(&HeaderMap::new());
        connections.metrics.rejected(rejection.reason());
        let (status, code) = (rejection.status(), rejection.code(Protocol::Platform));
        tracing::info!(
            request.id = id.as_str(),
            client.ip = %peer.ip(),
            status = status.as_u16(),
            error.code = code,
            "a request could not be read"
        );
        let body = Protocol::Platform.body(status, code, &rejection.message(), None, None);
        let mut text = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: {}\r\n\
             X-Request-Id: {}\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n",
            body.len(),
            id.as_str(),
        )
        .into_bytes();
        text.extend_from_slice(&body);
        Self { text, sent: 0 }
    }

    pub(super) fn rest(&self) -> &[u8] {
        &self.text[self.sent..]
    }

    pub(super) fn advance(&mut self, bytes: usize) {
        self.sent = (self.sent + bytes).min(self.text.len());
    }
}

/// Tells a client for whom there is no place that it is so. Who asks for health is answered all the same: it must be
/// known when everything else is refused.
pub(super) async fn no_place<H: Handler>(mut stream: TcpStream, peer: SocketAddr, handler: Arc<H>) -> io::Result<()> {
    const ANSWER: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n\
        Content-Type: application/json; charset=utf-8\r\nContent-Length: 85\r\n\r\n\
        {\"error\":{\"code\":\"overloaded\",\"message\":\"Too many open connections\",\"details\":null}}\n";
    let mut head = [0; 4096];
    let length = stream.peek(&mut head).await?;
    if asks_for_health(&head[..length]) {
        let service = service_fn(|request: Request<Incoming>| {
            let handler = handler.clone();
            async move {
                let request = request.map(|_| axum::body::Body::empty());
                Ok::<_, std::convert::Infallible>(handler.handle(request, peer, &Work::default()).await)
            }
        });
        let mut http = http1::Builder::new();
        http.header_read_timeout(None).keep_alive(false);
        return http.serve_connection(TokioIo::new(stream), service).await.map_err(io::Error::other);
    }
    // What came of the request is read, so that the answer is not lost to a reset.
    let _ = stream.read(&mut head).await?;
    stream.write_all(ANSWER).await?;
    stream.shutdown().await
}

fn asks_for_health(head: &[u8]) -> bool {
    [&b"GET /health "[..], b"HEAD /health ", b"GET /api/health "].iter().any(|line| head.starts_with(line))
}
