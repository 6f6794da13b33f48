//! The log of every change.

use std::net::IpAddr;

use base::{OwnerId, ProjectRef};
use serde_json::Value;
use tokio_postgres::types::Json;
use tokio_postgres::{Error, GenericClient};

use crate::timestamp::Timestamp;

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
    pub(crate) action: String,
    pub(crate) detail: Value,
    pub(crate) client_ip: Option<String>,
    pub(crate) request_id: Option<String>,
}

pub(crate) async fn audit_insert(db: &impl GenericClient, new: &NewAuditEntry<'_>) -> Result<(), Error> {
    const SQL: &str = "insert into platform.audit_log (owner_id, project_id, action, detail, client_ip, request_id)
        values ($1::text::uuid, $2, $3, $4, $5, $6)";
    let owner_id = new.owner_id.map(|id| id.0.as_str());
    let project_id = new.project_id.map(ProjectRef::as_str);
    db.execute(SQL, &[&owner_id, &project_id, &new.action, &Json(&new.detail), &new.client_ip, &new.request_id])
        .await
        .map(drop)
}

/// Entries about a project, newest first, older than the entry `before`.
pub(crate) async fn audit_list(
    db: &impl GenericClient,
    project: &ProjectRef,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<AuditEntry>, Error> {
    const SQL: &str = "select id, at, owner_id::text, action, detail, host(client_ip), request_id
        from platform.audit_log where project_id = $1 and ($2::bigint is null or id < $2) order by id desc limit $3";
    let rows = db.query(SQL, &[&project.as_str(), &before, &limit]).await?;
    let entries = rows.iter().map(|row| AuditEntry {
        id: row.get(0),
        at: row.get(1),
        owner_id: row.get(2),
        action: row.get(3),
        detail: row.get::<_, Json<Value>>(4).0,
        client_ip: row.get(5),
        request_id: row.get(6),
    });
    Ok(entries.collect())
}
