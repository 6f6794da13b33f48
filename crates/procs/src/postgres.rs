//! The embedded PostgreSQL: made, started, watched and stopped by LaunchDB.
//!
//! In the folder it is given:
//!
//! ```text
//! data/             the cluster, owned by PostgreSQL's user; `custom.conf` in it is the operator's
//! socket/           the unix socket, for PostgreSQL's user and root only
//! port              the TCP port, kept from start to start
//! postgresql.log    bounded; `postgresql.log.1` is the older half, `postgresql.log.pipe` where the server writes
//! ```
//!
//! A LaunchDB that was killed leaves PostgreSQL running; the next one on the same folder takes it over.

mod backends;
mod postmaster;
mod server_log;
mod socket;

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base::Secret;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use self::backends::Backends;
use self::postmaster::{Place, Postmaster};
use self::server_log::ServerLog;
use crate::backoff::Backoff;
use crate::binaries::{Binaries, BinariesError, Search};
use crate::initdb::{Initdb, InitdbError};
use crate::postgres_conf::{PostgresConf, autovacuum_naptime, render_hba, rendered_naptime};
use crate::private_file;
use crate::unprivileged::{AccessError, RunAs};

/// What an embedded cluster is made of.
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    /// The cluster's folder, [`crate::data_dir::DataDir::postgres_dir`]. The one above it must exist.
    pub dir: PathBuf,
    pub run_as: RunAs,
    /// Where to look for PostgreSQL's programs.
    pub search: Search,
    pub superuser: String,
    pub superuser_password: Secret<String>,
    /// The TCP port on loopback; none lets LaunchDB pick one and keep it.
    pub port: Option<u16>,
    /// Memory that one backend may take for itself (RLIMIT_DATA), bytes; none for no limit.
    pub backend_memory: Option<u64>,
    /// The most that PostgreSQL's own log may take, bytes.
    pub log_bytes: u64,
    /// What each finished piece of the write-ahead log is handed to, for point-in-time recovery.
    pub archive_command: Option<String>,
    /// How long a start, crash recovery included, may take.
    pub start_deadline: Duration,
    /// How long a clean stop may take before it is forced.
    pub stop_deadline: Duration,
}

impl ClusterConfig {
    /// The defaults: superuser `supabase_admin`, a port of LaunchDB's choice, 512 MiB for a backend.
    pub fn new(dir: PathBuf, run_as: RunAs, search: Search, superuser_password: Secret<String>) -> Self {
        Self {
            dir,
            run_as,
            search,
            superuser: "supabase_admin".into(),
            superuser_password,
            port: None,
            backend_memory: Some(512 * 1024 * 1024),
            log_bytes: 16 * 1024 * 1024,
            archive_command: None,
            start_deadline: Duration::from_secs(120),
            stop_deadline: Duration::from_secs(20),
        }
    }
}

/// What the supervisor knows about PostgreSQL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    Ready,
    /// It ended and is being started again; holds why.
    Down(String),
    Stopped,
}

/// Why the cluster does not run.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    #[error(transparent)]
    Binaries(#[from] BinariesError),
    #[error(transparent)]
    Access(#[from] AccessError),
    #[error(transparent)]
    Initdb(#[from] InitdbError),
    #[error("{}: {source}", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "{} is damaged: it should name the PostgreSQL version of the cluster. Restore the folder from a backup", path.display()
    )]
    Damaged { path: PathBuf },
    #[error(
        "the cluster in {} belongs to the user with id {owner}, as whom PostgreSQL cannot be started from here. Start \
         LaunchDB as the user that made it", path.display()
    )]
    Owner { path: PathBuf, owner: u32 },
    #[error("PostgreSQL's port {port} on 127.0.0.1 is used by another program. Stop that, or choose another port")]
    PortTaken { port: u16 },
    #[error("no free TCP port on 127.0.0.1 was found for PostgreSQL. Is the loopback interface up?")]
    NoPort,
    #[error("PostgreSQL does not start ({status}). Its log says:\n{log}")]
    Start { status: String, log: String },
}

