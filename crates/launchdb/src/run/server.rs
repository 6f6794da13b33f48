//! A server from its first listener to the end of PostgreSQL.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use auth::{Auth, AuthConfig};
use axum::Router;
use axum::routing::get;
use base::{Clock, ProjectRef, ProjectTable, WriteGate};
use pg::{Budget, PoolConfig, ServicePools};
use platform::backup::Backups;
use platform::database::PrepareError;
use platform::pooler::Pooler;
use platform::provision::{ProvisionError, Provisioner};
use platform::watchdog::{Watchdog, WatchdogConfig};
use platform::{Directory, Platform, StartError};
use procs::postgres::Cluster;
use prometheus_client::registry::Registry;
use rest::{Engine, Shared};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use web::log_buffer::LogBuffer;
use web::log_request::RequestLog;
use web::metrics::HttpMetrics;
use web::{ApiKeyCheck, ServeConfig};

use super::backups;
use super::bind::{self, Listeners};
use super::cli_session::CliSession;
use super::files;
use super::front;
use super::health::HealthBoard;
use super::housekeeping::until_signal;
use super::instances::{self, Instances};
use super::key_file::SecretsKeyFile;
use super::metrics::{ProcessCollector, SizeCollector};
use super::outward;
use super::patience::until_available;
use super::pooler;
use super::redirect;
use super::route;
use super::routers::{admin_router, health_route, internal_router};
use super::signals::Signals;
use super::starter;
use super::status_page::{self, StatusView};
use super::storage::Storage;
use super::tls;
use super::welcome::Welcome;
use crate::config::{Config, Service};
use crate::exit::{self, Exit, ResultExt as _};

/// How long the first answer waits for the server to be prepared for projects, and between two tries.
const PREPARE_PATIENCE: Duration = Duration::from_millis(500);
const PREPARE_RETRY: Duration = Duration::from_secs(2);
/// Most connections of a project for the services beside the data API.
const SERVICE_CONNECTIONS: usize = 6;
/// Most bytes of rows that one of their statements may bring into memory: owners write what is in them.
const SERVICE_RESULT: usize = 32 * 1024 * 1024;
/// How long the control plane's own tasks may take to end. With the drain before it and PostgreSQL's end behind it this
/// stays below the 10 s that Docker gives.
const TASKS_DEADLINE: Duration = Duration::from_secs(2);
/// What an end at once leaves for PostgreSQL, and for taking the command line's way in away.
const AT_ONCE: Duration = Duration::from_millis(500);

/// Passwords of users that may wait for their turn: a second or two of hashing.
const PASSWORD_QUEUE: usize = 64;

/// What a start is asked for.
pub(super) struct Start {
    pub(super) config: Config,
    pub(super) only: Option<Service>,
    /// `serve` rather than `dev`.
    pub(super) serve: bool,
    pub(super) demo: bool,
    pub(super) started: Instant,
    pub(super) log_buffer: LogBuffer,
    pub(super) request_log: RequestLog,
}

impl Start {
    /// Whether requests for a service are answered by this process.
    pub(super) fn answers(&self, service: Service) -> bool {
        self.only.is_none_or(|only| match only {
            Service::Gateway => true,
            // The specification has the platform API answer for `/db`, too.
            Service::PlatformApi => matches!(service, Service::PlatformApi | Service::Rest),
            only => only == service,
        })
    }
}

