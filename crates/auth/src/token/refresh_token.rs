//! Refresh tokens: each is good once. Of requests that come with the same token at once, or shortly after, all get the one
//! token that came of it; whoever comes later with an old one ends the whole family.
//!
//! Tokens are stored hashed. The next token is a MAC of the present one under a key of the project, so that what came of an
//! old token can be told again to who has it, and to nobody who only reads the database.

use base::{digest, random};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as B64;
use bytes::Bytes;
use ring::hmac;
use serde::Deserialize;

use crate::audit;
use crate::cx::Cx;
use crate::error::{Error, ErrorCode};
use crate::request;
use crate::response;
use crate::session::{self, method};
use crate::store::Tx;
use crate::store::refresh_token::{self as store, RefreshToken, Refreshed};
use crate::store::session as sessions;

/// What the key is for that makes the next token.
const PURPOSE: &str = "refresh tokens";
/// Longest chain of tokens that is followed from an old one to the present one.
const LONGEST_CHAIN: usize = 1_024;
/// Length of the tokens that Supabase's server made before there were longer ones; an import has them in plain.
const IMPORTED_LENGTH: usize = 12;

/// The first token of a session: 192 random bits.
pub(crate) fn generate() -> String {
    B64.encode(random::bytes::<24>())
}

/// What is stored of a token.
pub(crate) fn stored(token: &str) -> String {
    digest::sha256_hex(token.as_bytes())
}

/// The token that comes after this one.
fn next(cx: &Cx, token: &str) -> String {
    next_of(&cx.project.signing.derive(PURPOSE), token)
}

fn next_of(key: &[u8; 32], token: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    B64.encode(hmac::sign(&key, token.as_bytes()).as_ref().get(..24).unwrap_or_default())
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct RefreshParams {
    refresh_token: Option<String>,
}

pub(crate) async fn refresh(cx: &Cx, body: &Bytes) -> Result<axum::response::Response, Error> {
    let params: RefreshParams = request::params(body)?;
    let token = params.refresh_token.unwrap_or_default();
    let fits = (IMPORTED_LENGTH..=256).contains(&token.len())
        && token.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    if !fits {
        return Err(Error::invalid("Refresh token is not valid"));
    }
    let hash = stored(&token);
    // An imported token is found as it is. A hash is never as short, so that none can be used as a token.
    let plain = if token.len() == IMPORTED_LENGTH { token.as_str() } else { hash.as_str() };
    let (mut tx, found) = store::refresh_token_lock(&cx.pool, [&hash, plain]).await?;
    let found = found
        .ok_or_else(|| Error::new(ErrorCode::RefreshTokenNotFound, "Invalid Refresh Token: Refresh Token Not Found"))?;
    let Refreshed { token: row, active, session, user } = found;
    let no_session = || Error::new(ErrorCode::SessionNotFound, "Invalid Refresh Token: No Valid Session Found");
    let (session, user) = match (session, user) {
        (Some(session), Some(user)) => (session, user),
        _ => return Err(no_session().with_status(http::StatusCode::BAD_REQUEST)),
    };
    if user.is_banned(cx.now) || user.deleted_at.is_some() {
        return Err(Error::new(ErrorCode::UserBanned, "Invalid Refresh Token: User Banned"));
    }
    session::check_age(cx, &session)?;
    if cx.settings().sessions_single_per_user
        && sessions::session_newer_exists_in_tx(&mut tx, &session, cx.settings(), cx.now).await?
    {
        let what = "Invalid Refresh Token: Session Expired (Revoked by Newer Login)";
        return Err(Error::new(ErrorCode::SessionExpired, what));
    }
    if row.revoked == Some(true) {
        let Some(issued) = reused(cx, &token, &row, active.as_ref()) else {
            // A second factor has replaced the tokens a moment ago; another tab did not know. Nobody stole anything.
            if was_raised(cx, &row, active.as_ref()) {
                return Err(already_used());
            }
            return Err(refuse_family(cx, tx, &session, &user).await?);
        };
        audit::of_user(cx, &mut tx, &user, audit::Action::TokenRefreshed, None).await?;
        let view = session::view(cx, &mut tx, user, &session, method::TOKEN_REFRESH, issued).await?;
        tx.commit().await?;
        return response::ok(&view);
    }
    let issued = next(cx, &token);
    let (hash, device) = (stored(&issued), cx.device());
    let entries = audit::payloads(&user, &[audit::Action::TokenRefreshed, audit::Action::TokenRevoked]);
    // The access token first: a hook of the project may have to be asked, in this transaction.
    let view = session::view(cx, &mut tx, user, &session, method::TOKEN_REFRESH, issued).await?;
    store::refresh_token_swap_and_commit(tx, &row, &session, &hash, &device, &entries, cx.now).await?;
    response::ok(&view)
}

/// The present token of the family, for who comes with one that was replaced a moment ago.
fn reused(cx: &Cx, token: &str, row: &RefreshToken, active: Option<&RefreshToken>) -> Option<String> {
    let active = active?;
    let replaced = row.updated_at?;
    if cx.now.seconds_since(replaced) > cx.settings().security_refresh_token_reuse_interval {
        return None;
    }
    // The project's secret may have been replaced a moment ago, too.
    for key in cx.project.signing.derive_all(PURPOSE) {
        let mut candidate = token.to_owned();
        for _ in 0..LONGEST_CHAIN {
            candidate = next_of(&key, &candidate);
            if stored(&candidate) == active.token {
                return Some(candidate);
            }
        }
    }
    None
}

/// Whether the present token came of a second factor, and not of the token before, within the reuse interval.
fn was_raised(cx: &Cx, row: &RefreshToken, active: Option<&RefreshToken>) -> bool {
    let fresh = row
        .updated_at
        .is_some_and(|replaced| cx.now.seconds_since(replaced) <= cx.settings().security_refresh_token_reuse_interval);
    fresh && active.is_some_and(|active| active.parent.is_none() && active.id > row.id)
}

/// An old token came back: somebody else may have it, so nobody goes on with this session.
async fn refuse_family(
    cx: &Cx,
    mut tx: Tx,
    session: &sessions::Session,
    user: &crate::user::User,
) -> Result<Error, Error> {
    if cx.settings().refresh_token_rotation_enabled {
        store::refresh_token_revoke_family_in_tx(&mut tx, session.id, cx.now).await?;
        audit::of_user(cx, &mut tx, user, audit::Action::TokenRevoked, None).await?;
        tx.commit().await?;
    }
    Ok(already_used())
}

fn already_used() -> Error {
    Error::new(ErrorCode::RefreshTokenAlreadyUsed, "Invalid Refresh Token: Already Used")
}
