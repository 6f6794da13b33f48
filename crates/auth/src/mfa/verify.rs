//! `POST /factors/{id}/verify`: a challenge met raises the session.

use axum::response::Response;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use super::webauthn::Proof;
use super::{
    CHALLENGE_EXPIRES, factor_id, locked, phone, require_aal_for_new, require_enabled, signed_in, totp, webauthn,
};
use crate::audit::{self, Action};
use crate::cx::Cx;
use crate::error::{Error, ErrorCode};
use crate::hook;
use crate::rate_limit::Limit;
use crate::request;
use crate::response;
use crate::session::{self, method};
use crate::store::Tx;
use crate::store::factor::{self as store, Challenge};
use crate::store::session::{Ending, session_delete_in_tx, session_end_below_aal2_in_tx};
use crate::user::{Factor, User};

#[derive(Default, Deserialize)]
#[serde(default)]
struct VerifyParams {
    challenge_id: Option<String>,
    code: Option<String>,
    webauthn: Option<Proof>,
}

/// What became of a code.
enum Verdict {
    Wrong,
    /// With what has to be remembered, so that the code is good once.
    Right(Option<String>),
}

pub(super) async fn verify(cx: &Cx, id: &str, body: &Bytes) -> Result<Response, Error> {
    let params: VerifyParams = request::params(body)?;
    let (user, session) = signed_in(cx).await?;
    let id = factor_id(id)?;
    // However many sessions and challenges there are, a code of six digits withstands this.
    let counted = id.to_string();
    cx.limit_subject(Limit::FactorVerify, &counted)?;
    cx.would_exceed(Limit::FactorWrong, &counted)?;
    let code = request::text("code", params.code.as_ref())?.map(str::trim);
    if code.is_none() && params.webauthn.is_none() {
        return Err(Error::invalid("Code needs to be non-empty"));
    }
    let challenge_id = params.challenge_id.as_deref().and_then(|id| Uuid::parse_str(id).ok());
    let mut tx = Tx::begin(&cx.pool).await?;
    let (user, factor) = locked(&mut tx, &user, &session, id).await?;
    require_enabled(cx, &factor)?;
    require_aal_for_new(&user, &factor, &session)?;
    let challenge = match challenge_id {
        Some(challenge) => store::challenge_get_in_tx(&mut tx, challenge, factor.id).await?,
        None => None,
    };
    let not_found = || Error::new(ErrorCode::MfaFactorNotFound, "MFA factor with the provided challenge ID not found");
    let challenge = challenge.ok_or_else(not_found)?;
    check_challenge(cx, &challenge)?;
    let verdict = match factor.factor_type.as_str() {
        "webauthn" => by_key(&mut tx, &factor, &challenge, params.webauthn.as_ref()).await?,
        _ => judge(cx, &mut tx, &factor, &challenge, code.unwrap_or_default()).await?,
    };
    let valid = matches!(verdict, Verdict::Right(_));
    if !valid {
        cx.limit_subject(Limit::FactorWrong, &counted)?;
    }
    if let Some(refusal) = ask_hook(cx, &mut tx, &user, &factor, valid).await? {
        tx.commit().await?;
        return Err(refusal);
    }
    let Verdict::Right(remembered) = verdict else {
        let what = match factor.factor_type.as_str() {
            "totp" => "Invalid TOTP code entered",
            "webauthn" => "Invalid WebAuthn credential",
            _ => "Invalid MFA Phone code entered",
        };
        return Err(Error::new(ErrorCode::MfaVerificationFailed, what));
    };
    store::challenge_met_in_tx(&mut tx, challenge.id, remembered.as_deref(), cx.now).await?;
    let traits = json!({ "factor_id": factor.id, "challenge_id": challenge.id, "factor_type": factor.factor_type });
    audit::of_user(cx, &mut tx, &user, Action::VerificationAttempted, Some(traits)).await?;
    if !factor.is_verified() {
        store::factor_verified_in_tx(&mut tx, factor.id, cx.now).await?;
    }
    let used = match factor.factor_type.as_str() {
        "totp" => method::TOTP,
        "webauthn" => method::MFA_WEBAUTHN,
        _ => method::MFA_PHONE,
    };
    let view = session::raise(cx, &mut tx, user.id, session.id, factor.id, used).await?;
    // From now on a second factor is asked for: sessions without one, and factors that nobody proved, are of no use.
    session_end_below_aal2_in_tx(&mut tx, user.id).await?;
    store::factor_delete_unverified_in_tx(&mut tx, user.id).await?;
    tx.commit().await?;
    response::ok(&view)
}

fn check_challenge(cx: &Cx, challenge: &Challenge) -> Result<(), Error> {
    if challenge.verified_at.is_some() || cx.now.seconds_since(challenge.created_at) > CHALLENGE_EXPIRES {
        let id = challenge.id;
        let what =
            format!("MFA challenge {id} has expired, verify against another challenge or create a new challenge.");
        return Err(Error::new(ErrorCode::MfaChallengeExpired, what));
    }
    let ip = cx.client_ip.to_canonical().to_string();
    // `inet` writes the length of a network, which that of one address is not.
    if challenge.ip_address.split('/').next() != Some(ip.as_str()) {
        return Err(Error::new(ErrorCode::MfaIpAddressMismatch, "Challenge and verify IP addresses mismatch."));
    }
    Ok(())
}

async fn by_key(tx: &mut Tx, factor: &Factor, challenge: &Challenge, proof: Option<&Proof>) -> Result<Verdict, Error> {
    let proved = webauthn::is_proved(tx, factor, challenge.web_authn_session_data.as_ref(), proof).await?;
    Ok(if proved { Verdict::Right(None) } else { Verdict::Wrong })
}

async fn judge(cx: &Cx, tx: &mut Tx, factor: &Factor, challenge: &Challenge, code: &str) -> Result<Verdict, Error> {
    if factor.factor_type == "phone" {
        let right = phone::is_code(cx, challenge.id, code, challenge.otp_code.as_deref());
        return Ok(if right { Verdict::Right(None) } else { Verdict::Wrong });
    }
    let secret = store::factor_secret_in_tx(tx, factor.id).await?.unwrap_or_default();
    let Some(step) = totp::step_of_code(&secret, code, cx.now.unix_seconds()) else { return Ok(Verdict::Wrong) };
    // A code that was used, or one before it, is good for nobody who looked over a shoulder.
    let used = store::totp_last_step_in_tx(tx, factor.id).await?;
    if used.is_some_and(|used| used >= step) {
        return Ok(Verdict::Wrong);
    }
    Ok(Verdict::Right(Some(step.to_string())))
}

/// The project may refuse a try, whatever came of it (GoTrue's MFA verification hook).
async fn ask_hook(cx: &Cx, tx: &mut Tx, user: &User, factor: &Factor, valid: bool) -> Result<Option<Error>, Error> {
    let Some(asked) = cx.settings().hook("mfa_verification_attempt") else { return Ok(None) };
    let event =
        json!({ "user_id": user.id, "factor_id": factor.id, "factor_type": factor.factor_type, "valid": valid });
    let output = hook::run(cx, Some(tx), "mfa_verification_attempt", asked, &event).await?;
    if output["decision"] != "reject" {
        return Ok(None);
    }
    session_delete_in_tx(tx, user.id, Ending::All).await?;
    let message = output["message"].as_str().filter(|text| !text.is_empty());
    let message = message.unwrap_or("Further MFA verification attempts will be rejected.").to_owned();
    Ok(Some(Error::new(ErrorCode::MfaVerificationRejected, message)))
}
