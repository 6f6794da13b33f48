//! Copying an object: another name for the same content, and a row of its own.

use axum::body::Body;
use axum::response::Response;
use serde_json::{Map, Value, json};

use crate::backend::Location;
use crate::body::decoded_metadata;
use crate::change::{MOST_TRIES, Route};
use crate::content::iso_8601;
use crate::download::{find_as_caller, readable};
use crate::error::Error;
use crate::key::{Version, random_uuid};
use crate::mime;
use crate::request::{Cx, json as json_answer, read_json};
use crate::route::ObjectPath;
use crate::store::object::{self, NewObject};
use crate::upload::{commit, find_bucket, remove_quietly, size_limit};

const OPERATION: &str = "storage.object.copy";

pub(crate) async fn copy_object(cx: &Cx, body: Body) -> Result<Response, Error> {
    let route: Route = read_json(cx, body).await?;
    let (from, to) = route.ends()?;
    for _ in 0..MOST_TRIES {
        match try_copy(cx, &from, &to, &route).await {
            // The original was replaced meanwhile.
            Err(Error::FileMissing) => {}
            answer => return answer,
        }
    }
    Err(Error::Contended)
}

async fn try_copy(cx: &Cx, from: &ObjectPath, to: &ObjectPath, route: &Route) -> Result<Response, Error> {
    let found = find_as_caller(cx, &from.bucket, &from.key, OPERATION).await?.ok_or(Error::NoSuchKey)?;
    let found = readable(cx, from, found).await?;
    let bucket = find_bucket(&cx.database, &to.bucket).await?;
    let limit = size_limit(&cx.project, &bucket, &to.key);
    if found.content.size > limit {
        return Err(Error::TooLarge { limit });
    }
    cx.shared.disk.check(0)?;
    cx.shared.quotas.check(&cx.project, &cx.database, found.content.size).await?;
    let copies = route.copy_metadata.unwrap_or(true);
    let metadata = new_metadata(found.object.metadata.clone().unwrap_or_default(), route, copies, cx);
    let mime_type = metadata.get("mimetype").and_then(Value::as_str).unwrap_or_default();
    mime::check_storable(mime_type)?;
    mime::check_allowed(mime_type, bucket.allowed_mime_types.as_deref().unwrap_or_default())?;
    let metadata = Value::Object(metadata);
    let user_metadata = match copies {
        true => found.object.user_metadata.clone(),
        false => cx.header("x-metadata").and_then(decoded_metadata),
    };
    let (id, upsert) = (random_uuid(), cx.wants_upsert());
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
    let statement = if upsert { object::object_upsert(&new) } else { object::object_insert(&new) };
    let (shared, project, database) = (cx.shared.clone(), cx.project.clone(), cx.database.clone());
    let (session, source, size) = (cx.session(OPERATION), found.location.clone(), found.content.size);
    let version = place.version.as_str().to_owned();
    // Goes on when the client hangs up, so that no file is left without a row.
    let copying = cx.shared.config.tasks.spawn(async move {
        let (rows, transaction) = database.begin(&session, vec![statement]).await?;
        let id = rows.first().and_then(|rows| rows.rows.first()?.text(0).map(str::to_owned)).unwrap_or(id);
        if let Err(error) = shared.config.backend.copy(&source, &place).await {
            drop(transaction);
            remove_quietly(&shared, &place).await;
            return Err(Error::from(error));
        }
        commit(&shared, transaction, &place).await?;
        shared.quotas.add(&project.project_ref, size);
        if upsert {
            shared.sweep(&project, &database);
        }
        Ok(id)
    });
    let id = copying.await.map_err(|_| Error::Internal("a copy was aborted"))??;
    json_answer(&json!({
        "Id": id,
        "Key": format!("{}/{}", to.bucket, to.key),
        "id": id,
        "name": to.key.as_str(),
        "bucket_id": to.bucket.as_str(),
        "owner": cx.owner.clone().unwrap_or_default(),
        "owner_id": cx.owner.clone().unwrap_or_default(),
        "version": version,
        "metadata": metadata,
        "user_metadata": user_metadata,
    }))
}

/// What the new row says of its content.
fn new_metadata(mut metadata: Map<String, Value>, route: &Route, copies: bool, cx: &Cx) -> Map<String, Value> {
    if !copies && let Some(new) = &route.metadata {
        if let Some(text) = &new.cache_control {
            metadata.insert("cacheControl".to_owned(), text.clone().into());
        }
        if let Some(text) = &new.mimetype {
            metadata.insert("mimetype".to_owned(), text.clone().into());
        }
    }
    metadata.insert("lastModified".to_owned(), iso_8601(cx.shared.config.clock.unix_seconds()).into());
    metadata
}
