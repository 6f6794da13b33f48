//! Waiting for something to become true, with a deadline instead of a sleep.

use std::time::{Duration, Instant};

/// Long enough for anything on a machine that builds at the same time.
const DEADLINE: Duration = Duration::from_secs(30);

/// Waits until `look` gives a value, asking every 10 ms for at most 30 s.
///
/// # Panics
/// When the time is over; `what` says what never came.
pub async fn eventually<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    eventually_within(DEADLINE, what, look).await
}

/// As [`eventually`] with another deadline.
///
/// # Panics
/// When the time is over.
pub async fn eventually_within<T>(deadline: Duration, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = look().await {
            return value;
        }
        assert!(start.elapsed() < deadline, "after {deadline:?} still not: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
