//! Snapshots of the projects for everything that serves requests, made from the platform database and kept up to date
//! by its notifications. A process that only serves requests needs this and nothing else of the crate.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use base::api_key::ApiKeyKind;
use base::project::{ApiKey, DatabaseTarget, S3AccessKey, S3Keys};
use base::slow_query::SlowQuery;
use base::{Project, ProjectRef, ProjectStatus, ProjectTable, Secret, WriteGate};
use deadpool_postgres::{Object, Pool};
use futures_util::StreamExt;
use tokio_postgres::{AsyncMessage, NoTls};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use web::health::HealthPart;

use crate::certificates::KnownNames;
use crate::config::PlatformConfig;
use crate::database;
use crate::error::Error;
use crate::platform::StartError;
use crate::secrets::{self, kind};
use crate::settings;
use crate::signing_keys;
use crate::store;
use crate::store::directory as rows;
use crate::store::settings::Sections;
use crate::watchdog;

const SHORTEST_BACKOFF: Duration = Duration::from_millis(100);
const LONGEST_BACKOFF: Duration = Duration::from_secs(10);
/// How long a change waits for other processes to have read it, and between two looks.
const SETTLE: Duration = Duration::from_secs(2);
const SETTLE_LOOK: Duration = Duration::from_millis(5);

/// Loads projects into a table. Cheap to clone.
#[derive(Clone)]
pub struct Directory {
    config: Arc<PlatformConfig>,
    pool: Pool,
    projects: Arc<ProjectTable>,
    /// The session that this process follows by; 0 before there is one.
    session: Arc<AtomicI32>,
    known_names: Arc<KnownNames>,
}

/// Everything that is read of some projects.
struct Loaded {
    projects: Vec<rows::ProjectRow>,
    secrets: HashMap<String, HashMap<String, base::sealed::Sealed>>,
    api_keys: HashMap<String, Vec<ApiKey>>,
    settings: HashMap<String, Sections>,
    domains: HashMap<String, Vec<String>>,
    /// Access key and sealed secret.
    s3_keys: HashMap<String, Vec<(String, base::sealed::Sealed)>>,
}

impl Directory {
    pub(crate) fn new(config: &PlatformConfig, pool: Pool, projects: Arc<ProjectTable>) -> Self {
        let config = Arc::new(config.clone());
        Self { config, pool, projects, session: Arc::default(), known_names: Arc::default() }
    }

    /// For a process without a control plane: loads every project and follows their changes until `shutdown`.
    pub async fn start(
        config: &PlatformConfig,
        projects: Arc<ProjectTable>,
        tasks: &TaskTracker,
        shutdown: CancellationToken,
    ) -> Result<Self, StartError> {
        let pool = database::pool(config).map_err(StartError::Pool)?;
        let directory = Self::new(config, pool, projects);
        directory.check_master_key().await?;
        directory.load().await.map_err(StartError::Load)?;
        tasks.spawn(directory.clone().follow(tasks.clone(), shutdown));
        Ok(directory)
    }

    /// Whether the master key opens what the platform database has sealed; otherwise no project could be served.
    pub(crate) async fn check_master_key(&self) -> Result<(), StartError> {
        let read = async {
            let db = self.pool.get().await?;
            Ok::<_, Error>(store::secret::secret_map(&**db, secrets::PLATFORM).await?)
        };
        let sealed = read.await.map_err(StartError::Load)?;
        match sealed.get(secrets::INSTANCE_ID) {
            Some(sealed)
                if secrets::open(&self.config.master_key, secrets::PLATFORM, secrets::INSTANCE_ID, sealed).is_err() =>
            {
                Err(StartError::MasterKey)
            }
            _ => Ok(()),
        }
    }

    pub fn projects(&self) -> &Arc<ProjectTable> {
        &self.projects
    }

    /// Whether the platform database answers, for a process without a control plane.
    pub async fn health(&self) -> Vec<HealthPart> {
        const PART: &str = "platform_database";
        let database = async { Ok::<_, Error>(store::bootstrap::ping(&**self.pool.get().await?).await?) };
        match database.await {
            Ok(()) => vec![HealthPart::ok(PART)],
            Err(error) => vec![HealthPart::failing(PART, error.to_string())],
        }
    }

