//! The watchdog's SQL, run by the superuser in the platform database. Sessions are those of roles named like a
//! project's, in the database of that project.

use pg::ident::quote_ident;
use tokio_postgres::{Client, Error, Row};

use super::{Ended, WatchdogConfig};

/// Why a session was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    Statement,
    IdleInTransaction,
    AdvisoryLocks,
    Locks,
    NotificationQueue,
    Disk,
}

impl Reason {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Statement => "a statement ran too long",
            Self::IdleInTransaction => "a transaction was idle too long",
            Self::AdvisoryLocks => "it held too many advisory locks",
            Self::Locks => "it held too many locks",
            Self::NotificationQueue => "it held back the notification queue",
            Self::Disk => "the disk is nearly full",
        }
    }

    /// The word that `sessions_over_limit.sql` uses.
    fn from_name(name: &str) -> Self {
        match name {
            "statement" => Self::Statement,
            "idle_in_transaction" => Self::IdleInTransaction,
            "advisory_locks" => Self::AdvisoryLocks,
            _ => Self::Locks,
        }
    }
}

/// A condition on `pg_stat_activity` that only sessions of projects meet.
const OF_A_PROJECT: &str =
    "usename ~ '^proj_[a-z0-9]{3,40}(_authenticator)?$' and regexp_replace(usename, '_authenticator$', '') = datname";

fn read(row: &Row, reason: Reason) -> Ended {
    Ended { pid: row.get(0), role: row.get(1), reason }
}

/// Ends sessions that pass a limit.
pub(super) async fn sessions_end(db: &Client, limits: &WatchdogConfig) -> Result<Vec<Ended>, Error> {
    const SQL: &str = include_str!("sessions_over_limit.sql");
    let (statement, idle) = (limits.statement.as_secs_f64(), limits.idle_in_transaction.as_secs_f64());
    let rows = db.query(SQL, &[&statement, &idle, &limits.advisory_locks, &limits.locks]).await?;
    Ok(rows.iter().map(|row| read(row, Reason::from_name(row.get(2)))).collect())
}

/// How full the notification queue is, from 0 to 1.
pub(super) async fn notification_queue(db: &Client) -> Result<f64, Error> {
    db.query_one("select pg_notification_queue_usage()", &[]).await.map(|row| row.get(0))
}

/// Ends sessions that cannot be reading the queue: in a transaction for a while, or waiting for a client that does not
/// read. With `everybody`, every session of a project: which of them listen is not to be seen from outside.
pub(super) async fn queue_holders_end(db: &Client, everybody: bool) -> Result<Vec<Ended>, Error> {
    let sql = format!(
        "select pid, usename::text, pg_terminate_backend(pid) from pg_stat_activity
        where {OF_A_PROJECT} and ($1 or now() - xact_start > interval '2 seconds' or wait_event = 'ClientWrite')"
    );
    Ok(db.query(&sql, &[&everybody]).await?.iter().map(|row| read(row, Reason::NotificationQueue)).collect())
}

/// Ends every session of a project.
pub(super) async fn all_sessions_end(db: &Client) -> Result<Vec<Ended>, Error> {
    let sql = format!("select pid, usename::text, pg_terminate_backend(pid) from pg_stat_activity where {OF_A_PROJECT}");
    Ok(db.query(&sql, &[]).await?.iter().map(|row| read(row, Reason::Disk)).collect())
}

/// Ends sessions of projects that have written something.
pub(super) async fn writers_end(db: &Client) -> Result<Vec<Ended>, Error> {
    let sql = format!(
        "select pid, usename::text, pg_terminate_backend(pid) from pg_stat_activity
        where {OF_A_PROJECT} and backend_xid is not null"
    );
    Ok(db.query(&sql, &[]).await?.iter().map(|row| read(row, Reason::Disk)).collect())
}

/// Makes the databases of projects read-only for new sessions, or no longer. Returns how many it changed. Owners of
/// projects own no database, so this setting of a database is always ours.
pub(super) async fn databases_read_only(db: &Client, read_only: bool) -> Result<usize, Error> {
    const SQL: &str = "select d.datname::text from pg_database as d
        where starts_with(shobj_description(d.oid, 'pg_database'), 'LaunchDB:') and d.datname ~ '^proj_[a-z0-9]{3,40}$'
            and $1 is distinct from exists (
                select from pg_db_role_setting as s
                where s.setdatabase = d.oid and s.setrole = 0
                    and 'default_transaction_read_only=on' = any (s.setconfig))";
    let rows = db.query(SQL, &[&read_only]).await?;
    for row in &rows {
        let name = quote_ident(row.get(0));
        let change =
            if read_only { "set default_transaction_read_only to on" } else { "reset default_transaction_read_only" };
        db.batch_execute(&format!("alter database {name} {change}")).await?;
    }
    Ok(rows.len())
}
