//! Key pairs that sign a project's tokens (ES256), and their rotation: a new key is published before it signs, and an old
//! one verifies until it is revoked.

use axum::Json;
use axum::response::IntoResponse;
use base::Secret;
use base::jwt::{JwtKey, JwtKeys};
use base::sealed::SealContext;
use base::signing::{InvalidKey, KeyStatus, SigningKeys, StoredKey};
use http::StatusCode;
use serde_json::{Value, json};

use crate::error::Error;
use crate::request::{KeyName, ProjectCx};
use crate::secrets::{self, kind};
use crate::store;

/// Keys of one project, revoked ones not counted.
const MOST_KEYS: usize = 10;

/// Why the stored keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnusableKeys {
    #[error("the stored keys are no JSON")]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Key(#[from] InvalidKey),
    #[error("a public key is unusable")]
    Jwk(#[from] base::jwt::InvalidJwk),
}

/// What signs and what verifies the tokens of a project.
pub(crate) fn assemble(
    secret: &Secret<String>,
    previous: Option<&Secret<String>>,
    stored: Option<&Secret<String>>,
) -> Result<(SigningKeys, JwtKeys), UnusableKeys> {
    let keys: Vec<StoredKey> = match stored {
        Some(json) => serde_json::from_str(json.expose())?,
        None => Vec::new(),
    };
    let previous: Vec<String> = match previous {
        Some(json) => serde_json::from_str(json.expose())?,
        None => Vec::new(),
    };
    let signing = SigningKeys::new(secret.expose().as_bytes(), &keys)?;
    let signing = signing.with_previous(previous.iter().map(|secret| secret.as_bytes().to_vec()));
    let mut verifying = vec![JwtKey::secret(secret.expose().as_bytes())];
    verifying.extend(previous.iter().map(|secret| JwtKey::secret(secret.as_bytes())));
    for jwk in signing.public_jwks() {
        verifying.extend(JwtKey::from_jwk(jwk)?);
    }
    Ok((signing, JwtKeys::new(verifying)))
}

fn view(keys: &[StoredKey]) -> Value {
    let shown = |key: &StoredKey| {
        json!({
            "id": key.kid, "algorithm": "ES256", "status": key.status, "created_at": key.created_at,
            "public_jwk": key.public_jwk().unwrap_or_default(),
        })
    };
    json!({ "keys": keys.iter().map(shown).collect::<Vec<_>>() })
}

pub(crate) async fn list_signing_keys(cx: ProjectCx) -> Result<Json<Value>, Error> {
    let db = cx.platform().db().await?;
    Ok(Json(view(&read(&**db, &cx).await?)))
}

/// A new key, published but not used yet.
pub(crate) async fn create_signing_key(cx: ProjectCx) -> Result<impl IntoResponse, Error> {
    let now = cx.platform().clock().unix_seconds();
    let keys = change(&cx, "signing_key.create", |keys| {
        if keys.len() >= MOST_KEYS {
            return Err(Error::LimitReached("a project has at most 10 signing keys; revoke one first"));
        }
        if keys.iter().any(|key| key.status == KeyStatus::Standby) {
            return Err(Error::LimitReached("a project has one standby key at a time; rotate to it or revoke it"));
        }
        keys.push(StoredKey::generate(KeyStatus::Standby, now));
        Ok(())
    });
    Ok((StatusCode::CREATED, Json(keys.await?)))
}

/// The standby key signs from now on; the one before verifies what it signed until it is revoked.
pub(crate) async fn rotate_signing_keys(cx: ProjectCx) -> Result<Json<Value>, Error> {
    let keys = change(&cx, "signing_key.rotate", |keys| {
        let Some(next) = keys.iter().position(|key| key.status == KeyStatus::Standby) else {
            return Err(Error::LimitReached("there is no standby key; create one first"));
        };
        for key in keys.iter_mut().filter(|key| key.status == KeyStatus::InUse) {
            key.status = KeyStatus::PreviouslyUsed;
        }
        if let Some(key) = keys.get_mut(next) {
            key.status = KeyStatus::InUse;
        }
        Ok(())
    });
    keys.await.map(Json)
}

/// Tokens that the key signed end at once. Without a key in use the project's secret signs again.
pub(crate) async fn revoke_signing_key(cx: ProjectCx, KeyName(kid): KeyName) -> Result<Json<Value>, Error> {
    let keys = change(&cx, "signing_key.revoke", |keys| {
        let before = keys.len();
        keys.retain(|key| key.kid != kid);
        if keys.len() == before { Err(Error::NoSuchKey) } else { Ok(()) }
    });
    keys.await.map(Json)
}

async fn read(db: &impl tokio_postgres::GenericClient, cx: &ProjectCx) -> Result<Vec<StoredKey>, Error> {
    let sealed = store::secret::secret_map(db, cx.project_ref.as_str()).await?;
    let stored = secrets::open_kind(&cx.platform().config().master_key, &cx.project_ref, &sealed, kind::SIGNING_KEYS)
        .map_err(|error| Error::Internal(error.into()))?;
    match stored {
        Some(json) => serde_json::from_str(json.expose()).map_err(|error| Error::Internal(error.into())),
        None => Ok(Vec::new()),
    }
}

async fn change(
    cx: &ProjectCx,
    action: &str,
    edit: impl FnOnce(&mut Vec<StoredKey>) -> Result<(), Error>,
) -> Result<Value, Error> {
    cx.require_present()?;
    let id = cx.project_ref.as_str();
    let mut db = cx.platform().db().await?;
    let tx = db.transaction().await?;
    // Locks the project, so that two changes at once do not undo each other.
    store::project::project_touch_in_tx(&*tx, &cx.project_ref).await?;
    let mut keys = read(&*tx, cx).await?;
    edit(&mut keys)?;
    let plain = serde_json::to_vec(&keys).map_err(|error| Error::Internal(error.into()))?;
    let context = SealContext { owner: id, kind: kind::SIGNING_KEYS };
    let sealed = cx.platform().config().master_key.seal(context, &plain);
    store::secret::secret_put_in_tx(&*tx, id, kind::SIGNING_KEYS, &sealed).await?;
    let detail = json!({ "keys": keys.iter().map(|key| &key.kid).collect::<Vec<_>>() });
    store::audit::audit_insert(&*tx, &cx.caller.actor().entry(Some(&cx.project_ref), action, detail)).await?;
    tx.commit().await?;
    drop(db);
    cx.platform().directory().refresh(&cx.project_ref).await?;
    Ok(view(&keys))
}
