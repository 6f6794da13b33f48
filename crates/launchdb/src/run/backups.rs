//! Backups in the server: by the schedule, for owners who ask, and their age in the metrics.

use std::fmt;

use base::{Clock, Secret};
use platform::backup::{BackupConfig, BackupFile, BackupFolder, Backups};
use procs::binaries::Search;
use procs::unprivileged::RunAs;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use tokio_util::sync::CancellationToken;

use super::storage::Storage;
use crate::config::{Config, source};
use crate::exit::{self, Exit, ResultExt as _};

/// How backups of this server are made.
pub fn backup_config(config: &Config, storage: &Storage) -> Result<BackupConfig, Exit> {
    // An embedded cluster's own programs fit it best.
    let own = storage.cluster.as_ref().map(|cluster| cluster.binaries().dir().to_owned());
    let run_as = match &storage.data {
        Some(data) => data.run_as().clone(),
        None => RunAs::for_this_process().exit(exit::FAILURE)?,
    };
    Ok(BackupConfig {
        folder: BackupFolder::new(config.backup.folder(storage.data_path())),
        key: storage.secrets.get("BACKUP_ENCRYPTION_KEY").cloned(),
        retention_days: config.backup.retention_days,
        least_free_bytes: least_free_bytes(config),
        search: Search { bin_dir: own.or(config.database.bin_dir.clone()), path: source::executable_path() },
        run_as,
    })
}

/// What backups leave free of the disk: well more than the watchdog's reserve, so that they never stop everybody's writing.
pub fn least_free_bytes(config: &Config) -> u64 {
    config.platform.disk_reserve.saturating_mul(3)
}

/// The schedule's work until the shutdown; none where nothing is scheduled, or could be done.
pub fn scheduled(
    config: &Config,
    key: Option<&Secret<String>>,
    backups: Backups,
    shutdown: CancellationToken,
) -> Result<Option<impl Future<Output = ()> + Send + 'static + use<>>, Exit> {
    let schedule = config.backup.schedule.clone();
    if schedule.run.is_none() && schedule.verify.is_none() {
        return Ok(None);
    }
    if key.is_none() {
        const MEND: &str = "set it with: BACKUP_ENCRYPTION_KEY=$(openssl rand -base64 32)";
        if config.backup.is_asked_for {
            let text = format!("LAUNCHDB_BACKUP_SCHEDULE is set, but BACKUP_ENCRYPTION_KEY is not: {MEND}");
            return Err(Exit::message(exit::CONFIG, text));
        }
        tracing::warn!(mend = MEND, "no backups are made, because BACKUP_ENCRYPTION_KEY is not set");
        return Ok(None);
    }
    Ok(Some(backups.follow(schedule, shutdown)))
}

/// Age and size of the newest backup of each database, looked up when somebody asks.
pub struct BackupCollector {
    pub folder: BackupFolder,
    pub clock: Clock,
}

impl fmt::Debug for BackupCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BackupCollector")
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfDatabase {
    database: String,
}

impl Collector for BackupCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        // A folder that cannot be read has no backups that count; alerts are about missing ones, too.
        let newest = self.folder.newest().unwrap_or_default();
        let now = self.clock.unix_seconds();
        type Value = fn(&BackupFile, i64) -> Option<i64>;
        let gauges: [(&str, &str, Value); 3] = [
            ("launchdb_backup_age_seconds", "Seconds since the newest backup of a database was begun", |file, now| {
                Some(now - file.name.taken_at)
            }),
            ("launchdb_backup_size_bytes", "Size of the newest backup of a database", |file, _| {
                i64::try_from(file.bytes).ok()
            }),
            (
                "launchdb_backup_verified_age_seconds",
                "Seconds since the newest backup of a database was restored for a test",
                |file, now| Some(now - file.verified_at?),
            ),
        ];
        for (name, help, value) in gauges {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for file in &newest {
                if let Some(value) = value(file, now) {
                    let labels = OfDatabase { database: file.name.database.clone() };
                    ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_told_by_database() {
        let scratch = tempfile::tempdir().unwrap();
        let clock = Clock::system();
        let now = clock.unix_seconds();
        for (database, age) in [("platform", 100), ("platform", 50), ("proj_abc", 7)] {
            let name = platform::backup::BackupName { database: database.to_owned(), taken_at: now - age };
            std::fs::write(scratch.path().join(name.to_string()), "12345").unwrap();
        }
        let mut registry = prometheus_client::registry::Registry::default();
        let folder = BackupFolder::new(scratch.path().to_owned());
        registry.register_collector(Box::new(BackupCollector { folder, clock }));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let ages: Vec<i64> = text
            .lines()
            .filter(|line| line.starts_with("launchdb_backup_age_seconds{"))
            .map(|line| line.rsplit_once(' ').unwrap().1.parse().unwrap())
            .collect();
        assert!(ages.len() == 2 && (50..60).contains(&ages[0]) && (7..17).contains(&ages[1]), "{text}");
        assert!(text.contains("launchdb_backup_size_bytes{database=\"proj_abc\"} 5"), "{text}");
    }
}
