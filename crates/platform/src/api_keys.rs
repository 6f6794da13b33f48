//! A project's keys: opaque ones, as many as wanted, and the two legacy ones that hang on the JWT secret.

use axum::Json;
use axum::response::IntoResponse;
use base::api_key::{self, ApiKeyKind};
use base::sealed::SealContext;
use base::{Secret, random};
use http::StatusCode;
use http::header::{CACHE_CONTROL, HeaderValue};
use serde::Serialize;
use serde_json::{Value, json};

use crate::error::Error;
use crate::platform::Platform;
use crate::request::{Fields, KeyId, ProjectCx};
use crate::secrets::{self, kind};
use crate::store;
use crate::store::api_key::{ApiKey, NewApiKey};
use crate::timestamp::Timestamp;

/// Keys of one project in use at once.
const MOST_KEYS: i64 = 100;
/// Characters of a key's random part that lists show.
const SHOWN: usize = 6;

#[derive(Serialize)]
struct ApiKeyView {
    id: i64,
    name: String,
    kind: String,
    /// The database role that requests with it have.
    role: &'static str,
    /// The first characters; the rest is known to nobody.
    prefix: String,
    created_at: Timestamp,
    last_used_at: Option<Timestamp>,
    revoked_at: Option<Timestamp>,
}

impl From<ApiKey> for ApiKeyView {
    fn from(key: ApiKey) -> Self {
        Self {
            role: ApiKeyKind::from_name(&key.kind).map(ApiKeyKind::role).unwrap_or_default(),
            id: key.id,
            name: key.name,
            kind: key.kind,
            prefix: key.prefix,
            created_at: key.created_at,
            last_used_at: key.last_used_at,
            revoked_at: key.revoked_at,
        }
    }
}

/// What lists show of a key.
pub(crate) fn shown_prefix(key: &str, kind: ApiKeyKind) -> &str {
    key.get(..kind.prefix().len() + SHOWN).unwrap_or(kind.prefix())
}

/// The kind of secret under which the default key of a kind is kept.
fn default_secret(kind: ApiKeyKind) -> &'static str {
    match kind {
        ApiKeyKind::Publishable => kind::PUBLISHABLE_KEY,
        ApiKeyKind::Secret => kind::SECRET_KEY,
    }
}

pub(crate) async fn list_keys(cx: ProjectCx) -> Result<Json<Value>, Error> {
    let db = cx.platform().db().await?;
    let keys = store::api_key::api_key_list(&**db, &cx.project_ref).await?;
    let keys: Vec<_> = keys.into_iter().map(ApiKeyView::from).collect();
    let settings = store::settings::settings_map(&**db, &cx.project_ref).await?;
    let legacy = crate::settings::legacy_keys_enabled(&settings);
    Ok(Json(json!({ "keys": keys, "legacy_keys_enabled": legacy })))
}

