//! How far long work is, on standard error: a line that is written over on a terminal, one line at the end elsewhere.

use std::io::{IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use platform::backup::Progress;

const INTERVAL: Duration = Duration::from_millis(200);

/// One piece of work that is being done.
pub struct Bar {
    what: String,
    bytes: Progress,
    started: Instant,
    ended: Arc<AtomicBool>,
    drawing: std::sync::Mutex<Option<JoinHandle<()>>>,
}

impl Bar {
    pub fn begin(what: impl Into<String>) -> Self {
        let (what, bytes, ended) = (what.into(), Progress::default(), Arc::new(AtomicBool::new(false)));
        let started = Instant::now();
        let drawing = std::io::stderr().is_terminal().then(|| {
            let (what, bytes, ended) = (what.clone(), bytes.clone(), ended.clone());
            std::thread::spawn(move || {
                while !ended.load(Ordering::Relaxed) {
                    let _ = write!(std::io::stderr(), "\r\x1b[K{}", line(&what, &bytes, started));
                    std::thread::park_timeout(INTERVAL);
                }
                let _ = write!(std::io::stderr(), "\r\x1b[K");
            })
        });
        Self { what, bytes, started, ended, drawing: std::sync::Mutex::new(drawing) }
    }

    /// What the work counts in.
    pub fn bytes(&self) -> &Progress {
        &self.bytes
    }

    /// Ends the line with what came of it.
    pub fn end(self, outcome: &str) {
        self.stop();
        let _ = writeln!(std::io::stderr(), "{}: {outcome}", line(&self.what, &self.bytes, self.started));
    }

    fn stop(&self) {
        self.ended.store(true, Ordering::Relaxed);
        let drawing = self.drawing.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(drawing) = drawing {
            drawing.thread().unpark();
            let _ = drawing.join();
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.stop();
    }
}

fn line(what: &str, bytes: &Progress, started: Instant) -> String {
    let seconds = started.elapsed().as_secs_f64();
    let bytes = bytes.load(Ordering::Relaxed);
    if bytes == 0 {
        // Nothing was counted yet, or it is another program's work.
        return format!("{what}  {seconds:.1} s");
    }
    let speed = bytes as f64 / seconds.max(0.001);
    format!("{what}  {} in {seconds:.1} s ({}/s)", size(bytes as f64), size(speed))
}

/// Bytes for people.
pub fn size(bytes: f64) -> String {
    match bytes {
        _ if bytes < 1e3 => format!("{bytes:.0} B"),
        _ if bytes < 1e6 => format!("{:.1} kB", bytes / 1e3),
        _ if bytes < 1e9 => format!("{:.1} MB", bytes / 1e6),
        _ => format!("{:.2} GB", bytes / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_counts_no_bytes_says_none() {
        let begun = Instant::now();
        let check = |bytes: u64, expected: fn(&str) -> bool| {
            let line = line("all", &Arc::new(bytes.into()), begun);
            assert!(expected(&line), "{line}");
        };
        check(0, |line| line.starts_with("all  0.") && line.ends_with(" s"));
        check(2_000, |line| line.starts_with("all  2.0 kB in 0.") && line.ends_with("/s)"));
    }

    #[test]
    fn sizes_are_short() {
        let check = |bytes: f64, text: &str| assert_eq!(size(bytes), text);
        check(0.0, "0 B");
        check(1_500.0, "1.5 kB");
        check(12_345_678.0, "12.3 MB");
        check(3.2e9, "3.20 GB");
    }
}
