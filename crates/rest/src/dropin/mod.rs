//! One database served as `postgrest` serves it (PostgREST docs, "Configuration", "Admin Server", "Observability"):
//! configured by its file, variables and in-database settings, callers authenticated here.
//!
//! A [`snapshot::Snapshot`] is one consistent version of everything a request needs. [`reload`] makes new ones and swaps
//! them in; requests under way end with the one they began with.

mod access_log;
mod admin;
mod bind;
mod cors;
pub(crate) mod database_config;
mod listener;
mod metrics;
mod reload;
mod request;
mod snapshot;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use base::{Clock, WriteGate};
use pg::{Budget, ConnectConfig, LibpqDefaults};
use tokio::sync::{Mutex, Notify, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{Config, DropIn};
use crate::error::Error;
use crate::instance::Shared;
use access_log::AccessLog;
use metrics::Metrics;
use snapshot::Snapshot;

/// Where settings come from; this crate reads neither environment nor files.
pub trait SettingsSource: Send + Sync {
    /// Those of the configuration file, then the `PGRST_*` variables, which win.
    ///
    /// # Errors
    /// Why the file cannot be read.
    fn settings(&self) -> Result<Vec<(String, String)>, String>;

    /// The content of the file that a value names as `@path`.
    ///
    /// # Errors
    /// Why it cannot be read.
    fn file(&self, path: &str) -> Result<Vec<u8>, String>;
}

/// What is to be read anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    Config,
    /// The configuration, too.
    SchemaCache,
}

