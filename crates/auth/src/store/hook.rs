//! Hooks that are functions of the project's database.

use serde_json::Value;

use super::{Tx, json_column, query};
use crate::error::Error;
use pg::ident;

/// Calls `schema.function(event jsonb)`, in the transaction of the request, and returns what it returned.
pub(crate) async fn hook_call_in_tx(
    tx: &mut Tx,
    schema: &str,
    function: &str,
    event: &Value,
) -> Result<Result<Value, pg::Error>, Error> {
    let sql =
        format!("select ({}.{}($1::jsonb))::jsonb::text", ident::quote_ident(schema), ident::quote_ident(function));
    match tx.run(&query(&sql, [event.into()])).await {
        Ok(rows) => match rows.first() {
            Some(row) if row.bytes(0).is_some() => json_column(row, 0).map(Ok),
            _ => Ok(Ok(Value::Null)),
        },
        Err(error @ pg::Error::Db(_)) => Ok(Err(error)),
        Err(error) => Err(error.into()),
    }
}
