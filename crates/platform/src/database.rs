//! The platform database: made when missing, migrated, and the pool of connections to it.

use std::io;
use std::time::{Duration, Instant};

use base::project::DatabaseTarget;
use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime, Timeouts};
use pg::migrate::{self, Ledger, MigrateError, Migration};
use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;
use tokio_util::task::TaskTracker;

use crate::config::PlatformConfig;
use crate::store::bootstrap;

/// Connections the control plane keeps to its database at most.
const MOST_CONNECTIONS: usize = 8;
/// All sessions that the control plane can have without being a superuser: the pool's, and those that listen.
pub(crate) const MOST_SESSIONS: i64 = MOST_CONNECTIONS as i64 + 2;
/// How long a request waits for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The platform database's own migrations, in order. A released file never changes.
pub const MIGRATIONS: &[Migration<'static>] = &[
    Migration { name: "0001_platform", sql: include_str!("migrations/0001_platform.sql") },
    Migration { name: "0002_domains_and_audit", sql: include_str!("migrations/0002_domains_and_audit.sql") },
    Migration { name: "0003_s3_access_keys", sql: include_str!("migrations/0003_s3_access_keys.sql") },
    Migration { name: "0004_certificate_names", sql: include_str!("migrations/0004_certificate_names.sql") },
    Migration { name: "0005_slow_queries", sql: include_str!("migrations/0005_slow_queries.sql") },
];

const LEDGER: Ledger<'static> = Ledger { schema: "launchdb", table: "platform_migrations", refuse_unknown: true };

/// Why the platform database could not be made ready.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    #[error("the administrator's connection to PostgreSQL failed")]
    Admin(#[source] tokio_postgres::Error),
    /// Holds the role's name.
    #[error(
        "the role \"{0}\" is no superuser, so it can make no databases and roles for projects: name one that is in \
         LAUNCHDB_ADMIN_DATABASE_URL (without it, the role of DATABASE_URL is used)"
    )]
    NoSuperuser(String),
    #[error("the platform database cannot be reached")]
    Connect(#[source] tokio_postgres::Error),
    #[error("the platform database cannot be migrated")]
    Migrate(#[source] MigrateError),
}

impl PrepareError {
    /// Whether the server has too much to do just now, recovers, or goes down and comes back: after a crash of either, the
    /// next start meets it so.
    fn is_passing(&self) -> bool {
        const CODES: [SqlState; 4] = [
            SqlState::CANNOT_CONNECT_NOW,
            SqlState::ADMIN_SHUTDOWN,
            SqlState::CRASH_SHUTDOWN,
            SqlState::TOO_MANY_CONNECTIONS,
        ];
        let (Self::Admin(error) | Self::Connect(error)) = self else { return false };
        let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<io::Error>());
        match error.code() {
            Some(code) => CODES.contains(code),
            // Not a refusal: there nobody may ever answer.
            None => {
                let broken = [io::ErrorKind::TimedOut, io::ErrorKind::ConnectionReset, io::ErrorKind::UnexpectedEof];
                error.is_closed() || source.is_some_and(|error| broken.contains(&error.kind()))
            }
        }
    }
}

/// How long a start asks a server that cannot serve it for the moment, and how long it waits between two tries.
const PATIENCE: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_millis(200);

/// As [`prepare`], for a start: waits while the server is busy with itself.
pub(crate) async fn prepare_patiently(config: &PlatformConfig) -> Result<migrate::Report, PrepareError> {
    let started = Instant::now();
    loop {
        match prepare(config).await {
            Err(error) if error.is_passing() && started.elapsed() < PATIENCE => {
                tracing::warn!(cause = ?error, "PostgreSQL cannot serve the start yet, trying again");
                tokio::time::sleep(RETRY).await;
            }
            result => return result,
        }
    }
}

/// `target` as `tokio-postgres` reads it.
pub(crate) fn client_config(target: &DatabaseTarget) -> tokio_postgres::Config {
    let mut config = tokio_postgres::Config::new();
    config
        .host(&target.host)
        .port(target.port)
        .dbname(&target.database)
        .user(&target.user)
        .password(target.password.expose())
        .application_name("launchdb")
        .connect_timeout(CONNECT_TIMEOUT);
    config
}

/// A pool that connects on demand; nothing is opened here.
pub(crate) fn pool(config: &PlatformConfig) -> Result<Pool, deadpool_postgres::BuildError> {
    let manager_config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = Manager::from_config(client_config(&config.database), NoTls, manager_config);
    let timeouts =
        Timeouts { wait: Some(ACQUIRE_TIMEOUT), create: Some(CONNECT_TIMEOUT), recycle: Some(CONNECT_TIMEOUT) };
    Pool::builder(manager).max_size(MOST_CONNECTIONS).timeouts(timeouts).runtime(Runtime::Tokio1).build()
}

/// Opens one connection whose task ends when the client is dropped.
pub(crate) async fn connect(
    target: &DatabaseTarget,
    tasks: &TaskTracker,
) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
    let (client, connection) = client_config(target).connect(NoTls).await?;
    tasks.spawn(async move {
        if let Err(error) = connection.await {
            tracing::warn!(cause = %error, "a connection of the control plane broke");
        }
    });
    Ok(client)
}

/// How often, and after which pause, the database is closed to others when another process does the same.
const MOST_CLOSINGS: usize = 20;
const CLOSING_PAUSE: Duration = Duration::from_millis(25);

