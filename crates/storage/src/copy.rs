//! Copying an object: another name for the same content, and a row of its own.

use axum::body::Body;
use axum::response::Response;
use serde_json::{Map, Value, json};

use crate::backend::Location;
use crate::body::decoded_metadata;
use crate::change::{MOST_TRIES, Route};
use crate::content::{ContentHeaders, iso_8601};
use crate::download::{Readable, find_as_caller, readable};
use crate::error::Error;
use crate::key::{Version, random_uuid};
use crate::mime;
use crate::request::{Cx, json as json_answer, read_json};
use crate::route::ObjectPath;
use crate::store::object::{self, NewObject, Overwrite};
use crate::upload::{check_replaced, find_bucket, remove_quietly, settle, size_limit};

const OPERATION: &str = "storage.object.copy";

pub(crate) async fn copy_object(cx: &Cx, body: Body) -> Result<Response, Error> {
    let route: Route = read_json(cx, body).await?;
    let (from, to) = route.ends()?;
    let copies = route.copy_metadata.unwrap_or(true);
    let new = (!copies).then(|| route.metadata.clone().unwrap_or_default());
    let params = CopyParams {
        operation: OPERATION,
        overwrite: Overwrite::if_wanted(cx.wants_upsert()),
        cache_control: new.as_ref().and_then(|new| new.cache_control.clone()),
        mime_type: new.and_then(|new| new.mimetype),
        headers: None,
        user_metadata: (!copies).then(|| cx.header("x-metadata").and_then(decoded_metadata)),
    };
    let copied = copy(cx, &from, &to, &params, |_| Ok(())).await?;
    json_answer(&json!({
        "Id": copied.id,
        "Key": format!("{}/{}", to.bucket, to.key),
        "id": copied.id,
        "name": to.key.as_str(),
        "bucket_id": to.bucket.as_str(),
        "owner": cx.owner.clone().unwrap_or_default(),
        "owner_id": cx.owner.clone().unwrap_or_default(),
        "version": copied.version,
        "metadata": copied.metadata,
        "user_metadata": copied.user_metadata,
    }))
}

/// How a copy is made.
pub(crate) struct CopyParams {
    /// What policies read as `storage.operation()`.
    pub(crate) operation: &'static str,
    pub(crate) overwrite: Overwrite,
    /// In place of what the original says.
    pub(crate) cache_control: Option<String>,
    pub(crate) mime_type: Option<String>,
    pub(crate) headers: Option<ContentHeaders>,
    pub(crate) user_metadata: Option<Option<Value>>,
}

/// What became of a copy: its row.
pub(crate) struct Copied {
    pub(crate) id: String,
    pub(crate) version: String,
    pub(crate) metadata: Value,
    pub(crate) user_metadata: Option<Value>,
}

/// Copies an object that the caller may read and that `check` lets pass.
pub(crate) async fn copy(
    cx: &Cx,
    from: &ObjectPath,
    to: &ObjectPath,
    params: &CopyParams,
    check: impl Fn(&Readable) -> Result<(), Error>,
) -> Result<Copied, Error> {
    for _ in 0..MOST_TRIES {
        let found = find_as_caller(cx, &from.bucket, &from.key, params.operation).await?.ok_or(Error::NoSuchKey)?;
        let found = readable(cx, from, found).await?;
        check(&found)?;
        match try_copy(cx, found, to, params).await {
            // The original was replaced meanwhile.
            Err(Error::FileMissing) => {}
            answer => return answer,
        }
    }
    Err(Error::Contended)
}

async fn try_copy(cx: &Cx, found: Readable, to: &ObjectPath, params: &CopyParams) -> Result<Copied, Error> {
    let bucket = find_bucket(&cx.database, &to.bucket).await?;
    let limit = size_limit(&cx.project, &bucket, &to.key);
    if found.content.size > limit {
        return Err(Error::TooLarge { limit });
    }
    cx.shared.disk.check(0)?;
    let share = cx.shared.promise(&cx.project, &cx.database, found.content.size).await?;
    let metadata = new_metadata(found.object.metadata.unwrap_or_default(), params, cx);
    let mime_type = metadata.get("mimetype").and_then(Value::as_str).unwrap_or_default();
    mime::check_storable(mime_type)?;
    mime::check_allowed(mime_type, bucket.allowed_mime_types.as_deref().unwrap_or_default())?;
    let metadata = Value::Object(metadata);
    let user_metadata = params.user_metadata.clone().unwrap_or(found.object.user_metadata);
    let (id, overwrite) = (random_uuid(), params.overwrite.clone());
    let place = Location {
        project: cx.project.project_ref.clone(),
        bucket: to.bucket.clone(),
        key: to.key.clone(),
        version: Version::generate(),
    };
    let new = NewObject {
        id: &id,
        bucket: &to.bucket,
        key: &to.key,
        version: &place.version,
        owner: cx.owner.as_deref(),
        metadata: &metadata,
        user_metadata: user_metadata.as_ref(),
    };
    let statement = object::object_write(&new, &overwrite);
    let (shared, project, database) = (cx.shared.clone(), cx.project.clone(), cx.database.clone());
    let (session, source) = (cx.session(params.operation), found.location);
    let version = place.version.as_str().to_owned();
    // Who may not would have the store copy for nothing.
    let asked = database.begin(&session, vec![statement.clone()]).await?;
    asked.1.rollback().await?;
    check_replaced(&overwrite, &asked.0)?;
    // Goes on when the client hangs up, so that no file is left without a row.
    let copying = cx.shared.config.tasks.spawn(async move {
        let _pending = shared.pending.enter(&place.version);
        if let Err(error) = shared.backend.copy(&source, &place).await {
            remove_quietly(&shared, &place).await;
            return Err(Error::from(error));
        }
        drop(share);
        let written = database.write(&session, vec![statement]).await;
        let rows = settle(&shared, &place, written, |rows| check_replaced(&overwrite, rows)).await?;
        let id = rows.first().and_then(|rows| rows.rows.first()?.text(0).map(str::to_owned)).unwrap_or(id);
        if overwrite != Overwrite::Nothing {
            shared.sweep(&project.project_ref, &database);
        }
        Ok(id)
    });
    let id = copying.await.map_err(|_| Error::Internal("a copy was aborted"))??;
    Ok(Copied { id, version, metadata, user_metadata })
}

/// What the new row says of its content.
fn new_metadata(mut metadata: Map<String, Value>, params: &CopyParams, cx: &Cx) -> Map<String, Value> {
    if let Some(text) = &params.cache_control {
        metadata.insert("cacheControl".to_owned(), text.clone().into());
    }
    if let Some(text) = &params.mime_type {
        metadata.insert("mimetype".to_owned(), text.clone().into());
    }
    if let Some(headers) = &params.headers {
        headers.write(&mut metadata);
    }
    metadata.insert("lastModified".to_owned(), iso_8601(cx.shared.config.clock.unix_seconds()).into());
    metadata
}
