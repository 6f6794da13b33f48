//! Lines of the log on their way out, gathered so that one write serves many requests.
//!
//! A reader that stalls (a pipe that nobody empties) holds up no request: the buffer is bounded, and lines that find no
//! room are counted and dropped.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// How long a line waits for others, at most.
const GATHER: Duration = Duration::from_millis(100);
/// Bytes that are written without waiting for more.
const FULL: usize = 32 * 1024;
/// Bytes that may wait.
const MOST: usize = 4 * 1024 * 1024;

/// Where lines wait. Clones share it.
#[derive(Clone)]
pub struct LogBuffer(Arc<Inner>);

struct Inner {
    waiting: Mutex<Vec<u8>>,
    /// Held while writing, so that lines stay in order.
    out: Mutex<Box<dyn Write + Send>>,
    dropped: AtomicU64,
    first: Notify,
    full: Notify,
}

impl LogBuffer {
    pub fn new(out: impl Write + Send + 'static) -> Self {
        Self(Arc::new(Inner {
            waiting: Mutex::default(),
            out: Mutex::new(Box::new(out)),
            dropped: AtomicU64::new(0),
            first: Notify::new(),
            full: Notify::new(),
        }))
    }

    /// Adds what `write` writes; it goes out within a tenth of a second while [`Self::run`] runs, else with the next
    /// [`Self::flush`].
    pub fn append(&self, write: impl FnOnce(&mut Vec<u8>)) {
        let (before, after) = {
            let mut waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let before = waiting.len();
            if before >= MOST {
                self.0.dropped.fetch_add(1, Ordering::Relaxed);
                return;
            }
            write(&mut waiting);
            (before, waiting.len())
        };
        if before == 0 {
            self.0.first.notify_one();
        }
        if before < FULL && after >= FULL {
            self.0.full.notify_one();
        }
    }

    /// Writes everything that waits. What cannot be written is lost: there is nowhere left to say so.
    pub fn flush(&self) {
        let mut out = self.0.out.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = std::mem::take(&mut *self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        let _ = out.write_all(&lines);
        let dropped = self.0.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let _ = writeln!(out, "{dropped} lines of the log were dropped, because they were not read in time");
        }
        let _ = out.flush();
    }

    /// Writes what gathers, until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        while shutdown.run_until_cancelled(self.0.first.notified()).await.is_some() {
            tokio::select! {
                () = tokio::time::sleep(GATHER) => {}
                () = self.0.full.notified() => {}
                () = shutdown.cancelled() => {}
            }
            let buffer = self.clone();
            // Writing may block.
            if tokio::task::spawn_blocking(move || buffer.flush()).await.is_err() {
                return;
            }
        }
        self.flush();
    }
}

/// What is written this way goes out at once, behind what waits.
impl Write for LogBuffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.append(|waiting| waiting.extend_from_slice(bytes));
        Self::flush(self);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Self::flush(self);
        Ok(())
    }
}

impl std::fmt::Debug for LogBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LogBuffer")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Sink {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn lines_go_out_in_order_and_all_of_them_at_the_end() {
        let (sink, shutdown) = (Sink::default(), CancellationToken::new());
        let buffer = LogBuffer::new(sink.clone());
        let running = tokio::spawn(buffer.clone().run(shutdown.clone()));
        buffer.append(|out| out.extend_from_slice(b"one\n"));
        while sink.text().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        buffer.append(|out| out.extend_from_slice(b"two\n"));
        shutdown.cancel();
        running.await.unwrap();
        assert_eq!(sink.text(), "one\ntwo\n");
    }

    #[test]
    fn what_nobody_reads_is_dropped_and_counted() {
        let sink = Sink::default();
        let buffer = LogBuffer::new(sink.clone());
        let line = vec![b'x'; MOST / 2];
        for _ in 0..5 {
            buffer.append(|out| out.extend_from_slice(&line));
        }
        buffer.flush();
        assert!(sink.text().ends_with("3 lines of the log were dropped, because they were not read in time\n"));
        assert_eq!(sink.text().matches('x').count(), MOST);
    }
}
