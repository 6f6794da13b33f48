//! Provisioning: from a row in `platform.projects` to a database, its roles and secrets, and back to nothing.
//!
//! Every step is idempotent, so whatever a crash left is finished or undone by [`Provisioner::reconcile`]. Ownership is
//! written on the objects themselves: a comment on each database and role names this installation, and nothing without
//! it is ever dropped, because a cluster may hold databases of others.
//!
//! Work on one project is serialized by an advisory lock in the platform database, which no project can connect to.

mod build;
mod cluster;
mod diagnose;
mod extensions;
mod lifecycle;
mod logins;
mod reconcile;
pub(crate) mod restored;
pub(crate) mod restored_platform;
mod spares;
mod storage_parameters;
mod store;
mod template;
#[cfg(test)]
pub(crate) mod tests;
mod turns;
pub(crate) mod upgrade;

use std::collections::HashMap;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};

use base::project::DatabaseTarget;
use base::{OwnerId, ProjectRef, ProjectStatus, WriteGate};
use deadpool_postgres::Pool;
use tokio::sync::{Notify, OnceCell, OwnedSemaphorePermit, Semaphore};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::audit::Actor;
use crate::baseline::{self, BaselineFile};
use crate::config::PlatformConfig;
use crate::database;

use cluster::Cluster;
pub use cluster::PrepareReport;
pub use diagnose::{Diagnosis, diagnose};
pub(crate) use extensions::OFFERED as OFFERED_EXTENSIONS;
pub use reconcile::ReconcileReport;
use turns::{Turn, Turns};

/// A project to be made.
#[derive(Clone, Debug)]
pub struct NewProject {
    pub owner_id: OwnerId,
    pub name: String,
    /// An id of the operator's choice.
    pub id: Option<ProjectRef>,
}

/// Why a change of a project did not happen.
#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    #[error("the name is taken")]
    NameTaken,
    /// Also when a database or a role of that name exists that is not ours.
    #[error("the id is taken")]
    IdTaken,
    #[error("no such project")]
    NotFound,
    #[error("the project is {}", .status.name())]
    WrongStatus { status: ProjectStatus },
    /// Nothing is written until there is room again.
    #[error("the disk is nearly full")]
    DiskNearlyFull,
    /// Somebody else works on the project, or holds what the change needs.
    #[error("the project is being changed")]
    Busy,
    /// PostgreSQL failed or cannot be reached; trying again may help.
    #[error("the database failed")]
    Database(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// What was asked for cannot be done in this project; the text says why.
    #[error("{0}")]
    Refused(String),
    /// The server is not one that projects can safely be made on; the text says what to change.
    #[error("{0}")]
    Unsupported(String),
}

impl ProvisionError {
    fn database(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Database(cause.into())
    }
}

// Every statement of provisioning can fail in this one way; the exceptions are mapped where they are known.
impl From<tokio_postgres::Error> for ProvisionError {
    fn from(error: tokio_postgres::Error) -> Self {
        if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) { Self::Busy } else { Self::database(error) }
    }
}

impl From<deadpool_postgres::PoolError> for ProvisionError {
    fn from(error: deadpool_postgres::PoolError) -> Self {
        Self::database(error)
    }
}

/// Connections a project may have; more are refused by PostgreSQL (SQLSTATE 53300).
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// Sessions of the owner's role.
    pub owner: i32,
    /// Sessions of the services.
    pub authenticator: i32,
    /// Both together.
    pub database: i32,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self { owner: 20, authenticator: 40, database: 50 }
    }
}

/// CREATE DATABASE at the same time; more only fight over the disk.
const CREATIONS_AT_ONCE: usize = 2;
/// Superuser connections of provisioning at the same time. Whoever has one works: nobody waits for a project with it.
const ADMIN_CONNECTIONS: usize = 4;
/// Databases that backups are loaded into at the same time; each takes as long as its owner's data and code.
const LOADS_AT_ONCE: usize = 2;

/// Options of a superuser's session. The low-disk guard makes databases read-only, and removing projects is what frees
/// the disk.
const ADMIN_OPTIONS: &str = "-c search_path=pg_catalog,pg_temp -c default_transaction_read_only=off";

/// Makes, changes and removes projects, on behalf of somebody whom the audit log then names. Cheap to clone.
#[derive(Clone)]
pub struct Provisioner(Arc<Inner>, Actor);

struct Inner {
    config: PlatformConfig,
    pool: Pool,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    files: &'static [BaselineFile],
    limits: ConnectionLimits,
    /// Known once the cluster is prepared.
    cluster: OnceCell<Cluster>,
    admin_connections: Arc<Semaphore>,
    loads: Arc<Semaphore>,
    /// Whose turn it is to work on a project, or to wait for another process that does.
    turns: Turns,
    creations: Semaphore,
    /// Requests that build a database themselves; spares wait for them.
    building_for_requests: AtomicUsize,
    refill: Notify,
    /// Closed by the watchdog while the disk is nearly full.
    write_gate: WriteGate,
    /// Verifiers of login roles that fit the passwords we keep, by role; see `logins`.
    fitting_verifiers: Mutex<HashMap<String, String>>,
}

