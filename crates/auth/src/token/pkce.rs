//! `grant_type=pkce`: the code that a redirect brought, against the verifier that only the client has (RFC 7636).

use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use crate::account;
use crate::audit::{self, Action};
use crate::cx::Cx;
use crate::error::{Error, ErrorCode};
use crate::pkce;
use crate::provider::{Provider, SealedFlow};
use crate::request;
use crate::response;
use crate::session;
use crate::store::Tx;
use crate::store::flow_state as store;
use crate::store::user as users;

/// Seconds in which a code has to be exchanged.
const CODE_EXPIRES: i64 = 300;

#[derive(Default, Deserialize)]
#[serde(default)]
struct ExchangeParams {
    auth_code: Option<String>,
    code_verifier: Option<String>,
}

pub(super) async fn exchange(cx: &Cx, body: &Bytes) -> Result<axum::response::Response, Error> {
    let params: ExchangeParams = request::params(body)?;
    let code = request::text("auth_code", params.auth_code.as_ref())?;
    let verifier = request::text("code_verifier", params.code_verifier.as_ref())?;
    let (Some(code), Some(verifier)) = (code, verifier) else {
        let what = "invalid request: both auth code and code verifier should be non-empty";
        return Err(Error::invalid(what));
    };
    let mut tx = Tx::begin(&cx.pool).await?;
    let flow = store::flow_state_by_code_in_tx(&mut tx, &pkce::stored(code)).await?;
    let not_found = || Error::new(ErrorCode::FlowStateNotFound, "invalid flow state, no valid flow state found");
    let flow = flow.ok_or_else(not_found)?;
    let issued = flow.auth_code_issued_at.ok_or_else(not_found)?;
    if cx.now.seconds_since(issued) > CODE_EXPIRES {
        return Err(Error::new(ErrorCode::FlowStateExpired, "invalid flow state, flow state has expired"));
    }
    pkce::verify(&flow, verifier)?;
    let user_id = flow.user_id.ok_or_else(not_found)?;
    let kept = flow.provider_access_token.as_deref().and_then(|kept| SealedFlow::open(cx, code, kept));
    let (tokens, links) = kept.map_or((None, None), |kept| (Some((kept.access_token, kept.refresh_token)), kept.links));
    let mut user = users::user_lock_in_tx(&mut tx, user_id).await?.ok_or_else(not_found)?;
    if let Some(profile) = links {
        // The verifier shows that this is the client whose user asked for the identity.
        let provider = Provider::find(cx, &flow.provider_type)?;
        user = account::link(cx, &mut tx, user.id, &provider, &profile).await?.user;
    }
    audit::of_user(cx, &mut tx, &user, Action::Login, Some(json!({ "provider_type": flow.provider_type }))).await?;
    let mut view = session::begin(cx, &mut tx, &user, &flow.authentication_method).await?;
    store::flow_state_delete_in_tx(&mut tx, flow.id).await?;
    tx.commit().await?;
    if let Some((access_token, refresh_token)) = tokens {
        view.provider_token = Some(access_token);
        view.provider_refresh_token = refresh_token.filter(|token| !token.is_empty());
    }
    response::ok(&view)
}
