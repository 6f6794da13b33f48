//! Work on the pieces of a content in their order, by threads that all contents share: who hands pieces in goes on meanwhile,
//! a client that sends slowly holds no thread, and a thousand uploads have no more threads than one.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, OwnedSemaphorePermit};

/// What is done with each piece.
type Work<S> = fn(&mut S, &Bytes) -> io::Result<()>;

/// A piece, and its room among those that wait; several lanes share it.
type Waiting = (Bytes, Arc<OwnedSemaphorePermit>);

/// Pieces of one lane that are worked on before the next lane's turn.
const TURN: usize = 8;

/// Threads that work on lanes: as many as there are lanes with something to do, up to a bound.
pub(super) struct Crew {
    most: usize,
    state: Mutex<CrewState>,
}

#[derive(Default)]
struct CrewState {
    /// Lanes with something to do, the longest waiting first.
    ready: VecDeque<Arc<dyn Turn>>,
    threads: usize,
}

impl Crew {
    /// At most `most` threads at a time.
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, state: Mutex::default() })
    }

    fn enlist(self: &Arc<Self>, lane: Arc<dyn Turn>) {
        let mut state = self.lock();
        state.ready.push_back(lane);
        if state.threads < self.most {
            state.threads += 1;
            let crew = self.clone();
            tokio::task::spawn_blocking(move || crew.work());
        }
    }

    /// What each thread does.
    fn work(&self) {
        let mut again = None;
        loop {
            let mut state = self.lock();
            state.ready.extend(again.take());
            let Some(lane) = state.ready.pop_front() else {
                // Under the same lock as the look, so that nobody counts on a thread that is leaving.
                state.threads -= 1;
                return;
            };
            drop(state);
            again = lane.take_turn().then_some(lane);
        }
    }

    fn lock(&self) -> MutexGuard<'_, CrewState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A lane with something to do.
trait Turn: Send + Sync {
    /// Works on some pieces; whether there is more to do.
    fn take_turn(&self) -> bool;
}

/// Work on a value, piece by piece.
pub(super) struct Lane<S>(Arc<Inner<S>>);

struct Inner<S> {
    work: Work<S>,
    crew: Arc<Crew>,
    state: Mutex<State<S>>,
    /// Nobody works any more.
    idle: Notify,
}

struct State<S> {
    /// None while a thread works on it, and after a failure.
    value: Option<S>,
    /// The crew knows of it, or a thread works on it.
    enlisted: bool,
    waiting: VecDeque<Waiting>,
    failure: Option<io::Error>,
}

impl<S: Send + 'static> Lane<S> {
    pub(super) fn new(crew: &Arc<Crew>, value: S, work: Work<S>) -> Self {
        let state = State { value: Some(value), enlisted: false, waiting: VecDeque::new(), failure: None };
        Self(Arc::new(Inner { work, crew: crew.clone(), state: Mutex::new(state), idle: Notify::new() }))
    }

    /// Hands in a piece; its room is free again when it is done with. What failed before is told at the end.
    pub(super) fn push(&self, piece: Bytes, room: Arc<OwnedSemaphorePermit>) {
        let mut state = self.0.lock();
        if state.failure.is_some() {
            return;
        }
        state.waiting.push_back((piece, room));
        if !std::mem::replace(&mut state.enlisted, true) {
            drop(state);
            self.0.crew.enlist(self.0.clone());
        }
    }

    /// Whether something failed; there is no use in handing in more.
    pub(super) fn has_failed(&self) -> bool {
        self.0.lock().failure.is_some()
    }

    /// Waits until all pieces are done with, or one has failed.
    pub(super) async fn idle(&self) {
        loop {
            // Made before the look, so that no end is missed.
            let idle = self.0.idle.notified();
            if !self.0.lock().enlisted {
                return;
            }
            idle.await;
        }
    }

    /// The value of a lane that is idle.
    pub(super) fn into_value(self) -> io::Result<S> {
        let mut state = self.0.lock();
        match (state.failure.take(), state.value.take()) {
            (Some(failure), _) => Err(failure),
            (None, Some(value)) => Ok(value),
            (None, None) => Err(io::Error::other("a content is still worked on")),
        }
    }

    /// Nobody wants the value any more: what waits is let go, and only the piece in work is done with.
    pub(super) fn abandon(&self) {
        let mut state = self.0.lock();
        state.failure.get_or_insert_with(|| io::Error::other("the content was given up"));
        state.waiting.clear();
    }
}

