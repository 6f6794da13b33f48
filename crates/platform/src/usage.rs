//! What a project uses.

use axum::Json;
use serde_json::{Value, json};

use crate::error::Error;
use crate::request::ProjectCx;
use crate::{sql, store};

pub(crate) async fn get_usage(cx: ProjectCx) -> Result<Json<Value>, Error> {
    cx.require_active()?;
    let result = sql::run_own(&cx, store::usage::DATABASE_USAGE).await?;
    let row = result.statements.last().and_then(|statement| statement.rows.first());
    let number = |column: usize| -> Option<i64> { row?.get(column)?.as_deref()?.parse().ok() };
    Ok(Json(json!({
        "database": {
            "size_bytes": number(0),
            // The one that asks is not counted.
            "connections": number(1).map(|count| (count - 1).max(0)),
            "connection_limit": number(2).filter(|limit| *limit >= 0),
            "transactions_committed": number(3),
            "transactions_rolled_back": number(4),
            "rows_read": number(5),
            "rows_written": number(6),
        },
    })))
}
