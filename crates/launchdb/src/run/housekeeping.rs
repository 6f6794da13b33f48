//! What a running server looks after until its end.

use std::time::Duration;

use tokio::task::JoinSet;
use web::metrics::HttpMetrics;

use super::server::Services;
use super::signals::Signals;
use super::storage::Storage;
use crate::exit::{self, Exit};

/// Between two looks after what has to be looked after.
const HOUSEKEEPING: Duration = Duration::from_secs(10);

/// Looks after everything until a signal, or until something ended that must not.
pub(super) async fn until_signal(
    storage: &Storage,
    services: &Services,
    http_metrics: &HttpMetrics,
    signals: &mut Signals,
    loops: &mut JoinSet<()>,
    serving: &mut JoinSet<()>,
) -> Result<(), Exit> {
    let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
    loop {
        tokio::select! {
            signal = signals.next() => {
                tracing::info!(signal, "ending: requests under way may finish");
                return Ok(());
            }
            _ = loops.join_next() => return Err(Exit::message(exit::FAILURE, "a background task ended unexpectedly")),
            _ = serving.join_next() => return Err(Exit::message(exit::FAILURE, "a listener ended unexpectedly")),
            _ = housekeeping.tick() => {
                services.engine.forget_inactive(&services.projects);
                http_metrics.forget_projects(&services.projects);
                services.pools.forget_inactive(&services.projects);
                let uses = services.keys.take_last_uses();
                if !uses.is_empty()
                    && let Err(error) = services.directory.record_api_key_uses(&uses).await
                {
                    tracing::warn!(%error, "the last use of API keys could not be recorded");
                }
                if let Err(error) = services.directory.record_slow_queries(&services.engine.take_slow_queries()).await {
                    tracing::warn!(%error, "slow queries could not be written down");
                }
                if let Some(cluster) = &storage.cluster {
                    let databases = u32::try_from(services.projects.len()).unwrap_or(u32::MAX);
                    if let Err(error) = cluster.set_databases(databases).await {
                        tracing::warn!(%error, "PostgreSQL's settings cannot be fitted to the number of projects");
                    }
                }
            }
        }
    }
}
