//! Numbers of the whole process for the admin listener, beside those that `web` counts.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use base::ProjectTable;
use pg::Budget;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

/// Looked up when somebody asks, counted nowhere.
pub struct ProcessCollector {
    pub projects: Arc<ProjectTable>,
    pub budget: Arc<Budget>,
    pub started: Instant,
}

impl fmt::Debug for ProcessCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProcessCollector")
    }
}

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let whole = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let uptime = i64::try_from(self.started.elapsed().as_secs()).unwrap_or(i64::MAX);
        for (name, help, value) in [
            ("launchdb_projects", "Projects that are not deleted", whole(self.projects.len())),
            ("launchdb_db_connections", "Connections the data APIs hold", whole(self.budget.used())),
            ("launchdb_uptime_seconds", "Seconds since the start", uptime),
            ("process_resident_memory_bytes", "Memory of this process, without PostgreSQL's", resident_bytes()),
        ] {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        }
        Ok(())
    }
}

/// Resident memory as Linux tells it; 0 elsewhere.
fn resident_bytes() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<i64>().ok()).unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_is_measured() {
        let mut registry = prometheus_client::registry::Registry::default();
        registry.register_collector(Box::new(ProcessCollector {
            projects: Arc::default(),
            budget: Budget::new(4),
            started: Instant::now(),
        }));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(text.contains("launchdb_projects 0") && text.contains("launchdb_db_connections 0"), "{text}");
        assert!(resident_bytes() > 1_000_000);
    }
}
