//! Sessions and how they were authenticated.

use std::net::IpAddr;

use base::AuthSettings;
use pg::Pool;
use serde::Deserialize;
use uuid::Uuid;

use super::user::user_columns;
use super::{Tx, first_json, json_column, query, read};
use crate::error::Error;
use crate::timestamp::Timestamp;
use crate::user::User;

/// A row of `auth.sessions` with its authentication methods.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Session {
    pub(crate) id: Uuid,
    pub(crate) user_id: Uuid,
    pub(crate) created_at: Option<Timestamp>,
    pub(crate) refreshed_at: Option<Timestamp>,
    pub(crate) not_after: Option<Timestamp>,
    pub(crate) aal: Option<String>,
    /// Newest first.
    #[serde(default)]
    pub(crate) amr: Vec<Amr>,
}

/// One way in which the session's user showed who they are.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Amr {
    pub(crate) method: String,
    pub(crate) at: Timestamp,
}

impl Session {
    pub(crate) fn is_aal2(&self) -> bool {
        self.aal.as_deref() == Some("aal2")
    }
}

macro_rules! session_columns {
    () => {
        "(to_jsonb(s) || jsonb_build_object('amr', coalesce((
            select jsonb_agg(jsonb_build_object('method', authentication_method, 'at', updated_at)
                order by updated_at desc)
            from auth.mfa_amr_claims where session_id = s.id), '[]')))::text"
    };
}

/// Who is signed in: the user and the session, each if there is such a one. One round trip, which requests share.
pub(crate) async fn signed_in(
    pool: &Pool,
    user_id: Uuid,
    session_id: Option<Uuid>,
) -> Result<(Option<User>, Option<Session>), Error> {
    const SQL: &str = concat!(
        "select ",
        user_columns!(),
        ", (select ",
        session_columns!(),
        " from auth.sessions s where s.id = $2::uuid and s.user_id = u.id) from auth.users u where u.id = $1::uuid"
    );
    let results = read(pool, vec![query(SQL, [user_id.into(), session_id.into()])]).await?;
    let Some(row) = results.first().and_then(|rows| rows.first()) else { return Ok((None, None)) };
    let session = row.bytes(1).is_some().then(|| json_column(row, 1)).transpose()?;
    Ok((Some(json_column(row, 0)?), session))
}

pub(crate) async fn session_get_in_tx(tx: &mut Tx, id: Uuid) -> Result<Option<Session>, Error> {
    const SQL: &str = concat!("select ", session_columns!(), " from auth.sessions s where s.id = $1::uuid");
    first_json(&tx.query(SQL, [id.into()]).await?)
}

/// Whether a user has a session that was used in the last thirty days in the network of `ip` (as the limits count networks).
pub(crate) async fn session_in_network_exists(
    pool: &Pool,
    user_id: Uuid,
    ip: IpAddr,
    now: Timestamp,
) -> Result<bool, Error> {
    const SQL: &str = "select count(*) from auth.sessions s where s.user_id = $1::uuid
        and s.ip <<= network($2::inet)
        and coalesce(s.refreshed_at at time zone 'utc', s.created_at) > $3::timestamptz - interval '30 days'";
    let ip = ip.to_canonical();
    let network = format!("{ip}/{}", if ip.is_ipv4() { 32 } else { 64 });
    let results = read(pool, vec![query(SQL, [user_id.into(), network.as_str().into(), now.into()])]).await?;
    Ok(results.first().and_then(|rows| rows.first()?.int(0)).unwrap_or_default() > 0)
}

/// Where a session is used from.
pub(crate) struct Device<'a> {
    pub(crate) user_agent: Option<&'a str>,
    pub(crate) ip: String,
}

/// A new session with its first refresh token, in one statement; the user has signed in.
pub(crate) async fn session_insert_in_tx(
    tx: &mut Tx,
    user_id: Uuid,
    method: &str,
    device: &Device<'_>,
    token_hash: &str,
    now: Timestamp,
) -> Result<Session, Error> {
    const SQL: &str = "with session as (
            insert into auth.sessions (id, user_id, created_at, updated_at, aal, user_agent, ip)
            values ($1::uuid, $2::uuid, $6::timestamptz, $6::timestamptz, 'aal1', $4, $5::inet)
        ), token as (
            insert into auth.refresh_tokens (instance_id, token, user_id, session_id, revoked, created_at, updated_at)
            values ('00000000-0000-0000-0000-000000000000', $7, $2::uuid::text, $1::uuid, false,
                $6::timestamptz, $6::timestamptz)
        ), method as (
            insert into auth.mfa_amr_claims (id, session_id, created_at, updated_at, authentication_method)
            values (gen_random_uuid(), $1::uuid, $6::timestamptz, $6::timestamptz, $3)
        )
        update auth.users set last_sign_in_at = $6::timestamptz, updated_at = $6::timestamptz where id = $2::uuid";
    let id = crate::session::new_id();
    let params = [
        id.into(),
        user_id.into(),
        method.into(),
        device.user_agent.into(),
        device.ip.as_str().into(),
        now.into(),
        token_hash.into(),
    ];
    tx.query(SQL, params).await?;
    Ok(Session {
        id,
        user_id,
        created_at: Some(now),
        refreshed_at: None,
        not_after: None,
        aal: Some("aal1".to_owned()),
        amr: vec![Amr { method: method.to_owned(), at: now }],
    })
}

