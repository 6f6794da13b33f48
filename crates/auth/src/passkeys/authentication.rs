//! Signing in with a passkey: `POST /passkeys/authentication/options` and `.../verify`. Nobody says who they are before: the
//! authenticator does.

use axum::response::Response;
use bytes::Bytes;
use serde_json::json;

use super::{CEREMONY_EXPIRES, OptionsView, VerifyParams, ceremony, require_confirmed, still_open, unverified};
use crate::audit::{self, Action};
use crate::cx::Cx;
use crate::error::{Error, ErrorCode};
use crate::rate_limit::Limit;
use crate::request;
use crate::response;
use crate::session::{self, method};
use crate::store::Tx;
use crate::store::passkey::{self as store, CeremonyKind, NewCeremony};
use crate::store::user as users;

pub(super) async fn options(cx: &Cx) -> Result<Response, Error> {
    let (ceremony, kept) = ceremony(cx, false)?;
    let challenge_id = session::new_id();
    let expires_at = cx.now.plus_seconds(CEREMONY_EXPIRES);
    let new =
        NewCeremony { id: challenge_id, user_id: None, kind: CeremonyKind::Authentication, kept: &kept, expires_at };
    let mut tx = Tx::begin(&cx.pool).await?;
    store::ceremony_insert_in_tx(&mut tx, &new, cx.now).await?;
    tx.commit().await?;
    let options = ceremony.request_options(&[], CEREMONY_EXPIRES)["publicKey"].take();
    response::ok(&OptionsView { challenge_id, options, expires_at: expires_at.unix_seconds() })
}

pub(super) async fn verify(cx: &Cx, body: &Bytes) -> Result<Response, Error> {
    cx.limit_client(Limit::Verify)?;
    let params: VerifyParams = request::params(body)?;
    let (challenge_id, answer) = (params.challenge_id()?, params.response()?);
    let mut tx = Tx::begin(&cx.pool).await?;
    let taken = store::ceremony_take_in_tx(&mut tx, challenge_id, CeremonyKind::Authentication, None).await?;
    tx.commit().await?;
    let ceremony = still_open(cx, taken)?;
    // Whatever is wrong, it is said in the same words: who has which passkey is nobody's business.
    let failed = || unverified("Credential verification failed");
    let id = answer.credential_id().map_err(|error| failed().because(error))?;
    let mut tx = Tx::begin(&cx.pool).await?;
    let owner = store::passkey_owner_in_tx(&mut tx, &id).await?.ok_or_else(failed)?;
    // User before passkey, as everywhere; the counter is read and written while nobody else can.
    let user = users::user_lock_in_tx(&mut tx, owner).await?.filter(|user| user.deleted_at.is_none());
    let user = user.ok_or_else(failed)?;
    let passkey = store::passkey_lock_in_tx(&mut tx, &id, user.id).await?.ok_or_else(failed)?;
    if answer.user_handle().is_none_or(|handle| handle != user.id.to_string().as_bytes()) {
        return Err(failed().because("the answer names another user than the passkey's"));
    }
    let after = ceremony.authenticated(&passkey.credential(), &answer).map_err(|error| failed().because(error))?;
    require_confirmed(&user)?;
    if user.is_banned(cx.now) {
        return Err(Error::new(ErrorCode::UserBanned, "User is banned").with_status(http::StatusCode::FORBIDDEN));
    }
    store::passkey_used_in_tx(&mut tx, passkey.id, &after, cx.now).await?;
    audit::of_user(cx, &mut tx, &user, Action::Login, Some(json!({ "passkey_id": passkey.id }))).await?;
    let view = session::begin(cx, &mut tx, &user, method::PASSKEY).await?;
    tx.commit().await?;
    response::ok(&view)
}
