//! Limits on what a request may send: body, headers, URI.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Uri, header};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;

use crate::rejection::Rejection;

/// Longest a whole request body may take to arrive.
pub const BODY_READ_TIMEOUT: Duration = Duration::from_secs(60);

/// Why a request's body could not be had.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("the request body is larger than {limit} bytes")]
    TooLarge { limit: u64 },
    #[error("the request body did not arrive in time")]
    TimedOut,
    #[error("there is no room for the request body")]
    NoRoom,
    #[error("the request body could not be read")]
    Broken(#[source] axum::Error),
}

/// The error that a body ends with when it is our limits that end it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyFault {
    #[error("the request body is larger than {limit} bytes")]
    TooLarge { limit: u64 },
    #[error("the request body arrives too slowly")]
    TooSlow,
    #[error("there is no room for the request body")]
    NoRoom,
}

struct CappedBody {
    inner: Body,
    left: u64,
    limit: u64,
}

impl http_body::Body for CappedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            match self.left.checked_sub(data.len() as u64) {
                Some(left) => self.left = left,
                None => return Poll::Ready(Some(Err(axum::Error::new(BodyFault::TooLarge { limit: self.limit })))),
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Holds a body to `limit` bytes. A declared length is checked at once (hyper holds the client to it); a body of
/// unknown length is counted while it streams.
pub fn cap_body(headers: &HeaderMap, body: Body, limit: u64) -> Result<Body, BodyError> {
    match declared_length(headers, &body) {
        Some(length) if length > limit => Err(BodyError::TooLarge { limit }),
        Some(_) => Ok(body),
        None => Ok(Body::new(CappedBody { inner: body, left: limit, limit })),
    }
}

/// The length of a body when it is known before it came.
pub(crate) fn declared_length(headers: &HeaderMap, body: &Body) -> Option<u64> {
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    declared.or_else(|| http_body::Body::size_hint(body).exact())
}

/// Reads a whole body that [`cap_body`] holds to its limit, within [`BODY_READ_TIMEOUT`]. A body of one piece is not
/// copied.
pub async fn read_body(body: Body) -> Result<Bytes, BodyError> {
    match tokio::time::timeout(BODY_READ_TIMEOUT, body.collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) => Err(body_error(error)),
        Err(_) => Err(BodyError::TimedOut),
    }
}

/// What a streaming reader's error means.
pub fn body_error(error: axum::Error) -> BodyError {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(current) = source {
        if let Some(fault) = current.downcast_ref::<BodyFault>() {
            return match *fault {
                BodyFault::TooLarge { limit } => BodyError::TooLarge { limit },
                BodyFault::TooSlow => BodyError::TimedOut,
                BodyFault::NoRoom => BodyError::NoRoom,
            };
        }
        source = current.source();
    }
    BodyError::Broken(error)
}

/// Limits of the head of a request. Beyond the server's own buffer ([`crate::ServeConfig::max_head_bytes`]) hyper
/// answers by itself; within it these are answered in the protocol's shape.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Longest path and query, in bytes.
    pub uri_bytes: usize,
    /// All header names and values together, in bytes.
    pub header_bytes: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        // Long `in.(...)` lists are common; JWTs with many claims reach some KB.
        Self { uri_bytes: 32 * 1024, header_bytes: 48 * 1024 }
    }
}

/// Checks URI and headers.
pub fn check_head(uri: &Uri, headers: &HeaderMap, limits: HeadLimits) -> Result<(), Rejection> {
    if uri.path_and_query().is_some_and(|pq| pq.as_str().len() > limits.uri_bytes) {
        return Err(Rejection::UriTooLong { limit: limits.uri_bytes });
    }
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if bytes > limits.header_bytes {
        return Err(Rejection::HeadersTooLarge { limit: limits.header_bytes });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_of_unknown_length_is_counted_while_it_streams() {
        let streamed = |pieces: &[&'static str]| {
            let pieces: Vec<Result<_, std::io::Error>> =
                pieces.iter().map(|p| Ok(Bytes::from_static(p.as_bytes()))).collect();
            Body::from_stream(futures_util::stream::iter(pieces))
        };
        let read = async |body: Body| read_body(cap_body(&HeaderMap::new(), body, 8).unwrap()).await;
        assert_eq!(read(streamed(&["1234", "5678"])).await.unwrap(), "12345678");
        let error = read(streamed(&["1234", "5678", "9"])).await.unwrap_err();
        assert!(matches!(error, BodyError::TooLarge { limit: 8 }), "{error:?}");
    }

    #[test]
    fn a_declared_length_is_checked_at_once() {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_LENGTH, "9".parse().unwrap());
        assert!(matches!(cap_body(&headers, Body::empty(), 8), Err(BodyError::TooLarge { limit: 8 })));
        assert!(cap_body(&headers, Body::empty(), 9).is_ok());
        assert!(cap_body(&HeaderMap::new(), Body::from("123456789"), 8).is_err());
    }
}
