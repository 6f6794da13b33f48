//! Passkeys: signing in with a discoverable WebAuthn credential and nothing else (`/passkeys`). Because nothing else is asked
//! for, the authenticator has to verify its user, which a second factor need not.

mod authentication;
mod manage;
mod name;
mod registration;

use axum::response::Response;
use bytes::Bytes;
use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;
use uuid::Uuid;

use crate::authenticate::SignedIn;
use crate::cx::Cx;
use crate::error::{Error, ErrorCode};
use crate::rate_limit::Limit;
use crate::router::guarded;
use crate::store::passkey::Passkey;
use crate::store::session::Session;
use crate::timestamp::Timestamp;
use crate::user::User;
use crate::webauthn::{Ceremony, RelyingParty};

pub(crate) use manage::{delete_passkey_of_user, list_passkeys_of_user};

/// Seconds in which a ceremony has to be answered (GoTrue's).
const CEREMONY_EXPIRES: i64 = 300;
/// Passkeys that one user may have (GoTrue's default).
const MOST_PASSKEYS: i64 = 10;

/// What is below `/passkeys`; none when there is no such route.
pub(crate) async fn route(cx: &Cx, method: &Method, path: &[&str], body: &Bytes) -> Option<Result<Response, Error>> {
    if let Err(error) = require_enabled(cx) {
        return Some(Err(error));
    }
    let result = match (method.as_str(), path) {
        ("POST", ["registration", "options"]) => registration::options(cx).await,
        ("POST", ["registration", "verify"]) => registration::verify(cx, body).await,
        ("POST", ["authentication", "options"]) => {
            guarded(cx, Some(Limit::Passkey), body, authentication::options(cx)).await
        }
        ("POST", ["authentication", "verify"]) => authentication::verify(cx, body).await,
        ("GET", []) => manage::list_passkeys(cx).await,
        ("PATCH", [id]) => manage::update_passkey(cx, id, body).await,
        ("DELETE", [id]) => manage::delete_passkey(cx, id).await,
        _ => return None,
    };
    Some(result)
}

/// Passkeys are for projects that have switched them on.
pub(crate) fn require_enabled(cx: &Cx) -> Result<(), Error> {
    if cx.settings().passkey_enabled {
        return Ok(());
    }
    Err(Error::new(ErrorCode::PasskeyDisabled, "Passkeys are disabled"))
}

/// The site that passkeys belong to: what the settings name, or the project's own.
fn site(cx: &Cx) -> Result<RelyingParty, Error> {
    let settings = cx.settings();
    let set = |text: Option<&String>| text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let own = Url::parse(&settings.site_url).ok();
    let origins: Vec<String> = match set(settings.webauthn_rp_origins.as_ref()) {
        Some(list) => list.split(',').map(|origin| origin.trim().trim_end_matches('/').to_owned()).collect(),
        None => own.iter().map(|url| url.origin().ascii_serialization()).collect(),
    };
    let id = set(settings.webauthn_rp_id.as_ref())
        .or_else(|| own.as_ref().and_then(Url::host_str).map(str::to_owned))
        .unwrap_or_default();
    let named = RelyingParty::named(&id, &origins).map_err(|error| {
        let what = "Passkeys are not set up: webauthn_rp_id and webauthn_rp_origins do not fit together";
        Error::new(ErrorCode::UnexpectedFailure, what).because(error)
    })?;
    Ok(named.called(set(settings.webauthn_rp_display_name.as_ref()).unwrap_or(id)))
}

/// A fresh ceremony, and what is kept of it.
fn ceremony(cx: &Cx, creates: bool) -> Result<(Ceremony, Value), Error> {
    let ceremony = Ceremony::new(site(cx)?, creates).verifying_users();
    let kept =
        serde_json::to_value(&ceremony).map_err(|error| Error::internal("Error starting the ceremony", error))?;
    Ok((ceremony, kept))
}

/// A ceremony's options for the client (auth-js `PasskeyRegistrationOptionsResponse` and its like).
#[derive(Serialize)]
struct OptionsView {
    challenge_id: Uuid,
    options: Value,
    expires_at: i64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct VerifyParams {
    challenge_id: Option<String>,
    credential: Option<Value>,
}

impl VerifyParams {
    fn challenge_id(&self) -> Result<Uuid, Error> {
        let text = self.challenge_id.as_deref().filter(|text| !text.is_empty());
        let text = text.ok_or_else(|| Error::invalid("challenge_id is required"))?;
        Uuid::parse_str(text).map_err(|_| Error::invalid("challenge_id must be a valid UUID"))
    }

    fn response(&self) -> Result<crate::webauthn::Response, Error> {
        let credential = self.credential.clone().filter(|credential| !credential.is_null());
        let credential = credential.ok_or_else(|| Error::invalid("credential is required"))?;
        serde_json::from_value(credential).map_err(|error| unverified("Invalid credential response").because(error))
    }
}

fn unverified(what: &'static str) -> Error {
    Error::new(ErrorCode::WebauthnVerificationFailed, what).with_status(StatusCode::BAD_REQUEST)
}

/// A ceremony that was taken out of the store, if it can still be answered.
fn still_open(cx: &Cx, taken: Option<(Value, Timestamp)>) -> Result<Ceremony, Error> {
    let bad = |code, what: &'static str| Error::new(code, what).with_status(StatusCode::BAD_REQUEST);
    let missing = || bad(ErrorCode::WebauthnChallengeNotFound, "Challenge not found or already used");
    let (kept, expires_at) = taken.ok_or_else(missing)?;
    if expires_at < cx.now {
        return Err(bad(ErrorCode::WebauthnChallengeExpired, "Challenge has expired"));
    }
    serde_json::from_value(kept).map_err(|error| missing().because(error))
}

/// Who manages their passkeys. With a second factor it takes one: a passkey signs in for ever.
async fn manager(cx: &Cx) -> Result<(User, Session), Error> {
    let SignedIn { user, session } = SignedIn::of(cx).await?;
    let missing = || Error::new(ErrorCode::SessionNotFound, "Passkeys need a session");
    let session = session.ok_or_else(missing)?;
    if user.has_mfa() && !session.is_aal2() {
        let what = "AAL2 session is required to manage passkeys when MFA is enabled";
        return Err(Error::new(ErrorCode::InsufficientAal, what).with_status(StatusCode::FORBIDDEN));
    }
    Ok((user, session))
}

/// An account that nobody has confirmed belongs to whoever asked last, and so does no passkey.
fn require_confirmed(user: &User) -> Result<(), Error> {
    let forbidden = |code, what: &'static str| Error::new(code, what).with_status(StatusCode::FORBIDDEN);
    if user.email().is_some() && !user.is_email_confirmed() {
        return Err(forbidden(ErrorCode::EmailNotConfirmed, "Email not confirmed"));
    }
    if user.phone().is_some() && !user.is_phone_confirmed() {
        return Err(forbidden(ErrorCode::PhoneNotConfirmed, "Phone not confirmed"));
    }
    Ok(())
}

/// A passkey as clients see it (auth-js `PasskeyListItem`).
#[derive(Serialize)]
struct PasskeyView<'a> {
    id: Uuid,
    #[serde(skip_serializing_if = "str::is_empty")]
    friendly_name: &'a str,
    created_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used_at: Option<Timestamp>,
}

impl<'a> From<&'a Passkey> for PasskeyView<'a> {
    fn from(passkey: &'a Passkey) -> Self {
        Self {
            id: passkey.id,
            friendly_name: &passkey.friendly_name,
            created_at: passkey.created_at,
            last_used_at: passkey.last_used_at,
        }
    }
}