/// Runs until a signal, then ends in order.
pub(super) async fn run(start: Start) -> Result<(), Exit> {
    let mut signals = Signals::new()?;
    let listeners = bind::bind(&start.config.listen)?;
    let storage = {
        let opening = Storage::open(&start.config);
        tokio::pin!(opening);
        tokio::select! {
            opened = &mut opening => opened?,
            signal = signals.next() => {
                tracing::info!(signal, "ending as soon as PostgreSQL can be stopped; once more ends at once");
                tokio::select! {
                    opened = &mut opening => opened?.close().await,
                    _ = signals.next() => {}
                }
                return Ok(());
            }
        }
    };
    let result = run_services(&start, &storage, listeners, &mut signals).await;
    // Also when a service did not start: PostgreSQL must not be left behind.
    let at_once = signals.end_at_once();
    let hurry = async {
        match at_once {
            true => tokio::time::sleep(AT_ONCE).await,
            false => drop(signals.next().await),
        }
    };
    tokio::select! {
        () = storage.close() => {}
        () = hurry => tracing::warn!("PostgreSQL may still be running; the next start takes it over"),
    }
    result
}

/// URLs of this server.
struct Urls {
    /// What is handed out.
    public: String,
    /// Reachable from this machine whatever the public URL is.
    local: String,
}

impl Urls {
    fn new(config: &Config, bound: SocketAddr, plain: Option<SocketAddr>) -> Self {
        let ip = match bound.ip() {
            ip if !ip.is_unspecified() => ip,
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        };
        let scheme = if plain.is_some() { "https" } else { "http" };
        let own = format!("{scheme}://{}", SocketAddr::new(ip, bound.port()));
        let local = plain.map_or_else(|| own.clone(), |plain| format!("http://{plain}"));
        let public = match config.listen.public_url.as_str() {
            "" => own,
            given => given.to_owned(),
        };
        Self { public, local }
    }
}

/// Everything that answers, and what it needs.
pub(super) struct Services {
    /// None in a process that only serves requests.
    pub(super) platform: Option<Platform>,
    pub(super) directory: Directory,
    pub(super) engine: Arc<Engine>,
    pub(super) auth: Auth,
    /// Connections of the services beside the data API.
    pub(super) pools: Arc<ServicePools>,
    /// None in a process that serves no files.
    pub(super) files: Option<::storage::Storage>,
    pub(super) projects: Arc<ProjectTable>,
    pub(super) board: HealthBoard,
    /// Data APIs in processes of their own.
    pub(super) instances: Instances,
    /// Remembers verified keys, and when opaque ones were used last.
    pub(super) keys: Arc<ApiKeyCheck>,
}

