//! Budgets of bytes that wait in memory for clients: answers that are not yet sent, request bodies that came in.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};

/// Answers shorter than this are not counted: there is at most one to a connection, and counting them would cost every
/// request.
pub const UNCOUNTED: u64 = 64 * 1024;

/// Bytes that may be held at once.
#[derive(Debug)]
pub struct ByteBudget {
    held: AtomicU64,
    max: u64,
}

impl ByteBudget {
    pub fn new(max: u64) -> Arc<Self> {
        Arc::new(Self { held: AtomicU64::new(0), max })
    }

    pub fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// What is larger than the whole budget is let in when it is alone.
    fn take(&self, bytes: u64, stretch: u64) -> bool {
        let before = self.held.fetch_add(bytes, Ordering::Relaxed);
        let fits = before == 0 || before + bytes <= self.max.saturating_mul(stretch);
        if !fits {
            self.give_back(bytes);
        }
        fits
    }

    fn give_back(&self, bytes: u64) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Bytes taken of the process's budget and of a project's; given back when dropped.
#[derive(Debug)]
pub struct Held {
    process: Arc<ByteBudget>,
    project: Option<Arc<ByteBudget>>,
    bytes: AtomicU64,
}

impl Held {
    /// Nothing yet.
    pub fn none(process: &Arc<ByteBudget>, project: Option<&Arc<ByteBudget>>) -> Self {
        Self { process: process.clone(), project: project.cloned(), bytes: AtomicU64::new(0) }
    }

    /// Takes more; false when there is no room. The budgets count `stretch` times their size for it.
    #[must_use]
    pub fn grow(&self, bytes: u64, stretch: u64) -> bool {
        if !self.process.take(bytes, stretch) {
            return false;
        }
        if let Some(project) = &self.project
            && !project.take(bytes, stretch)
        {
            self.process.give_back(bytes);
            return false;
        }
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        true
    }

    /// A part with an end of its own.
    fn split(&mut self, bytes: u64) -> Self {
        let own = self.bytes.get_mut();
        let bytes = bytes.min(*own);
        *own -= bytes;
        Self { process: self.process.clone(), project: self.project.clone(), bytes: AtomicU64::new(bytes) }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let bytes = *self.bytes.get_mut();
        self.process.give_back(bytes);
        if let Some(project) = &self.project {
            project.give_back(bytes);
        }
    }
}

/// Lets an answer hold its bytes until each is written or dropped. None when there is no room for it. Answers of unknown
/// length, whose services make no more than is taken, and short ones are not counted.
pub fn hold_answer(response: Response, held: impl FnOnce() -> Held, stretch: u64) -> Option<Response> {
    let length = response.body().size_hint().exact().unwrap_or(0);
    if length < UNCOUNTED {
        return Some(response);
    }
    let held = held();
    if !held.grow(length, stretch) {
        return None;
    }
    Some(response.map(|inner| Body::new(HeldAnswer { inner, held })))
}

struct HeldAnswer {
    inner: Body,
    held: Held,
}

impl http_body::Body for HeldAnswer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        polled.map_ok(|frame| {
            frame.map_data(|bytes| {
                // The HTTP server drops them when they are written.
                let held = self.held.split(bytes.len() as u64);
                Bytes::from_owner(HeldBytes { bytes, _held: held })
            })
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

struct HeldBytes {
    bytes: Bytes,
    _held: Held,
}

impl AsRef<[u8]> for HeldBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn answers_hold_their_bytes_until_they_are_gone() {
        let (process, project) = (ByteBudget::new(300_000), ByteBudget::new(200_000));
        let hold = |bytes: usize, stretch| {
            let response = Response::new(Body::from(vec![b'x'; bytes]));
            hold_answer(response, || Held::none(&process, Some(&project)), stretch)
        };
        assert!(hold(1000, 1).is_some());
        assert_eq!(process.held(), 0, "short ones are not counted");
        let first = hold(150_000, 1).unwrap();
        assert!(hold(100_000, 1).is_none(), "the project's share");
        assert_eq!((process.held(), project.held()), (150_000, 150_000), "a refusal takes nothing");
        drop(hold(100_000, 2).unwrap());
        let mut body = first.into_body();
        let data = body.frame().await.unwrap().unwrap().into_data().unwrap();
        drop(body);
        assert_eq!(process.held(), 150_000, "until the bytes themselves are gone");
        drop(data);
        assert_eq!((process.held(), project.held()), (0, 0));
        assert!(hold(900_000, 1).is_some(), "one that is too large for the budget goes alone");
    }
}