pub(crate) async fn create_key(cx: ProjectCx, mut fields: Fields) -> Result<impl IntoResponse, Error> {
    let name = fields.required_text("name", 64);
    let kind_name = fields.required_text("kind", 20);
    if !name.is_empty() && (name.trim() != name || name.chars().any(char::is_control)) {
        fields.refuse("name", "must not begin or end with blanks or contain control characters");
    }
    let kind = ApiKeyKind::from_name(&kind_name);
    if kind.is_none() && !kind_name.is_empty() {
        fields.refuse("kind", "must be \"publishable\" or \"secret\"");
    }
    fields.finish()?;
    let Some(kind) = kind else { return Err(Error::invalid("kind", "is required")) };
    cx.require_present()?;

    let key = api_key::generate(kind);
    let id = cx.project_ref.as_str();
    let mut db = cx.platform().db().await?;
    let tx = db.transaction().await?;
    store::project::project_touch_in_tx(&*tx, &cx.project_ref).await?;
    if store::api_key::api_key_count(&*tx, &cx.project_ref).await? >= MOST_KEYS {
        return Err(Error::LimitReached("a project has at most 100 keys in use; revoke one first"));
    }
    let new = NewApiKey {
        project_id: id,
        name: &name,
        kind,
        prefix: shown_prefix(key.expose(), kind),
        hash: &api_key::hash(key.expose()),
    };
    let row = store::api_key::api_key_insert(&*tx, &new).await.map_err(|error| {
        if store::violates(&error, store::api_key::NAME_KEY) { Error::KeyNameTaken } else { error.into() }
    })?;
    // The first key of a kind is the one the connection page shows.
    let secret_kind = default_secret(kind);
    if !store::secret::secret_map(&*tx, id).await?.contains_key(secret_kind) {
        seal(&*tx, cx.platform(), id, secret_kind, &key).await?;
    }
    audit(&*tx, &cx, "key.create", json!({ "key_id": row.id, "name": name, "kind": kind.name() })).await?;
    tx.commit().await?;
    drop(db);
    cx.platform().directory().refresh(&cx.project_ref).await?;
    let mut view = json!(ApiKeyView::from(row));
    view["key"] = json!(key.expose());
    Ok((StatusCode::CREATED, [(CACHE_CONTROL, HeaderValue::from_static("no-store"))], Json(view)))
}

pub(crate) async fn revoke_key(cx: ProjectCx, KeyId(key_id): KeyId) -> Result<Json<Value>, Error> {
    let mut db = cx.platform().db().await?;
    let tx = db.transaction().await?;
    store::project::project_touch_in_tx(&*tx, &cx.project_ref).await?;
    let Some(row) = store::api_key::api_key_revoke(&*tx, &cx.project_ref, key_id).await? else {
        let known = store::api_key::api_key_list(&*tx, &cx.project_ref).await?.iter().any(|key| key.id == key_id);
        return Err(if known { Error::KeyRevoked } else { Error::NoSuchKey });
    };
    // A revoked key is not shown as the project's key any longer.
    if let Some(kind) = ApiKeyKind::from_name(&row.kind) {
        let secret_kind = default_secret(kind);
        let secrets = store::secret::secret_map(&*tx, cx.project_ref.as_str()).await?;
        let shown = secrets::open_kind(&cx.platform().config().master_key, &cx.project_ref, &secrets, secret_kind)
            .map_err(|error| Error::Internal(error.into()))?;
        if shown.is_some_and(|shown| api_key::hash(shown.expose()).as_slice() == row.hash) {
            store::secret::secret_delete(&*tx, cx.project_ref.as_str(), secret_kind).await?;
        }
    }
    audit(&*tx, &cx, "key.revoke", json!({ "key_id": row.id, "name": row.name })).await?;
    tx.commit().await?;
    drop(db);
    cx.platform().directory().refresh(&cx.project_ref).await?;
    Ok(Json(json!(ApiKeyView::from(row))))
}

/// Secrets that are accepted besides the present one.
const MOST_PREVIOUS_SECRETS: usize = 4;

