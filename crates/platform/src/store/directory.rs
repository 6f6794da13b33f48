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

/// Subscribes to the changes of projects; see the trigger `project_changed`.
pub(crate) async fn project_listen(db: &impl GenericClient) -> Result<(), Error> {
    db.batch_execute("listen launchdb_project").await
}
