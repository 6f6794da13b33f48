//! One consistent version of all that a request needs.

use std::sync::Arc;
use std::time::Duration;

use pg::{ConnectConfig, PoolConfig};

use super::database_config::DatabaseConfig;
use super::metrics::Metrics;
use crate::authenticate::VerifiedTokens;
use crate::config::DropIn;
use crate::instance::{Instance, Shared};

/// Immutable; a reload makes another one.
pub(super) struct Snapshot {
    pub(super) drop_in: DropIn,
    /// What the database said of itself, for when it cannot be asked.
    pub(super) database: DatabaseConfig,
    pub(super) instance: Instance,
    pub(super) tokens: Arc<VerifiedTokens>,
}

impl Snapshot {
    pub(super) fn first(drop_in: DropIn, connect: ConnectConfig, shared: &Shared, metrics: &Arc<Metrics>) -> Self {
        let instance = Instance::drop_in(drop_in.config.clone(), connect, pool_config(&drop_in, shared), shared);
        let tokens = Arc::new(VerifiedTokens::new(drop_in.jwt_cache_max_entries, metrics.jwt_cache.clone()));
        Self { drop_in, database: DatabaseConfig::default(), instance, tokens }
    }

    /// The same server with other settings; keeps what is still right.
    pub(super) fn next(
        &self,
        drop_in: DropIn,
        database: DatabaseConfig,
        shared: &Shared,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let (old, new) = (&self.drop_in.config, &drop_in.config);
        let same_tokens = self.drop_in.jwt_secret == drop_in.jwt_secret
            && self.drop_in.jwt_cache_max_entries == drop_in.jwt_cache_max_entries
            && old.jwt_role_claim_key == new.jwt_role_claim_key
            && old.jwt_aud == new.jwt_aud
            && old.db_anon_role == new.db_anon_role;
        let tokens = if same_tokens {
            self.tokens.clone()
        } else {
            Arc::new(VerifiedTokens::new(drop_in.jwt_cache_max_entries, metrics.jwt_cache.clone()))
        };
        let instance = self.instance.with_config(drop_in.config.clone(), pool_config(&drop_in, shared), shared);
        Self { drop_in, database, instance, tokens }
    }
}

fn pool_config(drop_in: &DropIn, shared: &Shared) -> PoolConfig {
    PoolConfig {
        most_held: PoolConfig::default().most_held,
        max_connections: usize::try_from(drop_in.db_pool).unwrap_or(usize::MAX).max(1),
        interleaved: shared.interleaved,
        acquire_timeout: Duration::from_secs(u64::from(drop_in.db_pool_acquisition_timeout)),
        // PostgREST lets every request wait.
        max_waiting: usize::MAX,
        prepared_statements: drop_in.db_prepared_statements,
        login_patience: Duration::ZERO,
        max_lifetime: Some(Duration::from_secs(u64::from(drop_in.db_pool_max_lifetime))),
    }
}
