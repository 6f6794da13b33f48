//! The watchdog's SQL, run by the superuser; what is more than one line is a file that says what it does.

use std::collections::HashMap;

use base::ProjectRef;
use pg::ident::quote_ident;
use tokio_postgres::{Client, Error, Row, Statement};

use super::autovacuum::Worker;
use super::offence::{Measure, Offence, Reason};
use super::{DatabaseSize, WatchdogConfig};

/// What the limits depend on besides the configuration.
pub(super) struct Situation<'a> {
    pub(super) writes_refused: bool,
    /// Projects whose databases are too large and grow.
    pub(super) over_quota: &'a [String],
    /// See [`WatchdogConfig::temporary_bytes`]; less while the disk is nearly full.
    pub(super) temporary_bytes: i64,
}

/// Bounds what the watchdog itself may wait for.
pub(super) async fn session_prepare(db: &Client) -> Result<(), Error> {
    db.batch_execute(include_str!("../session_prepare.sql")).await
}

/// Takes the locks that [`lock_holders_end`] needs, in a transaction that stays open, and prepares it.
pub(super) async fn lock_sentry_prepare(db: &Client) -> Result<Statement, Error> {
    db.batch_execute(include_str!("../locks_sentry.sql")).await?;
    db.prepare(include_str!("../lock_holders_end.sql")).await
}

/// A session that holds much of the table of locks.
pub(super) struct LockHolder {
    pub(super) pid: i32,
    pub(super) role: String,
    pub(super) project: String,
    /// It, or all of its project together, passed a limit.
    pub(super) beyond: bool,
}

/// Ends sessions that hold most of the table of locks, or only looks at them.
pub(super) async fn lock_holders_end(
    db: &Client,
    statement: &Statement,
    config: &WatchdogConfig,
    ends: bool,
) -> Result<Vec<LockHolder>, Error> {
    // Within a transaction PostgreSQL goes on showing the sessions that it showed first.
    db.batch_execute("select pg_catalog.pg_stat_clear_snapshot()").await?;
    let rows = db.query(statement, &[&ends, &config.locks, &config.project_locks, &only(config)]).await?;
    let holder = |row: &Row| LockHolder { pid: row.get(0), role: row.get(1), project: row.get(2), beyond: row.get(3) };
    Ok(rows.iter().map(holder).collect())
}

/// Autovacuum's workers in projects' databases.
pub(super) async fn autovacuum_workers(db: &Client, config: &WatchdogConfig) -> Result<Vec<Worker>, Error> {
    let rows = db.query(include_str!("../autovacuum_workers.sql"), &[&only(config)]).await?;
    let worker = |row: &Row| Worker {
        pid: row.get("pid"),
        backend_start: row.get("backend_start"),
        project: row.get("project"),
        xact_start: row.get("xact_start"),
        pauses: row.get("pauses"),
        all_taken: row.get("all_taken"),
        counts: row.get("counts"),
    };
    Ok(rows.iter().map(worker).collect())
}

/// Sessions that pass a limit.
pub(super) async fn offenders(
    db: &Client,
    config: &WatchdogConfig,
    situation: &Situation<'_>,
) -> Result<Vec<Offence>, Error> {
    let rows = db
        .query(
            include_str!("../offenders.sql"),
            &[
                &config.statement.as_secs_f64(),
                &config.idle_in_transaction.as_secs_f64(),
                &config.transaction.as_secs_f64(),
                &config.locks,
                &config.project_locks,
                &config.sessions,
                &situation.temporary_bytes,
                &situation.writes_refused,
                &situation.over_quota,
                &only(config),
            ],
        )
        .await?;
    Ok(offences(&rows))
}

/// Sessions that all roles without a reserve may have together.
pub(super) async fn slots(db: &Client) -> Result<i64, Error> {
    db.query_one(include_str!("../slots.sql"), &[]).await.map(|row| row.get(0))
}

/// Sessions of owners beyond `most`, those to end first, each with how many of its role stay.
pub(super) async fn crowd(db: &Client, config: &WatchdogConfig, most: i64) -> Result<Vec<(Offence, i64)>, Error> {
    let rows = db.query(include_str!("../crowd.sql"), &[&most, &only(config)]).await?;
    Ok(rows.iter().filter_map(|row| Some((offence(row)?, row.get("kept")))).collect())
}

/// Processes that work for projects' sessions, each with the session it works for as an offence of that.
pub(super) async fn processes(db: &Client, config: &WatchdogConfig) -> Result<Vec<(Offence, i32)>, Error> {
    let rows = db.query(include_str!("../processes.sql"), &[&only(config)]).await?;
    Ok(rows.iter().filter_map(|row| Some((offence(row)?, row.get("process")))).collect())
}

