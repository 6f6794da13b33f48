//! `POST /factors/{id}/challenge`

use axum::response::Response;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use super::webauthn::Site;
use super::{CHALLENGE_EXPIRES, factor_id, locked, phone, require_aal_for_new, require_enabled, signed_in, webauthn};
use crate::audit::{self, Action};
use crate::cx::Cx;
use crate::error::Error;
use crate::rate_limit::Limit;
use crate::request;
use crate::response;
use crate::session;
use crate::store::Tx;
use crate::store::factor::{self as store, NewChallenge};

#[derive(Default, Deserialize)]
#[serde(default)]
struct ChallengeParams {
    channel: Option<String>,
    webauthn: Option<Site>,
}

pub(super) async fn challenge(cx: &Cx, id: &str, body: &Bytes) -> Result<Response, Error> {
    let params: ChallengeParams = if body.is_empty() { ChallengeParams::default() } else { request::params(body)? };
    if params.channel.as_deref().is_some_and(|channel| !matches!(channel, "" | "sms" | "whatsapp")) {
        return Err(Error::invalid("Invalid channel, supported values are 'sms' or 'whatsapp'"));
    }
    let (user, session) = signed_in(cx).await?;
    let id = factor_id(id)?;
    cx.limit_subject(Limit::FactorVerify, &format!("challenge {id}"))?;
    let mut tx = Tx::begin(&cx.pool).await?;
    let (user, factor) = locked(&mut tx, &user, &session, id).await?;
    require_enabled(cx, &factor)?;
    require_aal_for_new(&user, &factor, &session)?;
    let challenge_id = session::new_id();
    let (mut code_hash, mut ceremony) = (None, None);
    let mut answer = json!({
        "id": challenge_id,
        "type": factor.factor_type,
        "expires_at": cx.now.plus_seconds(CHALLENGE_EXPIRES).unix_seconds(),
    });
    match factor.factor_type.as_str() {
        "phone" => code_hash = Some(phone::send_code(cx, &mut tx, &user, &factor, challenge_id).await?),
        "webauthn" => {
            let (options, kept) = webauthn::begin(cx, &mut tx, &user, &factor, params.webauthn.as_ref()).await?;
            answer["webauthn"] = options;
            ceremony = Some(kept);
        }
        _ => {}
    }
    let ip = cx.client_ip.to_canonical().to_string();
    let new = NewChallenge {
        id: challenge_id,
        factor_id: factor.id,
        ip: &ip,
        otp_code: code_hash.as_deref(),
        ceremony: ceremony.as_ref(),
    };
    store::challenge_insert_in_tx(&mut tx, &new, cx.now).await?;
    let traits = json!({ "factor_id": factor.id, "factor_status": factor.status });
    audit::of_user(cx, &mut tx, &user, Action::ChallengeCreated, Some(traits)).await?;
    tx.commit().await?;
    response::ok(&answer)
}
