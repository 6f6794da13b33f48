//! Backups of projects and of the platform's own database: made, listed, verified, restored, removed.
//!
//! A backup is what `pg_dump` prints, with a header and an end of ours in comments, encrypted with a passphrase so that
//! plain `gpg --decrypt` opens it. It goes through as a stream, in both directions: nothing of it is ever on the disk in
//! plain text, and memory stays the same however large a database is.
//!
//! A dump is hostile input: what it holds runs while it is loaded. It is loaded in a session that logged in as the
//! project's own role, into a fresh database that has its baseline already, so that nothing in it needs more rights.

mod cron;
mod dump;
mod error;
mod file_name;
mod file_seal;
mod folder;
mod hand_over;
mod load;
mod manifest;
mod objects;
mod openpgp;
mod read;
mod restore;
mod restore_platform;
pub(crate) mod routes;
mod schedule;
mod store;
mod template_part;
#[cfg(test)]
mod tests;
mod verify;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use base::{ProjectRef, Secret};
use procs::binaries::Search;
use procs::client_program;
use procs::unprivileged::RunAs;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use cron::{Cron, InvalidCron};
pub use error::BackupError;
pub use file_name::BackupName;
pub use file_seal::{FileOpener, FileSealer};
pub use folder::{BackupFile, BackupFolder};
pub use openpgp::{Decryptor, Encryptor, NotReadable};
pub use restore::{RestoreTarget, Restored};
pub use restore_platform::RestoredPlatform;
pub use schedule::Schedule;
pub use verify::Verified;

use self::dump::{Dump, Room};
use self::manifest::{FORMAT, Header, KeptS3Key, PlainSecret, ProjectPart};
use crate::config::PlatformConfig;
use crate::database;
use crate::provision::{ProvisionError, Provisioner};
use crate::secrets;
use crate::store::secret::secret_map;
use crate::store::settings::settings_map;

/// A dump that met a change of the schema is made again, so often.
const TRIES: usize = 5;
const PAUSE: Duration = Duration::from_secs(1);
/// No more tries after so long: a table that its owner locks costs a minute each time.
const LONGEST_TRIES: Duration = Duration::from_secs(90);

/// Where backups go, and with what they are made.
#[derive(Clone)]
pub struct BackupConfig {
    pub folder: BackupFolder,
    /// The passphrase of every file; without one nothing is made.
    pub key: Option<Secret<String>>,
    /// Backups older than this are removed, but for the newest of each database.
    pub retention_days: u32,
    /// A backup is given up when less than this is free on the folder's disk: it may be the database's, too.
    pub least_free_bytes: u64,
    /// One that an owner asks for leaves an eighth of the disk free besides, but no more than this: those by the clock come
    /// first.
    pub spared_bytes: u64,
    /// Where `pg_dump` is looked for.
    pub search: Search,
    pub run_as: RunAs,
}

/// One database to back up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The platform's own: owners, projects, sealed secrets, the audit log.
    Platform,
    Project(ProjectRef),
}

/// How far long work is; bytes of plain text.
pub type Progress = Arc<AtomicU64>;

/// Makes and restores backups. Cheap to clone.
#[derive(Clone)]
pub struct Backups(Arc<Inner>);

struct Inner {
    config: BackupConfig,
    provisioner: Provisioner,
    shutdown: CancellationToken,
    limits: Limits,
    /// Opens files with the configured key; keeps what it derived from that, which takes a while.
    opener: Option<Arc<FileOpener>>,
    /// One backup at a time in one process: two would only fight over the disk.
    at_work: Arc<Mutex<()>>,
    /// One verification at a time, beside the backups: how long it takes is up to the owner of what is verified.
    verifying: Mutex<()>,
}

/// How much an owner's database may ask of those who back it up.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Longest that an empty file is loaded for a verification.
    load: Duration,
    /// Tables of a database; none for a share of what PostgreSQL has locks for.
    tables: Option<i64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { load: Duration::from_secs(600), tables: None }
    }
}

impl Backups {
    /// Connects to nothing yet. `shutdown` gives up what is under way.
    pub fn new(config: BackupConfig, provisioner: Provisioner, shutdown: CancellationToken) -> Self {
        Self::with_limits(config, provisioner, shutdown, Limits::default())
    }

    fn with_limits(
        config: BackupConfig,
        provisioner: Provisioner,
        shutdown: CancellationToken,
        limits: Limits,
    ) -> Self {
        let (at_work, verifying) = (Arc::default(), Mutex::default());
        let opener = config.key.clone().map(|key| Arc::new(FileOpener::new(key)));
        Self(Arc::new(Inner { config, provisioner, shutdown, limits, opener, at_work, verifying }))
    }

    /// For a process of its own beside the server.
    ///
    /// # Errors
    /// [`BackupError::Refused`] when no pool of connections can be made.
    pub fn standalone(
        platform: PlatformConfig,
        config: BackupConfig,
        tasks: TaskTracker,
        shutdown: CancellationToken,
    ) -> Result<Self, BackupError> {
        let pool = database::pool(&platform).map_err(|error| BackupError::Refused(error.to_string()))?;
        let provisioner = Provisioner::new(platform, pool, tasks, shutdown.clone());
        Ok(Self::new(config, provisioner, shutdown))
    }