/// A fresh JWT secret and fresh legacy keys. What the secret before it signed is accepted until it expires or
/// [`end_previous_jwt_secrets`] is called; with `end_old_tokens` it ends at once.
pub(crate) async fn rotate_jwt_secret(cx: ProjectCx, mut fields: Fields) -> Result<impl IntoResponse, Error> {
    let ends = fields.boolean("end_old_tokens").unwrap_or(false);
    fields.finish()?;
    cx.require_present()?;
    let jwt_secret = Secret::new(random::hex::<32>());
    let now = cx.platform().clock().unix_seconds();
    let keys = secrets::legacy_keys(jwt_secret.expose(), &cx.project_ref, now);
    let mut db = cx.platform().db().await?;
    let tx = db.transaction().await?;
    store::project::project_touch_in_tx(&*tx, &cx.project_ref).await?;
    let id = cx.project_ref.as_str();
    if ends {
        store::secret::secret_delete(&*tx, id, kind::PREVIOUS_JWT_SECRETS).await?;
    } else {
        let previous = previous_secrets(&*tx, &cx).await?;
        seal(&*tx, cx.platform(), id, kind::PREVIOUS_JWT_SECRETS, &previous).await?;
    }
    seal(&*tx, cx.platform(), id, kind::JWT_SECRET, &jwt_secret).await?;
    for (kind, key) in &keys {
        seal(&*tx, cx.platform(), id, kind, key).await?;
    }
    audit(&*tx, &cx, "key.rotate_jwt_secret", json!({ "end_old_tokens": ends })).await?;
    tx.commit().await?;
    drop(db);
    cx.platform().directory().refresh(&cx.project_ref).await?;
    let [(_, anon_key), (_, service_role_key)] = &keys;
    let view = json!({ "anon_key": anon_key.expose(), "service_role_key": service_role_key.expose() });
    Ok(([(CACHE_CONTROL, HeaderValue::from_static("no-store"))], Json(view)))
}

/// The secrets that are to be accepted besides a new one, as they are stored.
async fn previous_secrets(db: &impl tokio_postgres::GenericClient, cx: &ProjectCx) -> Result<Secret<String>, Error> {
    let sealed = store::secret::secret_map(db, cx.project_ref.as_str()).await?;
    let open = |kind| {
        secrets::open_kind(&cx.platform().config().master_key, &cx.project_ref, &sealed, kind)
            .map_err(|error| Error::Internal(error.into()))
    };
    let mut previous: Vec<String> = match open(kind::PREVIOUS_JWT_SECRETS)? {
        Some(json) => serde_json::from_str(json.expose()).map_err(|error| Error::Internal(error.into()))?,
        None => Vec::new(),
    };
    previous.extend(open(kind::JWT_SECRET)?.map(|secret| secret.expose().clone()));
    if previous.len() > MOST_PREVIOUS_SECRETS {
        return Err(Error::LimitReached(
            "four secrets before the present one are still accepted; end them first, or rotate with end_old_tokens",
        ));
    }
    serde_json::to_string(&previous).map(Secret::new).map_err(|error| Error::Internal(error.into()))
}

/// Tokens and legacy keys of every secret but the present one end at once.
pub(crate) async fn end_previous_jwt_secrets(cx: ProjectCx) -> Result<StatusCode, Error> {
    cx.require_present()?;
    let mut db = cx.platform().db().await?;
    let tx = db.transaction().await?;
    store::project::project_touch_in_tx(&*tx, &cx.project_ref).await?;
    store::secret::secret_delete(&*tx, cx.project_ref.as_str(), kind::PREVIOUS_JWT_SECRETS).await?;
    audit(&*tx, &cx, "key.end_previous_jwt_secrets", json!({})).await?;
    tx.commit().await?;
    drop(db);
    cx.platform().directory().refresh(&cx.project_ref).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn seal(
    db: &impl tokio_postgres::GenericClient,
    platform: &Platform,
    owner: &str,
    kind: &str,
    plain: &Secret<String>,
) -> Result<(), Error> {
    let sealed = platform.config().master_key.seal(SealContext { owner, kind }, plain.expose().as_bytes());
    Ok(store::secret::secret_put_in_tx(db, owner, kind, &sealed).await?)
}

async fn audit(
    db: &impl tokio_postgres::GenericClient,
    cx: &ProjectCx,
    action: &str,
    detail: Value,
) -> Result<(), Error> {
    let actor = cx.caller.actor();
    store::audit::audit_insert(db, &actor.entry(Some(&cx.project_ref), action, detail)).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_show_only_the_beginning() {
        let key = api_key::generate(ApiKeyKind::Secret);
        let shown = shown_prefix(key.expose(), ApiKeyKind::Secret);
        assert_eq!(shown.len(), "sb_secret_".len() + SHOWN);
        assert!(key.expose().starts_with(shown));
    }
}