impl<S: Send> Turn for Inner<S> {
    fn take_turn(&self) -> bool {
        let mut value = self.lock().value.take();
        for _ in 0..TURN {
            let mut state = self.lock();
            let Some((piece, _room)) = value.is_some().then(|| state.waiting.pop_front()).flatten() else { break };
            drop(state);
            let Some(worked) = &mut value else { break };
            // A thread of the crew goes on with the other lanes whatever happens to this one.
            let done = catch_unwind(AssertUnwindSafe(|| (self.work)(worked, &piece)));
            if let Err(failure) = done.unwrap_or_else(|_| Err(io::Error::other("a content could not be worked on"))) {
                let mut state = self.lock();
                state.failure = Some(failure);
                state.waiting.clear();
                value = None;
            }
        }
        let mut state = self.lock();
        state.value = value;
        state.enlisted = !state.waiting.is_empty();
        if !state.enlisted {
            self.idle.notify_waiters();
        }
        state.enlisted
    }
}

impl<S> Inner<S> {
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
        assert!(&piece[..] != b"worse");
        text.extend_from_slice(piece);
        Ok(())
    }

    async fn settled(lane: Lane<Vec<u8>>) -> io::Result<Vec<u8>> {
        lane.idle().await;
        lane.into_value()
    }

    /// One lane by one thread, and many by few.
    #[tokio::test]
    async fn pieces_are_worked_on_in_their_order() {
        for (lanes, threads) in [(1, 1), (50, 3)] {
            let room = Arc::new(Semaphore::new(2 * lanes));
            let crew = Crew::new(threads);
            let lanes: Vec<_> = (0..lanes).map(|_| Lane::new(&crew, Vec::new(), append)).collect();
            let mut expected = Vec::new();
            for number in 0..1_000 {
                let piece = Bytes::from(format!("{number},"));
                expected.extend_from_slice(&piece);
                for lane in &lanes {
                    let permit = room.clone().acquire_owned().await.unwrap();
                    lane.push(piece.clone(), Arc::new(permit));
                    assert!(crew.lock().threads <= threads);
                }
            }
            let all = 2 * lanes.len();
            for lane in lanes {
                assert_eq!(settled(lane).await.unwrap(), expected);
            }
            assert_eq!(room.available_permits(), all);
            let idle = async || (crew.lock().threads == 0).then_some(());
            test_support::eventually("no thread is left", idle).await;
            assert_eq!(settled(Lane::new(&crew, vec![7], append)).await.unwrap(), [7], "without any piece");
        }
    }

    #[tokio::test]
    async fn a_failure_ends_the_work_and_is_told() {
        let room = Arc::new(Semaphore::new(3));
        let lane = Lane::new(&Crew::new(2), Vec::new(), append);
        for piece in ["a", "bad", "b"] {
            let permit = room.clone().acquire_owned().await.unwrap();
            lane.push(Bytes::from(piece), Arc::new(permit));
        }
        test_support::eventually("it fails", async || lane.has_failed().then_some(())).await;
        test_support::eventually("no piece holds room", async || (room.available_permits() == 3).then_some(())).await;
        assert_eq!(settled(lane).await.unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
    /// What one lane's work does to its thread, or its client, concerns no other.
    #[tokio::test]
    async fn other_lanes_go_on() {
        let (room, crew) = (Arc::new(Semaphore::new(100)), Crew::new(1));
        let [bad, left, good] = std::array::from_fn(|_| Lane::new(&crew, Vec::new(), append));
        let permit = || Arc::new(room.clone().try_acquire_owned().unwrap());
        for _ in 0..20 {
            bad.push(Bytes::from_static(b"worse"), permit());
            left.push(Bytes::from_static(b"a"), permit());
            good.push(Bytes::from_static(b"a"), permit());
        }
        left.abandon();
        assert_eq!(settled(good).await.unwrap(), [b'a'; 20]);
        settled(bad).await.unwrap_err();
        settled(left).await.unwrap_err();
        assert_eq!(room.available_permits(), 100);
    }
}
