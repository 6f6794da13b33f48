//! Answers that take the same time whatever there was to do: what comes of an address must not tell whether somebody has an
//! account with it.

use std::time::Duration;

/// Several times what the work takes.
const LEAST: Duration = Duration::from_millis(200);

/// The result of `work`, no sooner than [`LEAST`] after it began.
pub(crate) async fn even<T>(work: impl Future<Output = T>) -> T {
    let (result, ()) = tokio::join!(work, tokio::time::sleep(LEAST));
    result
}