/// A superuser's connection to the platform database. Dropping it ends the session with its locks.
struct Admin {
    client: Client,
    _permit: OwnedSemaphorePermit,
    /// Of the project that the session has the lock of, where it was waited for.
    _turn: Option<Turn>,
}

impl Provisioner {
    /// Connects to nothing yet; see [`Provisioner::prepare`] and [`Provisioner::start`].
    pub fn new(config: PlatformConfig, pool: Pool, tasks: TaskTracker, shutdown: CancellationToken) -> Self {
        Self::with_files(config, pool, tasks, shutdown, baseline::FILES)
    }

    /// As [`Provisioner::new`] with a baseline of the caller's, which begins with the released one.
    pub fn with_files(
        config: PlatformConfig,
        pool: Pool,
        tasks: TaskTracker,
        shutdown: CancellationToken,
        files: &'static [BaselineFile],
    ) -> Self {
        let inner = Inner {
            config,
            pool,
            tasks,
            shutdown,
            files,
            limits: ConnectionLimits::default(),
            cluster: OnceCell::new(),
            admin_connections: Arc::new(Semaphore::new(ADMIN_CONNECTIONS)),
            loads: Arc::new(Semaphore::new(LOADS_AT_ONCE)),
            turns: Turns::default(),
            creations: Semaphore::new(CREATIONS_AT_ONCE),
            building_for_requests: AtomicUsize::new(0),
            refill: Notify::new(),
            write_gate: WriteGate::default(),
            fitting_verifiers: Mutex::default(),
        };
        Self(Arc::new(inner), Actor::default())
    }

    /// The same for somebody: the entries of the audit log name them.
    pub(crate) fn on_behalf_of(&self, actor: Actor) -> Self {
        Self(Arc::clone(&self.0), actor)
    }

    /// Whether anything may be written; the watchdog closes it, the services ask it.
    pub fn write_gate(&self) -> &WriteGate {
        &self.0.write_gate
    }

    /// Starts what runs beside the requests until shutdown: reconciling, upgrading, keeping spares and logins.
    pub fn start(&self) {
        self.0.tasks.spawn(self.clone().reconcile_periodically());
        self.0.tasks.spawn(self.clone().keep_spares());
        self.0.tasks.spawn(self.clone().keep_logins());
    }

    /// The role that owns what is in projects' databases: to whom `OWNER TO` of imported SQL has to be.
    pub(crate) async fn owner_role(&self) -> Result<&str, ProvisionError> {
        Ok(&self.cluster().await?.owner_role)
    }

    pub(crate) fn config(&self) -> &PlatformConfig {
        &self.0.config
    }

    /// The version of the baseline that new projects have.
    pub(crate) fn baseline_version(&self) -> i32 {
        baseline::version(self.0.files)
    }

    fn admin_target(&self, database: &str) -> DatabaseTarget {
        DatabaseTarget { database: database.to_owned(), ..self.0.config.admin.clone() }
    }

    /// Opens a superuser's session in the platform database.
    async fn admin(&self) -> Result<Admin, ProvisionError> {
        self.admin_of(&self.0.admin_connections).await
    }

    /// As [`Provisioner::admin`], one of so many as `class` allows. What an owner's session holds is waited for briefly:
    /// anybody can lock a row of a shared catalog, with a GRANT that does nothing.
    async fn admin_of(&self, class: &Arc<Semaphore>) -> Result<Admin, ProvisionError> {
        let permit = Arc::clone(class).acquire_owned().await.map_err(ProvisionError::database)?;
        let target = self.admin_target(&self.0.config.database.database);
        let client = self.connect(&target, &format!("{ADMIN_OPTIONS} -c lock_timeout=5s")).await?;
        Ok(Admin { client, _permit: permit, _turn: None })
    }

    /// A superuser's session for watching the others; not counted among those of provisioning.
    pub(crate) async fn monitor(&self) -> Result<Client, ProvisionError> {
        let target = self.admin_target(&self.0.config.database.database);
        let options = "-c search_path=pg_catalog,pg_temp -c default_transaction_read_only=off -c lock_timeout=5s";
        Ok(self.connect(&target, options).await?)
    }

    /// A session whose task ends with the client.
    async fn connect(&self, target: &DatabaseTarget, options: &str) -> Result<Client, tokio_postgres::Error> {
        let (client, connection) = database::client_config(target).options(options).connect(NoTls).await?;
        self.0.tasks.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(cause = %error, "a connection of provisioning broke");
            }
        });
        Ok(client)
    }
}
