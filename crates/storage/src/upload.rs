//! The way of a content into the store: may it come, how large may it be, receive it, give it a place, make its row.
//!
//! The order keeps row and file together: the row is inserted as the caller in a transaction (policies decide), the
//! content gets its place, which outlives a crash from then on, and the transaction is committed. Whoever reads sees the
//! old version until then and the new one after. A crash in between leaves a file without a row, which nobody sees and
//! [`crate::reconcile`] removes.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use base::Project;
use pg::Rows;
use serde_json::{Value, json};

use crate::Shared;
use crate::backend::{Location, StagedFile};
use crate::body::Upload;
use crate::content::{self, ContentInfo};
use crate::database::{Database, Session};
use crate::error::Error;
use crate::key::{BucketId, ObjectKey, Version, random_uuid};
use crate::mime;
use crate::request::{Cx, json as json_answer};
use crate::route::ObjectPath;
use crate::store;
use crate::store::bucket::{self, Bucket};
use crate::store::object::{self, NewObject, Overwrite};

/// Contents up to this many bytes are received before anybody is asked; a transaction less for each.
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
    let _slot = cx.shared.uploads.enter(&cx.project.project_ref)?;
    let bucket = find_bucket(&cx.database, &target.at.bucket).await?;
    let limit = size_limit(&cx.project, &bucket, &target.at.key);
    let allowed = bucket.allowed_mime_types.unwrap_or_default();
    mime::check_storable(&upload.info.mime_type)?;
    let sniffs = !allowed.is_empty() && !target.at.key.is_empty_folder();
    if sniffs {
        mime::check_allowed(&upload.info.mime_type, &allowed)?;
    }
    check_room(cx, upload.length, upload.body_length, limit).await?;
    let small = upload.length.is_some_and(|length| length <= SMALL);
    if !small {
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
    let mut staged = stage(cx, upload, limit).await?;
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
    };
    finish.detached(staged).await
}

/// Whether there may be room for an upload, by what it says of the content's length and of its body's.
pub(crate) async fn check_room(cx: &Cx, length: Option<u64>, body: Option<u64>, limit: u64) -> Result<(), Error> {
    if length.is_some_and(|length| length > limit) {
        return Err(Error::TooLarge { limit });
    }
    cx.shared.disk.check(body.unwrap_or_default().min(limit))?;
    cx.shared.quotas.check(&cx.project, &cx.database, length.unwrap_or_default()).await
}

/// Receives a content of at most `limit` bytes.
pub(crate) async fn stage(cx: &Cx, upload: &mut Upload, limit: u64) -> Result<StagedFile, Error> {
    let mut staged = cx.shared.config.staging.begin(&cx.project.project_ref);
    let mut looked = 0;
    while let Some(piece) = upload.next().await? {
        let size = staged.size() + piece.len() as u64;
        if size > limit {
            return Err(Error::TooLarge { limit });
        }
        if size >= looked + LOOK_AT_DISK {
            looked = size;
            cx.shared.disk.check(0)?;
        }
        staged.write(piece).await?;
    }
    Ok(staged)
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

    async fn run(self, mut staged: StagedFile) -> Result<Stored, Error> {
        let digest = staged.digest().await?;
        self.shared.quotas.check(&self.project, &self.database, digest.size).await?;
        // What is large is on the disk before the transaction begins, which then is short.
        staged.sync().await?;
        let mut metadata = content::metadata(&self.info, &digest, self.shared.config.clock.unix_seconds());
        let mut etag = digest.etag();
        if let Some(of_parts) = self.parts {
            metadata.insert("eTag".to_owned(), of_parts.as_str().into());
            metadata.insert("contentMd5".to_owned(), std::mem::replace(&mut etag, of_parts).into());
        }
        let metadata = Value::Object(metadata);
        let location = Location {
            project: self.project.project_ref.clone(),
            bucket: self.target.at.bucket.clone(),
            key: self.target.at.key.clone(),
            version: Version::generate(),
        };
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
        let statement = object::object_write(&new, &self.target.overwrite);
        let (rows, transaction) = self.database.begin(&self.target.session, vec![statement]).await?;
        check_replaced(&self.target.overwrite, &rows)?;
        // Overwriting keeps the id.
        let id = rows.first().and_then(|rows| rows.rows.first()?.text(0).map(str::to_owned)).unwrap_or(id);
        let backend = &self.shared.config.backend;
        if let Err(error) = backend.put(staged, &location).await {
            // The transaction is rolled back when it is dropped.
            drop(transaction);
            remove_quietly(&self.shared, &location).await;
            return Err(error.into());
        }
        commit(&self.shared, transaction, &location).await?;
        self.shared.quotas.add(&self.project.project_ref, digest.size);
        if self.target.overwrite != Overwrite::Nothing {
            self.shared.sweep(&self.project, &self.database);
        }
        Ok(Stored { id, etag })
    }
}

/// Commits the row of a content that has its place, and takes the place away when there is no row.
pub(crate) async fn commit(
    shared: &Arc<Shared>,
    transaction: pg::OpenTransaction,
    location: &Location,
) -> Result<(), Error> {
    match transaction.commit().await {
        Ok(()) => Ok(()),
        Err(error) => {
            // Only PostgreSQL's own word says that there is no row; a lost connection leaves it open.
            if matches!(error, pg::Error::Db(_)) {
                remove_quietly(shared, location).await;
            }
            Err(error.into())
        }
    }
}

/// Takes away a content that no row means; what fails is left for the reconciler.
pub(crate) async fn remove_quietly(shared: &Arc<Shared>, location: &Location) {
    if let Err(error) = shared.config.backend.remove(location).await {
        tracing::warn!(project.r#ref = %location.project, cause = %web::error::chain(&error), "a file stays without a row");
    }
}