/// Whether another session of the user was refreshed, or began, after this one.
pub(crate) async fn session_newer_exists_in_tx(
    tx: &mut Tx,
    session: &Session,
    settings: &AuthSettings,
    now: Timestamp,
) -> Result<bool, Error> {
    // A session without one of the project's tags has the first of them. One that has ended by itself is no session.
    const SQL: &str = "with live as (
            select s.id, s.user_id, coalesce(s.refreshed_at at time zone 'utc', s.created_at) as used,
                case when s.tag = any ($2::text[]) then s.tag else ($2::text[])[1] end as tag
            from auth.sessions s where s.user_id = $6::uuid
            and (s.not_after is null or s.not_after >= $3::timestamptz)
            and ($4::bigint = 0 or s.created_at >= $3::timestamptz - $4::bigint * interval '1 second')
            and ($5::bigint = 0 or coalesce(s.refreshed_at at time zone 'utc', s.created_at)
                >= $3::timestamptz - $5::bigint * interval '1 second')
        )
        select exists (select from live other, live own
            where own.id = $1::uuid and other.id <> own.id and other.used > own.used
            and other.tag is not distinct from own.tag)";
    let tags = settings.session_tags();
    let params = [
        session.id.into(),
        tags.as_slice().into(),
        now.into(),
        settings.sessions_timebox.into(),
        settings.sessions_inactivity_timeout.into(),
        session.user_id.into(),
    ];
    let rows = tx.query(SQL, params).await?;
    Ok(rows.first().and_then(|row| row.bool(0)).unwrap_or_default())
}

/// Which sessions of a user end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    All,
    Only(Uuid),
    AllBut(Uuid),
}

/// Ends sessions with their refresh tokens.
pub(crate) async fn session_delete_in_tx(tx: &mut Tx, user_id: Uuid, ending: Ending) -> Result<(), Error> {
    const ALL: &str = "delete from auth.sessions where user_id = $1::uuid";
    const ONLY: &str = "delete from auth.sessions where user_id = $1::uuid and id = $2::uuid";
    const ALL_BUT: &str = "delete from auth.sessions where user_id = $1::uuid and id <> $2::uuid";
    // Tokens from before there were sessions.
    const OLD_TOKENS: &str = "delete from auth.refresh_tokens where user_id = $1 and session_id is null";
    match ending {
        Ending::All => {
            tx.query(ALL, [user_id.into()]).await?;
            tx.query(OLD_TOKENS, [user_id.to_string().into()]).await?;
        }
        Ending::Only(id) => drop(tx.query(ONLY, [user_id.into(), id.into()]).await?),
        Ending::AllBut(id) => drop(tx.query(ALL_BUT, [user_id.into(), id.into()]).await?),
    }
    Ok(())
}

/// Sessions that this factor has raised are plain ones again.
pub(crate) async fn session_downgrade_in_tx(tx: &mut Tx, factor_id: Uuid) -> Result<(), Error> {
    const SQL: &str = "update auth.sessions set aal = 'aal1', factor_id = null where factor_id = $1::uuid";
    tx.query(SQL, [factor_id.into()]).await.map(drop)
}

/// A second factor raised the session.
pub(crate) async fn session_raise_in_tx(
    tx: &mut Tx,
    id: Uuid,
    factor_id: Uuid,
    method: &str,
    now: Timestamp,
) -> Result<(), Error> {
    const SQL: &str = "with method as (
            insert into auth.mfa_amr_claims (id, session_id, created_at, updated_at, authentication_method)
            select gen_random_uuid(), s.id, $4::timestamptz, $4::timestamptz, $3 from auth.sessions s where s.id = $1::uuid
            on conflict (session_id, authentication_method) do update set updated_at = excluded.updated_at
        )
        update auth.sessions set aal = 'aal2', factor_id = $2::uuid, updated_at = $4::timestamptz where id = $1::uuid";
    tx.query(SQL, [id.into(), factor_id.into(), method.into(), now.into()]).await.map(drop)
}

/// Ends the sessions of a user that no second factor has raised.
pub(crate) async fn session_end_below_aal2_in_tx(tx: &mut Tx, user_id: Uuid) -> Result<(), Error> {
    const SQL: &str = "delete from auth.sessions where user_id = $1::uuid and coalesce(aal, 'aal1') = 'aal1'";
    tx.query(SQL, [user_id.into()]).await.map(drop)
}