/// Processes of logins that are not through, while somebody waits for them.
pub(super) async fn half_open_logins(db: &Client) -> Result<Vec<i32>, Error> {
    let rows = db.query(include_str!("../half_open.sql"), &[]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Ends a login, unless it has got through.
pub(super) async fn login_end(db: &Client, pid: i32) -> Result<(), Error> {
    db.execute(include_str!("../login_end.sql"), &[&pid]).await.map(drop)
}

/// How full the notification queue is, from 0 to 1.
pub(super) async fn notification_queue(db: &Client) -> Result<f64, Error> {
    db.query_one(include_str!("../notification_queue.sql"), &[]).await.map(|row| row.get(0))
}

/// Sessions that may be holding the notification queue back, the likeliest first. One without `since` counts only when
/// it is met for long.
pub(super) async fn notification_queue_holders(db: &Client, config: &WatchdogConfig) -> Result<Vec<Offence>, Error> {
    let sql = include_str!("../notification_queue_holders.sql");
    let rows = db.query(sql, &[&config.notification_stall.as_secs_f64(), &only(config)]).await?;
    Ok(offences(&rows))
}

/// Does something about a session, unless it has gone.
pub(super) async fn measure_take(db: &Client, offence: &Offence, measure: Measure) -> Result<(), Error> {
    session_measure_take(db, offence.pid, offence.backend_start, measure).await
}

/// As [`measure_take`].
pub(super) async fn session_measure_take(
    db: &Client,
    pid: i32,
    backend_start: i64,
    measure: Measure,
) -> Result<(), Error> {
    let sql = match measure {
        Measure::Cancelled => include_str!("../statement_cancel.sql"),
        Measure::Ended => include_str!("../session_end.sql"),
    };
    db.execute(sql, &[&pid, &backend_start]).await.map(drop)
}

/// Bytes of each project's database.
pub(super) async fn database_sizes(
    db: &Client,
    config: &WatchdogConfig,
) -> Result<HashMap<String, DatabaseSize>, Error> {
    let rows = db.query(include_str!("../database_sizes.sql"), &[&only(config)]).await?;
    let size = |row: &Row| DatabaseSize { bytes: row.get(1), transaction_age: row.get(2) };
    Ok(rows.iter().map(|row| (row.get(0), size(row))).collect())
}

/// Makes transactions of the whole cluster read-only unless they say otherwise, or no longer. Needs a little room on the
/// disk: the server writes a new file.
pub(super) async fn writes_refuse(db: &Client, refuse: bool) -> Result<(), Error> {
    // ALTER SYSTEM wants to be alone.
    let sql = if refuse { include_str!("../writes_refuse.sql") } else { include_str!("../writes_allow.sql") };
    db.batch_execute(sql).await?;
    db.execute(include_str!("../settings_reload.sql"), &[]).await.map(drop)
}

/// Tells other processes that writes are refused, or no longer; as often as one likes. Needs no room on the disk.
pub(super) async fn refusal_mark(db: &Client, refuse: bool) -> Result<(), Error> {
    let sql = if refuse { include_str!("../refusal_mark.sql") } else { include_str!("../refusal_unmark.sql") };
    db.execute(sql, &[]).await.map(drop)
}

/// Lets the control plane's own roles write whatever the cluster's default is; from their next session on.
pub(super) async fn writers_exempt(db: &Client) -> Result<(), Error> {
    db.batch_execute(include_str!("../writers_exempt.sql")).await
}

/// Ends idle sessions of the control plane that may have begun before it was exempted.
pub(super) async fn writers_renew(db: &Client) -> Result<(), Error> {
    db.execute(include_str!("../writers_renew.sql"), &[]).await.map(drop)
}

/// Sets how many sessions an owner's role may have.
pub(super) async fn connection_limit_put(db: &Client, role: &str, limit: i32) -> Result<(), Error> {
    db.batch_execute(&format!("alter role {} connection limit {limit}", quote_ident(role))).await
}

/// Owners' roles whose limit is below `usual`, and their limit.
pub(super) async fn owner_limits(
    db: &Client,
    config: &WatchdogConfig,
    usual: i32,
) -> Result<HashMap<String, i32>, Error> {
    let rows = db.query(include_str!("../owner_limits.sql"), &[&usual, &only(config)]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

fn only(config: &WatchdogConfig) -> Option<Vec<&str>> {
    config.only.as_ref().map(|only| only.iter().map(ProjectRef::as_str).collect())
}

fn offences(rows: &[Row]) -> Vec<Offence> {
    rows.iter().filter_map(offence).collect()
}

fn offence(row: &Row) -> Option<Offence> {
    Some(Offence {
        pid: row.get("pid"),
        backend_start: row.get("backend_start"),
        role: row.get("role"),
        project: row.get("project"),
        reason: Reason::from_name(row.get("reason"))?,
        since: row.get("since"),
        cancel: row.get("cancel"),
    })
}