async fn run_services(
    start: &Start,
    storage: &Storage,
    listeners: Listeners,
    signals: &mut Signals,
) -> Result<(), Exit> {
    let config = &start.config;
    let plain = listeners.local.as_ref().map(std::net::TcpListener::local_addr).transpose().exit(exit::FAILURE)?;
    let urls = Urls::new(config, listeners.public.local_addr().exit(exit::FAILURE)?, plain);
    let projects = Arc::new(ProjectTable::new());
    let mut platform_config = storage.platform_config(config, &urls.public)?;
    let pooler = pooler::plan(config, storage, start.only)?;
    if let (None, Some(plan)) = (&platform_config.pooler_address, &pooler) {
        platform_config.pooler_address = Some(plan.address());
    }
    let (service_pooler, route) = route::to_projects(config, start.only).await?;
    platform_config.service_pooler = service_pooler;
    let shutdown = CancellationToken::new();
    let tasks = TaskTracker::new();
    let (platform, directory) = if start.only.is_some_and(Service::serves_projects_only) {
        let directory = Directory::start(&platform_config, projects.clone(), &tasks, shutdown.clone());
        (None, directory.await.map_err(start_refused)?)
    } else {
        let platform = Platform::start(platform_config, projects.clone()).await.map_err(start_refused)?;
        // Others leave upgrades and spares to the control plane's own process.
        let keeps_projects = Service::keeps_projects(start.only);
        prepare(platform.provisioner().clone(), keeps_projects, &tasks, shutdown.clone()).await?;
        let directory = platform.directory().clone();
        (Some(platform), directory)
    };

    let write_gate = platform.as_ref().map(|p| p.provisioner().write_gate().clone()).unwrap_or_default();
    let budget = Budget::new(usize::try_from(config.database.connection_budget).unwrap_or(usize::MAX));
    let engine = Engine::new(Shared {
        budget: budget.clone(),
        tasks: tasks.clone(),
        connect_timeout: Duration::from_secs(5),
        route,
        interleaved: 2,
        public_url: Some(urls.public.clone()),
        write_gate: write_gate.clone(),
    });
    let pool = PoolConfig { max_connections: SERVICE_CONNECTIONS, most_held: SERVICE_RESULT, ..PoolConfig::default() };
    let pools = ServicePools::new(budget.clone(), tasks.clone(), route.pool(pool));
    let outbound = outward::client(config)?;
    let mailer = outward::mailer(
        config,
        storage.data_path(),
        !start.serve,
        &urls.public,
        outbound.clone(),
        pools.clone(),
        projects.clone(),
    );
    let keys = Arc::new(ApiKeyCheck::new());
    let files = match start.answers(Service::Storage) {
        true => Some(files::open(config, storage.data_path(), &urls.public, &pools, &keys, &write_gate, &tasks)?),
        false => None,
    };
    let auth = Auth::new(AuthConfig {
        public_url: urls.public.clone(),
        pools: pools.clone(),
        clock: Clock::system(),
        tasks: tasks.clone(),
        write_gate: write_gate.clone(),
        outbound,
        mailer: mailer.clone(),
        captcha_verifier: None,
        sms_service: None,
        password_workers: None,
        password_queue: PASSWORD_QUEUE,
    });
    let mut registry = Registry::default();
    let http_metrics = HttpMetrics::register(&mut registry);

    let backup_config = backups::backup_config(config, storage)?;
    let folder = backup_config.folder.clone();
    let mut disks = vec![("backups", folder.path().to_owned())];
    disks.extend(storage.data_path().map(|data| ("data", data.to_owned())));
    disks.extend(files.is_some().then(|| ("files", files::folder(config, storage.data_path()))));
    registry.register_collector(Box::new(ProcessCollector {
        projects: projects.clone(),
        budget: budget.clone(),
        engine: engine.clone(),
        mailer: mailer.clone(),
        disks,
        started: start.started,
    }));
    registry.register_collector(Box::new(backups::BackupCollector { folder, clock: base::Clock::system() }));

    // Loops that end at the shutdown only: one that ends before takes the server with it.
    let mut loops = JoinSet::new();
    loops.spawn(start.log_buffer.clone().run(shutdown.clone()));
    let (idle, until) = (config.database.idle, shutdown.clone());
    loops.spawn(async move { budget.sweep(idle, until).await });
    // Whoever answers for the auth service sends its mails, and removes what has expired.
    if start.only.is_none_or(|only| matches!(only, Service::Auth | Service::Gateway)) {
        loops.spawn(mailer.run(shutdown.clone()));
        loops.spawn(auth.clone().maintain(projects.clone(), shutdown.clone()));
    }
    if let Some(files) = files.clone().filter(|_| start.only.is_none_or(|only| only == Service::Storage)) {
        let asked = directory.clone();
        let purged = move |projects: Vec<ProjectRef>| {
            let directory = asked.clone();
            async move { directory.purged(&projects).await }
        };
        loops.spawn(files.maintain(projects.clone(), purged, shutdown.clone()));
    }
    if let Some(platform) = platform.as_ref().filter(|_| Service::keeps_projects(start.only)) {
        let key = backup_config.key.clone();
        let backups = Backups::new(backup_config, platform.provisioner().clone(), shutdown.clone());
        platform.offer_backups(backups.clone());
        platform.offer_key_file(Arc::new(SecretsKeyFile::new(config, storage.data_path())));
        platform.resume_rotation();
        if let Some(schedule) =
            backups::scheduled(config, key.as_ref(), backups, backups::more(config, storage)?, shutdown.clone())?
        {
            loops.spawn(schedule);
        }
    }
    if let (Some(platform), Some(plan)) = (&platform, pooler) {
        let pooler = Pooler::new(plan.config, plan.console_password, platform.provisioner().clone());
        registry.register_collector(Box::new(pooler::PoolerCollector(pooler.clone())));
        loops.spawn(pooler.run(shutdown.clone()));
    }
    let instances = Instances::open(start, storage, &urls.public, &projects, &shutdown, &mut loops)?;
    let board = HealthBoard::default();
    let watched = platform.as_ref().filter(|_| Service::keeps_projects(start.only));
    let disk = watched.map(|platform| {
        let watchdog = WatchdogConfig {
            service_sessions: i64::from(config.database.connection_budget),
            disk: storage.disk(config),
            quota_bytes: storage.quota(config),
            backends: storage.backends(),
            memory: storage.memory(config),
            ..WatchdogConfig::default()
        };
        let watchdog = Watchdog::new(platform.provisioner().clone(), watchdog);
        let disk = watchdog.disk();
        registry.register_collector(Box::new(SizeCollector(watchdog.sizes())));
        loops.spawn(watchdog.run(shutdown.clone()));
        disk
    });
    let (asked, gate, fleet) = (directory.clone(), write_gate.clone(), instances.fleet.clone());
    let ask = move || {
        let (directory, disk, gate, fleet) = (asked.clone(), disk.clone(), gate.clone(), fleet.clone());
        async move {
            let mut parts = directory.health().await;
            parts.extend(fleet.as_ref().map(instances::health));
            parts.extend(match disk {
                Some(guard) => guard.map(|guard| guard.health()),
                // Some other process watches.
                None => directory.follow_writes(&gate).await,
            });
            parts
        }
    };
    let postmaster = storage.cluster.as_ref().map(Cluster::health);
    loops.spawn(board.clone().watch(ask, postmaster, shutdown.clone()));

    let services = Services {
        platform: platform.clone(),
        directory,
        engine,
        auth,
        pools,
        files,
        projects,
        board,
        instances,
        keys,
    };
    let result = serve(
        start,
        storage,
        &services,
        listeners,
        &urls,
        (registry, http_metrics, &write_gate),
        signals,
        (&mut loops, &shutdown),
    )
    .await;

    shutdown.cancel();
    // Without any project every pool is given up, and with it the connections whose tasks are awaited below.
    services.engine.forget_inactive(&ProjectTable::new());
    services.pools.forget_inactive(&ProjectTable::new());
    tasks.close();
    let end = async {
        if let Some(platform) = platform {
            platform.shutdown().await;
        }
        tasks.wait().await;
        while loops.join_next().await.is_some() {}
    };
    if !signals.end_at_once() {
        let ended = tokio::select! {
            ended = tokio::time::timeout(TASKS_DEADLINE, end) => ended.is_ok(),
            _ = signals.next() => false,
        };
        if !ended {
            tracing::warn!("some background tasks did not end in time");
        }
    }
    result
}

