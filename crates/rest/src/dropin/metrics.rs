//! What is counted, under PostgREST's names (PostgREST docs, "Metrics").

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::snapshot::Snapshot;
use crate::authenticate::TokenCacheCounters;

#[derive(Default)]
pub(super) struct Metrics {
    pub(super) jwt_cache: Arc<TokenCacheCounters>,
    pool_timeouts: AtomicU64,
    loads: AtomicU64,
    failed_loads: AtomicU64,
    /// Of the last schema cache, in microseconds.
    load_micros: AtomicU64,
}

impl Metrics {
    /// A request waited too long for a connection.
    pub(super) fn pool_timeout(&self) {
        self.pool_timeouts.fetch_add(1, Ordering::Relaxed);
    }

    /// A schema cache was loaded in this time.
    pub(super) fn loaded(&self, time: Duration) {
        self.loads.fetch_add(1, Ordering::Relaxed);
        self.load_micros.store(u64::try_from(time.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// A schema cache could not be loaded.
    pub(super) fn not_loaded(&self) {
        self.failed_loads.fetch_add(1, Ordering::Relaxed);
    }

    /// In Prometheus' text format.
    pub(super) fn render(&self, snapshot: &Snapshot) -> String {
        let pool = snapshot.instance.pool();
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut out = String::with_capacity(2048);
        let mut metric = |name: &str, kind: &str, help: &str, values: &[(&str, f64)]| {
            // Writing to a String cannot fail.
            write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n").ok();
            for (labels, value) in values {
                writeln!(out, "{name}{labels} {value:?}").ok();
            }
        };
        let loads: Vec<(&str, f64)> =
            [("{status=\"SUCCESS\"}", count(&self.loads)), ("{status=\"FAIL\"}", count(&self.failed_loads))]
                .into_iter()
                .filter(|(_, n)| *n > 0)
                .map(|(labels, n)| (labels, n as f64))
                .collect();
        let help = "Schema caches loaded";
        metric("pgrst_schema_cache_loads_total", "counter", help, &loads);
        let seconds = Duration::from_micros(count(&self.load_micros)).as_secs_f64();
        let help = "Seconds that the last load of the schema cache took";
        metric("pgrst_schema_cache_query_time_seconds", "gauge", help, &[("", seconds)]);
        let gauges = [
            ("pgrst_db_pool_available", "Connections that are open and free", pool.available()),
            ("pgrst_db_pool_waiting", "Requests that wait for a connection", pool.waiting()),
            ("pgrst_db_pool_max", "Most connections", usize::try_from(snapshot.drop_in.db_pool).unwrap_or(usize::MAX)),
        ];
        for (name, help, value) in gauges {
            metric(name, "gauge", help, &[("", value as f64)]);
        }
        let counters = [
            ("pgrst_db_pool_timeouts_total", "Requests that waited too long for a connection", &self.pool_timeouts),
            ("pgrst_jwt_cache_requests_total", "Tokens looked up in the cache", &self.jwt_cache.requests),
            ("pgrst_jwt_cache_hits_total", "Tokens found in the cache", &self.jwt_cache.hits),
            ("pgrst_jwt_cache_evictions_total", "Tokens that gave way to others", &self.jwt_cache.evictions),
        ];
        for (name, help, counter) in counters {
            metric(name, "counter", help, &[("", count(counter) as f64)]);
        }
        out
    }
}
