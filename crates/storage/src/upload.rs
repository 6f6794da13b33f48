//! The way of a content into the store: may it come, how large may it be, receive it, give it a place, make its row.
//!
//! The order keeps row and file together: policies are asked, the content gets its place under a version that nobody knows
//! yet, which outlives a crash from then on, and the row is inserted as the caller in one short transaction, where policies
//! decide. Whoever reads sees the old version until then and the new one after. A crash in between leaves a file without a
//! row, which nobody sees and [`crate::reconcile`] removes. No transaction waits for a disk, a network or a client.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use base::Project;
use pg::Rows;
use serde_json::{Value, json};

use crate::Shared;
use crate::backend::{Digest, Location, StagedFile};
use crate::body::Upload;
use crate::content::{self, ContentInfo};
use crate::database::{Database, Session};
use crate::disk::Promise;
use crate::error::Error;
use crate::key::{BucketId, ObjectKey, Version, random_uuid};
use crate::mime;
use crate::quota::{Share, UploadSlot};
use crate::request::{Cx, json as json_answer};
use crate::route::ObjectPath;
use crate::store;
use crate::store::bucket::{self, Bucket};
use crate::store::object::{self, NewObject, Overwrite};

/// Of contents up to this many bytes whoever is bound by no policy is not asked before they come; a transaction less for each.
const SMALL: u64 = 64 * 1024;
/// How often an upload of unknown length looks at the disk, in bytes.
const LOOK_AT_DISK: u64 = 8 * 1024 * 1024;

/// Where an upload goes and with what right.
pub(crate) struct Target {
    pub(crate) at: ObjectPath,
    pub(crate) overwrite: Overwrite,
    pub(crate) owner: Option<String>,
    pub(crate) session: Session,
}

/// What became of an upload.
#[derive(Debug)]
pub(crate) struct Stored {
    /// The row's id.
    pub(crate) id: String,
    /// With its quotes.
    pub(crate) etag: String,
}

pub(crate) async fn upload_object(cx: &Cx, at: ObjectPath, update: bool, body: Body) -> Result<Response, Error> {
    let operation = if update { "storage.object.upload_update" } else { "storage.object.upload" };
    let target = Target {
        at,
        overwrite: Overwrite::if_wanted(update || cx.wants_upsert()),
        owner: cx.owner.clone(),
        session: cx.session(operation),
    };
    let key = format!("{}/{}", target.at.bucket, target.at.key);
    let stored = receive(cx, target, body).await?;
    json_answer(&json!({"Id": stored.id, "Key": key}))
}

/// Receives a content and stores it.
pub(crate) async fn receive(cx: &Cx, target: Target, body: Body) -> Result<Stored, Error> {
    let mut upload = Upload::open(cx, body).await?;
    receive_upload(cx, target, &mut upload).await
}

/// The same for an upload that was opened.
pub(crate) async fn receive_upload(cx: &Cx, target: Target, upload: &mut Upload) -> Result<Stored, Error> {
    let slot = cx.shared.uploads.enter(&cx.project.project_ref)?;
    let bucket = find_bucket(&cx.database, &target.at.bucket).await?;
    let limit = size_limit(&cx.project, &bucket, &target.at.key);
    let allowed = bucket.allowed_mime_types.unwrap_or_default();
    mime::check_storable(&upload.info.mime_type)?;
    let sniffs = !allowed.is_empty() && !target.at.key.is_empty_folder();
    if sniffs {
        mime::check_allowed(&upload.info.mime_type, &allowed)?;
    }
    let mut share = check_room(cx, upload.length, upload.body_length, limit).await?;
    let small = upload.length.is_some_and(|length| length <= SMALL);
    if !small || !cx.is_service_role() {
        let permit = Permit {
            at: &target.at,
            overwrite: &target.overwrite,
            owner: target.owner.as_deref(),
            info: &upload.info,
            user_metadata: upload.user_metadata.as_ref(),
            length: upload.length,
        };
        permit.ask(&cx.database, &target.session).await?;
    }
    let (mut staged, promise) = stage(cx, upload, limit, &mut share).await?;
    if sniffs {
        mime::check_content(&upload.info.mime_type, &staged.head(mime::SNIFFED).await?, &allowed)?;
    }
    let finish = Finish {
        shared: cx.shared.clone(),
        project: cx.project.clone(),
        database: cx.database.clone(),
        target,
        info: upload.info.clone(),
        user_metadata: upload.user_metadata.take(),
        parts: None,
        version: Version::generate(),
        places: Places { _slot: slot, _promise: promise, share: Some(share) },
    };
    finish.detached(staged).await
}

