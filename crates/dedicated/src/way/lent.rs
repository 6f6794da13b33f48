//! A request's body that can be taken back as long as nothing of it was read.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use http_body::{Frame, SizeHint};

#[derive(Clone)]
pub(super) struct Lent {
    body: Arc<Mutex<Body>>,
    is_touched: Arc<AtomicBool>,
}

impl Lent {
    pub(super) fn new(body: Body) -> Self {
        Self { body: Arc::new(Mutex::new(body)), is_touched: Arc::default() }
    }

    /// Whether nothing of it was read; an empty one is always whole.
    pub(super) fn is_whole(&self) -> bool {
        !self.is_touched.load(Ordering::Acquire)
    }

    /// The body itself; who was lent it finds an empty one.
    pub(super) fn take(&self) -> Body {
        std::mem::take(&mut *self.body.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl http_body::Body for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut body = self.body.lock().unwrap_or_else(PoisonError::into_inner);
        let polled = Pin::new(&mut *body).poll_frame(cx);
        if matches!(polled, Poll::Ready(Some(_))) {
            self.is_touched.store(true, Ordering::Release);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.lock().unwrap_or_else(PoisonError::into_inner).is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.lock().unwrap_or_else(PoisonError::into_inner).size_hint()
    }
}
