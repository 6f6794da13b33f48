//! What has expired and is of no use to anybody (as GoTrue's `internal/models/cleanup.go` has it). Every statement takes rows
//! that nobody holds, and few of them, so that no request waits for long.

use base::AuthSettings;
use pg::Pool;
use uuid::Uuid;

use super::{Param, Tx, query, uuid_column};
use crate::error::Error;
use crate::timestamp::Timestamp;

/// Rows that one statement removes at most; the statements have the number in their text.
pub(crate) const BATCH: i64 = 500;

/// The statement that removes rows of a table, as many as [`BATCH`], and says how many.
macro_rules! remove_from {
    ($table:literal, $condition:literal) => {
        concat!(
            "with gone as (delete from auth.",
            $table,
            " where id in (select id from auth.",
            $table,
            " where ",
            $condition,
            " limit 500 for update skip locked) returning 1) select count(*) from gone"
        )
    };
}

/// Removes some expired rows of one kind at the time `$1`.
pub(crate) const EXPIRED: [&str; 9] = [
    remove_from!("refresh_tokens", "revoked and updated_at < $1::timestamptz - interval '1 day'"),
    remove_from!("sessions", "not_after < $1::timestamptz - interval '1 day'"),
    remove_from!("flow_state", "created_at < $1::timestamptz - interval '1 day'"),
    remove_from!("oauth_client_states", "created_at < $1::timestamptz - interval '1 day'"),
    remove_from!("saml_relay_states", "created_at < $1::timestamptz - interval '1 day'"),
    remove_from!("mfa_challenges", "created_at < $1::timestamptz - interval '1 day'"),
    remove_from!("mfa_factors", "status = 'unverified' and created_at < $1::timestamptz - interval '1 day'"),
    remove_from!("webauthn_challenges", "expires_at < $1::timestamptz"),
    // No code or link lives longer than a day, whatever the settings say.
    remove_from!("one_time_tokens", "created_at < ($1::timestamptz at time zone 'utc') - interval '2 days'"),
];

/// Sessions past the project's longest life `$2` or idle time `$3`, in seconds; 0 is no limit.
const SESSIONS: &str = remove_from!(
    "sessions",
    "($2::bigint > 0 and created_at < $1::timestamptz - interval '1 day' - $2::bigint * interval '1 second'
        or $3::bigint > 0 and coalesce(refreshed_at at time zone 'utc', created_at)
            < $1::timestamptz - interval '1 day' - $3::bigint * interval '1 second')"
);

/// What an anonymous user `u` must not have: a session that was used in the last thirty days before `$1`.
macro_rules! was_here {
    () => {
        "exists (select from auth.sessions s where s.user_id = u.id
            and coalesce(s.refreshed_at at time zone 'utc', s.created_at) >= $1::timestamptz - interval '30 days')"
    };
}

async fn removed<const N: usize>(pool: &Pool, sql: &str, params: [Param; N]) -> Result<i64, Error> {
    let (results, tx) = Tx::begin_with(pool, vec![query(sql, params)]).await?;
    tx.commit().await?;
    Ok(results.first().and_then(|rows| rows.first()?.int(0)).unwrap_or_default())
}

/// Runs one of [`EXPIRED`].
pub(crate) async fn sweep_expired(pool: &Pool, sql: &str, now: Timestamp) -> Result<i64, Error> {
    removed(pool, sql, [now.into()]).await
}

pub(crate) async fn sweep_sessions(pool: &Pool, settings: &AuthSettings, now: Timestamp) -> Result<i64, Error> {
    let limits = [settings.sessions_timebox, settings.sessions_inactivity_timeout];
    if limits == [0, 0] {
        return Ok(0);
    }
    removed(pool, SESSIONS, [now.into(), limits[0].into(), limits[1].into()]).await
}

/// Anonymous users behind `after`, in the order of their ids, who were not here for thirty days.
pub(crate) async fn sweep_anonymous_candidates(pool: &Pool, after: Uuid, now: Timestamp) -> Result<Vec<Uuid>, Error> {
    const SQL: &str = concat!(
        "select u.id::text from auth.users u where u.is_anonymous and u.id > $2::uuid
        and greatest(u.created_at, u.last_sign_in_at) < $1::timestamptz - interval '30 days'
        and not ",
        was_here!(),
        " order by u.id limit 100"
    );
    let results = super::read(pool, vec![query(SQL, [now.into(), after.into()])]).await?;
    let rows = results.into_iter().next().unwrap_or_default();
    Ok(rows.iter().filter_map(|row| uuid_column(row, 0)).collect())
}

/// Removes one of them, unless they came back, became somebody, or have something that the project's tables do not let go.
pub(crate) async fn sweep_anonymous(pool: &Pool, id: Uuid, now: Timestamp) -> Result<(), Error> {
    const SQL: &str = concat!("delete from auth.users u where id = $2::uuid and is_anonymous and not ", was_here!());
    let (_, tx) = Tx::begin_with(pool, vec![query(SQL, [now.into(), id.into()])]).await?;
    tx.commit().await
}