impl ClusterError {
    fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }
}

/// A running, supervised PostgreSQL. Dropping it leaves PostgreSQL alone, [`Cluster::stop`] stops it.
#[derive(Debug)]
pub struct Cluster {
    conf: Mutex<PostgresConf>,
    config: ClusterConfig,
    place: Arc<Place>,
    /// Where it listens.
    port: u16,
    socket_dir: PathBuf,
    is_new: bool,
    health: watch::Receiver<Health>,
    reload: watch::Sender<()>,
    stop: CancellationToken,
    supervisor: JoinSet<()>,
}

impl Cluster {
    /// Makes the cluster when there is none, starts it or takes over the one that runs, and returns when it accepts
    /// connections. Needs a Tokio runtime.
    pub async fn open(config: ClusterConfig) -> Result<Self, ClusterError> {
        let (place, is_new, config) = run_blocking(&config.dir.clone(), move || {
            let (place, is_new) = prepare(&config)?;
            Ok((place, is_new, config))
        })
        .await?;
        let mut failed = 0;
        loop {
            match Self::open_once(&config, &place, is_new).await {
                // The port was taken between the look and the start, or something of a killed run was still ending.
                Err(ClusterError::Start { status, log }) if failed < 2 && !status.starts_with("not ready") => {
                    tracing::warn!(status, log, "PostgreSQL did not start, trying again");
                    failed += 1;
                }
                other => return other,
            }
        }
    }

    async fn open_once(config: &ClusterConfig, place: &Place, is_new: bool) -> Result<Self, ClusterError> {
        let socket_dir = socket::make_socket_dir(&config.dir, &place.name, &place.run_as)?;
        let mut postmaster = None;
        let port = match place.settled(config.start_deadline).await {
            Some((running, file)) => {
                let conf = conf_for(config, place, file.port, &socket_dir);
                let wanted = config.port.or_else(|| socket::kept_port(&config.dir)).is_none_or(|p| p == file.port);
                // Whose log we cannot bound does not go on.
                let heard = place.log.was_there;
                if wanted && heard && file.ready && !write_conf(config, place, &conf)? {
                    tracing::info!(pid = running.pid(), "taking over the PostgreSQL that still runs");
                    // The last LaunchDB may have been killed between writing a setting and saying so.
                    running.reload();
                    postmaster = Some(running);
                    file.port
                } else {
                    tracing::info!(pid = running.pid(), "stopping a PostgreSQL that runs with other settings");
                    running.stop(config.stop_deadline).await;
                    socket::choose_port(&config.dir, config.port)?
                }
            }
            None => {
                place.end_orphans().await;
                place.forget_dead(&socket_dir);
                socket::choose_port(&config.dir, config.port)?
            }
        };
        let conf = conf_for(config, place, port, &socket_dir);
        let postmaster = match postmaster {
            Some(postmaster) => postmaster,
            None => {
                write_conf(config, place, &conf)?;
                place.start(config.start_deadline).await?
            }
        };
        let (health_sender, health) = watch::channel(Health::Ready);
        let (reload, reload_receiver) = watch::channel(());
        let stop = CancellationToken::new();
        let place = Arc::new(place.clone());
        let supervise = Supervise {
            place: Arc::clone(&place),
            socket_dir: socket_dir.clone(),
            start_deadline: config.start_deadline,
            stop_deadline: config.stop_deadline,
            health: health_sender,
            reload: reload_receiver,
            stop: stop.clone(),
        };
        let mut supervisor = JoinSet::new();
        let silent = CancellationToken::new();
        supervisor.spawn(Arc::clone(&place.log).follow(silent.clone()));
        supervisor.spawn(async move {
            // Its last words count.
            let _silent = silent.drop_guard();
            supervise.run(postmaster).await;
        });
        let (conf, config) = (Mutex::new(conf), config.clone());
        Ok(Self { conf, config, place, port, socket_dir, is_new, health, reload, stop, supervisor })
    }