fn start_refused(error: StartError) -> Exit {
    let code = match &error {
        StartError::MasterKey | StartError::Prepare(PrepareError::NoSuperuser(_)) => exit::CONFIG,
        _ => exit::POSTGRES,
    };
    Exit::new(code, error)
}

/// Makes the cluster ready for projects. What takes long (a new template) goes on behind the first requests, so that
/// projects that are there are served meanwhile; making one waits for it.
async fn prepare(
    provisioner: Provisioner,
    keeps_projects: bool,
    tasks: &TaskTracker,
    shutdown: CancellationToken,
) -> Result<(), Exit> {
    let mut preparing = tasks.spawn(async move {
        loop {
            let again = match shutdown.run_until_cancelled(provisioner.prepare()).await {
                None => return Ok(()),
                Some(Ok(_)) => {
                    if keeps_projects {
                        provisioner.start();
                    }
                    return Ok(());
                }
                Some(Err(error @ ProvisionError::Unsupported(_))) => {
                    tracing::error!(%error, "no project can be made on this server");
                    return Err(error);
                }
                Some(Err(error)) => error,
            };
            tracing::warn!(cause = ?again, "the server cannot be prepared for projects yet, trying again");
            let _ = shutdown.run_until_cancelled(tokio::time::sleep(PREPARE_RETRY)).await;
        }
    });
    match tokio::time::timeout(PREPARE_PATIENCE, &mut preparing).await {
        Ok(prepared) => prepared.exit(exit::FAILURE)?.exit(exit::POSTGRES),
        Err(_) => {
            tracing::info!("preparing the server for projects goes on in the background");
            Ok(())
        }
    }
}

