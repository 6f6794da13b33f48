//! The log of every change.

use std::net::IpAddr;

use base::{OwnerId, ProjectRef};
use serde_json::Value;
use tokio_postgres::types::Json;
use tokio_postgres::{Error, GenericClient, Row};

use crate::timestamp::Timestamp;

#[derive(Debug)]
pub(crate) struct NewAuditEntry<'a> {
    pub(crate) owner_id: Option<&'a OwnerId>,
    pub(crate) project_id: Option<&'a ProjectRef>,
    /// Noun and verb: `project.create`.
    pub(crate) action: &'a str,
    /// Never a secret.
    pub(crate) detail: Value,
    pub(crate) client_ip: Option<IpAddr>,
    pub(crate) request_id: Option<&'a str>,
}

#[derive(Debug)]
pub(crate) struct AuditEntry {
    pub(crate) id: i64,
    pub(crate) at: Timestamp,
    pub(crate) owner_id: Option<String>,
    pub(crate) project_id: Option<String>,
    pub(crate) action: String,
    pub(crate) detail: Value,
    pub(crate) client_ip: Option<String>,
    pub(crate) request_id: Option<String>,
}

/// Writes an entry and returns its id. In the transaction of the change that it tells of, so that there is neither
/// without the other.
pub(crate) async fn audit_insert(db: &impl GenericClient, new: &NewAuditEntry<'_>) -> Result<i64, Error> {
    const SQL: &str = "insert into platform.audit_log (owner_id, project_id, action, detail, client_ip, request_id)
        values ($1::text::uuid, $2, $3, $4, $5, $6) returning id";
    let owner_id = new.owner_id.map(|id| id.0.as_str());
    let project_id = new.project_id.map(ProjectRef::as_str);
    db.query_one(SQL, &[&owner_id, &project_id, &new.action, &Json(&new.detail), &new.client_ip, &new.request_id])
        .await
        .map(|row| row.get(0))
}

/// Adds to the detail of an entry: how what it tells of went.
pub(crate) async fn audit_amend(db: &impl GenericClient, id: i64, detail: &Value) -> Result<(), Error> {
    const SQL: &str = "update platform.audit_log set detail = detail || $2 where id = $1";
    db.execute(SQL, &[&id, &Json(detail)]).await.map(drop)
}

/// Entries about a project, newest first, older than the entry `before`.
pub(crate) async fn audit_list(
    db: &impl GenericClient,
    project: &ProjectRef,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<AuditEntry>, Error> {
    const SQL: &str = "select id, at, owner_id::text, project_id, action, detail, host(client_ip), request_id
        from platform.audit_log where project_id = $1 and ($2::bigint is null or id < $2) order by id desc limit $3";
    Ok(db.query(SQL, &[&project.as_str(), &before, &limit]).await?.iter().map(read).collect())
}

/// As [`audit_list`], of entries that no project's owner can see: about owners, and projects that are gone for good.
pub(crate) async fn audit_list_server(
    db: &impl GenericClient,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<AuditEntry>, Error> {
    const SQL: &str = "select id, at, owner_id::text, project_id, action, detail, host(client_ip), request_id
        from platform.audit_log
        where (project_id is null or action = 'project.purge') and ($1::bigint is null or id < $1)
        order by id desc limit $2";
    Ok(db.query(SQL, &[&before, &limit]).await?.iter().map(read).collect())
}

/// Those of some projects that are gone for good and were not made again.
pub(crate) async fn projects_purged(db: &impl GenericClient, ids: &[&str]) -> Result<Vec<String>, Error> {
    const SQL: &str = "select distinct project_id from platform.audit_log
        where action = 'project.purge' and project_id = any ($1)
            and not exists (select from platform.projects where id = project_id)";
    Ok(db.query(SQL, &[&ids]).await?.iter().map(|row| row.get(0)).collect())
}

fn read(row: &Row) -> AuditEntry {
    AuditEntry {
        id: row.get(0),
        at: row.get(1),
        owner_id: row.get(2),
        project_id: row.get(3),
        action: row.get(4),
        detail: row.get::<_, Json<Value>>(5).0,
        client_ip: row.get(6),
        request_id: row.get(7),
    }
}
