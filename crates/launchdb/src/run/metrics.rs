//! Numbers of the whole process for the admin listener, beside those that `web` counts.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use base::ProjectTable;
use mailer::Mailer;
use pg::Budget;
use platform::watchdog::DatabaseSizes;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use rest::Engine;

/// Looked up when somebody asks, counted nowhere.
pub struct ProcessCollector {
    pub projects: Arc<ProjectTable>,
    pub budget: Arc<Budget>,
    pub engine: Arc<Engine>,
    pub mailer: Mailer,
    /// Folders whose disks are measured: what for, and where.
    pub disks: Vec<(&'static str, PathBuf)>,
    pub started: Instant,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfDisk {
    disk: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfProject {
    project: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfPool {
    database: String,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfDatabase {
    database: String,
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
            ("launchdb_db_connections_limit", "Connections they may hold at most", whole(self.budget.total())),
            (
                "launchdb_schema_caches",
                "Projects whose schema is held in memory",
                whole(self.engine.loaded_schema_caches()),
            ),
            (
                "launchdb_mail_projects_waiting",
                "Projects with mails that wait or are being sent",
                whole(self.mailer.projects_waiting()),
            ),
            ("launchdb_uptime_seconds", "Seconds since the start", uptime),
            ("process_resident_memory_bytes", "Memory of this process, without PostgreSQL's", resident_bytes()),
        ] {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        }
        self.encode_slow_queries(&mut encoder)?;
        self.encode_pools(&mut encoder)?;
        self.encode_disks(&mut encoder)
    }
}

impl ProcessCollector {
    fn encode_slow_queries(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let help = "Requests of a project's data API whose statements took longer than it wants";
        let mut family = encoder.encode_descriptor("launchdb_slow_queries", help, None, MetricType::Counter)?;
        for (project, total) in self.engine.slow_query_totals() {
            let labels = OfProject { project: project.as_str().to_owned() };
            ConstCounter::new(total).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn encode_pools(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let usage = self.budget.usage();
        let whole = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let help = "Connections of each database's pools by state";
        let mut family = encoder.encode_descriptor("launchdb_db_pool_connections", help, None, MetricType::Gauge)?;
        for (database, usage) in &usage {
            for (state, count) in [("leased", usage.leased), ("idle", usage.idle), ("shared", usage.shared)] {
                let labels = OfPool { database: database.clone(), state };
                ConstGauge::new(whole(count)).encode(family.encode_family(&labels)?)?;
            }
        }
        let help = "Requests that wait for a connection of a database";
        let mut family = encoder.encode_descriptor("launchdb_db_pool_waiting", help, None, MetricType::Gauge)?;
        for (database, usage) in &usage {
            let labels = OfDatabase { database: database.clone() };
            ConstGauge::new(whole(usage.waiting)).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn encode_disks(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let stat = |(disk, path): &(&'static str, PathBuf)| Some((*disk, rustix::fs::statvfs(path).ok()?));
        let stats: Vec<_> = self.disks.iter().filter_map(stat).collect();
        let bytes = |blocks: u64, size: u64| i64::try_from(blocks.saturating_mul(size)).unwrap_or(i64::MAX);
        let mut free =
            encoder.encode_descriptor("launchdb_disk_free_bytes", "Free bytes of a disk", None, MetricType::Gauge)?;
        for (disk, stat) in &stats {
            ConstGauge::new(bytes(stat.f_bavail, stat.f_frsize)).encode(free.encode_family(&OfDisk { disk })?)?;
        }
        let mut size =
            encoder.encode_descriptor("launchdb_disk_size_bytes", "Size of a disk", None, MetricType::Gauge)?;
        for (disk, stat) in &stats {
            ConstGauge::new(bytes(stat.f_blocks, stat.f_frsize)).encode(size.encode_family(&OfDisk { disk })?)?;
        }
        Ok(())
    }
}

/// What the watchdog last measured.
pub struct SizeCollector(pub DatabaseSizes);

impl fmt::Debug for SizeCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SizeCollector")
    }
}

impl Collector for SizeCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let help = "Size of a project's database as it was last measured";
        let mut family = encoder.encode_descriptor("launchdb_database_size_bytes", help, None, MetricType::Gauge)?;
        for (database, size) in self.0.get().iter() {
            let labels = OfDatabase { database: database.clone() };
            ConstGauge::new(size.bytes).encode(family.encode_family(&labels)?)?;
        }
        let help =
            "Transactions since the oldest that a project's database still needs the id of, as they were last counted";
        let mut family =
            encoder.encode_descriptor("launchdb_database_transaction_age", help, None, MetricType::Gauge)?;
        for (database, size) in self.0.get().iter() {
            let labels = OfDatabase { database: database.clone() };
            ConstGauge::new(i64::from(size.transaction_age)).encode(family.encode_family(&labels)?)?;
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
        assert!(resident_bytes() > 1_000_000);
    }
}