/// Whether there may be room for an upload, by what it says of the content's length and of its body's.
/// What was promised is kept while the upload is under way.
pub(crate) async fn check_room(cx: &Cx, length: Option<u64>, body: Option<u64>, limit: u64) -> Result<Share, Error> {
    if length.is_some_and(|length| length > limit) {
        return Err(Error::TooLarge { limit });
    }
    cx.shared.disk.check(body.unwrap_or_default().min(limit))?;
    cx.shared.promise(&cx.project, &cx.database, length.unwrap_or_default()).await
}

/// Receives a content of at most `limit` bytes, and the room on the disk that it was promised. The project's `share` grows
/// with a content whose length nobody said.
pub(crate) async fn stage(
    cx: &Cx,
    upload: &mut Upload,
    limit: u64,
    share: &mut Share,
) -> Result<(StagedFile, Promise), Error> {
    let disk = &cx.shared.disk;
    let mut staged = cx.shared.config.staging.begin(&cx.project.project_ref, upload.hash);
    let mut promise = disk.promise(upload.length.unwrap_or(LOOK_AT_DISK).min(limit))?;
    let mut looked = 0;
    while let Some(piece) = upload.next().await? {
        let size = staged.size() + piece.len() as u64;
        if size > limit {
            return Err(Error::TooLarge { limit });
        }
        staged.write(piece).await?;
        if size >= looked + LOOK_AT_DISK {
            // Of an upload without a length as much again may come.
            let more = if upload.length.is_some() { 0 } else { size - looked };
            disk.wrote(&mut promise, size - looked, more)?;
            if more > 0 {
                share.absorb(cx.shared.promise(&cx.project, &cx.database, more).await?);
            }
            looked = size;
        }
    }
    Ok((staged, promise))
}

/// The bucket as the service sees it.
pub(crate) async fn find_bucket(database: &Database, id: &BucketId) -> Result<Bucket, Error> {
    let rows = database.look_up(bucket::bucket_find(id)).await?;
    let Some(row) = rows.rows.first() else { return Err(Error::NoSuchBucket) };
    store::json(row, 0)?.ok_or(Error::NoSuchBucket)
}

/// Largest content, in bytes.
pub(crate) fn size_limit(project: &Project, bucket: &Bucket, key: &ObjectKey) -> u64 {
    if key.is_empty_folder() {
        return 0;
    }
    let own = project.storage.file_size_limit;
    bucket.file_size_limit.map_or(own, |limit| limit.min(own))
}

/// A question to the policies: may this come? Nothing stays of it.
pub(crate) struct Permit<'a> {
    pub(crate) at: &'a ObjectPath,
    pub(crate) overwrite: &'a Overwrite,
    pub(crate) owner: Option<&'a str>,
    pub(crate) info: &'a ContentInfo,
    pub(crate) user_metadata: Option<&'a Value>,
    pub(crate) length: Option<u64>,
}

impl Permit<'_> {
    pub(crate) async fn ask(&self, database: &Database, session: &Session) -> Result<(), Error> {
        let metadata = content::announced(self.info, self.length);
        let new = NewObject {
            id: &random_uuid(),
            bucket: &self.at.bucket,
            key: &self.at.key,
            version: &Version::generate(),
            owner: self.owner,
            metadata: &metadata,
            user_metadata: self.user_metadata,
        };
        let write = object::object_write(&new, self.overwrite);
        let (rows, transaction) = database.begin(session, vec![write]).await?;
        transaction.rollback().await?;
        check_replaced(self.overwrite, &rows)
    }
}

/// Whether there was what was to be replaced.
pub(crate) fn check_replaced(overwrite: &Overwrite, rows: &[Rows]) -> Result<(), Error> {
    match overwrite {
        Overwrite::Only(_) if rows.first().is_none_or(|rows| rows.rows.is_empty()) => Err(Error::PreconditionFailed),
        _ => Ok(()),
    }
}

