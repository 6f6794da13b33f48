//! The queue of mails in a project's database (`_launchdb.mail_queue`). A row is there from the request that needs the
//! mail until a week after it was sent or given up; what it has of codes is deleted when it is done.
//!
//! Statements run as the role of the auth service, with nothing of the project's on the search path.

use std::time::Duration;

use bytes::Bytes;
use pg::claims::Claims;
use pg::{Error, Pool, Query, Row};
use serde_json::{Map, Value};

const CLAIMS: Claims<'static> = Claims {
    role: "supabase_auth_admin",
    jwt_claims: "{}",
    read_only: false,
    before_role: &[],
    settings: &[("search_path", "pg_catalog"), ("statement_timeout", "10000")],
    schema: None,
};

/// How long rows that are done are kept, in seconds.
const KEPT: i64 = 7 * 24 * 3600;

/// A mail whose turn it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Mail {
    pub id: i64,
    /// The template's name.
    pub kind: String,
    pub recipient: String,
    /// What the request put there: `user`, `email_data` (as send-mail hooks see them), `confirmation_url`, `new_email`.
    pub data: Map<String, Value>,
    /// The row says more than a mail may: nothing of it was read.
    pub(crate) too_long: bool,
    /// This attempt included.
    pub attempts: i64,
    /// Unix seconds.
    pub created_at: i64,
}

/// What becomes of a mail after an attempt.
pub(crate) enum Outcome<'a> {
    Sent,
    Again {
        at: i64,
        reason: &'a str,
    },
    GivenUp {
        reason: &'a str,
    },
    /// The attempt was not made.
    Released,
    /// Nor this one, and none may be made before this time.
    Postponed {
        at: i64,
        reason: &'a str,
    },
}

fn query<const N: usize>(sql: &'static str, params: [String; N]) -> Query {
    Query { sql: sql.into(), params: params.into_iter().map(|text| Some(Bytes::from(text))).collect() }
}

async fn run(pool: &Pool, queries: Vec<Query>) -> Result<Vec<Vec<Row>>, Error> {
    Ok(pool.execute(&CLAIMS, queries).await?.into_iter().map(|rows| rows.rows).collect())
}

/// Takes the mail that has waited longest, for `turn`; whoever dies meanwhile loses it then.
pub(crate) async fn mail_take(pool: &Pool, now: i64, turn: Duration) -> Result<Option<Mail>, Error> {
    const SQL: &str = "with due as (
            select id from _launchdb.mail_queue
            where sent_at is null and failed_at is null and next_attempt_at < to_timestamp($1::float8)
                and (claimed_until is null or claimed_until < to_timestamp($1::float8))
            order by next_attempt_at, id limit 1 for update skip locked
        )
        update _launchdb.mail_queue q
        set attempts = q.attempts + 1, claimed_until = to_timestamp($1::float8 + $2::float8)
        from due where q.id = due.id
        returning q.id, left(q.kind, 100), left(q.recipient, 1000),
            case when octet_length(q.data::text) <= 262144 then q.data::text end,
            q.attempts, extract(epoch from q.created_at)::int8";
    // A row of this very second is due.
    let params = [(now + 1).to_string(), turn.as_secs().to_string()];
    let rows = run(pool, vec![query(SQL, params)]).await?.pop().unwrap_or_default();
    Ok(rows.first().map(|row| Mail {
        id: row.int(0).unwrap_or_default(),
        kind: row.text(1).unwrap_or_default().to_owned(),
        recipient: row.text(2).unwrap_or_default().to_owned(),
        too_long: row.text(3).is_none(),
        data: row.text(3).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default(),
        attempts: row.int(4).unwrap_or_default(),
        created_at: row.int(5).unwrap_or_default(),
    }))
}

/// Says that the mail is still being sent.
pub(crate) async fn mail_keep(pool: &Pool, id: i64, now: i64, turn: Duration) -> Result<(), Error> {
    const SQL: &str = "update _launchdb.mail_queue set claimed_until = to_timestamp($2::float8 + $3::float8)
        where id = $1::int8 and sent_at is null and failed_at is null";
    let params = [id.to_string(), (now + 1).to_string(), turn.as_secs().to_string()];
    run(pool, vec![query(SQL, params)]).await.map(drop)
}

/// Writes down what became of an attempt. Codes do not stay behind mails that are done.
pub(crate) async fn mail_finish(pool: &Pool, id: i64, now: i64, outcome: Outcome<'_>) -> Result<(), Error> {
    const SENT: &str = "update _launchdb.mail_queue
        set sent_at = to_timestamp($2::float8), claimed_until = null, last_error = null, data = '{}' where id = $1::int8";
    const AGAIN: &str = "update _launchdb.mail_queue
        set next_attempt_at = to_timestamp($2::float8), claimed_until = null, last_error = $3 where id = $1::int8";
    const GIVEN_UP: &str = "update _launchdb.mail_queue
        set failed_at = to_timestamp($2::float8), claimed_until = null, last_error = $3, data = '{}' where id = $1::int8";
    const RELEASED: &str = "update _launchdb.mail_queue
        set claimed_until = null, attempts = attempts - 1 where id = $1::int8 and sent_at is null";
    const POSTPONED: &str = "update _launchdb.mail_queue
        set next_attempt_at = to_timestamp($2::float8), claimed_until = null, last_error = $3, attempts = attempts - 1
        where id = $1::int8 and sent_at is null";
    let id = id.to_string();
    let query = match outcome {
        Outcome::Sent => query(SENT, [id, now.to_string()]),
        Outcome::Again { at, reason } => query(AGAIN, [id, at.to_string(), reason.to_owned()]),
        Outcome::GivenUp { reason } => query(GIVEN_UP, [id, now.to_string(), reason.to_owned()]),
        Outcome::Postponed { at, reason } => query(POSTPONED, [id, at.to_string(), reason.to_owned()]),
        Outcome::Released => query(RELEASED, [id]),
    };
    run(pool, vec![query]).await.map(drop)
}

/// When the next mail is due, in Unix seconds; none when none waits. Rows that have been done for long are forgotten.
pub(crate) async fn mail_next_due(pool: &Pool, now: i64) -> Result<Option<i64>, Error> {
    const NEXT: &str = "select extract(epoch from min(greatest(next_attempt_at, claimed_until)))::int8
        from _launchdb.mail_queue where sent_at is null and failed_at is null";
    const FORGET: &str = "delete from _launchdb.mail_queue
        where created_at < to_timestamp($1::float8) and (sent_at is not null or failed_at is not null)";
    let rows = run(pool, vec![query(NEXT, []), query(FORGET, [(now - KEPT).to_string()])]).await?;
    Ok(rows.first().and_then(|rows| rows.first()).and_then(|row| row.int(0)))
}
