//! Refresh tokens. `token` and `parent` are SHA-256 hashes; tokens that came with an import from Supabase are plain texts
//! of 12 characters until they are used.

use serde::Deserialize;
use uuid::Uuid;

use super::session::Device;
use super::{Tx, json_column, query};
use crate::error::Error;
use crate::store::session::Session;
use crate::timestamp::Timestamp;
use crate::user::User;
use pg::Pool;

/// A row of `auth.refresh_tokens`.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct RefreshToken {
    pub(crate) id: i64,
    /// As it is stored.
    pub(crate) token: String,
    /// The one that it replaced; none of the first one, and of one that came of a second factor.
    pub(crate) parent: Option<String>,
    pub(crate) revoked: Option<bool>,
    pub(crate) updated_at: Option<Timestamp>,
}

/// Everything that decides about a refresh.
pub(crate) struct Refreshed {
    pub(crate) token: RefreshToken,
    /// The session's one token that is not revoked.
    pub(crate) active: Option<RefreshToken>,
    pub(crate) session: Option<Session>,
    pub(crate) user: Option<User>,
}

/// Locks the session of the token that is stored as one of `stored`, and reads what decides. Requests with tokens of the
/// same session come one after the other; each sees what the one before has done.
pub(crate) async fn refresh_token_lock(pool: &Pool, stored: [&str; 2]) -> Result<(Tx, Option<Refreshed>), Error> {
    const LOCK: &str = "select s.id from auth.sessions s
        where s.id = (select session_id from auth.refresh_tokens where token in ($1, $2) limit 1) for no key update";
    const READ: &str = concat!(
        "select to_jsonb(t)::text,
            (select to_jsonb(a)::text from auth.refresh_tokens a
                where a.session_id = t.session_id and not a.revoked order by a.id desc limit 1),
            (select (to_jsonb(s) || jsonb_build_object('amr', coalesce((
                    select jsonb_agg(jsonb_build_object('method', authentication_method, 'at', updated_at)
                        order by updated_at desc)
                    from auth.mfa_amr_claims where session_id = s.id), '[]')))::text
                from auth.sessions s where s.id = t.session_id),
            (select ",
        super::user::user_columns!(),
        // By the session, whose ids are no texts: without an index every user would be looked at.
        " from auth.users u where u.id = (select user_id from auth.sessions where id = t.session_id)
                and u.id::text = t.user_id)
        from auth.refresh_tokens t where t.token in ($1, $2) limit 1"
    );
    let params = || [stored[0].into(), stored[1].into()];
    let (mut results, tx) = Tx::begin_with(pool, vec![query(LOCK, params()), query(READ, params())]).await?;
    let rows = results.pop().unwrap_or_default();
    let Some(row) = rows.first() else { return Ok((tx, None)) };
    let refreshed = Refreshed {
        token: json_column(row, 0)?,
        active: row.bytes(1).is_some().then(|| json_column(row, 1)).transpose()?,
        session: row.bytes(2).is_some().then(|| json_column(row, 2)).transpose()?,
        user: row.bytes(3).is_some().then(|| json_column(row, 3)).transpose()?,
    };
    Ok((tx, Some(refreshed)))
}

/// Puts a new token in place of an old one, and commits. `audit` is what is written down of it, in the same statement.
pub(crate) async fn refresh_token_swap_and_commit(
    tx: Tx,
    old: &RefreshToken,
    session: &Session,
    new_hash: &str,
    device: &Device<'_>,
    audit: &[String],
    now: Timestamp,
) -> Result<(), Error> {
    const SQL: &str = "with old as (
            update auth.refresh_tokens set revoked = true, updated_at = $4::timestamptz where id = $1::bigint
        ), session as (
            update auth.sessions set refreshed_at = $4::timestamptz at time zone 'utc', updated_at = $4::timestamptz,
                user_agent = coalesce($6, user_agent), ip = $7::inet where id = $2::uuid
        ), audit as (
            insert into auth.audit_log_entries (instance_id, id, payload, created_at, ip_address)
            select '00000000-0000-0000-0000-000000000000', gen_random_uuid(), entry::json, $4::timestamptz, host($7::inet)
            from unnest($9::text[]) as entry
        )
        insert into auth.refresh_tokens
            (instance_id, token, user_id, session_id, parent, revoked, created_at, updated_at)
        values ('00000000-0000-0000-0000-000000000000', $3, $8, $2::uuid, $5, false, $4::timestamptz, $4::timestamptz)";
    let params = [
        old.id.into(),
        session.id.into(),
        new_hash.into(),
        now.into(),
        (&old.token).into(),
        device.user_agent.into(),
        device.ip.as_str().into(),
        session.user_id.to_string().into(),
        audit.iter().map(String::as_str).collect::<Vec<_>>().as_slice().into(),
    ];
    tx.query_and_commit(SQL, params).await
}

/// Revokes every token of a session: somebody used an old one.
pub(crate) async fn refresh_token_revoke_family_in_tx(
    tx: &mut Tx,
    session_id: Uuid,
    now: Timestamp,
) -> Result<(), Error> {
    const SQL: &str = "update auth.refresh_tokens set revoked = true, updated_at = $2::timestamptz
        where session_id = $1::uuid and not revoked";
    tx.query(SQL, [session_id.into(), now.into()]).await.map(drop)
}

/// Revokes what a session has and gives it one more token, as after a second factor.
pub(crate) async fn refresh_token_replace_in_tx(
    tx: &mut Tx,
    session: &Session,
    new_hash: &str,
    now: Timestamp,
) -> Result<(), Error> {
    refresh_token_revoke_family_in_tx(tx, session.id, now).await?;
    const SQL: &str = "insert into auth.refresh_tokens
            (instance_id, token, user_id, session_id, revoked, created_at, updated_at)
        values ('00000000-0000-0000-0000-000000000000', $2, $3, $1::uuid, false, $4::timestamptz, $4::timestamptz)";
    let params = [session.id.into(), new_hash.into(), session.user_id.to_string().into(), now.into()];
    tx.query(SQL, params).await.map(drop)
}