    /// TCP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Folder of the unix socket, the `host` of a connection through it.
    pub fn socket_dir(&self) -> &Path {
        &self.socket_dir
    }

    /// The superuser's name.
    pub fn superuser(&self) -> &str {
        &self.config.superuser
    }

    /// PostgreSQL's programs, for `pg_dump` and the like.
    pub fn binaries(&self) -> &Binaries {
        &self.place.binaries
    }

    /// Whether this start made the cluster.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// Follows PostgreSQL's health. It says whether the process runs; whether it answers, a query says.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.health.clone()
    }

    /// The server's processes, for whoever watches over them.
    pub fn backends(&self) -> Backends {
        Backends(Arc::clone(&self.place))
    }

    /// Fits settings to the number of databases; cheap when nothing changes.
    pub async fn set_databases(&self, databases: u32) -> Result<(), ClusterError> {
        let mut conf = self.conf.lock().await;
        let naptime = autovacuum_naptime(databases);
        if conf.autovacuum_naptime_seconds != naptime {
            conf.autovacuum_naptime_seconds = naptime;
            write_conf(&self.config, &self.place, &conf)?;
            let _ = self.reload.send(());
        }
        Ok(())
    }

    /// Stops PostgreSQL cleanly and waits for its end.
    pub async fn stop(mut self) {
        self.stop.cancel();
        while self.supervisor.join_next().await.is_some() {}
    }
}

struct Supervise {
    place: Arc<Place>,
    socket_dir: PathBuf,
    start_deadline: Duration,
    stop_deadline: Duration,
    health: watch::Sender<Health>,
    reload: watch::Receiver<()>,
    stop: CancellationToken,
}

impl Supervise {
    async fn run(mut self, mut postmaster: Postmaster) {
        let mut backoff = Backoff::default();
        loop {
            let started = Instant::now();
            let Some(why) = self.watch(&mut postmaster).await else {
                postmaster.stop(self.stop_deadline).await;
                break;
            };
            tracing::error!(status = why, "PostgreSQL ended unexpectedly, starting it again");
            let _ = self.health.send(Health::Down(why));
            match self.start_again(&mut backoff, started.elapsed()).await {
                Some(fresh) => postmaster = fresh,
                None => break,
            }
            tracing::info!(pid = postmaster.pid(), "PostgreSQL is back");
            let _ = self.health.send(Health::Ready);
        }
        let _ = self.health.send(Health::Stopped);
    }

    /// Until the postmaster's end (how it came), or until we are to stop (none).
    async fn watch(&mut self, postmaster: &mut Postmaster) -> Option<String> {
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return None,
                why = postmaster.ended() => return Some(why),
                Ok(()) = self.reload.changed() => postmaster.reload(),
            }
        }
    }

    async fn start_again(&self, backoff: &mut Backoff, mut ran: Duration) -> Option<Postmaster> {
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return None,
                () = tokio::time::sleep(backoff.after(ran)) => {}
            }
            if let Some((running, _)) = self.place.running() {
                // Somebody started it by hand. It serves as well as ours would.
                return Some(running);
            }
            self.place.end_orphans().await;
            self.place.forget_dead(&self.socket_dir);
            match self.place.start(self.start_deadline).await {
                Ok(postmaster) => return Some(postmaster),
                Err(error) => {
                    tracing::error!(%error, "PostgreSQL cannot be started again");
                    let _ = self.health.send(Health::Down(error.to_string()));
                    ran = Duration::ZERO;
                }
            }
        }
    }
}

