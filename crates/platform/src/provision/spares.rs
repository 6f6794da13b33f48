//! Complete projects made ahead, so that creating one is a single statement.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use base::ProjectRef;

use super::store::project;
use super::{ProvisionError, Provisioner};

/// How often the number of spares is looked at without a reason.
const INTERVAL: Duration = Duration::from_secs(30);
const SHORTEST_BACKOFF: Duration = Duration::from_secs(1);
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);
/// How long a spare waits for the disk while requests build databases themselves.
const YIELD: Duration = Duration::from_millis(50);

impl Provisioner {
    /// Keeps the configured number of spares until shutdown, one at a time and behind requests.
    pub(super) async fn keep_spares(self) {
        let mut backoff = SHORTEST_BACKOFF;
        while !self.0.shutdown.is_cancelled() {
            let pause = match self.add_spare().await {
                Ok(true) => {
                    backoff = SHORTEST_BACKOFF;
                    continue;
                }
                Ok(false) => INTERVAL,
                Err(error) => {
                    tracing::warn!(cause = ?error, "no spare project could be made");
                    backoff = (backoff * 2).min(LONGEST_BACKOFF);
                    backoff
                }
            };
            tokio::select! {
                () = self.0.shutdown.cancelled() => {}
                () = self.0.refill.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Makes one spare if there are too few; says whether it did.
    pub async fn add_spare(&self) -> Result<bool, ProvisionError> {
        if !self.0.write_gate.is_open() {
            return Ok(false);
        }
        let wanted = i64::try_from(self.0.config.spare_count).unwrap_or(i64::MAX);
        let there = {
            let db = self.0.pool.get().await?;
            project::spare_count(&**db).await?
        };
        if there >= wanted {
            return Ok(false);
        }
        self.give_way(Duration::MAX).await;
        self.make(&ProjectRef::generate(), None).await?;
        Ok(true)
    }

    /// Waits while somebody waits for a project that is being made, at most so long: what nobody waits for comes after.
    pub(super) async fn give_way(&self, longest: Duration) {
        let start = Instant::now();
        let busy = || self.0.building_for_requests.load(Ordering::Relaxed) > 0 && !self.0.shutdown.is_cancelled();
        while busy() && start.elapsed() < longest {
            tokio::time::sleep(YIELD).await;
        }
    }
}