    pub fn folder(&self) -> &BackupFolder {
        &self.0.config.folder
    }

    fn key(&self) -> Result<Secret<String>, BackupError> {
        self.0.config.key.clone().ok_or(BackupError::NoKey)
    }

    fn opener(&self) -> Result<Arc<FileOpener>, BackupError> {
        self.0.opener.clone().ok_or(BackupError::NoKey)
    }

    fn room(&self, asked: bool) -> Room {
        let BackupConfig { least_free_bytes, spared_bytes, .. } = self.0.config;
        Room { least_free_bytes, spared_bytes: if asked { spared_bytes } else { 0 } }
    }

    /// Whether the disk has room for a backup that an owner asks for.
    ///
    /// # Errors
    /// [`BackupError::DiskFull`] when it has not, [`BackupError::Folder`] when that cannot be seen.
    pub(crate) async fn check_room(&self) -> Result<(), BackupError> {
        let (folder, room) = (self.folder().clone(), self.room(true));
        let work = tokio::task::spawn_blocking(move || {
            folder.make().map_err(|error| BackupError::writing(folder.path(), error))?;
            room.check(&folder)
        });
        joined(work.await)
    }

    fn now(&self) -> i64 {
        self.0.provisioner.config().clock.unix_seconds()
    }

    /// A superuser's session in the platform's database.
    async fn session(&self) -> Result<Client, BackupError> {
        Ok(self.0.provisioner.monitor().await?)
    }

    /// Everything that there is to back up, the platform first: without it nobody knows whose the projects are.
    ///
    /// # Errors
    /// [`BackupError::Database`] when the platform's database does not answer.
    pub async fn subjects(&self) -> Result<Vec<Subject>, BackupError> {
        let ids = store::project_ids(&self.session().await?).await?;
        let projects = ids.iter().filter_map(|id| ProjectRef::parse(id).ok()).map(Subject::Project);
        Ok([Subject::Platform].into_iter().chain(projects).collect())
    }

    /// Makes one backup.
    ///
    /// # Errors
    /// Nothing is left of a backup that failed.
    pub async fn run(&self, subject: &Subject, progress: &Progress) -> Result<BackupFile, BackupError> {
        let alone = Arc::clone(&self.0.at_work).lock_owned().await;
        self.run_alone(alone, subject, false, progress).await
    }

    /// As [`Backups::run`], for the owner of a project; none while another backup is under way. It takes the place of the
    /// one that the owner asked for before, and leaves more of the disk free than others.
    pub(crate) fn try_run(
        &self,
        subject: Subject,
    ) -> Option<impl Future<Output = Result<BackupFile, BackupError>> + use<>> {
        let alone = Arc::clone(&self.0.at_work).try_lock_owned().ok()?;
        let backups = self.clone();
        Some(async move {
            let file = backups.run_alone(alone, &subject, true, &Progress::default()).await?;
            let folder = backups.folder().clone();
            let (kept, path) = (file.clone(), folder.path().to_owned());
            let replaced = tokio::task::spawn_blocking(move || folder.replace_asked(&kept)).await;
            let replaced = replaced.map_err(std::io::Error::other).and_then(|replaced| replaced);
            replaced.map_err(|error| BackupError::writing(&path, error))?;
            Ok(file)
        })
    }

    async fn run_alone(
        &self,
        _alone: OwnedMutexGuard<()>,
        subject: &Subject,
        asked: bool,
        progress: &Progress,
    ) -> Result<BackupFile, BackupError> {
        let (mut left, started) = (TRIES, Instant::now());
        loop {
            left -= 1;
            match self.run_once(subject, asked, progress).await {
                // A table that was dropped between the list and the lock.
                Err(error @ BackupError::PgDump { .. }) if left > 0 && started.elapsed() < LONGEST_TRIES => {
                    tracing::warn!(cause = %error, "a backup is tried again");
                    let pause = self.0.shutdown.run_until_cancelled(tokio::time::sleep(PAUSE));
                    pause.await.ok_or(BackupError::Cancelled)?;
                }
                result => return result,
            }
        }
    }

    async fn run_once(&self, subject: &Subject, asked: bool, progress: &Progress) -> Result<BackupFile, BackupError> {
        let key = self.key()?;
        let session = self.session().await?;
        let restricts_relations = store::restricts_relations(&session).await?;
        let header = self.header(&session, subject).await?;
        if let Subject::Project(id) = subject {
            self.check_dumpable(&session, id, restricts_relations).await?;
        }
        let version = store::server_version(&session).await?;
        drop(session);
        let major = u32::try_from(version / 10_000).unwrap_or_default();
        let (search, folder) = (self.0.config.search.clone(), self.0.config.folder.clone());
        let (run_as, room) = (self.0.config.run_as.clone(), self.room(asked));
        let target = base::project::DatabaseTarget {
            database: header.database.clone(),
            ..self.0.provisioner.config().admin.clone()
        };
        let (progress, cancel) = (Arc::clone(progress), self.0.shutdown.clone());
        let work = tokio::task::spawn_blocking(move || {
            let pg_dump = client_program::find(&search, "pg_dump", major).map_err(BackupError::NoPgDump)?;
            let dump = Dump { pg_dump, run_as, target, header, key, folder, room, restricts_relations };
            dump.run(&progress, &cancel)
        });
        joined(work.await)
    }

