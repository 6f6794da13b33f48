//! Access keys of a project for the S3 protocol; who has one acts as `service_role`.

use axum::Json;
use axum::response::IntoResponse;
use base::random;
use base::sealed::SealContext;
use http::StatusCode;
use http::header::{CACHE_CONTROL, HeaderValue};
use serde::Serialize;
use serde_json::{Value, json};

use crate::error::Error;
use crate::request::{Fields, KeyId, ProjectCx};
use crate::secrets;
use crate::store;
use crate::store::s3_key::S3Key;
use crate::timestamp::Timestamp;

/// Keys of one project at once.
const MOST_KEYS: usize = 50;

#[derive(Serialize)]
struct S3KeyView {
    id: i64,
    name: String,
    access_key_id: String,
    created_at: Timestamp,
}

impl From<S3Key> for S3KeyView {
    fn from(key: S3Key) -> Self {
        Self { id: key.id, name: key.name, access_key_id: key.access_key_id, created_at: key.created_at }
    }
}

pub(crate) async fn list_s3_keys(cx: ProjectCx) -> Result<Json<Value>, Error> {
    let db = cx.platform().db().await?;
    let keys = store::s3_key::s3_key_list(&**db, &cx.project_ref).await?;
    let keys: Vec<_> = keys.into_iter().map(S3KeyView::from).collect();
    Ok(Json(json!({ "keys": keys, "endpoint": endpoint(&cx), "region": "us-east-1" })))
}

/// Where S3 clients of the project go.
fn endpoint(cx: &ProjectCx) -> String {
    format!("{}/p/{}/storage/v1/s3", cx.platform().config().public_url, cx.project_ref)
}

pub(crate) async fn create_s3_key(cx: ProjectCx, mut fields: Fields) -> Result<impl IntoResponse, Error> {
    let name = fields.required_text("name", 64);
    if !name.is_empty() && (name.trim() != name || name.chars().any(char::is_control)) {
        fields.refuse("name", "must not begin or end with blanks or contain control characters");
    }
    fields.finish()?;
    cx.require_present()?;

    let (access_key_id, secret) = (random::hex::<16>(), random::hex::<32>());
    let kind = secrets::s3_kind(&access_key_id);
    let context = SealContext { owner: cx.project_ref.as_str(), kind: &kind };
    let sealed = cx.platform().config().master_key.seal(context, secret.as_bytes());
    let mut db = cx.platform().db().await?;
    let tx = db.transaction().await?;
    store::project::project_touch_in_tx(&*tx, &cx.project_ref).await?;
    if store::s3_key::s3_key_list(&*tx, &cx.project_ref).await?.len() >= MOST_KEYS {
        return Err(Error::LimitReached("a project has at most 50 S3 access keys; delete one first"));
    }
    let inserted = store::s3_key::s3_key_insert(&*tx, &cx.project_ref, &name, &access_key_id, &sealed).await;
    let row = inserted.map_err(|error| match store::violates(&error, store::s3_key::NAME_KEY) {
        true => Error::KeyNameTaken,
        false => error.into(),
    })?;
    let detail = json!({ "key_id": row.id, "name": name, "access_key_id": access_key_id });
    let actor = cx.caller.actor();
    store::audit::audit_insert(&*tx, &actor.entry(Some(&cx.project_ref), "s3_key.create", detail)).await?;
    tx.commit().await?;
    drop(db);
    cx.platform().directory().refresh(&cx.project_ref).await?;
    let mut view = json!(S3KeyView::from(row));
    view["secret_access_key"] = json!(secret);
    view["endpoint"] = json!(endpoint(&cx));
    view["region"] = json!("us-east-1");
    Ok((StatusCode::CREATED, [(CACHE_CONTROL, HeaderValue::from_static("no-store"))], Json(view)))
}

pub(crate) async fn delete_s3_key(cx: ProjectCx, KeyId(key_id): KeyId) -> Result<Json<Value>, Error> {
    let mut db = cx.platform().db().await?;
    let tx = db.transaction().await?;
    store::project::project_touch_in_tx(&*tx, &cx.project_ref).await?;
    let row = store::s3_key::s3_key_delete(&*tx, &cx.project_ref, key_id).await?.ok_or(Error::NoSuchKey)?;
    let detail = json!({ "key_id": row.id, "name": row.name, "access_key_id": row.access_key_id });
    let actor = cx.caller.actor();
    store::audit::audit_insert(&*tx, &actor.entry(Some(&cx.project_ref), "s3_key.delete", detail)).await?;
    tx.commit().await?;
    drop(db);
    cx.platform().directory().refresh(&cx.project_ref).await?;
    Ok(Json(json!(S3KeyView::from(row))))
}
