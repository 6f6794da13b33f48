//! PgBouncer's console: a database of its own that knows a few commands, as simple queries only.

use std::collections::BTreeMap;
use std::time::Duration;

use base::Secret;
use base::project::DatabaseTarget;
use procs::pgbouncer::{self, CONSOLE_USER, PgbouncerConfig};
use tokio_postgres::{Client, Error, NoTls, SimpleQueryMessage, SimpleQueryRow};
use tokio_util::task::TaskTracker;

use crate::database;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// The console's name among PgBouncer's databases.
pub const CONSOLE: &str = "pgbouncer";

/// Numbers of one database; those of time count from the pooler's start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolNumbers {
    pub database: String,
    /// Clients that have a connection to PostgreSQL, and that wait for one.
    pub clients_active: i64,
    pub clients_waiting: i64,
    pub servers_active: i64,
    pub servers_idle: i64,
    pub transactions: i64,
    pub queries: i64,
    /// Microseconds that clients waited.
    pub wait_us: i64,
}

pub(super) struct Console(Client);

impl Console {
    pub(super) async fn open(
        config: &PgbouncerConfig,
        password: &Secret<String>,
        tasks: &TaskTracker,
    ) -> Result<Self, Error> {
        let (client, connection) = tokio_postgres::Config::new()
            .host(if config.listen.is_unspecified() { "127.0.0.1".to_owned() } else { config.listen.to_string() })
            .port(config.port)
            .dbname(CONSOLE)
            .user(CONSOLE_USER)
            .password(password.expose())
            .connect_timeout(CONNECT_TIMEOUT)
            .connect(NoTls)
            .await?;
        tasks.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(cause = %error, "the connection to the pooler's console broke");
            }
        });
        Ok(Self(client))
    }

    /// Has it read its files again. Connections of databases that are listed no more end.
    pub(super) async fn reload(&self) -> Result<(), Error> {
        self.0.simple_query("RELOAD").await.map(drop)
    }

    pub(super) async fn numbers(&self) -> Result<Vec<PoolNumbers>, Error> {
        let mut all: BTreeMap<String, PoolNumbers> = BTreeMap::new();
        for (command, is_pools) in [("SHOW POOLS", true), ("SHOW STATS", false)] {
            for message in self.0.simple_query(command).await? {
                let SimpleQueryMessage::Row(row) = message else { continue };
                // Columns differ from version to version.
                let number = |name: &str| {
                    let at = row.columns().iter().position(|column| column.name() == name);
                    at.and_then(|at| row.get(at)).and_then(|text| text.parse::<i64>().ok()).unwrap_or_default()
                };
                let Some(database) = row.get(0).filter(|name| *name != CONSOLE) else { continue };
                let entry = all.entry(database.to_owned()).or_default();
                database.clone_into(&mut entry.database);
                if is_pools {
                    entry.clients_active += number("cl_active");
                    entry.clients_waiting += number("cl_waiting");
                    entry.servers_active += number("sv_active");
                    entry.servers_idle += number("sv_idle");
                } else {
                    entry.transactions = number("total_xact_count");
                    entry.queries = number("total_query_count");
                    entry.wait_us = number("total_wait_time");
                }
            }
        }
        Ok(all.into_values().collect())
    }
}

/// Whether a PgBouncer keeps prepared statements of clients that share connections. `console` is its console, as a user who
/// may ask it.
///
/// # Errors
/// When it cannot be reached, or does not let this user ask (an error of the server).
pub async fn keeps_prepared_statements(console: &DatabaseTarget) -> Result<bool, Error> {
    let tasks = TaskTracker::new();
    let client = database::connect(console, &tasks).await?;
    let version = first(&client, "SHOW VERSION", |row| row.get(0).and_then(pgbouncer::parse_version)).await?;
    if version.is_none_or(|version| version < pgbouncer::PREPARED_STATEMENTS) {
        return Ok(false);
    }
    let setting = |row: &SimpleQueryRow| {
        (row.get(0) == Some("max_prepared_statements")).then(|| row.get(1).is_some_and(|value| value != "0"))
    };
    Ok(first(&client, "SHOW CONFIG", setting).await?.unwrap_or(false))
}

/// What is found in the first row in which there is something.
async fn first<T>(client: &Client, sql: &str, find: impl Fn(&SimpleQueryRow) -> Option<T>) -> Result<Option<T>, Error> {
    let messages = client.simple_query(sql).await?;
    Ok(messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => find(row),
        _ => None,
    }))
}
