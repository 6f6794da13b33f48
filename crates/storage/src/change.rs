//! Moving an object: its content gets a second name, the row changes as the caller, the first name goes.

use axum::body::Body;
use axum::response::Response;
use pg::Rows;
use serde::Deserialize;
use serde_json::json;

use crate::backend::Location;
use crate::download::{Readable, find_as_caller, readable};
use crate::error::Error;
use crate::key::{BucketId, ObjectKey, Version};
use crate::mime;
use crate::request::{Cx, json as json_answer, read_json};
use crate::route::ObjectPath;
use crate::store::object::{self, Move};
use crate::upload::{find_bucket, remove_quietly, settle, size_limit};

/// How often a move or copy begins anew when the object is replaced meanwhile.
pub(crate) const MOST_TRIES: usize = 4;

/// From where to where.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Route {
    bucket_id: String,
    source_key: String,
    destination_bucket: Option<String>,
    destination_key: String,
    /// Copies only: whether what is said of the content goes along.
    pub(crate) copy_metadata: Option<bool>,
    /// Copies only: what is said of the new one.
    pub(crate) metadata: Option<NewInfo>,
}

/// What a copy says of its content in place of what the original says.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NewInfo {
    pub(crate) cache_control: Option<String>,
    pub(crate) mimetype: Option<String>,
}

impl Route {
    pub(crate) fn ends(&self) -> Result<(ObjectPath, ObjectPath), Error> {
        let path = |bucket: &str, key: &str| -> Result<ObjectPath, Error> {
            Ok(ObjectPath {
                bucket: BucketId::parse(bucket).ok_or(Error::InvalidBucketName)?,
                key: ObjectKey::parse(key).ok_or_else(|| Error::InvalidKey(key.chars().take(200).collect()))?,
            })
        };
        let destination = self.destination_bucket.as_ref().filter(|bucket| !bucket.is_empty());
        let to = path(destination.unwrap_or(&self.bucket_id), &self.destination_key)?;
        Ok((path(&self.bucket_id, &self.source_key)?, to))
    }
}

pub(crate) async fn move_object(cx: &Cx, body: Body) -> Result<Response, Error> {
    let route: Route = read_json(cx, body).await?;
    let (from, to) = route.ends()?;
    for _ in 0..MOST_TRIES {
        match try_move(cx, &from, &to).await {
            // Replaced meanwhile.
            Err(Error::Contended | Error::FileMissing) => {}
            Err(error) => return Err(error),
            Ok(id) => {
                return json_answer(&json!({"message": "Successfully moved", "Id": id, "Key": to.key.as_str()}));
            }
        }
    }
    Err(Error::Contended)
}

/// What the destination's bucket takes of an upload it takes of a move.
async fn check_destination(cx: &Cx, found: &Readable, to: &ObjectPath) -> Result<(), Error> {
    if found.location.bucket == to.bucket {
        return Ok(());
    }
    let bucket = find_bucket(&cx.database, &to.bucket).await?;
    let limit = size_limit(&cx.project, &bucket, &to.key);
    if found.content.size > limit {
        return Err(Error::TooLarge { limit });
    }
    mime::check_allowed(&found.content.mime_type, bucket.allowed_mime_types.as_deref().unwrap_or_default())
}

async fn try_move(cx: &Cx, from: &ObjectPath, to: &ObjectPath) -> Result<String, Error> {
    const OPERATION: &str = "storage.object.move";
    let found = find_as_caller(cx, &from.bucket, &from.key, OPERATION).await?.ok_or(Error::NoSuchKey)?;
    let found = readable(cx, from, found).await?;
    if from == to {
        return Ok(found.object.id);
    }
    let place = Location {
        project: cx.project.project_ref.clone(),
        bucket: to.bucket.clone(),
        key: to.key.clone(),
        version: Version::generate(),
    };
    let moved = Move {
        from: (&from.bucket, &from.key),
        version: &found.location.version,
        to: (&to.bucket, &to.key),
        new_version: &place.version,
        owner: cx.owner.as_deref(),
    };
    check_destination(cx, &found, to).await?;
    let (shared, project, database) = (cx.shared.clone(), cx.project.clone(), cx.database.clone());
    let (session, update) = (cx.session(OPERATION), object::object_move(&moved));
    let source = found.location.clone();
    let is_there = |rows: &[Rows]| match rows.first().is_none_or(|rows| rows.rows.is_empty()) {
        true => Err(Error::Contended),
        false => Ok(()),
    };
    // Who may not would have the store copy for nothing.
    let asked = database.begin(&session, vec![update.clone()]).await?;
    asked.1.rollback().await?;
    // Goes on when the client hangs up, so that no file is left without a row.
    let moving = cx.shared.config.tasks.spawn(async move {
        is_there(&asked.0)?;
        let _pending = shared.pending.enter(&place.version);
        if let Err(error) = shared.backend.copy(&source, &place).await {
            remove_quietly(&shared, &place).await;
            return Err(Error::from(error));
        }
        let written = database.write(&session, vec![update]).await;
        settle(&shared, &place, written, is_there).await?;
        shared.sweep(&project.project_ref, &database);
        Ok(())
    });
    match moving.await {
        Ok(Ok(())) => Ok(found.object.id),
        Ok(Err(Error::Contended)) => {
            // Refused, or not the same content any more.
            let now = find_as_caller(cx, &from.bucket, &from.key, OPERATION).await?;
            let same = now.is_some_and(|now| now.version == found.object.version);
            Err(if same { Error::denied() } else { Error::Contended })
        }
        Ok(Err(error)) => Err(error),
        Err(_) => Err(Error::Internal("a move was aborted")),
    }
}
