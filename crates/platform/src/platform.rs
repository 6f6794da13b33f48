//! The control plane as one value, shared by everything that serves its API.

use std::sync::{Arc, OnceLock};

use base::{Clock, ProjectTable};
use deadpool_postgres::{Object, Pool};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use web::health::HealthPart;

use crate::attempts::Attempts;
use crate::backup::Backups;
use crate::config::PlatformConfig;
use crate::database::{self, PrepareError};
use crate::directory::Directory;
use crate::error::Error;
use crate::password::Passwords;
use crate::provision::Provisioner;
use crate::rotation::{InternalKeys, KeyFile};
use crate::sql::SqlSessions;
use crate::store;
use crate::store::audit::NewAuditEntry;

/// The control plane. Cheap to clone.
#[derive(Clone)]
pub struct Platform(Arc<Inner>);

struct Inner {
    config: PlatformConfig,
    pool: Pool,
    directory: Directory,
    provisioner: Provisioner,
    passwords: Passwords,
    attempts: Attempts,
    sql_sessions: SqlSessions,
    /// None where this process makes none.
    backups: OnceLock<Backups>,
    /// None where the installation's keys cannot be replaced.
    key_file: OnceLock<Arc<dyn KeyFile>>,
    internal_keys: InternalKeys,
    /// Held while a key of the installation is replaced.
    rotating: tokio::sync::Mutex<()>,
    /// Everything that runs beside the requests; awaited at shutdown.
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

/// Why the control plane could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    #[error("the pool of connections to the platform database cannot be made")]
    Pool(#[source] deadpool_postgres::BuildError),
    #[error("the projects cannot be loaded")]
    Load(#[source] Error),
    /// Nothing in the platform database could be opened.
    #[error(
        "LAUNCHDB_MASTER_KEY is not the key with which this platform database was made: put back the key of its first \
         start, without which no project's keys and passwords can be read"
    )]
    MasterKey,
}

impl Platform {
    /// Prepares the platform database, loads every project into `projects`, and starts what runs in the background.
    pub async fn start(config: PlatformConfig, projects: Arc<ProjectTable>) -> Result<Self, StartError> {
        database::prepare_patiently(&config).await?;
        let pool = database::pool(&config).map_err(StartError::Pool)?;
        let tasks = TaskTracker::new();
        let shutdown = CancellationToken::new();
        let directory = Directory::new(&config, pool.clone(), projects);
        directory.check_master_key().await?;
        directory.load().await.map_err(StartError::Load)?;
        tasks.spawn(directory.clone().follow(tasks.clone(), shutdown.clone()));
        let provisioner = Provisioner::new(config.clone(), pool.clone(), tasks.clone(), shutdown.clone());
        Ok(Self(Arc::new(Inner {
            passwords: Passwords::new(),
            attempts: Attempts::new(config.clock.clone()),
            sql_sessions: SqlSessions::new(),
            backups: OnceLock::new(),
            key_file: OnceLock::new(),
            internal_keys: InternalKeys::default(),
            rotating: tokio::sync::Mutex::default(),
            config,
            pool,
            directory,
            provisioner,
            tasks,
            shutdown,
        })))
    }

    /// Stops the background tasks and waits for what is under way.
    pub async fn shutdown(&self) {
        self.0.shutdown.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
        self.0.pool.close();
    }

    /// The parts of the control plane, for health checks.
    pub async fn health(&self) -> Vec<HealthPart> {
        let database = async {
            let db = self.db().await?;
            Ok::<_, Error>(store::bootstrap::ping(&**db).await?)
        };
        match database.await {
            Ok(()) => vec![HealthPart::ok("platform_database")],
            // The public message; the cause is not for those who ask without a token.
            Err(error) => vec![HealthPart::failing("platform_database", error.to_string())],
        }
    }

    /// Writes down when opaque keys were last used: pairs of a key's id and Unix seconds.
    pub async fn record_api_key_uses(&self, uses: &[(i64, i64)]) -> Result<(), Error> {
        if uses.is_empty() {
            return Ok(());
        }
        let db = self.db().await?;
        Ok(store::api_key::api_key_used(&**db, uses).await?)
    }

    pub fn directory(&self) -> &Directory {
        &self.0.directory
    }

    pub fn provisioner(&self) -> &Provisioner {
        &self.0.provisioner
    }

    /// Lets owners make backups in this process; only the first call counts.
    pub fn offer_backups(&self, backups: Backups) {
        let _ = self.0.backups.set(backups);
    }

    pub(crate) fn backups(&self) -> Option<&Backups> {
        self.0.backups.get()
    }

    pub(crate) fn set_key_file(&self, file: Arc<dyn KeyFile>) {
        let _ = self.0.key_file.set(file);
    }

    pub(crate) fn key_file(&self) -> Option<&Arc<dyn KeyFile>> {
        self.0.key_file.get()
    }

    pub(crate) fn internal_keys(&self) -> &InternalKeys {
        &self.0.internal_keys
    }

    pub(crate) fn rotating(&self) -> &tokio::sync::Mutex<()> {
        &self.0.rotating
    }

    pub(crate) fn shutdown_token(&self) -> &CancellationToken {
        &self.0.shutdown
    }

    /// Runs something beside the requests, to its end also at shutdown.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.0.tasks.spawn(work);
    }

    pub fn config(&self) -> &PlatformConfig {
        &self.0.config
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.0.config.clock
    }

    pub(crate) fn passwords(&self) -> &Passwords {
        &self.0.passwords
    }

    pub(crate) fn attempts(&self) -> &Attempts {
        &self.0.attempts
    }

    pub(crate) fn sql_sessions(&self) -> &SqlSessions {
        &self.0.sql_sessions
    }

    /// A connection to the platform database.
    pub(crate) async fn db(&self) -> Result<Object, Error> {
        Ok(self.0.pool.get().await?)
    }

    /// Writes an entry of the audit log that belongs to no change, and returns its id.
    pub(crate) async fn audit(&self, entry: &NewAuditEntry<'_>) -> Result<i64, Error> {
        let db = self.db().await?;
        Ok(store::audit::audit_insert(&**db, entry).await?)
    }

    /// Runs `work` to its end even when the client hangs up meanwhile.
    pub(crate) async fn to_the_end<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Error> {
        self.0.tasks.spawn(work).await.map_err(|error| Error::Internal(error.into()))
    }
}
