//! Slow requests of projects' data APIs: the newest of each.

use base::ProjectRef;
use base::slow_query::SlowQuery;
use serde_json::{Value, json};
use tokio_postgres::{Error, GenericClient, Row};

use crate::timestamp::Timestamp;

/// Kept of each project.
pub(crate) const KEPT: i64 = 200;

/// One as it is shown.
#[derive(Debug)]
pub(crate) struct StoredSlowQuery {
    pub(crate) id: i64,
    pub(crate) at: Timestamp,
    pub(crate) duration_ms: i64,
    pub(crate) statement: String,
    pub(crate) role: String,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) request_id: String,
    pub(crate) rows: Option<i64>,
    pub(crate) error_code: Option<String>,
}

/// Adds some, and forgets as many of the same projects as are too many. Projects that are gone have none.
pub(crate) async fn slow_queries_insert(db: &impl GenericClient, queries: &[SlowQuery]) -> Result<(), Error> {
    const INSERT: &str = "insert into platform.slow_queries
            (project_id, at, duration_ms, statement, role, method, path, request_id, row_count, error_code)
        select q.project_id, to_timestamp(q.at_ms / 1000.0), q.duration_ms, q.statement, q.role, q.method, q.path,
            q.request_id, q.row_count, q.error_code
        from rows from (jsonb_to_recordset($1) as (project_id text, at_ms bigint, duration_ms bigint, statement text,
            role text, method text, path text, request_id text, row_count bigint, error_code text)) with ordinality
            as q (project_id, at_ms, duration_ms, statement, role, method, path, request_id, row_count, error_code, n)
        join platform.projects p on p.id = q.project_id
        order by q.n";
    const FORGET: &str = "delete from platform.slow_queries s using (
            select id, row_number() over (partition by project_id order by id desc) as n
            from platform.slow_queries where project_id = any ($1)) old
        where s.id = old.id and old.n > $2";
    db.execute(INSERT, &[&Value::Array(queries.iter().map(row_of).collect())]).await?;
    let mut projects: Vec<&str> = queries.iter().map(|query| query.project_ref.as_str()).collect();
    projects.sort_unstable();
    projects.dedup();
    db.execute(FORGET, &[&projects, &KEPT]).await.map(drop)
}

fn row_of(query: &SlowQuery) -> Value {
    let milliseconds = |duration: std::time::Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    // PostgreSQL's texts hold no such character.
    let text = |text: &str| text.replace('\0', "");
    json!({
        "project_id": query.project_ref.as_str(),
        "at_ms": milliseconds(query.at),
        "duration_ms": milliseconds(query.took),
        "statement": text(&query.statement),
        "role": text(&query.role),
        "method": query.method,
        "path": text(&query.path),
        "request_id": query.request_id,
        "row_count": query.rows,
        "error_code": query.error_code.as_deref().map(text),
    })
}

/// Newest first.
pub(crate) async fn slow_query_list(
    db: &impl GenericClient,
    id: &ProjectRef,
    limit: i64,
) -> Result<Vec<StoredSlowQuery>, Error> {
    const SQL: &str = "select id, at, duration_ms, statement, role, method, path, request_id, row_count, error_code
        from platform.slow_queries where project_id = $1 order by id desc limit $2";
    let read = |row: &Row| StoredSlowQuery {
        id: row.get(0),
        at: row.get(1),
        duration_ms: row.get(2),
        statement: row.get(3),
        role: row.get(4),
        method: row.get(5),
        path: row.get(6),
        request_id: row.get(7),
        rows: row.get(8),
        error_code: row.get(9),
    };
    Ok(db.query(SQL, &[&id.as_str(), &limit]).await?.iter().map(read).collect())
}
