//! Requests of a project's data API whose statements took longer than the setting `data_api.slow_query_ms`.

use axum::Json;
use serde_json::{Value, json};

use crate::error::Error;
use crate::request::{ProjectCx, QueryFields};
use crate::store::slow_query::{self, StoredSlowQuery};

/// Shown when nothing else is asked for.
const SHOWN: i64 = 50;

pub(crate) async fn list_slow_queries(
    cx: ProjectCx,
    QueryFields(mut query): QueryFields,
) -> Result<Json<Value>, Error> {
    let limit = query.integer("limit", 1, slow_query::KEPT).unwrap_or(SHOWN);
    query.finish()?;
    cx.require_present()?;
    let threshold =
        cx.platform().directory().projects().get(&cx.project_ref).map(|project| project.data_api.slow_query_ms);
    let db = cx.platform().db().await?;
    let listed = slow_query::slow_query_list(&**db, &cx.project_ref, limit).await?;
    let listed: Vec<Value> = listed.iter().map(view).collect();
    Ok(Json(json!({ "threshold_ms": threshold, "slow_queries": listed })))
}

fn view(query: &StoredSlowQuery) -> Value {
    json!({
        "id": query.id,
        "at": query.at,
        "duration_ms": query.duration_ms,
        "statement": query.statement,
        "role": query.role,
        "method": query.method,
        "path": query.path,
        "request_id": query.request_id,
        "rows": query.rows,
        "error_code": query.error_code,
    })
}