/// Answers requests until a signal, then lets those under way end.
#[expect(clippy::too_many_arguments, reason = "the two halves of one function, cut where the clean-up begins")]
async fn serve(
    start: &Start,
    storage: &Storage,
    services: &Services,
    listeners: Listeners,
    urls: &Urls,
    (mut registry, http_metrics, write_gate): (Registry, HttpMetrics, &WriteGate),
    signals: &mut Signals,
    (loops, loops_end): (&mut JoinSet<()>, &CancellationToken),
) -> Result<(), Exit> {
    let counted = http_metrics.clone();
    let drain = CancellationToken::new();
    let mut serving = JoinSet::new();
    let limits = &start.config.limits;
    let settings = ServeConfig {
        drain_deadline: start.config.listen.drain,
        max_connections: limits.max_connections,
        max_connections_per_client: limits.max_connections_per_ip,
        proxies: front::trusted_proxies(&start.config)?,
        ..ServeConfig::default()
    };
    let page = status_page(start, services, urls);
    let front = front::front(start, services, &urls.public, page.clone(), write_gate, http_metrics.clone())?;
    let (status_url, admin_url) = (local_address(listeners.status.as_ref()), local_address(Some(&listeners.admin)));
    // Before the first answer: who sees the server healthy may use the command line at once.
    let (mut first_owner, mut session) = (None, None);
    if let Some(platform) = services.platform.as_ref().filter(|_| start.answers(Service::PlatformApi)) {
        let settings = &start.config.platform;
        let made = until_available(async || {
            platform.ensure_first_owner(&settings.owner_email, settings.owner_password.clone()).await
        });
        first_owner = made.await.exit(exit::FAILURE)?;
        session = CliSession::open(platform, &urls.local, storage.data_path()).await?;
    }
    let public = tokio_listener(listeners.public)?;
    let mut public_settings = settings.clone();
    public_settings.tls =
        tls::open(&start.config, storage.data_path(), &services.directory, &mut registry, (loops, loops_end))?;
    let internal = internal_router(start, storage, services)?;
    if start.only.is_some_and(Service::is_internal) {
        // The second is what `launchdb status` asks.
        let health = || health_route(&services.board);
        let router = Arc::new(internal.clone().route("/health", health()).route("/api/health", health()));
        serving.spawn(web::serve(public, router, public_settings, http_metrics, drain.clone()));
    } else {
        let front = Arc::new(front);
        serving.spawn(web::serve(public, front.clone(), public_settings, http_metrics.clone(), drain.clone()));
        if let Some(local) = listeners.local {
            serving.spawn(web::serve(tokio_listener(local)?, front, settings.clone(), http_metrics, drain.clone()));
        }
    }
    if let Some(listener) = listeners.redirect {
        let router = Arc::new(redirect::router(start.config.listen.public.port()));
        let metrics = HttpMetrics::default();
        serving.spawn(web::serve(tokio_listener(listener)?, router, settings.clone(), metrics, drain.clone()));
    }
    if let Some(status) = listeners.status {
        let router = Arc::new(page.route("/health", health_route(&services.board)));
        let metrics = HttpMetrics::default();
        serving.spawn(web::serve(tokio_listener(status)?, router, settings.clone(), metrics, drain.clone()));
    }
    let admin = Arc::new(admin_router(&services.board, registry).merge(internal));
    serving.spawn(web::serve(tokio_listener(listeners.admin)?, admin, settings, HttpMetrics::default(), drain.clone()));
    tracing::info!(url = urls.public, ready_ms = milliseconds(start.started), "serving");

    let mut welcoming = JoinSet::new();
    let welcome = Welcome {
        public_url: urls.public.clone(),
        status_url,
        admin_url: admin_url.map(|url| format!("{url}/metrics")),
        data: storage.data_path().map(|path| path.display().to_string()),
        database: storage.database_text(),
        first_owner,
        project: None,
        notes: listeners.notes,
        ready_ms: milliseconds(start.started),
    };
    welcoming.spawn_blocking(greet(start, session.as_ref(), services.platform.clone(), welcome)?);

    let result = until_signal(storage, services, &counted, signals, loops, &mut serving).await;
    drain.cancel();
    tokio::select! {
        () = async { while serving.join_next().await.is_some() {} } => {}
        _ = signals.next() => {
            tracing::warn!("requests under way are cut off");
            serving.abort_all();
        }
    }
    if let Some(session) = session {
        let closing = session.close(storage.data_path());
        if signals.end_at_once() {
            tokio::time::timeout(AT_ONCE, closing).await.ok();
        } else {
            closing.await;
        }
    }
    result
}

