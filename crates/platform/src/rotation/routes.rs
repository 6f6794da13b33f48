//! `/api/rotations`: administrators replace keys of the installation.

use axum::Json;
use axum::response::IntoResponse;
use base::Secret;
use base::sealed::MasterKey;
use http::StatusCode;
use http::header::{CACHE_CONTROL, HeaderValue};
use serde_json::{Value, json};

use super::InstallationKey;
use crate::error::Error;
use crate::platform::Platform;
use crate::request::OwnerCx;

fn platform(cx: &OwnerCx) -> Result<&Platform, Error> {
    if cx.owner.is_admin { Ok(&cx.platform) } else { Err(Error::AdminRequired) }
}

/// How far the change of the master key is, and whether an internal key of before is accepted.
pub(crate) async fn get_rotations(cx: OwnerCx) -> Result<Json<Value>, Error> {
    let platform = platform(&cx)?;
    let key = &platform.config().master_key;
    Ok(Json(json!({
        "master_key": { "rotating": key.is_rotating(), "secrets_left": platform.sealed_by_others().await? },
        "internal_key": { "previous_accepted": platform.internal_keys().len() > 1 },
    })))
}

/// A new master key is made and written down, and every secret is sealed with it in the background.
pub(crate) async fn rotate_master_key(cx: OwnerCx) -> Result<impl IntoResponse, Error> {
    let platform = platform(&cx)?.clone();
    let file = platform.require_key_file()?.clone();
    let key = platform.config().master_key.clone();
    {
        // Two at once would forget the key of the first before anything is sealed anew.
        let _alone = platform.rotating().lock().await;
        if key.is_rotating() {
            return Err(Error::LimitReached(
                "the master key is being replaced already; GET /api/rotations says how far",
            ));
        }
        let fresh = Secret::new(MasterKey::generate_base64());
        audit(&cx, "master_key.rotate").await?;
        // First on the disk, then in use.
        let written = fresh.clone();
        let begun = tokio::task::spawn_blocking(move || file.begin(InstallationKey::Master, &written)).await;
        begun.map_err(|error| Error::Internal(error.into()))??;
        key.begin_rotation(fresh.expose()).map_err(|error| Error::Internal(error.into()))?;
    }
    let work = platform.clone();
    platform.spawn(async move { work.reseal_to_the_end().await });
    Ok((StatusCode::ACCEPTED, Json(json!({ "status": "started" }))))
}

/// A new internal key, shown this once; the one before is accepted until it is ended.
pub(crate) async fn rotate_internal_key(cx: OwnerCx) -> Result<impl IntoResponse, Error> {
    let platform = platform(&cx)?;
    let file = platform.require_key_file()?.clone();
    let _alone = platform.rotating().lock().await;
    if platform.internal_keys().len() > 1 {
        return Err(Error::LimitReached("an internal key of before is still accepted; end it first"));
    }
    let fresh = Secret::new(base::random::hex::<32>());
    audit(&cx, "internal_key.rotate").await?;
    let written = fresh.clone();
    let begun = tokio::task::spawn_blocking(move || file.begin(InstallationKey::Internal, &written)).await;
    begun.map_err(|error| Error::Internal(error.into()))??;
    platform.internal_keys().add_first(fresh.clone());
    let view = json!({ "internal_key": fresh.expose(), "previous_accepted": true });
    Ok((StatusCode::CREATED, [(CACHE_CONTROL, HeaderValue::from_static("no-store"))], Json(view)))
}

/// Only the newest internal key is accepted from now on.
pub(crate) async fn end_previous_internal_key(cx: OwnerCx) -> Result<StatusCode, Error> {
    let platform = platform(&cx)?;
    let file = platform.require_key_file()?.clone();
    let _alone = platform.rotating().lock().await;
    audit(&cx, "internal_key.end_previous").await?;
    let ended = tokio::task::spawn_blocking(move || file.end(InstallationKey::Internal)).await;
    ended.map_err(|error| Error::Internal(error.into()))??;
    platform.internal_keys().keep_first();
    Ok(StatusCode::NO_CONTENT)
}

async fn audit(cx: &OwnerCx, action: &str) -> Result<(), Error> {
    cx.platform.audit(&cx.actor().entry(None, action, json!({}))).await.map(drop)
}
