//! The watchdog's SQL, run by the superuser; each statement is a file that says what it does.

use std::collections::HashMap;

use base::ProjectRef;
use tokio_postgres::{Client, Error, Row};

use super::WatchdogConfig;
use super::offence::{Measure, Offence, Reason};

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

/// Takes locks that nobody needs, to have room in the lock table when there is none.
pub(super) async fn locks_reserve(db: &Client) -> Result<(), Error> {
    db.execute(include_str!("../locks_reserve.sql"), &[]).await.map(drop)
}

/// Gives the reserved locks back.
pub(super) async fn locks_release(db: &Client) -> Result<(), Error> {
    db.execute(include_str!("../locks_release.sql"), &[]).await.map(drop)
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
    let sql = match measure {
        Measure::Cancelled => include_str!("../statement_cancel.sql"),
        Measure::Ended => include_str!("../session_end.sql"),
    };
    db.execute(sql, &[&offence.pid, &offence.backend_start]).await.map(drop)
}

/// Bytes of each project's database.
pub(super) async fn database_sizes(db: &Client, config: &WatchdogConfig) -> Result<HashMap<String, i64>, Error> {
    let rows = db.query(include_str!("../database_sizes.sql"), &[&only(config)]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Makes transactions of the whole cluster read-only unless they say otherwise, or no longer.
pub(super) async fn writes_refuse(db: &Client, refuse: bool) -> Result<(), Error> {
    // ALTER SYSTEM wants to be alone.
    let sql = if refuse { include_str!("../writes_refuse.sql") } else { include_str!("../writes_allow.sql") };
    db.batch_execute(sql).await?;
    db.execute(include_str!("../settings_reload.sql"), &[]).await.map(drop)
}

/// Lets the control plane's own roles write whatever the cluster's default is; from their next session on.
pub(super) async fn writers_exempt(db: &Client) -> Result<(), Error> {
    db.batch_execute(include_str!("../writers_exempt.sql")).await
}

/// Ends idle sessions of the control plane that may have begun before it was exempted.
pub(super) async fn writers_renew(db: &Client) -> Result<(), Error> {
    db.execute(include_str!("../writers_renew.sql"), &[]).await.map(drop)
}

/// Sets how many sessions these owners' roles may have.
pub(super) async fn connection_limit_put(db: &Client, roles: &[&str], limit: i32) -> Result<(), Error> {
    variable_put(db, "launchdb.watchdog_roles", &array_text(roles)).await?;
    variable_put(db, "launchdb.watchdog_limit", &limit.to_string()).await?;
    db.batch_execute(include_str!("../connection_limit.sql")).await
}

/// Owners' roles that may have no session at all.
pub(super) async fn locked_out(db: &Client, config: &WatchdogConfig) -> Result<Vec<String>, Error> {
    let rows = db.query(include_str!("../locked_out.sql"), &[&only(config)]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

async fn variable_put(db: &Client, name: &str, value: &str) -> Result<(), Error> {
    db.execute(include_str!("../variable_put.sql"), &[&name, &value]).await.map(drop)
}

/// PostgreSQL's text of an array of texts.
fn array_text(items: &[&str]) -> String {
    let quoted: Vec<String> =
        items.iter().map(|item| format!("\"{}\"", item.replace('\\', "\\\\").replace('"', "\\\""))).collect();
    format!("{{{}}}", quoted.join(","))
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

#[cfg(test)]
mod tests {
    use super::array_text;

    #[test]
    fn names_of_roles_survive_in_an_array() {
        assert_eq!(array_text(&[]), "{}");
        assert_eq!(array_text(&["platform", r#"a "b",\c"#]), r#"{"platform","a \"b\",\\c"}"#);
    }
}
