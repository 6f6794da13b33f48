//! What the start asks of the platform's database. That has just been started, and may have much to do: a connection that it
//! does not give in time is no reason to end.

use std::time::{Duration, Instant};

use platform::Error;

/// How long the start asks, and how long it waits between two tries.
const PATIENCE: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_millis(200);

/// Runs `attempt` until the database answers, for a minute at most.
pub(super) async fn until_available<T>(mut attempt: impl AsyncFnMut() -> Result<T, Error>) -> Result<T, Error> {
    let started = Instant::now();
    loop {
        match attempt().await {
            Err(error @ Error::Unavailable(_)) if started.elapsed() < PATIENCE => {
                tracing::warn!(cause = ?error, "the platform's database does not answer yet, trying again");
                tokio::time::sleep(RETRY).await;
            }
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_database_that_does_not_answer_is_asked_again_and_one_that_refuses_is_not() {
        let mut tries = 0;
        let answered = until_available(async || {
            tries += 1;
            if tries == 1 { Err(Error::Unavailable("no answer in time".into())) } else { Ok(tries) }
        });
        assert!(matches!(answered.await, Ok(2)));
        let mut tries = 0;
        let refused = until_available(async || {
            tries += 1;
            Err::<(), _>(Error::NoSuchOwner)
        });
        assert!(matches!(refused.await, Err(Error::NoSuchOwner)));
        assert_eq!(tries, 1);
    }
}
