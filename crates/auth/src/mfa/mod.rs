//! Second factors: `/factors`.

mod challenge;
mod enroll;
mod phone;
mod qr_code;
mod totp;
mod unenroll;
mod verify;
mod webauthn;

#[cfg(test)]
pub(crate) use totp::code_at;

use axum::response::Response;
use bytes::Bytes;
use http::{Method, StatusCode};
use uuid::Uuid;

use crate::authenticate::{self, SignedIn};
use crate::cx::Cx;
use crate::error::{Error, ErrorCode};
use crate::store::Tx;
use crate::store::session::Session;
use crate::user::{Factor, User};

/// Seconds in which a challenge has to be met (GoTrue's), and after which a factor that nobody proved is forgotten.
const CHALLENGE_EXPIRES: i64 = 300;
const UNVERIFIED_EXPIRES: i64 = 300;

/// What is below `/factors`; none when there is no such route.
pub(crate) async fn route(cx: &Cx, method: &Method, path: &[&str], body: &Bytes) -> Option<Result<Response, Error>> {
    let result = match (method.as_str(), path) {
        ("POST", []) => enroll::enroll(cx, body).await,
        ("POST", [id, "challenge"]) => challenge::challenge(cx, id, body).await,
        ("POST", [id, "verify"]) => verify::verify(cx, id, body).await,
        ("DELETE", [id]) => unenroll::unenroll(cx, id).await,
        _ => return None,
    };
    Some(result)
}

/// Who is signed in, in a session: a token without one cannot be raised.
async fn signed_in(cx: &Cx) -> Result<(User, Session), Error> {
    let SignedIn { user, session } = SignedIn::of(cx).await?;
    let missing = || Error::new(ErrorCode::SessionNotFound, "Second factors need a session");
    Ok((user, session.ok_or_else(missing)?))
}

/// The id of a path; what is counted is counted by it, however it is written.
fn factor_id(text: &str) -> Result<Uuid, Error> {
    Uuid::parse_str(text).map_err(|_| Error::invalid("factor_id must be an UUID").with_status(StatusCode::NOT_FOUND))
}

/// The user, locked and still signed in, and one of their factors.
async fn locked(tx: &mut Tx, user: &User, session: &Session, id: Uuid) -> Result<(User, Factor), Error> {
    let not_found = || Error::new(ErrorCode::MfaFactorNotFound, "Factor not found");
    let user = authenticate::lock(tx, user.id, Some(session.id)).await?;
    let factor = user.factors.iter().find(|factor| factor.id == id).cloned().ok_or_else(not_found)?;
    Ok((user, factor))
}

/// With a second factor it takes one to get another: who has only the password must not finish what the user began.
fn require_aal_for_new(user: &User, factor: &Factor, session: &Session) -> Result<(), Error> {
    if factor.is_verified() || !user.has_mfa() || session.is_aal2() {
        return Ok(());
    }
    let error = Error::new(ErrorCode::InsufficientAal, "AAL2 required to verify a new factor");
    Err(error.with_status(StatusCode::FORBIDDEN))
}

/// Whether factors of this kind can be used.
fn require_enabled(cx: &Cx, factor: &Factor) -> Result<(), Error> {
    let settings = cx.settings();
    let disabled = |code, kind: &str| Err(Error::new(code, format!("MFA verification is disabled for {kind}")));
    match factor.factor_type.as_str() {
        "totp" if settings.mfa_totp_verify_enabled => Ok(()),
        "totp" => disabled(ErrorCode::MfaTotpVerifyNotEnabled, "TOTP"),
        "phone" if settings.mfa_phone_verify_enabled => Ok(()),
        "phone" => disabled(ErrorCode::MfaPhoneVerifyNotEnabled, "Phone"),
        _ if settings.mfa_web_authn_verify_enabled => Ok(()),
        _ => disabled(ErrorCode::MfaWebauthnVerifyNotEnabled, "WebAuthn"),
    }
}
