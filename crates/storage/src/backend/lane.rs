//! Work on the pieces of a content in their order. A thread is there as long as there is something to do: who hands pieces in
//! goes on meanwhile, and a client that sends slowly holds no thread.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, OwnedSemaphorePermit};

/// What is done with each piece.
type Work<S> = fn(&mut S, &Bytes) -> io::Result<()>;

/// A piece, and its room among those that wait; several lanes share it.
type Waiting = (Bytes, Arc<OwnedSemaphorePermit>);

/// Work on a value, piece by piece.
pub(super) struct Lane<S>(Arc<Inner<S>>);

struct Inner<S> {
    work: Work<S>,
    state: Mutex<State<S>>,
    /// Nobody works any more.
    idle: Notify,
}

struct State<S> {
    /// None while a thread works on it, and after a failure.
    value: Option<S>,
    waiting: VecDeque<Waiting>,
    failure: Option<io::Error>,
}

impl<S: Send + 'static> Lane<S> {
    pub(super) fn new(value: S, work: Work<S>) -> Self {
        let state = State { value: Some(value), waiting: VecDeque::new(), failure: None };
        Self(Arc::new(Inner { work, state: Mutex::new(state), idle: Notify::new() }))
    }

    /// Hands in a piece; its room is free again when it is done with. What failed before is told at the end.
    pub(super) fn push(&self, piece: Bytes, room: Arc<OwnedSemaphorePermit>) {
        let mut state = self.0.lock();
        if state.failure.is_some() {
            return;
        }
        state.waiting.push_back((piece, room));
        if let Some(value) = state.value.take() {
            let inner = self.0.clone();
            tokio::task::spawn_blocking(move || inner.run(value));
        }
    }

    /// Whether something failed; there is no use in handing in more.
    pub(super) fn has_failed(&self) -> bool {
        self.0.lock().failure.is_some()
    }

    /// The value, once all pieces are done with.
    pub(super) async fn settle(self) -> io::Result<S> {
        loop {
            // Made before the look, so that no end is missed.
            let idle = self.0.idle.notified();
            {
                let mut state = self.0.lock();
                if let Some(failure) = state.failure.take() {
                    return Err(failure);
                }
                if let Some(value) = state.value.take() {
                    return Ok(value);
                }
            }
            idle.await;
        }
    }
}

impl<S> Inner<S> {
    fn run(&self, mut value: S) {
        loop {
            let next = {
                let mut state = self.lock();
                match state.waiting.pop_front() {
                    Some(next) => next,
                    None => {
                        state.value = Some(value);
                        break;
                    }
                }
            };
            if let Err(failure) = (self.work)(&mut value, &next.0) {
                let mut state = self.lock();
                state.failure = Some(failure);
                state.waiting.clear();
                break;
            }
        }
        self.idle.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, State<S>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;

    fn append(text: &mut Vec<u8>, piece: &Bytes) -> io::Result<()> {
        if &piece[..] == b"bad" {
            return Err(io::ErrorKind::StorageFull.into());
        }
        text.extend_from_slice(piece);
        Ok(())
    }

    #[tokio::test]
    async fn pieces_are_worked_on_in_their_order() {
        let room = Arc::new(Semaphore::new(2));
        let lane = Lane::new(Vec::new(), append);
        let mut expected = Vec::new();
        for number in 0..1_000 {
            let piece = Bytes::from(format!("{number},"));
            expected.extend_from_slice(&piece);
            let permit = room.clone().acquire_owned().await.unwrap();
            lane.push(piece, Arc::new(permit));
        }
        assert_eq!(lane.settle().await.unwrap(), expected);
        assert_eq!(room.available_permits(), 2);
        assert_eq!(Lane::new(vec![7], append).settle().await.unwrap(), [7], "without any piece");
    }

    #[tokio::test]
    async fn a_failure_ends_the_work_and_is_told() {
        let room = Arc::new(Semaphore::new(3));
        let lane = Lane::new(Vec::new(), append);
        for piece in ["a", "bad", "b"] {
            let permit = room.clone().acquire_owned().await.unwrap();
            lane.push(Bytes::from(piece), Arc::new(permit));
        }
        test_support::eventually("it fails", async || lane.has_failed().then_some(())).await;
        test_support::eventually("no piece holds room", async || (room.available_permits() == 3).then_some(())).await;
        assert_eq!(lane.settle().await.unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
