//! PgBouncer beside an embedded cluster, or in a container of its own: kept running, with entries and users that follow the projects' life.

mod console;
mod store;
#[cfg(test)]
mod tests;
mod wishes;

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use base::Secret;
use postgres_protocol::password::scram_sha_256;
use procs::backoff::Backoff;
use procs::bounded_log::BoundedLog;
use procs::pgbouncer::{self, Entry, PgbouncerConfig, User};
use tokio::time::{MissedTickBehavior, interval};
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use console::{CONSOLE, PoolNumbers, keeps_prepared_statements};
pub use wishes::Wishes;

use self::console::Console;
use crate::provision::Provisioner;

/// How long after a project's change its entry may be the old one.
const INTERVAL: Duration = Duration::from_secs(1);
/// Between two looks at the pooler's own numbers.
const NUMBERS: Duration = Duration::from_secs(5);
/// Connections of one project to PostgreSQL, and how many more when its clients have waited (contracts, section 5).
const POOL_SIZE: u32 = 5;
const RESERVE_POOL: u32 = 2;

/// The verifier of a password, as PgBouncer and PostgreSQL keep it.
pub fn verifier(password: &Secret<String>) -> String {
    scram_sha_256(password.expose().as_bytes())
}

/// The pooler. Cheap to clone.
#[derive(Clone)]
pub struct Pooler(Arc<Inner>);

struct Inner {
    config: PgbouncerConfig,
    console_password: Secret<String>,
    provisioner: Provisioner,
    numbers: RwLock<Vec<PoolNumbers>>,
}

/// What is kept between two looks.
#[derive(Default)]
struct Sessions {
    platform: Option<Client>,
    console: Option<Console>,
    /// Whether the files say something that the process was not told yet.
    is_behind: bool,
    looked: Option<Instant>,
}

impl Pooler {
    /// Starts nothing yet; see [`Pooler::run`]. The console's password is the one that the configuration's verifier is of.
    pub fn new(config: PgbouncerConfig, console_password: Secret<String>, provisioner: Provisioner) -> Self {
        Self(Arc::new(Inner { config, console_password, provisioner, numbers: RwLock::default() }))
    }

    /// The last numbers, one for each database.
    pub fn numbers(&self) -> Vec<PoolNumbers> {
        self.0.numbers.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps it running until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let tasks = TaskTracker::new();
        let mut backoff = Backoff::default();
        let mut sessions = Sessions::default();
        let mut log = self.open_log();
        while !shutdown.is_cancelled() {
            let started = Instant::now();
            // Its files have to be there before it is.
            if let Err(error) = self.sync(&mut sessions).await {
                tracing::warn!(cause = %error, "the pooler's files cannot be written");
            }
            sessions.is_behind = false;
            let why = match self.0.config.start().await {
                Ok(child) => shutdown.run_until_cancelled(self.watch(child, &mut log, &mut sessions, &tasks)).await,
                Err(error) => Some(error.to_string()),
            };
            sessions.console = None;
            let Some(why) = why else { break };
            let wait = backoff.after(started.elapsed());
            tracing::warn!(why, wait_ms = wait.as_millis(), "the pooler ended and is started again");
            let _ = shutdown.run_until_cancelled(tokio::time::sleep(wait)).await;
        }
        drop(sessions);
        tasks.close();
        tasks.wait().await;
    }

    /// Its log, where one is kept; a folder that cannot be written to is no reason not to run.
    fn open_log(&self) -> Option<BoundedLog> {
        let folder = self.0.config.log_dir.as_deref()?;
        match BoundedLog::open(folder, "pgbouncer.log") {
            Ok(log) => Some(log),
            Err(error) => {
                tracing::warn!(folder = %folder.display(), cause = %error, "the pooler's log cannot be written");
                None
            }
        }
    }

    /// Until the child's end, which it tells.
    async fn watch(
        &self,
        mut child: tokio::process::Child,
        log: &mut Option<BoundedLog>,
        sessions: &mut Sessions,
        tasks: &TaskTracker,
    ) -> String {
        let working = async {
            let mut ticks = interval(INTERVAL);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                if let Err(error) = self.sync(sessions).await {
                    tracing::debug!(cause = %error, "the pooler could not be told of the projects");
                }
                if let Err(error) = self.tell(sessions, tasks).await {
                    sessions.console = None;
                    tracing::debug!(cause = %error, "the pooler's console does not answer");
                }
            }
        };
        tokio::select! {
            said = pgbouncer::listen(&mut child, log) => match child.wait().await {
                Ok(status) => format!("{status}: {said}"),
                Err(error) => error.to_string(),
            },
            () = working => String::new(),
        }
    }

    /// Writes the files anew when the projects are others than before.
    async fn sync(&self, sessions: &mut Sessions) -> Result<(), SyncError> {
        let platform = match sessions.platform.take().filter(|client| !client.is_closed()) {
            Some(client) => client,
            None => self.0.provisioner.monitor().await?,
        };
        let wishes = Wishes::read(&self.0.config.dir)?;
        let logins = store::pooled_logins(&platform).await?;
        let others = match wishes.users.as_slice() {
            [] => Vec::new(),
            names => store::named_logins(&platform, names).await?,
        };
        let entry = |name: &str| {
            let (pool_size, reserve_pool) = wishes.pools.get(name).copied().unwrap_or((POOL_SIZE, RESERVE_POOL));
            Entry { database: name.to_owned(), pool_size, reserve_pool }
        };
        // Ours are for services elsewhere; beside an embedded cluster they need no pooler.
        let services = match self.0.config.platform {
            Some(_) => store::service_logins(&platform).await?,
            None => Vec::new(),
        };
        let names: BTreeSet<&str> =
            logins.iter().map(|(name, _)| &**name).chain(services.iter().map(|login| &*login.database)).collect();
        let entries: Vec<Entry> = names.into_iter().map(entry).collect();
        let people =
            logins.into_iter().chain(others).map(|(name, verifier)| User { name, verifier, is_service: false });
        let services =
            services.into_iter().map(|login| User { name: login.role, verifier: login.verifier, is_service: true });
        let users: Vec<User> = people.chain(services).collect();
        sessions.platform = Some(platform);
        let config = self.0.config.clone();
        let written = tokio::task::spawn_blocking(move || config.write(&entries, &users)).await;
        sessions.is_behind |= written.map_err(std::io::Error::other)??;
        Ok(())
    }

    /// Has the process read its files again, and asks for its numbers.
    async fn tell(&self, sessions: &mut Sessions, tasks: &TaskTracker) -> Result<(), tokio_postgres::Error> {
        let is_time = sessions.looked.is_none_or(|at| at.elapsed() >= NUMBERS);
        if !sessions.is_behind && !is_time {
            return Ok(());
        }
        let console = match sessions.console.take() {
            Some(console) => console,
            None => Console::open(&self.0.config, &self.0.console_password, tasks).await?,
        };
        if sessions.is_behind {
            console.reload().await?;
            sessions.is_behind = false;
        }
        if is_time {
            let numbers = console.numbers().await?;
            *self.0.numbers.write().unwrap_or_else(PoisonError::into_inner) = numbers;
            sessions.looked = Some(Instant::now());
        }
        sessions.console = Some(console);
        Ok(())
    }
}

/// Why the files are not those of the present projects.
#[derive(Debug, thiserror::Error)]
enum SyncError {
    #[error("the platform's database")]
    Provision(#[from] crate::provision::ProvisionError),
    #[error("the logins of projects cannot be read")]
    Database(#[from] tokio_postgres::Error),
    #[error("the files")]
    Io(#[from] std::io::Error),
}
