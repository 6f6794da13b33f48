//! Who is signed in: the user and the session of the request's access token, which the gateway has verified.

use base::Credential;
use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use crate::cx::Cx;
use crate::error::{Error, ErrorCode};
use crate::store::Tx;
use crate::store::session::{Session, session_get_in_tx, signed_in};
use crate::store::user::user_lock_in_tx;
use crate::user::{AUDIENCE, User};

/// The user of a request, and their session.
pub(crate) struct SignedIn {
    pub(crate) user: User,
    /// None for a token that was made without a session.
    pub(crate) session: Option<Session>,
}

#[derive(Deserialize)]
struct TokenClaims {
    sub: Option<String>,
    session_id: Option<String>,
    aud: Option<Value>,
}

fn bad_jwt(message: &'static str) -> Error {
    Error::new(ErrorCode::BadJwt, message)
}

/// The user, locked, if they are still there and still signed in: what was read before may have ended since.
pub(crate) async fn lock(tx: &mut Tx, user_id: Uuid, session_id: Option<Uuid>) -> Result<User, Error> {
    let user = user_lock_in_tx(tx, user_id).await?.filter(|user| user.deleted_at.is_none());
    let user = user.ok_or_else(|| {
        let error = Error::new(ErrorCode::UserNotFound, "User from sub claim in JWT does not exist");
        error.with_status(StatusCode::FORBIDDEN)
    })?;
    if let Some(id) = session_id
        && session_get_in_tx(tx, id).await?.is_none()
    {
        let what = "Session from session_id claim in JWT does not exist";
        return Err(Error::new(ErrorCode::SessionNotFound, what));
    }
    Ok(user)
}

impl SignedIn {
    /// With a second factor a session without one is not enough for what lets somebody in for good.
    pub(crate) fn require_second_factor(&self, what: &'static str) -> Result<(), Error> {
        if !self.user.has_mfa() || self.session.as_ref().is_some_and(Session::is_aal2) {
            return Ok(());
        }
        Err(Error::new(ErrorCode::InsufficientAal, what))
    }

    /// As [`lock`].
    pub(crate) async fn lock(&self, tx: &mut Tx) -> Result<User, Error> {
        lock(tx, self.user.id, self.session.as_ref().map(|session| session.id)).await
    }

    /// Reads user and session; refuses what is not a token of a user who is still there in a session that has not ended.
    pub(crate) async fn of(cx: &Cx) -> Result<Self, Error> {
        if cx.caller.credential == Credential::None {
            let what = "This endpoint requires a valid Bearer token";
            return Err(Error::new(ErrorCode::NoAuthorization, what));
        }
        let claims: TokenClaims = serde_json::from_str(&cx.caller.claims)
            .map_err(|error| bad_jwt("invalid token: missing claims").because(error))?;
        let sub = claims.sub.filter(|sub| !sub.is_empty()).ok_or(bad_jwt("invalid claim: missing sub claim"))?;
        let user_id = Uuid::parse_str(&sub)
            .map_err(|_| bad_jwt("invalid claim: sub claim must be a UUID").with_status(StatusCode::BAD_REQUEST))?;
        let names_us = match &claims.aud {
            Some(Value::String(aud)) => aud == AUDIENCE,
            Some(Value::Array(all)) => all.iter().any(|aud| aud == AUDIENCE),
            _ => false,
        };
        if !names_us {
            return Err(Error::invalid("Token audience doesn't match request audience"));
        }
        let session_id = match claims.session_id.as_deref().filter(|id| !id.is_empty()) {
            Some(id) => {
                Some(Uuid::parse_str(id).map_err(|_| bad_jwt("invalid claim: session_id claim must be a UUID"))?)
            }
            None => None,
        }
        .filter(|id| !id.is_nil());
        let (user, session) = signed_in(&cx.pool, user_id, session_id).await?;
        let user = user.filter(|user| user.deleted_at.is_none()).ok_or_else(|| {
            Error::new(ErrorCode::UserNotFound, "User from sub claim in JWT does not exist")
                .with_status(StatusCode::FORBIDDEN)
        })?;
        if session_id.is_some() && session.is_none() {
            let what = "Session from session_id claim in JWT does not exist";
            return Err(Error::new(ErrorCode::SessionNotFound, what));
        }
        if user.is_banned(cx.now) {
            return Err(Error::new(ErrorCode::UserBanned, "User is banned").with_status(StatusCode::FORBIDDEN));
        }
        Ok(Self { user, session })
    }
}