/// Makes the first projects and prints the welcome; runs beside the requests, which it makes itself.
fn greet(
    start: &Start,
    session: Option<&CliSession>,
    platform: Option<Platform>,
    mut welcome: Welcome,
) -> Result<impl FnOnce() + Send + 'static, Exit> {
    let client = session.map(CliSession::client).transpose()?;
    // A folder's first start is known by its first owner.
    let (demo, first) = (start.demo, !start.serve && !start.demo && welcome.first_owner.is_some());
    let wanted = !start.serve;
    let runtime = tokio::runtime::Handle::current();
    Ok(move || {
        if let (Some(client), true) = (client, wanted) {
            let made = match (demo, first) {
                (true, _) => starter::ensure_demo(&client),
                (false, true) => starter::ensure_first(&client),
                (false, false) => Ok(()),
            };
            match made.and_then(|()| starter::ready_project(&client)) {
                Ok(project) => welcome.project = project,
                Err(exit) => tracing::warn!("no project is ready for the welcome: {:#}", exit.error),
            }
        }
        // A closed standard output is no reason to stop serving.
        let printed = crate::cli::output::print(&welcome.text());
        let made = welcome.first_owner.is_some_and(|owner| owner.password.is_some());
        if let (Some(platform), true, Ok(())) = (platform, made, printed)
            && let Err(error) = runtime.block_on(platform.first_owner_shown())
        {
            tracing::warn!(%error, "the first owner's password will be shown once more");
        }
    })
}

fn status_page(start: &Start, services: &Services, urls: &Urls) -> Router {
    let (board, projects) = (services.board.clone(), services.projects.clone());
    let (public_url, started) = (urls.public.clone(), start.started);
    let page = move || {
        let view = StatusView {
            parts: &board.parts(),
            public_url: &public_url,
            version: env!("CARGO_PKG_VERSION"),
            uptime_seconds: started.elapsed().as_secs(),
            projects: projects.len(),
        };
        std::future::ready(status_page::respond(&view))
    };
    Router::new().route("/", get(page))
}

fn local_address(listener: Option<&std::net::TcpListener>) -> Option<String> {
    Some(format!("http://{}", listener?.local_addr().ok()?))
}

fn tokio_listener(listener: std::net::TcpListener) -> Result<TcpListener, Exit> {
    listener.set_nonblocking(true).exit(exit::FAILURE)?;
    TcpListener::from_std(listener).exit(exit::FAILURE)
}

fn milliseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
