//! Resumable uploads: TUS 1.0 with creation, creation-with-upload, creation-defer-length, expiration and termination.
//!
//! An upload belongs to who made it. Policies are asked when it is made, at each piece, and decide at its end, when the
//! object's row is inserted.

pub(crate) mod header;
mod lock;
mod open_uploads;
pub(crate) mod record;

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use base::random;
use http::{HeaderName, HeaderValue, Method, StatusCode, header as names};

use crate::Shared;
use crate::backend::{BackendError, StagedFile, blocking};
use crate::body::next_piece;
use crate::conditional::http_date;
use crate::database::Session;
use crate::error::Error;
use crate::mime;
use crate::quota::{Share, UploadSlot};
use crate::request::{Cx, set};
use crate::route::ObjectPath;
use crate::sign;
use crate::store;
use crate::store::object::{self, Object, Overwrite};
use crate::upload::{Finish, Permit, Places, Target, find_bucket, size_limit};

use self::lock::UploadLock;
pub(crate) use self::lock::UploadLocks;
use self::open_uploads::NewUpload;
pub(crate) use self::open_uploads::OpenUploads;
use self::record::{Folder, Record, is_id};

const VERSION: &str = "1.0.0";
const EXTENSIONS: &str = "creation,creation-with-upload,creation-defer-length,expiration,termination";
/// Seconds that an upload lasts from its last piece on.
const LIFETIME: i64 = 24 * 3600;
/// Uploads of one owner may become one part of so many of what the project may have.
const OWNERS_PART: u64 = 10;
/// How often a piece without an announced length looks at the disk, in bytes.
const LOOK_AT_DISK: u64 = 8 * 1024 * 1024;

const TUS_RESUMABLE: HeaderName = HeaderName::from_static("tus-resumable");
const UPLOAD_OFFSET: HeaderName = HeaderName::from_static("upload-offset");
const UPLOAD_LENGTH: HeaderName = HeaderName::from_static("upload-length");
const UPLOAD_EXPIRES: HeaderName = HeaderName::from_static("upload-expires");

/// What the server can do, for whoever asks.
pub(crate) fn options() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert("tus-version", HeaderValue::from_static(VERSION));
    headers.insert("tus-extension", HeaderValue::from_static(EXTENSIONS));
    headers.insert(TUS_RESUMABLE, HeaderValue::from_static(VERSION));
    response
}

