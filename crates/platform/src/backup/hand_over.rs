//! From the thread that reads a backup to the session that loads it: what waits in between is bounded by its bytes, because
//! a dump decides how long its statements are.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::read::Loadable;

/// Pieces that wait.
const MOST_PIECES: usize = 16;
/// Room for the pieces that wait, in KiB; one that is larger takes all of it.
const ROOM: u32 = 16 * 1024;

/// A piece and its room.
type Held = (Loadable, OwnedSemaphorePermit);

/// The reader's end.
pub(super) struct Giver {
    pieces: mpsc::Sender<Held>,
    room: Arc<Semaphore>,
}

/// The loader's end.
pub(super) struct Taker(mpsc::Receiver<Held>);

/// The loader has stopped; it says why itself.
pub(super) struct LoaderGone;

pub(super) fn hand_over() -> (Giver, Taker) {
    let (sender, receiver) = mpsc::channel(MOST_PIECES);
    let room = Arc::new(Semaphore::new(usize::try_from(ROOM).unwrap_or(usize::MAX)));
    (Giver { pieces: sender, room }, Taker(receiver))
}

impl Giver {
    /// Waits for room; blocks, in a thread of the runtime that may.
    pub(super) fn give(&self, loadable: Loadable) -> Result<(), LoaderGone> {
        let needed = u32::try_from(loadable.bytes() / 1024 + 1).unwrap_or(ROOM).min(ROOM);
        let room = Handle::current().block_on(Arc::clone(&self.room).acquire_many_owned(needed));
        let room = room.map_err(|_| LoaderGone)?;
        self.pieces.blocking_send((loadable, room)).map_err(|_| LoaderGone)
    }
}

impl Taker {
    /// The next piece; none when the reader has ended.
    pub(super) async fn take(&mut self) -> Option<Loadable> {
        self.0.recv().await.map(|(loadable, _)| loadable)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn what_waits_is_bounded_by_its_bytes() {
        let (giver, mut taker) = hand_over();
        let given = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&given);
        let giving = tokio::task::spawn_blocking(move || {
            for line in 0..6 {
                let text = "x".repeat(6 * 1024 * 1024);
                let given = giver.give(Loadable::Statement { text, line, copies: false });
                counted.fetch_add(usize::from(given.is_ok()), Ordering::SeqCst);
            }
        });
        let settled = async || (given.load(Ordering::SeqCst) == 2).then_some(());
        test_support::eventually("two that wait", settled).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(given.load(Ordering::SeqCst), 2);
        assert!(taker.take().await.is_some());
        test_support::eventually("room", async || (given.load(Ordering::SeqCst) == 3).then_some(())).await;
        // Whoever waits for room learns that nobody takes any more.
        drop(taker);
        giving.await.unwrap();
        assert_eq!(given.load(Ordering::SeqCst), 3);
    }
}