    /// Whether a project can be dumped without harm to others. pg_dump locks every table, out of the one table of locks that
    /// all databases share; and it reads as a superuser, which PostgreSQL has to keep from reading through views that an
    /// owner puts in the place of what was listed (CVE-2024-7348).
    async fn check_dumpable(
        &self,
        session: &Client,
        id: &ProjectRef,
        restricts_relations: bool,
    ) -> Result<(), BackupError> {
        if !restricts_relations {
            return Err(BackupError::Refused(
                "this PostgreSQL lets what it backs up run code as its superuser (CVE-2024-7348): update it".to_owned(),
            ));
        }
        let most = match self.0.limits.tables {
            Some(most) => most,
            None => store::locks(session).await? / 2,
        };
        let tables = self.0.provisioner.table_count(id).await?;
        if tables > most {
            return Err(BackupError::Refused(format!(
                "{id} has {tables} tables, and a backup takes a lock of each: with more than {most}, others would find none \
                 (raise max_locks_per_transaction)"
            )));
        }
        Ok(())
    }

    /// When a backup of `database` begins, in Unix seconds. Names tell backups apart by it, so that one that follows another
    /// within a second waits for the next second.
    async fn begins(&self, database: &str) -> i64 {
        let folder = &self.0.config.folder;
        let mut now = self.now();
        for _ in 0..12 {
            if !folder.holds(&BackupName { database: database.to_owned(), taken_at: now }) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            now = self.now();
        }
        now
    }

    async fn header(&self, session: &Client, subject: &Subject) -> Result<Header, BackupError> {
        let taken_at = match subject {
            Subject::Platform => self.begins(&self.0.provisioner.config().database.database).await,
            Subject::Project(id) => self.begins(id.database()).await,
        };
        let header = |database: &str, project| Header {
            format: FORMAT,
            database: database.to_owned(),
            taken_at,
            launchdb_version: env!("CARGO_PKG_VERSION").to_owned(),
            platform_role: matches!(subject, Subject::Platform)
                .then(|| self.0.provisioner.config().database.user.clone()),
            project,
        };
        let id = match subject {
            Subject::Platform => return Ok(header(&self.0.provisioner.config().database.database, None)),
            Subject::Project(id) => id,
        };
        let facts = store::project_facts(session, id).await?;
        let facts = facts.ok_or_else(|| BackupError::NoSuchProject(id.to_string()))?;
        let key = &self.0.provisioner.config().master_key;
        let mut plain = BTreeMap::new();
        for (kind, sealed) in secret_map(session, id.as_str()).await? {
            let secret = secrets::open(key, id.as_str(), &kind, &sealed).map_err(|error| {
                BackupError::Refused(format!("the secret {kind} of {id} cannot be backed up: {error}"))
            })?;
            plain.insert(kind, PlainSecret(secret));
        }
        let part = ProjectPart {
            name: facts.name,
            owner_email: facts.owner_email,
            baseline_version: facts.baseline_version,
            owner_role: self.0.provisioner.owner_role().await?.to_owned(),
            extensions: self.0.provisioner.installed_extensions(id).await?,
            secrets: plain,
            api_keys: store::kept_keys(session, id).await?,
            settings: settings_map(session, id).await?.into_iter().collect(),
            domains: store::kept_domains(session, id).await?,
            s3_keys: Some(self.s3_keys(session, id).await?),
        };
        Ok(header(id.database(), Some(part)))
    }

    async fn s3_keys(&self, session: &Client, id: &ProjectRef) -> Result<Vec<KeptS3Key>, BackupError> {
        let mut kept = Vec::new();
        for (name, access_key_id, sealed) in store::kept_s3_keys(session, id).await? {
            let kind = secrets::s3_kind(&access_key_id);
            let key = &self.0.provisioner.config().master_key;
            let secret = secrets::open(key, id.as_str(), &kind, &sealed).map_err(|error| {
                BackupError::Refused(format!("the S3 access key {name} of {id} cannot be backed up: {error}"))
            })?;
            kept.push(KeptS3Key { name, access_key_id, secret: PlainSecret(secret) });
        }
        Ok(kept)
    }

    /// Removes what is older than the retention allows.
    ///
    /// # Errors
    /// When the folder cannot be read or a file not be removed.
    pub fn prune(&self) -> Result<Vec<BackupName>, BackupError> {
        let folder = &self.0.config.folder;
        folder
            .prune(self.now(), self.0.config.retention_days)
            .map_err(|error| BackupError::writing(folder.path(), error))
    }
}

/// What a blocking task came to; a panic in it is a failure like others.
fn joined<T>(result: Result<Result<T, BackupError>, tokio::task::JoinError>) -> Result<T, BackupError> {
    result.map_err(|error| ProvisionError::Database(error.into()))?
}
