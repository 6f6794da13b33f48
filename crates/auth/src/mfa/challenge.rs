//! `POST /factors/{id}/challenge`

use axum::response::Response;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use super::{CHALLENGE_EXPIRES, locked, phone, require_enabled, signed_in};
use crate::audit::{self, Action};
use crate::cx::Cx;
use crate::error::Error;
use crate::rate_limit::Limit;
use crate::request;
use crate::response;
use crate::session;
use crate::store::Tx;
use crate::store::factor as store;

#[derive(Default, Deserialize)]
#[serde(default)]
struct ChallengeParams {
    channel: Option<String>,
}

pub(super) async fn challenge(cx: &Cx, id: &str, body: &Bytes) -> Result<Response, Error> {
    let params: ChallengeParams = if body.is_empty() { ChallengeParams::default() } else { request::params(body)? };
    if params.channel.as_deref().is_some_and(|channel| !matches!(channel, "" | "sms" | "whatsapp")) {
        return Err(Error::invalid("Invalid channel, supported values are 'sms' or 'whatsapp'"));
    }
    let (user, _) = signed_in(cx).await?;
    cx.limit_subject(Limit::FactorVerify, &format!("challenge {id}"))?;
    let mut tx = Tx::begin(&cx.pool).await?;
    let (user, factor) = locked(&mut tx, user, id).await?;
    require_enabled(cx, &factor)?;
    let challenge_id = session::new_id();
    let code_hash = match factor.factor_type.as_str() {
        "phone" => Some(phone::send_code(cx, &mut tx, &user, &factor, challenge_id).await?),
        _ => None,
    };
    let ip = cx.client_ip.to_canonical().to_string();
    store::challenge_insert_in_tx(&mut tx, challenge_id, factor.id, &ip, code_hash.as_deref(), cx.now).await?;
    let traits = json!({ "factor_id": factor.id, "factor_status": factor.status });
    audit::of_user(cx, &mut tx, &user, Action::ChallengeCreated, Some(traits)).await?;
    tx.commit().await?;
    let expires_at = cx.now.plus_seconds(CHALLENGE_EXPIRES).unix_seconds();
    response::ok(&json!({ "id": challenge_id, "type": factor.factor_type, "expires_at": expires_at }))
}
