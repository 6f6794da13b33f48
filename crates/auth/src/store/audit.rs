//! The audit log of a project's users.

use pg::Pool;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::{Param, Tx, json_column, query, read};
use crate::error::Error;
use crate::timestamp::Timestamp;

pub(crate) async fn audit_insert_in_tx(
    tx: &mut Tx,
    payload: &Value,
    ip_address: &str,
    now: Timestamp,
) -> Result<(), Error> {
    const SQL: &str = "insert into auth.audit_log_entries (instance_id, id, payload, created_at, ip_address)
        values ('00000000-0000-0000-0000-000000000000', gen_random_uuid(), $1::json, $2::timestamptz, $3)";
    tx.query(SQL, [payload.into(), now.into(), ip_address.into()]).await.map(drop)
}

/// An entry as the admin API shows it.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct AuditEntry {
    id: Uuid,
    payload: Value,
    created_at: Option<Timestamp>,
    ip_address: String,
}

/// One page of entries, newest first, and how many there are. `scope` names fields of the payload, of which one has to
/// begin with `value`.
pub(crate) async fn audit_page(
    pool: &Pool,
    scope: &[&str],
    value: &str,
    limit: i64,
    offset: i64,
) -> Result<(Vec<AuditEntry>, i64), Error> {
    const PAGE: &str = "select to_jsonb(e)::text from auth.audit_log_entries e
        where $1::text[] = '{}' or exists (select from unnest($1::text[]) as name
            where starts_with(lower(e.payload ->> name), lower($2)))
        order by created_at desc, id limit $3::bigint offset $4::bigint";
    const COUNT: &str = "select count(*) from auth.audit_log_entries e
        where $1::text[] = '{}' or exists (select from unnest($1::text[]) as name
            where starts_with(lower(e.payload ->> name), lower($2)))";
    let scope = || Param::from(scope);
    let page = query(PAGE, [scope(), value.into(), limit.into(), offset.into()]);
    let results = read(pool, vec![page, query(COUNT, [scope(), value.into()])]).await?;
    let mut results = results.into_iter();
    let entries = results.next().unwrap_or_default();
    let count = results.next().and_then(|rows| rows.first()?.int(0)).unwrap_or_default();
    Ok((entries.iter().map(|row| json_column(row, 0)).collect::<Result<_, _>>()?, count))
}