/// Finds the programs and makes the cluster's files when there are none.
fn prepare(config: &ClusterConfig) -> Result<(Place, bool), ClusterError> {
    let data = config.dir.join("data");
    let mut run_as = config.run_as.clone();
    let (binaries, is_new) = match fs::metadata(&data) {
        Ok(meta) => {
            if meta.uid() != run_as.uid {
                run_as =
                    run_as.other(meta.uid()).ok_or(ClusterError::Owner { path: data.clone(), owner: meta.uid() })?;
            }
            let file = data.join("PG_VERSION");
            let text = fs::read_to_string(&file).map_err(|e| ClusterError::io(&file, e))?;
            let major = text.trim().parse().map_err(|_| ClusterError::Damaged { path: file })?;
            (Binaries::find_major(&config.search, major)?, false)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => (Binaries::find(&config.search)?, true),
        Err(error) => return Err(ClusterError::io(&data, error)),
    };
    run_as.make_passage(&config.dir)?;
    run_as.check_reachable(&data)?;
    if is_new {
        let password = &config.superuser_password;
        let initdb =
            Initdb { binaries: &binaries, run_as: &run_as, superuser: &config.superuser, password, durable: true };
        initdb.create(&data)?;
    }
    let dir = config.dir.canonicalize().map_err(|e| ClusterError::io(&config.dir, e))?;
    let name = format!("launchdb-{:016x}", fingerprint(&dir));
    let log = Arc::new(ServerLog::open(&dir, config.log_bytes)?);
    let backend_memory = config.backend_memory;
    Ok((Place { data: dir.join("data"), log, binaries, run_as, name, backend_memory }, is_new))
}

fn conf_for(config: &ClusterConfig, place: &Place, port: u16, socket_dir: &Path) -> PostgresConf {
    let mut conf = PostgresConf::new(port, socket_dir.to_owned(), place.name.clone());
    conf.archive_command.clone_from(&config.archive_command);
    // How many databases there are is known only once PostgreSQL runs, so the last run's answer is kept meanwhile.
    let last = fs::read_to_string(place.data.join("postgresql.conf")).unwrap_or_default();
    if let Some(naptime) = rendered_naptime(&last) {
        conf.autovacuum_naptime_seconds = naptime;
    }
    conf
}

/// Whether a postmaster runs on these files.
pub fn is_running(data: &Path) -> bool {
    postmaster_address(data).is_some()
}

/// Socket folder and TCP port of the postmaster that runs on these files.
pub(crate) fn postmaster_address(data: &Path) -> Option<(PathBuf, u16)> {
    let text = fs::read_to_string(data.join("postmaster.pid")).ok()?;
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let is_alive = crate::process::ProcessId::of(lines.first()?.parse().ok()?).is_some_and(|id| id.is_alive());
    let socket = lines.get(4).filter(|socket| is_alive && !socket.is_empty())?;
    Some((PathBuf::from(socket), lines.get(3)?.parse().ok()?))
}

/// Writes the configuration files; whether they changed.
fn write_conf(config: &ClusterConfig, place: &Place, conf: &PostgresConf) -> Result<bool, ClusterError> {
    let mut changed = false;
    for (name, text) in [("postgresql.conf", conf.render()), ("pg_hba.conf", render_hba(&config.superuser))] {
        let file = place.data.join(name);
        changed |= private_file::update(&file, &text, Some(&place.run_as)).map_err(|e| ClusterError::io(&file, e))?;
    }
    Ok(changed)
}

/// FNV-1a: the same for the same path at every start, which the standard library's hasher does not promise.
fn fingerprint(path: &Path) -> u64 {
    use std::os::unix::ffi::OsStrExt as _;
    path.as_os_str()
        .as_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

async fn run_blocking<T: Send + 'static>(
    dir: &Path,
    work: impl FnOnce() -> Result<T, ClusterError> + Send + 'static,
) -> Result<T, ClusterError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(ClusterError::io(dir, io::Error::other(error))),
    }
}

#[cfg(test)]
mod tests;