/// Why the server could not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("settings are wrong:\n  {}", .0.join("\n  "))]
    Config(Vec<String>),
    #[error("db-uri: {0}")]
    Uri(#[source] pg::Error),
    #[error("cannot listen on {address}: {source}")]
    Listen { address: String, source: std::io::Error },
    #[error("the server ended: {0}")]
    Serve(#[source] std::io::Error),
    #[error("the schema cache could not be loaded: {0}")]
    SchemaCache(Error),
    #[error("PostgreSQL does not let the server in: {0}")]
    Refused(pg::Error),
    #[error("the database is away and db-pool-automatic-recovery is off")]
    NoRecovery,
    #[error("a task of the server ended: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// What all parts of the running server share.
pub(crate) struct Server {
    current: ArcSwap<Snapshot>,
    source: Arc<dyn SettingsSource>,
    shared: Shared,
    clock: Clock,
    metrics: Arc<Metrics>,
    access_log: AccessLog,
    state: State,
    /// Held while configuration or schema cache are read anew.
    reloading: Mutex<()>,
}

/// How the server stands with its database.
#[derive(Default)]
struct State {
    /// The schema cache is loaded and the last attempt to load it succeeded.
    loaded: AtomicBool,
    listening: AtomicBool,
    /// Seconds until the database is tried next.
    retry_after: AtomicU32,
    /// Somebody wants a new schema cache.
    wanted: Notify,
    /// A request could not reach the database.
    trouble: Notify,
    /// A request reached the database although it counts as away.
    recovered: Notify,
    /// The database answers again.
    back: Notify,
    config_changed: Notify,
}

impl Server {
    fn new(drop_in: DropIn, connect: ConnectConfig, source: Arc<dyn SettingsSource>) -> Self {
        let connections = usize::try_from(drop_in.db_pool).unwrap_or(usize::MAX).max(1);
        let shared = Shared {
            budget: Budget::unshared(connections),
            tasks: TaskTracker::new(),
            connect_timeout: connect.connect_timeout,
            route: pg::Route::Direct,
            interleaved: (connections - 1).min(2),
            public_url: None,
            write_gate: WriteGate::new(),
        };
        let metrics = Arc::new(Metrics::default());
        let access_log = AccessLog::new(drop_in.log_level);
        let first = Snapshot::first(drop_in, connect, &shared, &metrics);
        Self {
            current: ArcSwap::from_pointee(first),
            source,
            shared,
            clock: Clock::system(),
            metrics,
            access_log,
            state: State::default(),
            reloading: Mutex::default(),
        }
    }

    fn current(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }
}

/// The settings of file and variables.
///
/// # Errors
/// Everything that is wrong with them.
pub fn configure(source: &dyn SettingsSource) -> Result<DropIn, StartError> {
    let settings = source.settings().map_err(|problem| StartError::Config(vec![problem]))?;
    Config::from_pgrst_vars(settings, &|path| source.file(path)).map_err(StartError::Config)
}

/// The settings that would be in force, those of the database among them, as a configuration file.
///
/// # Errors
/// When the database's settings make the configuration invalid. A database that is away adds nothing, as with PostgREST.
pub async fn dump_config(source: Arc<dyn SettingsSource>, libpq: &LibpqDefaults) -> Result<String, StartError> {
    let drop_in = configure(&*source)?;
    if !drop_in.db_config {
        return Ok(drop_in.dump());
    }
    let server = connected(drop_in, libpq, source)?;
    let next = reload::next_snapshot(&server, &server.current()).await.map_err(StartError::Config)?;
    Ok(next.drop_in.dump())
}

/// The schema cache as JSON.
///
/// # Errors
/// When it cannot be loaded.
pub async fn dump_schema_cache(source: Arc<dyn SettingsSource>, libpq: &LibpqDefaults) -> Result<String, StartError> {
    let server = connected(configure(&*source)?, libpq, source)?;
    let next = reload::next_snapshot(&server, &server.current()).await.map_err(StartError::Config)?;
    let cache = next.instance.schema_cache().await.map_err(StartError::SchemaCache)?;
    next.instance.load_timezones(&cache).await.map_err(StartError::SchemaCache)?;
    Ok(cache.to_json().to_string())
}

fn connected(drop_in: DropIn, libpq: &LibpqDefaults, source: Arc<dyn SettingsSource>) -> Result<Server, StartError> {
    let connect = ConnectConfig::from_uri(drop_in.db_uri.expose(), libpq).map_err(StartError::Uri)?;
    Ok(Server::new(drop_in, connect, source))
}

/// Serves until `shutdown`; the database need not be there. Whoever has the other end of `reloads` asks for reloads.
///
/// # Errors
/// When nothing can be listened on, or the server may not go on without its database.
pub async fn run(
    drop_in: DropIn,
    libpq: &LibpqDefaults,
    source: Arc<dyn SettingsSource>,
    mut reloads: mpsc::Receiver<Reload>,
    shutdown: CancellationToken,
) -> Result<(), StartError> {
    let server = Arc::new(connected(drop_in, libpq, source)?);
    let settings = server.current();
    let settings = &settings.drop_in;
    let api = bind::api(settings).await?;
    let address = api.reachable_at();
    let admin = bind::admin(settings).await?;
    tracing::info!("the API is at {api}");

    let mut tasks: JoinSet<Result<(), StartError>> = JoinSet::new();
    if let Some(admin) = admin {
        tracing::info!("the admin server is at {admin}");
        let router = Router::new().fallback(admin::handle).with_state(admin::Admin { server: server.clone(), address });
        // It answers as long as requests are under way.
        tasks.spawn(admin.serve(router, std::future::pending()));
    }
    let idle = Duration::from_secs(u64::from(settings.db_pool_max_idletime));
    let (budget, sweeping) = (server.shared.budget.clone(), shutdown.clone());
    tasks.spawn(async move {
        budget.sweep(idle, sweeping).await;
        std::future::pending().await
    });
    let loading = server.clone();
    tasks.spawn(async move { Err(reload::keep_loaded(&loading).await) });
    let listening = server.clone();
    tasks.spawn(async move { Err(listener::listen(&listening).await) });
    let reloading = server.clone();
    tasks.spawn(async move {
        while let Some(reload) = reloads.recv().await {
            reload::on_demand(&reloading, reload).await;
        }
        std::future::pending().await
    });

    let router = Router::new().fallback(request::handle).with_state(server.clone());
    let serving = api.serve(router, shutdown.cancelled_owned());
    tokio::pin!(serving);
    let result = tokio::select! {
        result = &mut serving => result,
        Some(ended) = tasks.join_next() => ended?,
    };
    tasks.shutdown().await;
    result
}