/// The end of an upload, which goes on when the client hangs up.
pub(crate) struct Finish {
    pub(crate) shared: Arc<Shared>,
    pub(crate) project: Arc<Project>,
    pub(crate) database: Database,
    pub(crate) target: Target,
    pub(crate) info: ContentInfo,
    pub(crate) user_metadata: Option<Value>,
    /// The entity tag (with its quotes) of a content that came in parts of the S3 protocol.
    pub(crate) parts: Option<String>,
    pub(crate) version: Version,
    /// Kept to the end of the work, which may be after the request's.
    pub(crate) places: Places,
}

/// What an upload takes from others while it is under way.
pub(crate) struct Places {
    pub(crate) _slot: UploadSlot,
    pub(crate) _promise: Promise,
    /// Of the project's room; none where the bytes are counted already.
    pub(crate) share: Option<Share>,
}

impl Finish {
    /// Runs to its end whether or not somebody waits for it.
    pub(crate) async fn detached(self, staged: StagedFile) -> Result<Stored, Error> {
        let tasks = self.shared.config.tasks.clone();
        match tasks.spawn(self.run(staged)).await {
            Ok(stored) => stored,
            Err(_) => Err(Error::Internal("the end of an upload was aborted")),
        }
    }

    async fn run(mut self, mut staged: StagedFile) -> Result<Stored, Error> {
        let digest = staged.digest().await?;
        // The length may not have been known before.
        if self.places.share.take().is_some() {
            self.places.share = Some(self.shared.promise(&self.project, &self.database, digest.size).await?);
        }
        let location = self.location();
        let _pending = self.shared.pending.enter(&location.version);
        if let Err(error) = self.shared.backend.put(staged, &location).await {
            remove_quietly(&self.shared, &location).await;
            return Err(error.into());
        }
        // It counts by its file from here on.
        self.places.share = None;
        self.record(&digest, &location).await
    }

    /// Where the content goes.
    pub(crate) fn location(&self) -> Location {
        Location {
            project: self.project.project_ref.clone(),
            bucket: self.target.at.bucket.clone(),
            key: self.target.at.key.clone(),
            version: self.version.clone(),
        }
    }

    /// Makes the row of a content that has its place.
    pub(crate) async fn record(&self, digest: &Digest, location: &Location) -> Result<Stored, Error> {
        let mut metadata = content::metadata(&self.info, digest, self.shared.config.clock.unix_seconds());
        let mut etag = digest.etag();
        if let Some(of_parts) = &self.parts {
            metadata.insert("eTag".to_owned(), of_parts.as_str().into());
            etag.clone_from(of_parts);
        }
        let metadata = Value::Object(metadata);
        let id = random_uuid();
        let new = NewObject {
            id: &id,
            bucket: &location.bucket,
            key: &location.key,
            version: &location.version,
            owner: self.target.owner.as_deref(),
            metadata: &metadata,
            user_metadata: self.user_metadata.as_ref(),
        };
        let overwrite = &self.target.overwrite;
        let statement = object::object_write(&new, overwrite);
        let written = self.database.write(&self.target.session, vec![statement]).await;
        let rows = settle(&self.shared, location, written, |rows| check_replaced(overwrite, rows)).await?;
        // Overwriting keeps the id.
        let id = rows.first().and_then(|rows| rows.rows.first()?.text(0).map(str::to_owned)).unwrap_or(id);
        if *overwrite != Overwrite::Nothing {
            self.shared.sweep(&self.project.project_ref, &self.database);
        }
        Ok(Stored { id, etag })
    }
}

/// What became of the row of a content that has its place; the place is taken away when there is no row.
pub(crate) async fn settle(
    shared: &Arc<Shared>,
    location: &Location,
    written: Result<Vec<Rows>, Error>,
    check: impl Fn(&[Rows]) -> Result<(), Error>,
) -> Result<Vec<Rows>, Error> {
    let outcome = written.and_then(|rows| check(&rows).map(|()| rows));
    if let Err(error) = &outcome
        && !error.is_undecided()
    {
        remove_quietly(shared, location).await;
    }
    outcome
}

/// Takes away a content that no row means; what fails is left for the reconciler.
pub(crate) async fn remove_quietly(shared: &Arc<Shared>, location: &Location) {
    if let Err(error) = shared.backend.remove(location).await {
        tracing::warn!(project.r#ref = %location.project, cause = %web::error::chain(&error), "a file stays without a row");
    }
}
