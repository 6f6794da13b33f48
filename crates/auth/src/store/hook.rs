//! Hooks that are functions of the project's database.

use serde_json::Value;

use super::{Tx, json_column, query};
use crate::error::{Error, ErrorCode};
use pg::ident;

/// Largest answer in bytes, as of hooks on the web.
const LARGEST: i64 = 200 * 1024;

/// Calls `schema.function(event jsonb)`, in the transaction of the request, and returns what it returned.
pub(crate) async fn hook_call_in_tx(
    tx: &mut Tx,
    schema: &str,
    function: &str,
    event: &Value,
) -> Result<Result<Value, pg::Error>, Error> {
    let (schema, function) = (ident::quote_ident(schema), ident::quote_ident(function));
    let sql = format!(
        "select case when octet_length(t) <= $2::int then t end, octet_length(t)
         from (select ({schema}.{function}($1::jsonb))::jsonb::text as t offset 0) answer"
    );
    match tx.run(&query(&sql, [event.into(), LARGEST.into()])).await {
        Ok(rows) => match rows.first() {
            Some(row) if row.bytes(0).is_some() => json_column(row, 0).map(Ok),
            Some(row) if row.int(1).is_some() => {
                Err(Error::new(ErrorCode::HookPayloadOverSizeLimit, "The answer of the hook is too large"))
            }
            _ => Ok(Ok(Value::Null)),
        },
        Err(error @ pg::Error::Db(_)) => Ok(Err(error)),
        Err(error) => Err(error.into()),
    }
}
