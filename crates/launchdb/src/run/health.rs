//! Whether the server can serve: looked at in the background, so that `/health` never waits.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use procs::postgres::Health as Postmaster;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use web::health::{HealthPart, HealthSource};

/// Between two looks when all is well, and when something is not.
const CALM: Duration = Duration::from_secs(2);
const ALERT: Duration = Duration::from_millis(100);
/// How long PostgreSQL may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// The last look.
#[derive(Clone, Default)]
pub struct HealthBoard(Arc<RwLock<Vec<HealthPart>>>);

impl HealthBoard {
    pub fn parts(&self) -> Vec<HealthPart> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn put(&self, parts: Vec<HealthPart>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = parts;
    }

    /// For the listeners.
    pub fn source(&self) -> HealthSource {
        let board = self.clone();
        Arc::new(move || board.parts())
    }

    /// Looks until `shutdown`. `ask` asks the services; `postmaster` is the embedded cluster's supervisor.
    pub async fn watch<F: Future<Output = Vec<HealthPart>>>(
        self,
        ask: impl Fn() -> F,
        mut postmaster: Option<watch::Receiver<Postmaster>>,
        shutdown: CancellationToken,
    ) {
        while !shutdown.is_cancelled() {
            let parts = look(&ask, postmaster.as_ref()).await;
            let well = parts.iter().all(|part| part.problem.is_none());
            let before = self.parts();
            if before != parts {
                for part in &parts {
                    match &part.problem {
                        Some(problem) => tracing::error!(part = part.name, problem, "unhealthy"),
                        None if before.iter().any(|old| old.name == part.name && old.problem.is_some()) => {
                            tracing::info!(part = part.name, "healthy again");
                        }
                        None => {}
                    }
                }
                self.put(parts);
            }
            let pause = tokio::time::sleep(if well { CALM } else { ALERT });
            tokio::select! {
                () = shutdown.cancelled() => return,
                // The supervisor knows of an end at once.
                () = changed(&mut postmaster) => {}
                () = pause => {}
            }
        }
    }
}

async fn look<F: Future<Output = Vec<HealthPart>>>(
    ask: &impl Fn() -> F,
    postmaster: Option<&watch::Receiver<Postmaster>>,
) -> Vec<HealthPart> {
    const POSTGRES: &str = "postgres";
    let mut parts = Vec::new();
    match postmaster.map(|receiver| receiver.borrow().clone()) {
        None => {}
        Some(Postmaster::Ready) => parts.push(HealthPart::ok(POSTGRES)),
        // Why it ended is in the log; the page is for everybody. What needs it is not asked: it would wait in vain.
        Some(Postmaster::Down(_)) => {
            return vec![HealthPart::failing(POSTGRES, "PostgreSQL ended and is being started again")];
        }
        Some(Postmaster::Stopped) => return vec![HealthPart::failing(POSTGRES, "PostgreSQL is stopped")],
    }
    match tokio::time::timeout(PATIENCE, ask()).await {
        Ok(asked) => parts.extend(asked),
        Err(_) => parts.push(HealthPart::failing("platform_database", "it answers too slowly")),
    }
    parts
}

async fn changed(postmaster: &mut Option<watch::Receiver<Postmaster>>) {
    if let Some(receiver) = postmaster
        && receiver.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[tokio::test]
    async fn the_board_follows_the_database() {
        let board = HealthBoard::default();
        let answers = Arc::new(AtomicBool::new(false));
        let shutdown = CancellationToken::new();
        let (supervisor, receiver) = watch::channel(Postmaster::Ready);
        let asked = answers.clone();
        let ask = move || {
            let well = asked.load(Ordering::Relaxed);
            async move { vec![if well { HealthPart::ok("database") } else { HealthPart::failing("database", "no") }] }
        };
        let task = tokio::spawn(board.clone().watch(ask, Some(receiver), shutdown.clone()));
        let until = async |well: bool| {
            for _ in 0..200 {
                let parts = board.parts();
                if !parts.is_empty() && parts.iter().all(|part| part.problem.is_none()) == well {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            panic!("never {well}: {:?}", board.parts());
        };
        until(false).await;
        answers.store(true, Ordering::Relaxed);
        until(true).await;
        supervisor.send(Postmaster::Down("signal: 9".to_owned())).unwrap();
        until(false).await;
        assert!(!board.parts()[0].problem.as_deref().unwrap().contains("signal"));
        supervisor.send(Postmaster::Ready).unwrap();
        until(true).await;
        shutdown.cancel();
        task.await.unwrap();
    }
}