pub(crate) async fn handle(cx: Cx, signed: bool, id: Option<String>, body: Body) -> Response {
    let cx = Arc::new(cx);
    let mut response = match Box::pin(answer(&cx, signed, id, body)).await {
        Ok(response) => response,
        Err(error) => {
            let mut response = error.respond_tus();
            if matches!(error, Error::TusVersion) {
                response.headers_mut().insert("tus-version", HeaderValue::from_static(VERSION));
            }
            response
        }
    };
    let headers = response.headers_mut();
    headers.insert(TUS_RESUMABLE, HeaderValue::from_static(VERSION));
    headers.insert(names::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn answer(cx: &Arc<Cx>, signed: bool, id: Option<String>, body: Body) -> Result<Response, Error> {
    if cx.header("tus-resumable") != Some(VERSION) {
        return Err(Error::TusVersion);
    }
    // Some networks let only GET and POST through.
    let method = match cx.header("x-http-method-override") {
        Some(method) if cx.parts.method == Method::POST => {
            Method::from_bytes(method.as_bytes()).map_err(|_| Error::MethodNotAllowed)?
        }
        _ => cx.parts.method.clone(),
    };
    match (&method, id) {
        (&Method::POST, None) => create(cx, signed, body).await,
        (&Method::HEAD | &Method::PATCH | &Method::DELETE, Some(id)) => {
            if !is_id(&id) {
                return Err(Error::NoSuchUpload);
            }
            // Strangers do not end whose request is under way.
            Upload::find(cx, signed, id.clone()).await?;
            let lock = cx.shared.resumable.acquire(&name(cx, &id)).await?;
            let upload = Upload::find(cx, signed, id).await?;
            if upload.record.expires < cx.shared.config.clock.unix_seconds() {
                discard(cx, &upload.folder, &upload.id).await?;
                return Err(Error::UploadExpired);
            }
            match method {
                Method::HEAD => upload.tell(lock).await,
                Method::PATCH => upload.take(lock, body).await,
                _ => upload.end().await,
            }
        }
        _ => Err(Error::MethodNotAllowed),
    }
}

/// By which right an upload goes on.
struct Right {
    session: Session,
    owner: Option<String>,
    overwrite: Overwrite,
}

impl Right {
    fn of(cx: &Cx, signed: bool, at: &ObjectPath, operation: &'static str) -> Result<Self, Error> {
        if signed {
            let token = cx.header("x-signature").ok_or(Error::InvalidSignature("Missing x-signature header"))?;
            let right = sign::check_upload(cx, token, at)?;
            return Ok(Self {
                session: Session::admin(operation),
                owner: right.owner,
                overwrite: Overwrite::if_wanted(right.upsert),
            });
        }
        Ok(Self {
            session: cx.session(operation),
            owner: cx.owner.clone(),
            overwrite: Overwrite::if_wanted(cx.wants_upsert()),
        })
    }
}

async fn create(cx: &Arc<Cx>, signed: bool, body: Body) -> Result<Response, Error> {
    let header = cx.header("upload-metadata").ok_or(Error::InvalidRequest("Metadata header is required".into()))?;
    let announced = header::announced(header)?;
    let length = header::length(cx.header(UPLOAD_LENGTH), cx.header("upload-defer-length"))?;
    let right = Right::of(cx, signed, &announced.at, "storage.tus.upload.create")?;
    let bucket = find_bucket(&cx.database, &announced.at.bucket).await?;
    let limit = size_limit(&cx.project, &bucket, &announced.at.key);
    if length.is_some_and(|length| length > limit) {
        return Err(Error::TooLarge { limit });
    }
    mime::check_storable(&announced.info.mime_type)?;
    mime::check_allowed(&announced.info.mime_type, bucket.allowed_mime_types.as_deref().unwrap_or_default())?;
    cx.shared.disk.check(length.unwrap_or_default())?;
    cx.shared.check_quota(&cx.project, &cx.database, length.unwrap_or_default()).await?;
    let permit = Permit {
        at: &announced.at,
        overwrite: &right.overwrite,
        owner: right.owner.as_deref(),
        info: &announced.info,
        user_metadata: announced.user_metadata.as_ref(),
        length,
    };
    permit.ask(&cx.database, &right.session).await?;
    let mut record = Record::new(&announced, header, length, right.overwrite == Overwrite::Anything);
    record.owner = right.owner;
    record.signed = signed;
    record.by_service = !signed && cx.is_service_role();
    record.expires = cx.shared.config.clock.unix_seconds() + LIFETIME;
    let id = random::hex::<16>();
    let folder = Folder::new(&cx.shared.config.staging, &cx.project.project_ref);
    let (project, now) = (&cx.project.project_ref, cx.shared.config.clock.unix_seconds());
    let new = NewUpload { id: &id, record: &record, largest: limit, room: owners_room(cx), now };
    cx.shared.open_uploads.admit(project, &folder, &new).await?;
    let (own, made) = (id.clone(), record.clone());
    let created = blocking({
        let folder = folder.clone();
        move || folder.create(&own, &made)
    });
    if let Err(error) = created.await {
        cx.shared.open_uploads.leave(project, &id);
        return Err(error.into());
    }
    let with_content = cx.header(names::CONTENT_TYPE) == Some("application/offset+octet-stream");
    let location = location(cx, signed, &id);
    let mut response = if with_content || length == Some(0) {
        let lock = cx.shared.resumable.acquire(&name(cx, &id)).await?;
        let upload = Upload { cx: cx.clone(), id, folder, record };
        let body = if with_content { body } else { Body::empty() };
        upload.receive(lock, right.session, limit, body).await?
    } else {
        let mut response = Response::new(Body::empty());
        set(&mut response, UPLOAD_EXPIRES, &http_date(record.expires));
        response
    };
    *response.status_mut() = StatusCode::CREATED;
    set(&mut response, names::LOCATION, &location);
    Ok(response)
}

/// Bytes that unfinished uploads of one owner may become. Where nothing bounds the project, what the disk has does.
fn owners_room(cx: &Cx) -> u64 {
    let limit = cx.shared.quotas.limit(&cx.project);
    let limit = limit.or_else(|| cx.shared.config.staging.disk_bytes().ok().map(|bytes| bytes / 2));
    limit.unwrap_or(u64::MAX) / OWNERS_PART
}

/// Removes an upload, whatever of it is there.
async fn discard(cx: &Cx, folder: &Folder, id: &str) -> Result<(), Error> {
    let (folder, own) = (folder.clone(), id.to_owned());
    let bytes = blocking(move || folder.remove(&own)).await?;
    let project = &cx.project.project_ref;
    cx.shared.quotas.remove(project, bytes);
    cx.shared.open_uploads.leave(project, id);
    Ok(())
}

/// An upload's name among those of all projects.
fn name(cx: &Cx, id: &str) -> String {
    format!("{}/{id}", cx.project.project_ref)
}

/// Where the client goes on, by the public URL.
fn location(cx: &Cx, signed: bool, id: &str) -> String {
    let (url, project) = (&cx.shared.config.public_url, &cx.project.project_ref);
    format!("{url}/p/{project}/storage/v1/upload/resumable{}/{id}", if signed { "/sign" } else { "" })
}

/// An upload that is there and belongs to the caller.
struct Upload {
    cx: Arc<Cx>,
    id: String,
    folder: Folder,
    record: Record,
}

impl Upload {
    async fn find(cx: &Arc<Cx>, signed: bool, id: String) -> Result<Self, Error> {
        let folder = Folder::new(&cx.shared.config.staging, &cx.project.project_ref);
        let record = blocking({
            let (folder, id) = (folder.clone(), id.clone());
            move || folder.load(&id)
        })
        .await?;
        let finished = || cx.shared.resumable.finished(&name(cx, &id));
        let record = record.or_else(finished).ok_or(Error::NoSuchUpload)?;
        let upload = Self { cx: cx.clone(), id, folder, record };
        // A stranger learns nothing, not even that there is such an upload.
        let own = match signed {
            true => {
                Right::of(cx, true, &upload.record.at()?, "storage.tus.upload.get")?;
                upload.record.signed
            }
            false => !upload.record.signed && (cx.owner == upload.record.owner || cx.is_service_role()),
        };
        if own { Ok(upload) } else { Err(Error::NoSuchUpload) }
    }

    /// HEAD: how far the upload is. One whose bytes are all there and whose object is not is brought to its end first: a client
    /// that reads that everything has come believes that the object is there.
    async fn tell(self, lock: UploadLock) -> Result<Response, Error> {
        let upload = if self.record.is_complete() && !self.record.finished { self.end_late(lock).await? } else { self };
        upload.answer_head()
    }

    async fn end_late(mut self, lock: UploadLock) -> Result<Self, Error> {
        let right = Right::of(&self.cx, self.record.signed, &self.record.at()?, "storage.tus.upload.part")?;
        let tasks = self.cx.shared.config.tasks.clone();
        let ending = tasks.spawn(async move {
            let _lock = lock;
            let slot = self.cx.shared.uploads.enter(&self.cx.project.project_ref)?;
            let (folder, id, record) = (self.folder.clone(), self.id.clone(), self.record.clone());
            let staged = blocking(move || match folder.open(&id, &record) {
                Err(BackendError::Missing) => Ok(None),
                opened => opened.map(Some),
            });
            let staged = staged.await?;
            self.finish(right.session, staged, slot).await?;
            Ok(self)
        });
        ending.await.unwrap_or(Err(Error::Internal("the end of an upload was aborted")))
    }

    fn answer_head(self) -> Result<Response, Error> {
        let mut response = Response::new(Body::empty());
        self.describe(&mut response);
        set(&mut response, HeaderName::from_static("upload-metadata"), &self.record.header);
        match self.record.length {
            Some(length) => set(&mut response, UPLOAD_LENGTH, &length.to_string()),
            None => set(&mut response, HeaderName::from_static("upload-defer-length"), "1"),
        }
        Ok(response)
    }

    fn describe(&self, response: &mut Response) {
        set(response, UPLOAD_OFFSET, &self.record.offset.to_string());
        set(response, UPLOAD_EXPIRES, &http_date(self.record.expires));
    }

    /// DELETE: the client gives up.
    async fn end(self) -> Result<Response, Error> {
        if self.record.finished {
            return Err(Error::InvalidRequest("The upload is finished and cannot be terminated".into()));
        }
        discard(&self.cx, &self.folder, &self.id).await?;
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        Ok(response)
    }

    /// PATCH: more bytes.
    async fn take(mut self, lock: UploadLock, body: Body) -> Result<Response, Error> {
        let cx = self.cx.clone();
        if cx.header(names::CONTENT_TYPE) != Some("application/offset+octet-stream") {
            return Err(Error::TusContentType);
        }
        let client = header::required_number(cx.header(UPLOAD_OFFSET), "Upload-Offset")?;
        if client != self.record.offset || self.record.finished {
            return Err(Error::OffsetConflict { server: self.record.offset, client });
        }
        let at = self.record.at()?;
        let bucket = find_bucket(&cx.database, &at.bucket).await?;
        let limit = size_limit(&cx.project, &bucket, &at.key);
        if let Some(length) = cx.header(UPLOAD_LENGTH) {
            let length = header::required_number(Some(length), "Upload-Length")?;
            match self.record.length {
                Some(known) if known != length => {
                    return Err(Error::InvalidRequest("Upload-Length is known already".into()));
                }
                _ if length < self.record.offset => {
                    return Err(Error::InvalidRequest("Upload-Length is less than what is there already".into()));
                }
                _ if length > limit => return Err(Error::TooLarge { limit }),
                _ => self.record.length = Some(length),
            }
        }
        let right = Right::of(&cx, self.record.signed, &at, "storage.tus.upload.part")?;
        let permit = Permit {
            at: &at,
            overwrite: &Overwrite::if_wanted(self.record.upsert),
            owner: self.record.owner.as_deref(),
            info: &self.record.info(),
            user_metadata: self.record.user_metadata(),
            length: self.record.length,
        };
        permit.ask(&cx.database, &right.session).await?;
        self.receive(lock, right.session, limit, body).await
    }

    /// Takes the body's bytes, keeps those that came even when the connection breaks, and ends the upload when all are there.
    /// It goes on when the client hangs up.
    async fn receive(self, lock: UploadLock, session: Session, limit: u64, body: Body) -> Result<Response, Error> {
        let tasks = self.cx.shared.config.tasks.clone();
        match tasks.spawn(self.receive_all(lock, session, limit, body)).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::Internal("a piece of an upload was aborted")),
        }
    }

    async fn receive_all(
        mut self,
        lock: UploadLock,
        session: Session,
        limit: u64,
        body: Body,
    ) -> Result<Response, Error> {
        let slot = self.cx.shared.uploads.enter(&self.cx.project.project_ref)?;
        let (folder, id, record) = (self.folder.clone(), self.id.clone(), self.record.clone());
        let mut staged = blocking(move || folder.open(&id, &record)).await?;
        let (before, mut share) = (staged.size(), None);
        let received = self.receive_body(&mut staged, &lock, limit, body, &mut share).await;
        // What came is kept, whatever ended it.
        staged.sync().await?;
        let (offset, digest) = (staged.size(), staged.digest_state().await?);
        self.cx.shared.quotas.add(&self.cx.project.project_ref, offset - before);
        drop(share);
        self.record.expires = self.cx.shared.config.clock.unix_seconds() + LIFETIME;
        let (folder, id, mut record) = (self.folder.clone(), self.id.clone(), self.record.clone());
        self.record = blocking(move || {
            folder.count(&id, &mut record, offset, &digest)?;
            Ok(record)
        })
        .await?;
        self.cx.shared.open_uploads.change(&self.cx.project.project_ref, &self.id, &self.record);
        received?;
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        if self.record.is_complete() {
            self.finish(session, Some(staged), slot).await?;
            response.headers_mut().insert("tus-complete", HeaderValue::from_static("1"));
        }
        self.describe(&mut response);
        Ok(response)
    }

    async fn receive_body(
        &self,
        staged: &mut StagedFile,
        lock: &UploadLock,
        limit: u64,
        mut body: Body,
        share: &mut Option<Share>,
    ) -> Result<(), Error> {
        let cx = &self.cx;
        let most = self.record.length.unwrap_or(limit);
        let disk = &cx.shared.disk;
        let mut looked = staged.size();
        let announced = cx.header(names::CONTENT_LENGTH).and_then(|length| length.parse().ok());
        let coming = announced.unwrap_or(LOOK_AT_DISK).min(most.saturating_sub(looked));
        let mut promise = disk.promise(coming)?;
        let share = share.insert(cx.shared.promise(&cx.project, &cx.database, coming).await?);
        loop {
            let piece = tokio::select! {
                piece = next_piece(&mut body) => piece?,
                () = lock.ends.cancelled() => return Err(Error::Locked),
            };
            let Some(piece) = piece else { return Ok(()) };
            let size = staged.size() + piece.len() as u64;
            if size > most {
                return Err(Error::TooLarge { limit: most });
            }
            staged.write(piece).await?;
            if size >= looked + LOOK_AT_DISK {
                let more = if announced.is_some() { 0 } else { size - looked };
                disk.wrote(&mut promise, size - looked, more)?;
                if more > 0 {
                    share.absorb(cx.shared.promise(&cx.project, &cx.database, more).await?);
                }
                looked = size;
            }
        }
    }

    /// All bytes are there: the object is made. Without a file the bytes have their place already.
    async fn finish(&mut self, session: Session, staged: Option<StagedFile>, slot: UploadSlot) -> Result<(), Error> {
        let at = self.record.at()?;
        let finish = Finish {
            shared: self.cx.shared.clone(),
            project: self.cx.project.clone(),
            database: self.cx.database.clone(),
            target: Target {
                at,
                overwrite: Overwrite::if_wanted(self.record.upsert),
                owner: self.record.owner.clone(),
                session,
            },
            info: self.record.info(),
            user_metadata: self.record.user_metadata().cloned(),
            parts: None,
            version: self.record.version(),
            places: Places {
                _slot: slot,
                _promise: self.cx.shared.disk.promise(0)?,
                // Its bytes are there and counted.
                share: None,
            },
        };
        match staged {
            Some(mut staged) => {
                let bucket = find_bucket(&self.cx.database, &finish.target.at.bucket).await?;
                let allowed = bucket.allowed_mime_types.unwrap_or_default();
                if !allowed.is_empty() {
                    mime::check_content(&finish.info.mime_type, &staged.head(mime::SNIFFED).await?, &allowed)?;
                }
                let (folder, id) = (self.folder.clone(), self.id.clone());
                let there = self.record.offset;
                let finished = finish.detached(staged).await;
                // The bytes have another place, or none any more; they count there.
                let left = blocking(move || Ok(folder.bytes(&id))).await?;
                self.cx.shared.quotas.remove(&self.cx.project.project_ref, there.saturating_sub(left));
                finished?;
            }
            None => self.recover(&finish).await?,
        }
        self.record.finished = true;
        self.cx.shared.resumable.finish(name(&self.cx, &self.id), self.record.clone());
        discard(&self.cx, &self.folder, &self.id).await
    }

    /// Something ended the upload's end between the bytes' place and their row, or behind the row.
    async fn recover(&self, finish: &Finish) -> Result<(), Error> {
        let (at, location) = (&finish.target.at, finish.location());
        let rows = finish.database.look_up(object::object_find_with_bucket(&at.bucket, &at.key)).await?;
        let object: Option<Object> = match rows.rows.first() {
            Some(row) => store::json(row, 1)?,
            None => None,
        };
        if object.is_some_and(|object| object.version.as_deref() == Some(location.version.as_str())) {
            return Ok(());
        }
        let _pending = self.cx.shared.pending.enter(&location.version);
        let digest = self.record.digest();
        match (self.cx.shared.backend.size(&location).await, digest) {
            (Ok(size), Some(digest)) if size == digest.size => finish.record(&digest, &location).await.map(drop),
            (Ok(_) | Err(BackendError::Missing), _) => {
                // Nothing of it is left, and the client has to begin anew.
                discard(&self.cx, &self.folder, &self.id).await?;
                Err(Error::NoSuchUpload)
            }
            (Err(error), _) => Err(error.into()),
        }
    }
}

/// Removes the uploads of a project that have expired; gives how many.
pub(crate) async fn remove_expired(shared: &Shared, project: &base::ProjectRef, now: i64) -> Result<usize, Error> {
    let folder = Folder::new(&shared.config.staging, project);
    let removing = blocking(move || {
        let (mut removed, mut bytes) = (Vec::new(), folder.remove_strays(now - LIFETIME)?);
        for id in folder.ids()? {
            // A record that cannot be read is of no use to anybody.
            if folder.load(&id)?.is_none_or(|record| record.expires < now) {
                bytes += folder.remove(&id)?;
                removed.push(id);
            }
        }
        Ok((removed, bytes))
    });
    let (removed, bytes) = removing.await?;
    shared.quotas.remove(project, bytes);
    removed.iter().for_each(|id| shared.open_uploads.leave(project, id));
    Ok(removed.len())
}