    /// For a process without a watchdog: opens or closes `gate` as the watchdog of the cluster, in another process, has
    /// decided, and says so. Nothing is changed while the platform database does not answer.
    pub async fn follow_writes(&self, gate: &WriteGate) -> Option<HealthPart> {
        let refused = async { Ok::<_, Error>(store::bootstrap::writes_refused(&**self.pool.get().await?).await?) };
        // What is wrong is what `health` says.
        let allowed = !refused.await.ok()?;
        gate.set_open(allowed);
        Some(watchdog::health_part(allowed))
    }

    /// Those of some projects that are gone for good: what is kept of them elsewhere can go too. A project that the platform
    /// database merely does not know is none of them.
    pub async fn purged(&self, projects: &[ProjectRef]) -> Result<Vec<ProjectRef>, Error> {
        let ids: Vec<&str> = projects.iter().map(ProjectRef::as_str).collect();
        let purged = store::audit::projects_purged(&**self.pool.get().await?, &ids).await?;
        Ok(purged.iter().filter_map(|id| ProjectRef::parse(id).ok()).collect())
    }

    /// As [`crate::Platform::record_api_key_uses`], for a process without a control plane.
    pub async fn record_api_key_uses(&self, uses: &[(i64, i64)]) -> Result<(), Error> {
        if uses.is_empty() {
            return Ok(());
        }
        Ok(store::api_key::api_key_used(&**self.pool.get().await?, uses).await?)
    }

    /// Writes slow requests of projects' data APIs down, for their owners.
    pub async fn record_slow_queries(&self, queries: &[SlowQuery]) -> Result<(), Error> {
        if queries.is_empty() {
            return Ok(());
        }
        let mut db = self.pool.get().await?;
        let tx = db.transaction().await?;
        store::slow_query::slow_queries_insert(&*tx, queries).await?;
        Ok(tx.commit().await?)
    }

    pub(crate) fn config(&self) -> &PlatformConfig {
        &self.config
    }

    pub(crate) fn known_names(&self) -> &KnownNames {
        &self.known_names
    }

    pub(crate) async fn db(&self) -> Result<Object, Error> {
        Ok(self.pool.get().await?)
    }

    /// Puts what the platform database has in place of the whole table.
    pub async fn load(&self) -> Result<(), Error> {
        let loaded = self.read(None).await?;
        self.projects.replace_all(self.snapshots(loaded));
        Ok(())
    }

    /// What every change of a project ends with: this process and all others have read it, so that what was revoked is
    /// refused everywhere.
    pub async fn refresh(&self, project_ref: &ProjectRef) -> Result<(), Error> {
        self.read_again(project_ref).await?;
        self.settle().await
    }

    /// Waits until every other process has read what is committed. One that hangs is not waited for: it reads all when it
    /// can.
    async fn settle(&self) -> Result<(), Error> {
        let (db, own) = (self.pool.get().await?, self.session.load(Ordering::Relaxed));
        if rows::followers_behind(&**db, i64::MAX, own).await? == 0 {
            return Ok(());
        }
        let mark = rows::mark_send(&**db).await?;
        let settled = async {
            while rows::followers_behind(&**db, mark, own).await? > 0 {
                tokio::time::sleep(SETTLE_LOOK).await;
            }
            Ok::<_, Error>(())
        };
        match tokio::time::timeout(SETTLE, settled).await {
            Ok(settled) => settled,
            Err(_) => {
                tracing::warn!("another process has not read a change of a project yet");
                Ok(())
            }
        }
    }

    /// Reads one project again; a deleted one leaves the table.
    async fn read_again(&self, project_ref: &ProjectRef) -> Result<(), Error> {
        let loaded = self.read(Some(project_ref)).await?;
        match self.snapshots(loaded).pop() {
            Some(project) => self.projects.replace(project),
            None => self.projects.remove(project_ref),
        }
        Ok(())
    }