/// Makes the role and the database of the control plane when they are missing, and applies its migrations. Safe to
/// run again, and in several processes at once.
pub async fn prepare(config: &PlatformConfig) -> Result<migrate::Report, PrepareError> {
    let tasks = TaskTracker::new();
    let admin = connect(&config.admin, &tasks).await.map_err(PrepareError::Admin)?;
    if !bootstrap::is_superuser(&admin).await.map_err(PrepareError::Admin)? {
        return Err(PrepareError::NoSuperuser(config.admin.user.clone()));
    }
    let target = &config.database;
    let exists = bootstrap::role_exists(&admin, &target.user).await.map_err(PrepareError::Admin)?;
    // With one and the same role for both (a server given by its DSN alone) there is nothing to make of it.
    if target.user != config.admin.user {
        // A password that works stays: poolers keep copies of the role's verifier, which a new one would make stale.
        let works = exists && !refuses_password(connect(&config.direct_database(), &tasks).await.err().as_ref());
        let password = (!works).then_some(&target.password);
        match bootstrap::role_put(&admin, &target.user, password, exists).await {
            Err(error) if !raced(&error) => return Err(PrepareError::Admin(error)),
            _ => {}
        }
    }
    if !bootstrap::database_exists(&admin, &target.database).await.map_err(PrepareError::Admin)? {
        match bootstrap::database_create(&admin, &target.database, &target.user).await {
            Err(error) if !raced(&error) => return Err(PrepareError::Admin(error)),
            _ => {}
        }
    }
    let mut tries = MOST_CLOSINGS;
    while let Err(error) = bootstrap::database_close(&admin, &target.database).await {
        tries -= 1;
        if tries == 0 || !raced(&error) {
            return Err(PrepareError::Admin(error));
        }
        tokio::time::sleep(CLOSING_PAUSE).await;
    }
    drop(admin);
    let mut owner = connect(&config.direct_database(), &tasks).await.map_err(PrepareError::Connect)?;
    let report = migrate(&mut owner).await.map_err(PrepareError::Migrate)?;
    drop(owner);
    tasks.close();
    tasks.wait().await;
    Ok(report)
}

/// Applies what is missing of the migrations; refuses a database of a newer version.
pub(crate) async fn migrate(owner: &mut tokio_postgres::Client) -> Result<migrate::Report, MigrateError> {
    migrate::run(owner, &LEDGER, MIGRATIONS).await
}

/// Whether a login failed because of its password. (A missing database is found out only after the password.)
fn refuses_password(error: Option<&tokio_postgres::Error>) -> bool {
    let codes = [SqlState::INVALID_PASSWORD, SqlState::INVALID_AUTHORIZATION_SPECIFICATION];
    error.and_then(tokio_postgres::Error::code).is_some_and(|code| codes.contains(code))
}

/// Whether another process did the same at the same moment.
fn raced(error: &tokio_postgres::Error) -> bool {
    let codes = [SqlState::DUPLICATE_OBJECT, SqlState::DUPLICATE_DATABASE, SqlState::UNIQUE_VIOLATION];
    // XX000 "tuple concurrently updated" is what ALTER ROLE of two at once says.
    error.code().is_some_and(|code| codes.contains(code) || code.code() == "XX000")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::config;

    #[tokio::test]
    async fn preparing_again_changes_nothing_but_a_wrong_password() {
        let cluster = test_support::TestCluster::shared();
        let mut config = config(&cluster);
        assert_eq!(prepare(&config).await.unwrap().applied.len(), MIGRATIONS.len());
        let admin = cluster.connect("postgres").await;
        let user = config.database.user.clone();
        let verifier = async || -> String {
            let sql = "select rolpassword from pg_authid where rolname = $1";
            admin.query_one(sql, &[&user]).await.unwrap().get(0)
        };
        let before = verifier().await;
        assert_eq!(prepare(&config).await.unwrap().applied, []);
        assert_eq!(verifier().await, before);
        config.database.password = base::Secret::new(base::random::password());
        assert_eq!(prepare(&config).await.unwrap().applied, []);
        // Others stay out.
        let connect = "select has_database_privilege('public', $1, 'connect')";
        let open: bool = admin.query_one(connect, &[&config.database.database]).await.unwrap().get(0);
        assert!(!open);
    }

    #[tokio::test]
    async fn several_processes_may_prepare_at_once() {
        let cluster = test_support::TestCluster::shared();
        let config = config(&cluster);
        let all = futures_util::future::join_all((0..4).map(|_| prepare(&config))).await;
        assert!(all.iter().all(Result::is_ok), "{all:?}");
    }

    #[tokio::test]
    async fn a_server_that_has_no_time_is_asked_again_and_one_that_refuses_is_not() {
        let cluster = test_support::TestCluster::shared();
        let config = config(&cluster);
        let check = async |target: &DatabaseTarget, expected: bool| {
            let error = connect(target, &TaskTracker::new()).await.expect_err("no connection");
            let error = PrepareError::Connect(error);
            assert_eq!(error.is_passing(), expected, "{error:?}");
        };
        let admin = connect(&config.admin, &TaskTracker::new()).await.unwrap();
        let crowded = format!("crowded_{}", base::random::hex::<4>());
        let sql = format!("create role {crowded} login password 'x' connection limit 0");
        admin.batch_execute(&sql).await.unwrap();
        let as_crowded = |password: &str| DatabaseTarget {
            user: crowded.clone(),
            password: base::Secret::new(password.to_owned()),
            ..config.admin.clone()
        };
        check(&as_crowded("x"), true).await;
        check(&as_crowded("wrong"), false).await;
        admin.batch_execute(&format!("drop role {crowded}")).await.unwrap();
        // One that ends the connection before it answers, and nobody.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let target = DatabaseTarget {
            host: "127.0.0.1".to_owned(),
            port: listener.local_addr().unwrap().port(),
            ..config.admin.clone()
        };
        let ending = std::thread::spawn(move || drop(listener.accept()));
        check(&target, true).await;
        ending.join().unwrap();
        check(&target, false).await;
    }
}
