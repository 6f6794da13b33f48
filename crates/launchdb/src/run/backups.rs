//! Backups in the server: by the schedule, for owners who ask, and their age in the metrics.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use base::{Clock, Secret};
use platform::backup::{BackupConfig, BackupFile, BackupFolder, Backups, Progress};
use procs::binaries::Search;
use procs::pgbackrest::{BackupKind, PgBackRest};
use procs::unprivileged::RunAs;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use storage::backend::{S3Backend, SharedBackend};
use tokio_util::sync::CancellationToken;

use super::storage::Storage;
use crate::config::{Config, source};
use crate::exit::{self, Exit, ResultExt as _};
use crate::files_backup::{self, FilesBackup, FilesError, FilesRun};

/// Most that owners' backups leave free of a big disk for those by the clock.
pub const SPARED_BYTES: u64 = 8 << 30;

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
        spared_bytes: SPARED_BYTES,
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
    more: Option<MoreBackups>,
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
    let more = more.map(Arc::new);
    let also = move |cancel: CancellationToken| {
        let more = more.clone();
        async move {
            if let Some(more) = more {
                more.run(&cancel).await;
            }
        }
    };
    Ok(Some(backups.follow(schedule, also, shutdown)))
}

/// What is backed up besides the databases.
pub struct MoreBackups {
    pub files: FilesBackup,
    pub backend: SharedBackend,
    pub retention_days: u32,
    /// Where all of it is copied to from `folder`.
    pub off_site: Option<S3Backend>,
    pub folder: PathBuf,
    /// The whole cluster, where point-in-time recovery is enabled: superuser and password.
    pub pitr: Option<(PgBackRest, String, Secret<String>)>,
    pub clock: Clock,
}

/// Seconds after which the cluster is backed up as a whole again, instead of what changed.
const FULL_EACH: i64 = 6 * 86_400;

impl MoreBackups {
    /// Does all of it; what fails is told in the log.
    pub async fn run(&self, cancel: &CancellationToken) {
        self.run_files(cancel).await;
        self.run_pitr().await;
        if let Some(store) = &self.off_site {
            let pushing = store.push_folder(&self.folder, is_backup);
            match cancel.run_until_cancelled(pushing).await {
                Some(Ok(done)) => {
                    tracing::info!(copied = done.copied, bytes = done.copied_bytes, "backups were copied off-site")
                }
                Some(Err(error)) => {
                    tracing::error!(cause = %web::error::chain(&error), "backups could not be copied off-site");
                }
                None => {}
            }
        }
    }

    async fn run_pitr(&self) {
        if let Some((pgbackrest, superuser, password)) = &self.pitr {
            let (pgbackrest, superuser, password) = (pgbackrest.clone(), superuser.clone(), password.clone());
            let now = self.clock.unix_seconds();
            let work = tokio::task::spawn_blocking(move || {
                let newest = pgbackrest.status().ok().and_then(|status| status.newest_full);
                let kind = match newest {
                    Some(at) if now - at < FULL_EACH => BackupKind::Diff,
                    _ => BackupKind::Full,
                };
                pgbackrest.backup(&superuser, &password, kind)
            });
            match work.await {
                Ok(Ok(())) => tracing::info!("the whole cluster was backed up"),
                Ok(Err(error)) => tracing::error!(cause = %web::error::chain(&error), "the cluster's backup failed"),
                Err(error) => tracing::error!(cause = %error, "the cluster's backup failed"),
            }
        }
    }

    async fn run_files(&self, cancel: &CancellationToken) {
        let projects = match self.backend.projects().await {
            Ok(projects) => projects,
            Err(error) => {
                tracing::error!(cause = %web::error::chain(&error), "the files' backups could not be begun");
                return;
            }
        };
        for project in &projects {
            let run = FilesRun {
                backend: &*self.backend,
                project,
                checksum: false,
                now: self.clock.unix_seconds(),
                progress: &Progress::default(),
                cancel,
            };
            match self.files.run(&run).await {
                Ok(done) => tracing::info!(
                    project.r#ref = %project, files = done.files, new_bytes = done.new_bytes, "files backed up"
                ),
                Err(FilesError::Cancelled) => return,
                Err(error) => {
                    tracing::error!(project.r#ref = %project, cause = %web::error::chain(&error), "a backup of files failed");
                }
            }
        }
        let (files, now, days) = (self.files.clone(), self.clock.unix_seconds(), self.retention_days);
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || files.prune(now, days)).await {
            tracing::error!(cause = %web::error::chain(&error), "old backups of files could not be removed");
        }
    }
}

/// Whether a file of the backups' folder is copied elsewhere: all of them are encrypted.
pub fn is_backup(name: &str) -> bool {
    name.ends_with(".gpg")
}

/// What is backed up besides the databases; none without a key.
pub fn more(config: &Config, storage: &Storage) -> Result<Option<MoreBackups>, Exit> {
    let Some(key) = storage.secrets.get("BACKUP_ENCRYPTION_KEY") else { return Ok(None) };
    let data = storage.data_path();
    let folder = config.backup.folder(data);
    let pitr = match (&storage.data, &storage.cluster, storage.secrets.get("POSTGRES_SUPERUSER_PASSWORD")) {
        (Some(data), Some(cluster), Some(password)) if PgBackRest::is_enabled(data.path()) => {
            let search = Search { bin_dir: None, path: source::executable_path() };
            let found = PgBackRest::find(data.path(), data.run_as().clone(), &search).exit(exit::POSTGRES)?;
            Some((found, cluster.superuser().to_owned(), password.clone()))
        }
        _ => None,
    };
    Ok(Some(MoreBackups {
        files: FilesBackup::new(&folder, key.clone(), config.platform.disk_reserve),
        backend: super::files::backend(config, data)?.0,
        retention_days: config.backup.retention_days,
        off_site: super::files::backup_store(config)?,
        folder,
        pitr,
        clock: Clock::system(),
    }))
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

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfProject {
    project: String,
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
        let help = "Seconds since the newest backup of a project's files was begun";
        let mut family =
            encoder.encode_descriptor("launchdb_files_backup_age_seconds", help, None, MetricType::Gauge)?;
        for (project, taken_at) in files_backup::newest(self.folder.path()).unwrap_or_default() {
            let labels = OfProject { project: project.to_string() };
            ConstGauge::new(now - taken_at).encode(family.encode_family(&labels)?)?;
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
