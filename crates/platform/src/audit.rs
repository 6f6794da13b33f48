//! Reading a project's audit log.

use axum::Json;
use serde::Serialize;
use serde_json::{Value, json};

use crate::error::Error;
use crate::request::{ProjectCx, QueryFields};
use crate::store;
use crate::store::audit::AuditEntry;
use crate::timestamp::Timestamp;

/// Entries on one page.
const PAGE: i64 = 50;
const MOST_PER_PAGE: i64 = 500;

#[derive(Serialize)]
struct AuditEntryView {
    id: i64,
    at: Timestamp,
    action: String,
    owner_id: Option<String>,
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
            detail: entry.detail,
            client_ip: entry.client_ip,
            request_id: entry.request_id,
        }
    }
}

pub(crate) async fn list_audit_entries(
    cx: ProjectCx,
    QueryFields(mut query): QueryFields,
) -> Result<Json<Value>, Error> {
    let limit = query.integer("limit", 1, MOST_PER_PAGE).unwrap_or(PAGE);
    let before = query.integer("before", 1, i64::MAX);
    query.finish()?;
    let db = cx.platform().db().await?;
    // One more than asked for shows whether there are more.
    let mut entries = store::audit::audit_list(&**db, &cx.project_ref, before, limit + 1).await?;
    let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = entries.len() > wanted;
    entries.truncate(wanted);
    let next_before = entries.last().filter(|_| more).map(|entry| entry.id);
    let entries: Vec<_> = entries.into_iter().map(AuditEntryView::from).collect();
    Ok(Json(json!({ "entries": entries, "next_before": next_before })))
}
