//! Flows under way: the challenge of a PKCE client, and the code that it gets for its verifier.

use serde::Deserialize;
use uuid::Uuid;

use super::{Param, Tx, first_json};
use crate::error::Error;
use crate::timestamp::Timestamp;

/// A row of `auth.flow_state`.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct FlowState {
    pub(crate) id: Uuid,
    pub(crate) user_id: Option<Uuid>,
    pub(crate) code_challenge_method: Option<String>,
    pub(crate) code_challenge: Option<String>,
    pub(crate) provider_type: String,
    /// What the provider gave, sealed.
    pub(crate) provider_access_token: Option<String>,
    pub(crate) created_at: Option<Timestamp>,
    pub(crate) authentication_method: String,
    pub(crate) auth_code_issued_at: Option<Timestamp>,
    pub(crate) referrer: Option<String>,
    pub(crate) linking_target_id: Option<Uuid>,
    #[serde(default)]
    pub(crate) email_optional: bool,
}

/// A flow to begin.
#[derive(Debug, Default)]
pub(crate) struct NewFlowState<'a> {
    /// None makes one.
    pub(crate) id: Option<Uuid>,
    pub(crate) user_id: Option<Uuid>,
    pub(crate) code_challenge_method: Option<&'a str>,
    pub(crate) code_challenge: Option<&'a str>,
    pub(crate) provider_type: &'a str,
    pub(crate) authentication_method: &'a str,
    pub(crate) referrer: Option<&'a str>,
    pub(crate) oauth_client_state_id: Option<Uuid>,
    pub(crate) linking_target_id: Option<Uuid>,
    pub(crate) email_optional: bool,
}

/// Begins a flow; returns its id. Flows of yesterday are removed on the way.
pub(crate) async fn flow_state_insert_in_tx(
    tx: &mut Tx,
    new: &NewFlowState<'_>,
    now: Timestamp,
) -> Result<Uuid, Error> {
    const SQL: &str = "with old as (
            delete from auth.flow_state where id in (
                select id from auth.flow_state where created_at < $1::timestamptz - interval '1 day'
                order by created_at limit 100 for update skip locked)
        )
        insert into auth.flow_state
        (id, user_id, code_challenge_method, code_challenge, provider_type, authentication_method, referrer,
         oauth_client_state_id, linking_target_id, email_optional, created_at, updated_at)
        values ($2::uuid, $3::uuid, $4::auth.code_challenge_method, $5, $6, $7, $8, $9::uuid, $10::uuid, $11::bool,
         $1::timestamptz, $1::timestamptz)";
    let id = new.id.unwrap_or_else(crate::session::new_id);
    let params: [Param; 11] = [
        now.into(),
        id.into(),
        new.user_id.into(),
        new.code_challenge_method.into(),
        new.code_challenge.into(),
        new.provider_type.into(),
        new.authentication_method.into(),
        new.referrer.into(),
        new.oauth_client_state_id.into(),
        new.linking_target_id.into(),
        new.email_optional.into(),
    ];
    tx.query(SQL, params).await?;
    Ok(id)
}

/// Locks the newest flow of a user that began in this way and has a challenge.
pub(crate) async fn flow_state_newest_in_tx(
    tx: &mut Tx,
    user_id: Uuid,
    authentication_methods: &[&str],
) -> Result<Option<FlowState>, Error> {
    const SQL: &str = "select to_jsonb(f)::text from auth.flow_state f
        where user_id = $1::uuid and authentication_method = any ($2::text[]) and code_challenge is not null
        order by created_at desc limit 1 for update";
    first_json(&tx.query(SQL, [user_id.into(), authentication_methods.into()]).await?)
}

/// Takes a flow that waits at a provider: it is gone, and of two who come with its id the second finds nothing.
pub(crate) async fn flow_state_take_in_tx(
    tx: &mut Tx,
    id: Uuid,
    authentication_method: &str,
) -> Result<Option<FlowState>, Error> {
    const SQL: &str = "delete from auth.flow_state f
        where id = $1::uuid and authentication_method = $2 and auth_code_issued_at is null returning to_jsonb(f)::text";
    first_json(&tx.query(SQL, [id.into(), authentication_method.into()]).await?)
}

/// A flow that came back from a provider, and the code that its client gets.
pub(crate) struct IssuedFlow<'a> {
    pub(crate) flow: &'a FlowState,
    pub(crate) user_id: Uuid,
    pub(crate) code_hash: &'a str,
    /// What the provider gave, sealed under the code.
    pub(crate) kept: &'a str,
}

/// Puts a flow that was taken back, with its code.
pub(crate) async fn flow_state_put_issued_in_tx(
    tx: &mut Tx,
    issued: &IssuedFlow<'_>,
    now: Timestamp,
) -> Result<(), Error> {
    const SQL: &str = "insert into auth.flow_state
        (id, user_id, auth_code, code_challenge_method, code_challenge, provider_type, authentication_method,
         provider_access_token, auth_code_issued_at, created_at, updated_at)
        values ($1::uuid, $2::uuid, $3, $4::auth.code_challenge_method, $5, $6, $7, $8, $9::timestamptz,
         $9::timestamptz, $9::timestamptz)";
    let flow = issued.flow;
    let params: [Param; 9] = [
        flow.id.into(),
        issued.user_id.into(),
        issued.code_hash.into(),
        flow.code_challenge_method.as_ref().into(),
        flow.code_challenge.as_ref().into(),
        (&flow.provider_type).into(),
        (&flow.authentication_method).into(),
        issued.kept.into(),
        now.into(),
    ];
    tx.query(SQL, params).await.map(drop)
}

/// The code of this hash may be exchanged from now on.
pub(crate) async fn flow_state_issue_in_tx(
    tx: &mut Tx,
    id: Uuid,
    user_id: Uuid,
    code_hash: &str,
    now: Timestamp,
) -> Result<(), Error> {
    const SQL: &str = "update auth.flow_state set auth_code = $3, user_id = $2::uuid,
        auth_code_issued_at = $4::timestamptz, updated_at = $4::timestamptz where id = $1::uuid";
    tx.query(SQL, [id.into(), user_id.into(), code_hash.into(), now.into()]).await.map(drop)
}

/// Locks the flow whose code was issued. Of two who come with the same code, the second finds it gone.
pub(crate) async fn flow_state_by_code_in_tx(tx: &mut Tx, code_hash: &str) -> Result<Option<FlowState>, Error> {
    const SQL: &str = "select to_jsonb(f)::text from auth.flow_state f
        where auth_code = $1 and auth_code_issued_at is not null and user_id is not null for update";
    first_json(&tx.query(SQL, [code_hash.into()]).await?)
}

pub(crate) async fn flow_state_delete_in_tx(tx: &mut Tx, id: Uuid) -> Result<(), Error> {
    const SQL: &str = "delete from auth.flow_state where id = $1::uuid";
    tx.query(SQL, [id.into()]).await.map(drop)
}
