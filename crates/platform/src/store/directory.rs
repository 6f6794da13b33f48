//! What the snapshots of projects are made from. Every function reads all projects, or the one given.

use base::ProjectRef;
use base::sealed::Sealed;
use serde_json::{Map, Value};
use tokio_postgres::types::Json;
use tokio_postgres::{Error, GenericClient};

pub(crate) struct ProjectRow {
    pub(crate) id: String,
    pub(crate) status: String,
    pub(crate) revision: i64,
}

/// Projects that are neither spare nor deleted.
pub(crate) async fn project_rows(db: &impl GenericClient, only: Option<&ProjectRef>) -> Result<Vec<ProjectRow>, Error> {
    const SQL: &str = "select id, status, revision from platform.projects
        where ($1::text is null or id = $1) and not is_spare and status <> 'deleted'";
    let rows = db.query(SQL, &[&only.map(ProjectRef::as_str)]).await?;
    Ok(rows.iter().map(|row| ProjectRow { id: row.get(0), status: row.get(1), revision: row.get(2) }).collect())
}

/// Project, kind and newest version of the secrets that requests need.
pub(crate) async fn secret_rows(
    db: &impl GenericClient,
    only: Option<&ProjectRef>,
) -> Result<Vec<(String, String, Sealed)>, Error> {
    const SQL: &str = "select distinct on (project_id, kind) project_id, kind, sealed, key_version
        from platform.secrets
        where ($1::text is null or project_id = $1) and (kind in ('jwt_secret', 'authenticator_password', 'signing_keys', 'anon_key', 'previous_jwt_secrets') or kind like 'auth.%')
        order by project_id, kind, version desc";
    let rows = db.query(SQL, &[&only.map(ProjectRef::as_str)]).await?;
    let secrets =
        rows.iter().map(|row| (row.get(0), row.get(1), Sealed { bytes: row.get(2), key_version: row.get(3) }));
    Ok(secrets.collect())
}

/// Project, id, kind and hash of the keys that are not revoked.
pub(crate) async fn api_key_rows(
    db: &impl GenericClient,
    only: Option<&ProjectRef>,
) -> Result<Vec<(String, i64, String, Vec<u8>)>, Error> {
    const SQL: &str = "select project_id, id, kind, hash from platform.api_keys
        where ($1::text is null or project_id = $1) and revoked_at is null";
    let rows = db.query(SQL, &[&only.map(ProjectRef::as_str)]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3))).collect())
}

/// Project, section and settings of the sections that requests need.
pub(crate) async fn settings_rows(
    db: &impl GenericClient,
    only: Option<&ProjectRef>,
) -> Result<Vec<(String, String, Map<String, Value>)>, Error> {
    const SQL: &str = "select project_id, section, settings from platform.project_settings
        where ($1::text is null or project_id = $1) and section in ('auth', 'data_api', 'storage', 'limits', 'general')";
    let rows = db.query(SQL, &[&only.map(ProjectRef::as_str)]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1), row.get::<_, Json<Map<String, Value>>>(2).0)).collect())
}

/// Project and domain, where an administrator approved it.
pub(crate) async fn domain_rows(
    db: &impl GenericClient,
    only: Option<&ProjectRef>,
) -> Result<Vec<(String, String)>, Error> {
    const SQL: &str = "select project_id, domain from platform.project_domains
        where ($1::text is null or project_id = $1) and approved_at is not null";
    let rows = db.query(SQL, &[&only.map(ProjectRef::as_str)]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Who follows projects names the session so; behind it stands the last mark that was seen.
pub(crate) const FOLLOWER: &str = "launchdb directory ";
/// What a mark's payload begins with, in place of a project's id.
pub(crate) const MARK: &str = "mark ";

/// Subscribes to the changes of projects; see the trigger `project_changed`. The session's process id.
pub(crate) async fn project_listen(db: &impl GenericClient) -> Result<i32, Error> {
    db.batch_execute("listen launchdb_project").await?;
    Ok(db.query_one("select pg_catalog.pg_backend_pid()", &[]).await?.get(0))
}

/// Sends a mark behind all changes that are committed; its number is larger than those of marks before them.
pub(crate) async fn mark_send(db: &impl GenericClient) -> Result<i64, Error> {
    const SQL: &str = "with mark as materialized (select pg_catalog.pg_current_xact_id()::text::int8 as number)
        select number, pg_catalog.pg_notify('launchdb_project', $1 || number) from mark";
    Ok(db.query_one(SQL, &[&MARK]).await?.get(0))
}

/// Tells that everything up to a mark was read, by a session that follows.
pub(crate) async fn mark_seen(db: &impl GenericClient, mark: i64) -> Result<(), Error> {
    const SQL: &str = "select pg_catalog.set_config('application_name', $1 || $2::int8, false)";
    db.query_one(SQL, &[&FOLLOWER, &mark]).await.map(drop)
}

/// How many sessions beside `own` follow and have not told of a mark yet.
pub(crate) async fn followers_behind(db: &impl GenericClient, mark: i64, own: i32) -> Result<i64, Error> {
    const SQL: &str = "select count(*) from pg_catalog.pg_stat_activity
        where datname = current_database() and usename = current_user and pid <> $2
            and application_name ~ ('^' || $3 || '[0-9]{1,18}$') and split_part(application_name, ' ', 3)::int8 < $1";
    Ok(db.query_one(SQL, &[&mark, &own, &FOLLOWER]).await?.get(0))
}
