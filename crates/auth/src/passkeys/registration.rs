//! A passkey for who is signed in: `POST /passkeys/registration/options` and `.../verify`.

use axum::response::Response;
use bytes::Bytes;
use serde_json::json;
use uuid::Uuid;

use super::{
    CEREMONY_EXPIRES, MOST_PASSKEYS, OptionsView, PasskeyView, VerifyParams, ceremony, manager, name,
    require_confirmed, still_open, unverified,
};
use crate::audit::{self, Action};
use crate::authenticate;
use crate::cx::Cx;
use crate::error::{Error, ErrorCode};
use crate::rate_limit::Limit;
use crate::request;
use crate::response;
use crate::session;
use crate::store::Tx;
use crate::store::passkey::{self as store, CeremonyKind, NewCeremony, NewPasskey};
use crate::store::session::Session;
use crate::user::User;

/// Who may register one.
async fn registrant(cx: &Cx) -> Result<(User, Session), Error> {
    let (user, session) = manager(cx).await?;
    if user.is_sso_user {
        let error = Error::invalid("SSO users cannot register passkeys");
        return Err(error.with_status(http::StatusCode::UNPROCESSABLE_ENTITY));
    }
    require_confirmed(&user)?;
    Ok((user, session))
}

fn check_count(count: i64) -> Result<(), Error> {
    if count < MOST_PASSKEYS {
        return Ok(());
    }
    Err(Error::new(ErrorCode::TooManyPasskeys, "Maximum number of passkeys reached"))
}

pub(super) async fn options(cx: &Cx) -> Result<Response, Error> {
    let (user, _) = registrant(cx).await?;
    cx.limit_subject(Limit::Passkey, &user.id.to_string())?;
    let (ceremony, kept) = ceremony(cx, true)?;
    let challenge_id = session::new_id();
    let mut tx = Tx::begin(&cx.pool).await?;
    let others = store::passkey_list_in_tx(&mut tx, user.id).await?;
    check_count(i64::try_from(others.len()).unwrap_or(i64::MAX))?;
    let expires_at = cx.now.plus_seconds(CEREMONY_EXPIRES);
    let new = NewCeremony {
        id: challenge_id,
        user_id: Some(user.id),
        kind: CeremonyKind::Registration,
        kept: &kept,
        expires_at,
    };
    store::ceremony_insert_in_tx(&mut tx, &new, cx.now).await?;
    tx.commit().await?;
    let credentials: Vec<_> = others.iter().map(store::Passkey::credential).collect();
    let name = user.email().or(user.phone()).unwrap_or_default();
    let shown = user.raw_user_meta_data.as_ref().and_then(|data| data.get("name")).and_then(|name| name.as_str());
    let shown = shown.filter(|name| !name.is_empty()).unwrap_or(name);
    // The handle that comes back at sign-in: GoTrue's is the id as a text.
    let handle = user.id.to_string();
    let mut options = ceremony.creation_options(handle.as_bytes(), name, &credentials, CEREMONY_EXPIRES);
    options["publicKey"]["user"]["displayName"] = shown.into();
    let options = options["publicKey"].take();
    response::ok(&OptionsView { challenge_id, options, expires_at: expires_at.unix_seconds() })
}

pub(super) async fn verify(cx: &Cx, body: &Bytes) -> Result<Response, Error> {
    let (user, session) = registrant(cx).await?;
    let params: VerifyParams = request::params(body)?;
    let (challenge_id, answer) = (params.challenge_id()?, params.response()?);
    // It is used up whatever becomes of the answer.
    let mut tx = Tx::begin(&cx.pool).await?;
    let taken = store::ceremony_take_in_tx(&mut tx, challenge_id, CeremonyKind::Registration, Some(user.id)).await?;
    tx.commit().await?;
    let ceremony = still_open(cx, taken)?;
    let credential =
        ceremony.registered(&answer).map_err(|error| unverified("Credential verification failed").because(error))?;
    let mut tx = Tx::begin(&cx.pool).await?;
    // Locked, so that of many at once no more than there may be get in.
    let user = authenticate::lock(&mut tx, user.id, Some(session.id)).await?;
    check_count(store::passkey_count_in_tx(&mut tx, user.id).await?)?;
    let aaguid = Uuid::from_slice(&credential.aaguid()).unwrap_or_default();
    let new =
        NewPasskey { id: session::new_id(), user_id: user.id, credential: &credential, aaguid, name: name::of(aaguid) };
    let Some(passkey) = store::passkey_insert_in_tx(&mut tx, &new, cx.now).await? else {
        return Err(Error::new(ErrorCode::WebauthnCredentialExists, "This credential is already registered"));
    };
    let traits = json!({ "passkey_id": passkey.id });
    audit::of_user(cx, &mut tx, &user, Action::PasskeyCreated, Some(traits)).await?;
    tx.commit().await?;
    response::ok(&PasskeyView::from(&passkey))
}