    async fn read(&self, only: Option<&ProjectRef>) -> Result<Loaded, Error> {
        let mut db = self.pool.get().await?;
        // One snapshot of the database for all five, so that keys and revision belong together.
        let tx = db
            .build_transaction()
            .isolation_level(tokio_postgres::IsolationLevel::RepeatableRead)
            .read_only(true)
            .start()
            .await?;
        let mut loaded = Loaded {
            projects: rows::project_rows(&*tx, only).await?,
            secrets: HashMap::new(),
            api_keys: HashMap::new(),
            settings: HashMap::new(),
            domains: HashMap::new(),
            s3_keys: HashMap::new(),
        };
        for (id, kind, sealed) in rows::secret_rows(&*tx, only).await? {
            loaded.secrets.entry(id).or_default().insert(kind, sealed);
        }
        for (project, id, kind, hash) in rows::api_key_rows(&*tx, only).await? {
            if let (Some(kind), Ok(hash)) = (ApiKeyKind::from_name(&kind), hash.try_into()) {
                loaded.api_keys.entry(project).or_default().push(ApiKey { id, kind, hash });
            }
        }
        for (id, section, content) in rows::settings_rows(&*tx, only).await? {
            loaded.settings.entry(id).or_default().insert(section, content);
        }
        for (id, domain) in rows::domain_rows(&*tx, only).await? {
            loaded.domains.entry(id).or_default().push(domain);
        }
        for (id, access_key, sealed) in store::s3_key::s3_key_rows(&*tx, only).await? {
            loaded.s3_keys.entry(id).or_default().push((access_key, sealed));
        }
        tx.commit().await?;
        Ok(loaded)
    }

    /// Projects whose secrets do not open are left out: nothing could be served of them.
    fn snapshots(&self, mut loaded: Loaded) -> Vec<Project> {
        let rows = std::mem::take(&mut loaded.projects);
        rows.into_iter().filter_map(|row| self.snapshot(row, &mut loaded)).collect()
    }

