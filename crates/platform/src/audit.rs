//! The audit log: who an entry is about, and reading it.

use axum::Json;
use base::{OwnerId, ProjectRef};
use serde::Serialize;
use serde_json::{Value, json};

use crate::error::Error;
use crate::request::{Fields, Origin, OwnerCx, ProjectCx, QueryFields};
use crate::store;
use crate::store::audit::{AuditEntry, NewAuditEntry};
use crate::timestamp::Timestamp;

/// Entries on one page.
const PAGE: i64 = 50;
const MOST_PER_PAGE: i64 = 500;

/// Who changes something, and from where.
#[derive(Clone, Debug, Default)]
pub(crate) struct Actor {
    /// None for somebody who is not logged in, and for what the server does by itself.
    pub(crate) owner_id: Option<OwnerId>,
    pub(crate) origin: Origin,
}

impl Actor {
    /// An entry that says that this one did something; `detail` never holds a secret.
    pub(crate) fn entry<'a>(
        &'a self,
        project_id: Option<&'a ProjectRef>,
        action: &'a str,
        detail: Value,
    ) -> NewAuditEntry<'a> {
        NewAuditEntry {
            owner_id: self.owner_id.as_ref(),
            project_id,
            action,
            detail,
            client_ip: self.origin.client_ip,
            request_id: self.origin.request_id.as_deref(),
        }
    }
}

impl OwnerCx {
    pub(crate) fn actor(&self) -> Actor {
        Actor { owner_id: Some(self.owner.id.clone()), origin: self.origin.clone() }
    }
}

#[derive(Serialize)]
struct AuditEntryView {
    id: i64,
    at: Timestamp,
    action: String,
    owner_id: Option<String>,
    project_id: Option<String>,
    detail: Value,
    client_ip: Option<String>,
    request_id: Option<String>,
}

impl From<AuditEntry> for AuditEntryView {
    fn from(entry: AuditEntry) -> Self {
        Self {
            id: entry.id,
            at: entry.at,
            action: entry.action,
            owner_id: entry.owner_id,
            project_id: entry.project_id,
            detail: entry.detail,
            client_ip: entry.client_ip,
            request_id: entry.request_id,
        }
    }
}

pub(crate) async fn list_audit_entries(cx: ProjectCx, QueryFields(query): QueryFields) -> Result<Json<Value>, Error> {
    let (before, limit) = page(query)?;
    let db = cx.platform().db().await?;
    // One more than asked for shows whether there are more.
    let entries = store::audit::audit_list(&**db, &cx.project_ref, before, limit + 1).await?;
    Ok(view(entries, limit))
}

/// What concerns no project that is there: owners, their logins, projects that were purged. For administrators.
pub(crate) async fn list_server_audit_entries(
    cx: OwnerCx,
    QueryFields(query): QueryFields,
) -> Result<Json<Value>, Error> {
    if !cx.owner.is_admin {
        return Err(Error::AdminRequired);
    }
    let (before, limit) = page(query)?;
    let db = cx.platform.db().await?;
    let entries = store::audit::audit_list_server(&**db, before, limit + 1).await?;
    Ok(view(entries, limit))
}

fn page(mut query: Fields) -> Result<(Option<i64>, i64), Error> {
    let limit = query.integer("limit", 1, MOST_PER_PAGE).unwrap_or(PAGE);
    let before = query.integer("before", 1, i64::MAX);
    query.finish()?;
    Ok((before, limit))
}

fn view(mut entries: Vec<AuditEntry>, limit: i64) -> Json<Value> {
    let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = entries.len() > wanted;
    entries.truncate(wanted);
    let next_before = entries.last().filter(|_| more).map(|entry| entry.id);
    let entries: Vec<_> = entries.into_iter().map(AuditEntryView::from).collect();
    Json(json!({ "entries": entries, "next_before": next_before }))
}
