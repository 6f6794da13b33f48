//! `GET /passkeys`, `PATCH /passkeys/{id}`, `DELETE /passkeys/{id}`, and what administrators may do with a user's.

use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use super::{PasskeyView, manager, require_enabled};
use crate::audit::{self, Action};
use crate::authenticate::SignedIn;
use crate::cx::Cx;
use crate::error::{Error, ErrorCode};
use crate::request;
use crate::response;
use crate::store::Tx;
use crate::store::passkey as store;
use crate::store::user as users;

/// Longest name, in characters (GoTrue's).
const LONGEST_NAME: usize = 120;

fn not_found() -> Error {
    Error::invalid("Passkey not found").with_status(StatusCode::NOT_FOUND)
}

fn id_of(text: &str) -> Result<Uuid, Error> {
    Uuid::parse_str(text).map_err(|_| not_found())
}

async fn list(cx: &Cx, user_id: Uuid) -> Result<Response, Error> {
    let passkeys = store::passkey_list(&cx.pool, user_id).await?;
    response::ok(&passkeys.iter().map(PasskeyView::from).collect::<Vec<_>>())
}

pub(super) async fn list_passkeys(cx: &Cx) -> Result<Response, Error> {
    let SignedIn { user, .. } = SignedIn::of(cx).await?;
    list(cx, user.id).await
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct UpdateParams {
    friendly_name: Option<String>,
}

pub(super) async fn update_passkey(cx: &Cx, id: &str, body: &Bytes) -> Result<Response, Error> {
    let SignedIn { user, .. } = SignedIn::of(cx).await?;
    let id = id_of(id)?;
    let params: UpdateParams = request::params(body)?;
    let name = request::text("friendly_name", params.friendly_name.as_ref())?
        .ok_or_else(|| Error::invalid("friendly_name is required"))?;
    if name.chars().count() > LONGEST_NAME {
        return Err(Error::invalid(format!("friendly_name must be {LONGEST_NAME} characters or less")));
    }
    let mut tx = Tx::begin(&cx.pool).await?;
    let passkey = store::passkey_rename_in_tx(&mut tx, id, user.id, name, cx.now).await?.ok_or_else(not_found)?;
    audit::of_user(cx, &mut tx, &user, Action::PasskeyUpdated, Some(json!({ "passkey_id": id }))).await?;
    tx.commit().await?;
    response::ok(&PasskeyView::from(&passkey))
}

pub(super) async fn delete_passkey(cx: &Cx, id: &str) -> Result<Response, Error> {
    let (user, _) = manager(cx).await?;
    let id = id_of(id)?;
    let mut tx = Tx::begin(&cx.pool).await?;
    if !store::passkey_delete_in_tx(&mut tx, id, user.id).await? {
        return Err(not_found());
    }
    audit::of_user(cx, &mut tx, &user, Action::PasskeyDeleted, Some(json!({ "passkey_id": id }))).await?;
    tx.commit().await?;
    Ok(response::no_content())
}

/// `GET /admin/users/{id}/passkeys`
pub(crate) async fn list_passkeys_of_user(cx: &Cx, user_id: Uuid) -> Result<Response, Error> {
    require_enabled(cx)?;
    let user = users::user_by_id(&cx.pool, user_id).await?;
    let user = user.ok_or_else(|| Error::new(ErrorCode::UserNotFound, "User not found"))?;
    list(cx, user.id).await
}

/// `DELETE /admin/users/{id}/passkeys/{passkey}`
pub(crate) async fn delete_passkey_of_user(cx: &Cx, user_id: Uuid, id: &str) -> Result<Response, Error> {
    require_enabled(cx)?;
    let id = id_of(id)?;
    let mut tx = Tx::begin(&cx.pool).await?;
    let user = users::user_lock_in_tx(&mut tx, user_id).await?;
    let user = user.ok_or_else(|| Error::new(ErrorCode::UserNotFound, "User not found"))?;
    if !store::passkey_delete_in_tx(&mut tx, id, user.id).await? {
        return Err(not_found());
    }
    let traits = json!({ "user_id": user.id, "passkey_id": id });
    audit::of_admin(cx, &mut tx, Action::PasskeyDeleted, traits).await?;
    tx.commit().await?;
    Ok(response::no_content())
}