    fn snapshot(&self, row: rows::ProjectRow, loaded: &mut Loaded) -> Option<Project> {
        let project_ref = ProjectRef::parse(&row.id).ok()?;
        let status = ProjectStatus::from_name(&row.status)?;
        let sealed = loaded.secrets.remove(&row.id).unwrap_or_default();
        let open = |kind: &str| match secrets::open_kind(&self.config.master_key, &project_ref, &sealed, kind) {
            Ok(Some(secret)) => Some(secret),
            Ok(None) => None,
            Err(error) => {
                tracing::error!(project.r#ref = %project_ref, secret.kind = kind, cause = %error, "a secret is unusable");
                None
            }
        };
        let (jwt_secret, password) = (open(kind::JWT_SECRET), open(kind::AUTHENTICATOR_PASSWORD));
        // While it is being made a project may have none yet.
        let complete = jwt_secret.is_some() && password.is_some();
        if !complete && matches!(status, ProjectStatus::Active | ProjectStatus::Suspended) {
            tracing::error!(project.r#ref = %project_ref, "a project without secrets is left out");
            return None;
        }
        let s3 = S3Keys {
            anon_key: open(kind::ANON_KEY),
            access_keys: self.s3_access_keys(&project_ref, loaded.s3_keys.remove(&row.id).unwrap_or_default()),
        };
        let (signing, jwt_keys) = match jwt_secret {
            Some(secret) => signing_keys::assemble(
                &secret,
                open(kind::PREVIOUS_JWT_SECRETS).as_ref(),
                open(kind::SIGNING_KEYS).as_ref(),
            )
            .unwrap_or_else(|error| {
                tracing::error!(project.r#ref = %project_ref, cause = %error, "the signing keys are unusable");
                Default::default()
            }),
            None => Default::default(),
        };
        let settings = loaded.settings.remove(&row.id).unwrap_or_default();
        let auth_secrets = sealed.keys().filter_map(|kind| {
            let name = kind.strip_prefix("auth.")?;
            Some((name.to_owned(), open(kind)?))
        });
        let auth = settings::auth(&settings, auth_secrets.collect(), &self.config.setting_defaults);
        let (host, port) = match &self.config.service_pooler {
            Some(pooler) => (pooler.host.clone(), pooler.port),
            None => (self.config.admin.host.clone(), self.config.admin.port),
        };
        Some(Project {
            database: DatabaseTarget {
                host,
                port,
                database: project_ref.database().to_owned(),
                user: project_ref.authenticator_role(),
                password: password.unwrap_or_else(|| Secret::new(String::new())),
            },
            status,
            revision: row.revision,
            jwt_keys,
            signing,
            auth: Arc::new(auth),
            api_keys: loaded.api_keys.remove(&row.id).unwrap_or_default(),
            legacy_keys_enabled: settings::legacy_keys_enabled(&settings),
            data_api: self.config.ceilings.data_api(settings::data_api(&settings)),
            limits: self.config.ceilings.limits(settings::limits(&settings)),
            storage: self.config.ceilings.storage(settings::storage(&settings)),
            s3,
            custom_domains: loaded.domains.remove(&row.id).unwrap_or_default(),
            project_ref,
        })
    }

    fn s3_access_keys(&self, project: &ProjectRef, sealed: Vec<(String, base::sealed::Sealed)>) -> Vec<S3AccessKey> {
        let open = |(access_key_id, sealed): (String, base::sealed::Sealed)| {
            let kind = secrets::s3_kind(&access_key_id);
            match secrets::open(&self.config.master_key, project.as_str(), &kind, &sealed) {
                Ok(secret) => Some(S3AccessKey { access_key_id, secret }),
                Err(error) => {
                    tracing::error!(project.r#ref = %project, secret.kind = kind, cause = %error, "a secret is unusable");
                    None
                }
            }
        };
        sealed.into_iter().filter_map(open).collect()
    }

    /// Listens for changes until `shutdown`. After each new connection everything is loaded again, because
    /// notifications of the time between are lost.
    pub(crate) async fn follow(self, tasks: TaskTracker, shutdown: CancellationToken) {
        let mut backoff = SHORTEST_BACKOFF;
        while !shutdown.is_cancelled() {
            let outcome = shutdown.run_until_cancelled(self.listen(&tasks, &mut backoff)).await;
            let Some(outcome) = outcome else { return };
            match outcome {
                Ok(()) => tracing::warn!("the connection that follows projects was closed"),
                Err(error) => tracing::warn!(cause = %web::error::chain(&error), "projects cannot be followed"),
            }
            let _ = shutdown.run_until_cancelled(tokio::time::sleep(backoff)).await;
            backoff = (backoff * 2).min(LONGEST_BACKOFF);
        }
    }

    async fn listen(&self, tasks: &TaskTracker, backoff: &mut Duration) -> Result<(), FollowError> {
        let mut config = database::client_config(&self.config.direct_database());
        config.application_name(format!("{}0", rows::FOLLOWER));
        let (client, mut connection) = config.connect(NoTls).await.map_err(FollowError::Connection)?;
        let (sender, mut changes) = tokio::sync::mpsc::unbounded_channel();
        // Ends when the client is dropped at the end of this function.
        tasks.spawn(async move {
            let mut messages = pin!(futures_util::stream::poll_fn(move |cx| connection.poll_message(cx)));
            while let Some(Ok(message)) = messages.next().await {
                if let AsyncMessage::Notification(notification) = message
                    && sender.send(notification.payload().to_owned()).is_err()
                {
                    return;
                }
            }
        });
        let session = rows::project_listen(&client).await.map_err(FollowError::Connection)?;
        self.session.store(session, Ordering::Relaxed);
        self.load().await.map_err(FollowError::Load)?;
        *backoff = SHORTEST_BACKOFF;
        while let Some(payload) = changes.recv().await {
            let mut changed = vec![payload];
            // Many changes of one project at once are one refresh.
            while let Ok(payload) = changes.try_recv() {
                changed.push(payload);
            }
            changed.sort_unstable();
            changed.dedup();
            for project_ref in changed.iter().filter_map(|id| ProjectRef::parse(id).ok()) {
                self.read_again(&project_ref).await.map_err(FollowError::Load)?;
            }
            let marks = changed.iter().filter_map(|text| text.strip_prefix(rows::MARK)?.parse::<i64>().ok());
            if let Some(mark) = marks.max() {
                rows::mark_seen(&client, mark).await.map_err(FollowError::Connection)?;
            }
        }
        Ok(())
    }
}

/// Why following ended.
#[derive(Debug, thiserror::Error)]
enum FollowError {
    #[error("no connection to listen on")]
    Connection(#[source] tokio_postgres::Error),
    #[error("the projects cannot be loaded")]
    Load(#[source] Error),
}
