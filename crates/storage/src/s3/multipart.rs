//! Uploads in parts over S3.
//!
//! An upload belongs to who made it; whether its owner may upload at all is asked anew with each part, and the row of the
//! object is inserted as the owner at the end. Parts are files of their own until then ([`super::parts`]).

use axum::response::Response;
use base::random;
use base::random::to_hex;
use http::{StatusCode, header};
use md5::Digest as _;
use serde::Serialize;
use serde_json::Value;

use super::bucket::{Owner, check_visible};
use super::error::S3Error;
use super::object::{CopyElement, check_source, content_info, echo_checksum, find, refusal, target, user_metadata};
use super::operation::{MOST_PARTS, UploadPath, copy_source};
use super::parts::PartFolder;
use super::payload::Payload;
use super::{S3Cx, empty, timestamp, xml};
use crate::backend::HashAlgorithm;
use crate::body::Upload;
use crate::content::ContentInfo;
use crate::database::Session;
use crate::error::Error;
use crate::key::{BucketId, LONGEST_KEY, Version};
use crate::mime;
use crate::request::set;
use crate::route::ObjectPath;
use crate::store::multipart::{self as rows, MultipartUpload, NewPart, NewUpload, Part, UploadPage};
use crate::store::object::Overwrite;
use crate::store::{self, changed};
use crate::upload::{Finish, Permit, Places, check_room, find_bucket, size_limit, stage};

/// Every part but the last has at least this many bytes.
const LEAST_PART: u64 = 5 * 1024 * 1024;
/// Entries of one listing.
const MOST_ENTRIES: u64 = 1_000;

fn admin(s3: &S3Cx) -> Session {
    Session::admin(s3.operation)
}

/// Whether the caller may upload here: asked of the policies; nothing stays of it.
async fn permit(s3: &S3Cx, at: &ObjectPath, info: &ContentInfo, user: Option<&Value>) -> Result<(), S3Error> {
    let permit = Permit {
        at,
        overwrite: &Overwrite::Anything,
        owner: s3.cx.owner.as_deref(),
        info,
        user_metadata: user,
        length: None,
    };
    Ok(permit.ask(&s3.cx.database, &s3.cx.session(s3.operation)).await?)
}

/// An upload of the caller's. Others' are not there for anybody but the service role.
struct Mine {
    /// The request's: the row's is the project owner's to write.
    id: String,
    upload: MultipartUpload,
    info: ContentInfo,
    folder: PartFolder,
}

impl Mine {
    async fn find(s3: &S3Cx, path: &UploadPath) -> Result<Self, S3Error> {
        let rows = s3.cx.database.look_up(rows::upload_find(&path.upload_id, &path.at)).await?;
        let upload: Option<MultipartUpload> = match rows.rows.first() {
            Some(row) => store::json(row, 0)?,
            None => None,
        };
        let upload = upload.ok_or(S3Error::NoSuchUpload)?;
        if !s3.cx.is_service_role() && (upload.owner_id.is_none() || upload.owner_id != s3.cx.owner) {
            return Err(S3Error::NoSuchUpload);
        }
        Ok(Self {
            info: ContentInfo::of_metadata(&upload.metadata.clone().unwrap_or_default()),
            folder: PartFolder::of(s3.cx.shared.config.staging.root(), &s3.cx.project.project_ref, &path.upload_id),
            id: path.upload_id.clone(),
            upload,
        })
    }

    /// The same for an operation that changes it.
    async fn find_writable(s3: &S3Cx, path: &UploadPath) -> Result<Self, S3Error> {
        let mine = Self::find(s3, path).await?;
        permit(s3, &path.at, &mine.info, mine.upload.user_metadata.as_ref()).await?;
        Ok(mine)
    }

    async fn remove_files(&self, s3: &S3Cx, versions: Vec<String>) -> Result<(), S3Error> {
        let bytes = self.folder.remove_files(versions).await.map_err(Error::from)?;
        s3.cx.shared.quotas.remove(&s3.cx.project.project_ref, bytes);
        Ok(())
    }

    async fn parts(&self, s3: &S3Cx, after: u32, limit: u64) -> Result<Vec<Part>, S3Error> {
        let rows = s3.cx.database.look_up(rows::part_list(&self.id, after, limit)).await?;
        Ok(match rows.rows.first() {
            Some(row) => store::json(row, 0)?.unwrap_or_default(),
            None => Vec::new(),
        })
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Initiated {
    bucket: String,
    key: String,
    upload_id: String,
}

pub(super) async fn create(s3: &S3Cx, at: ObjectPath) -> Result<Response, S3Error> {
    let headers = &s3.cx.parts.headers;
    let (info, user) = (content_info(headers), user_metadata(headers));
    let bucket = find_bucket(&s3.cx.database, &at.bucket).await?;
    mime::check_storable(&info.mime_type)?;
    mime::check_allowed(&info.mime_type, bucket.allowed_mime_types.as_deref().unwrap_or_default())?;
    permit(s3, &at, &info, user.as_ref()).await?;
    let id = random::hex::<24>();
    let metadata = Value::Object(info.to_metadata());
    let new = NewUpload {
        id: &id,
        at: &at,
        owner: s3.cx.owner.as_deref(),
        metadata: &metadata,
        user_metadata: user.as_ref(),
    };
    s3.cx.database.write(&admin(s3), vec![rows::upload_insert(&new)]).await?;
    let content = Initiated { bucket: at.bucket.as_str().to_owned(), key: at.key.as_str().to_owned(), upload_id: id };
    xml::answer("InitiateMultipartUploadResult", &content)
}

/// Receives a part, puts it in place of the one with its number; gives its entity tag with quotes.
async fn take(s3: &S3Cx, path: &UploadPath, number: u32, mine: &Mine, upload: &mut Upload) -> Result<String, S3Error> {
    let cx = &s3.cx;
    let _slot = cx.shared.uploads.enter(&cx.project.project_ref)?;
    let bucket = find_bucket(&cx.database, &path.at.bucket).await?;
    let limit = size_limit(&cx.project, &bucket, &path.at.key);
    let mut share = check_room(cx, upload.length, upload.body_length, limit).await?;
    let (mut staged, _promise) = stage(cx, upload, limit, &mut share).await?;
    let digest = staged.digest().await.map_err(Error::from)?;
    // The length may not have been known before.
    drop(share);
    let share = cx.shared.promise(&cx.project, &cx.database, digest.size).await?;
    let version = Version::generate();
    staged.keep(mine.folder.file(&version)).await.map_err(Error::from)?;
    // It counts by its file from here on.
    cx.shared.quotas.add(&cx.project.project_ref, digest.size);
    drop(share);
    let etag = digest.hash.tag();
    let part = NewPart { number, size: digest.size, etag: &etag, version: &version, owner: cx.owner.as_deref() };
    let noted = cx.database.write(&admin(s3), vec![rows::part_put(&path.upload_id, &path.at, &part)]).await;
    let older: Option<Vec<String>> = match &noted {
        Ok(rows) => match rows.first().and_then(|rows| rows.rows.first()) {
            Some(row) => store::json(row, 0)?,
            None => None,
        },
        Err(_) => None,
    };
    match older {
        Some(older) => {
            mine.remove_files(s3, older).await?;
            Ok(digest.etag())
        }
        // It was completed or aborted meanwhile, or the database failed.
        None => {
            mine.remove_files(s3, vec![version.as_str().to_owned()]).await?;
            noted?;
            Err(S3Error::NoSuchUpload)
        }
    }
}

pub(super) async fn upload_part(
    s3: &S3Cx,
    path: &UploadPath,
    number: u32,
    payload: Payload,
) -> Result<Response, S3Error> {
    if payload.length().is_none() {
        return Err(S3Error::MissingContentLength);
    }
    let mine = Mine::find_writable(s3, path).await?;
    let mut upload = Upload::signed(mine.info.clone(), None, payload);
    let etag = take(s3, path, number, &mine, &mut upload).await?;
    let mut response = empty(StatusCode::OK);
    set(&mut response, header::ETAG, &etag);
    echo_checksum(&mut response, &upload);
    Ok(response)
}

pub(super) async fn copy_part(s3: &S3Cx, path: &UploadPath, number: u32) -> Result<Response, S3Error> {
    let headers = &s3.cx.parts.headers;
    let from = copy_source(headers)?;
    let mine = Mine::find_writable(s3, path).await?;
    let found = find(s3, &from).await?;
    check_source(headers, &found)?;
    let size = found.content.size;
    let range = match s3.header("x-amz-copy-source-range") {
        None => 0..size,
        Some(text) => copied_range(text, size)?,
    };
    let length = range.end - range.start;
    let body = if length == 0 {
        axum::body::Body::empty()
    } else {
        s3.cx.shared.backend.open(&found.location, range).await.map_err(Error::from)?
    };
    let mut upload = Upload::part(mine.info.clone(), Some(length), body);
    let etag = take(s3, path, number, &mine, &mut upload).await?;
    let last_modified = timestamp(s3.cx.shared.config.clock.unix_seconds());
    xml::answer("CopyPartResult", &CopyElement { etag, last_modified })
}

/// `bytes=first-last`; both have to be there and lie within the original.
pub(super) fn copied_range(text: &str, size: u64) -> Result<std::ops::Range<u64>, S3Error> {
    const BAD: S3Error = S3Error::InvalidArgument(
        "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the zero-based \
         offsets of the first and last bytes to copy",
    );
    let (first, last) = text.strip_prefix("bytes=").and_then(|range| range.split_once('-')).ok_or(BAD)?;
    let number = |text: &str| text.parse::<u64>().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit())).ok_or(BAD);
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        return Err(BAD);
    }
    if last >= size {
        return Err(Error::InvalidRange { size }.into());
    }
    Ok(first..last + 1)
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Completed {
    location: String,
    bucket: String,
    key: String,
    #[serde(rename = "ETag")]
    etag: String,
}

/// Those parts that the client lists, which have to be as it says.
fn chosen(parts: Vec<Part>, asked: &xml::CompleteMultipartUpload) -> Result<Vec<Part>, S3Error> {
    if asked.parts.is_empty() || asked.parts.len() > MOST_PARTS as usize {
        return Err(S3Error::MalformedXml);
    }
    if !asked.parts.is_sorted_by(|a, b| a.number < b.number) {
        return Err(S3Error::InvalidPartOrder);
    }
    let mut there = parts.into_iter();
    let mut chosen = Vec::with_capacity(asked.parts.len());
    for (at, wanted) in asked.parts.iter().enumerate() {
        let part = there.find(|part| part.number == wanted.number).ok_or(S3Error::InvalidPart)?;
        if !part.etag.eq_ignore_ascii_case(wanted.etag.trim_matches('"')) {
            return Err(S3Error::InvalidPart);
        }
        if part.size < LEAST_PART && at + 1 < asked.parts.len() {
            return Err(S3Error::EntityTooSmall);
        }
        chosen.push(part);
    }
    Ok(chosen)
}

/// The entity tag of a content in parts: the MD5 of their MD5s, and how many they are.
fn etag_of(parts: &[Part]) -> String {
    let mut md5 = md5::Md5::new();
    for part in parts {
        let bytes =
            (0..part.etag.len()).step_by(2).filter_map(|at| u8::from_str_radix(part.etag.get(at..at + 2)?, 16).ok());
        md5.update(bytes.collect::<Vec<u8>>());
    }
    format!("\"{}-{}\"", to_hex(&md5.finalize()), parts.len())
}

pub(super) async fn complete(s3: &S3Cx, path: &UploadPath, payload: Payload) -> Result<Response, S3Error> {
    let cx = &s3.cx;
    let asked: xml::CompleteMultipartUpload = xml::read(&payload.read(&s3.cx).await?)?;
    let mine = Mine::find_writable(s3, path).await?;
    let parts = chosen(mine.parts(s3, 0, u64::from(MOST_PARTS)).await?, &asked)?;
    let slot = cx.shared.uploads.enter(&cx.project.project_ref)?;
    let bucket = find_bucket(&cx.database, &path.at.bucket).await?;
    let limit = size_limit(&cx.project, &bucket, &path.at.key);
    let size = parts.iter().fold(0, |sum: u64, part| sum.saturating_add(part.size));
    if size > limit {
        return Err(Error::TooLarge { limit }.into());
    }
    let promise = cx.shared.disk.promise(size)?;
    let mut staged = cx.shared.config.staging.begin(&cx.project.project_ref, HashAlgorithm::Blake3);
    for part in &parts {
        // A part that is gone was completed or aborted by another request.
        let version = Version::parse(&part.version).ok_or(S3Error::InvalidPart)?;
        mine.folder.append(&version, part.size, &mut staged).await.map_err(|error| match error {
            crate::backend::BackendError::Missing => S3Error::NoSuchUpload,
            other => Error::from(other).into(),
        })?;
    }
    let allowed = bucket.allowed_mime_types.unwrap_or_default();
    if !allowed.is_empty() {
        mime::check_content(&mine.info.mime_type, &staged.head(mime::SNIFFED).await.map_err(Error::from)?, &allowed)?;
    }
    let etag = etag_of(&parts);
    let finish = Finish {
        shared: cx.shared.clone(),
        project: cx.project.clone(),
        database: cx.database.clone(),
        target: target(s3, path.at.clone())?,
        info: mine.info.clone(),
        user_metadata: mine.upload.user_metadata.clone(),
        parts: Some(etag.clone()),
        version: Version::generate(),
        // Its parts are counted already, and go when the whole is there.
        places: Places { _slot: slot, _promise: promise, share: None },
    };
    if let Err(error) = finish.detached(staged).await {
        return Err(refusal(s3, &path.at, error).await);
    }
    forget(s3, &mine).await?;
    let location = format!("{}/{}/{}", cx.shared.config.public_url, path.at.bucket, path.at.key);
    let content =
        Completed { location, bucket: path.at.bucket.as_str().to_owned(), key: path.at.key.as_str().to_owned(), etag };
    xml::answer("CompleteMultipartUploadResult", &content)
}

/// Removes an upload and its parts; true when it was there.
async fn forget(s3: &S3Cx, mine: &Mine) -> Result<bool, S3Error> {
    let rows = s3.cx.database.write(&admin(s3), vec![rows::upload_delete(&mine.id)]).await?;
    let bytes = mine.folder.remove().await.map_err(Error::from)?;
    s3.cx.shared.quotas.remove(&s3.cx.project.project_ref, bytes);
    Ok(rows.first().map_or(0, changed) > 0)
}

pub(super) async fn abort(s3: &S3Cx, path: &UploadPath) -> Result<Response, S3Error> {
    // Who began it may end it, whatever has become of the policies.
    let mine = Mine::find(s3, path).await?;
    match forget(s3, &mine).await? {
        true => Ok(empty(StatusCode::NO_CONTENT)),
        false => Err(S3Error::NoSuchUpload),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct PartElement {
    part_number: u32,
    last_modified: String,
    #[serde(rename = "ETag")]
    etag: String,
    size: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct PartListing {
    bucket: String,
    key: String,
    upload_id: String,
    initiator: Owner,
    owner: Owner,
    storage_class: &'static str,
    part_number_marker: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_part_number_marker: Option<u32>,
    max_parts: u64,
    is_truncated: bool,
    #[serde(rename = "Part")]
    parts: Vec<PartElement>,
}

/// A number of the query.
fn number(s3: &S3Cx, name: &str, default: u64) -> Result<u64, S3Error> {
    match s3.query(name).map(|text| text.parse::<u32>()) {
        None => Ok(default),
        Some(Ok(number)) => Ok(u64::from(number)),
        Some(Err(_)) => Err(S3Error::InvalidArgument("A parameter that must be a number is none")),
    }
}

pub(super) async fn list_parts(s3: &S3Cx, path: &UploadPath) -> Result<Response, S3Error> {
    let mine = Mine::find(s3, path).await?;
    let after = u32::try_from(number(s3, "part-number-marker", 0)?).unwrap_or(MOST_PARTS).min(MOST_PARTS);
    let limit = number(s3, "max-parts", MOST_ENTRIES)?.min(MOST_ENTRIES);
    let mut parts = mine.parts(s3, after, limit + 1).await?;
    let more = parts.len() as u64 > limit;
    parts.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let content = PartListing {
        bucket: path.at.bucket.as_str().to_owned(),
        key: path.at.key.as_str().to_owned(),
        upload_id: mine.id.clone(),
        initiator: Owner::of(s3),
        owner: Owner::of(s3),
        storage_class: "STANDARD",
        part_number_marker: after,
        next_part_number_marker: parts.last().filter(|_| more).map(|part| part.number),
        max_parts: limit,
        is_truncated: more,
        parts: parts
            .into_iter()
            .map(|part| PartElement {
                part_number: part.number,
                last_modified: timestamp(part.created),
                etag: format!("\"{}\"", part.etag),
                size: part.size,
            })
            .collect(),
    };
    xml::answer("ListPartsResult", &content)
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct UploadElement {
    key: String,
    upload_id: String,
    initiator: Owner,
    owner: Owner,
    storage_class: &'static str,
    initiated: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct UploadListing {
    bucket: String,
    key_marker: String,
    upload_id_marker: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_key_marker: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_upload_id_marker: Option<String>,
    prefix: String,
    max_uploads: u64,
    is_truncated: bool,
    #[serde(rename = "Upload")]
    uploads: Vec<UploadElement>,
}

pub(super) async fn list_uploads(s3: &S3Cx, bucket: &BucketId) -> Result<Response, S3Error> {
    check_visible(s3, bucket).await?;
    if s3.query("delimiter").is_some() {
        return Err(S3Error::NotImplemented("A delimiter in a list of uploads"));
    }
    let text = |name: &str| {
        let text = s3.query(name).unwrap_or_default();
        match text.len() > LONGEST_KEY || text.contains('\0') {
            true => Err(S3Error::InvalidArgument("A prefix or marker that no key can have")),
            false => Ok(text),
        }
    };
    let (prefix, key_marker, upload_id_marker) = (text("prefix")?, text("key-marker")?, text("upload-id-marker")?);
    let limit = number(s3, "max-uploads", MOST_ENTRIES)?.min(MOST_ENTRIES);
    let everybody = s3.cx.is_service_role();
    if !everybody && s3.cx.owner.is_none() {
        return Err(Error::denied().into());
    }
    let page = UploadPage {
        bucket,
        prefix: &prefix,
        after_key: &key_marker,
        after_id: &upload_id_marker,
        owner: s3.cx.owner.as_deref().filter(|_| !everybody),
        limit: limit + 1,
    };
    let rows = s3.cx.database.look_up(rows::upload_list(&page)).await?;
    let mut uploads: Vec<MultipartUpload> = match rows.rows.first() {
        Some(row) => store::json(row, 0)?.unwrap_or_default(),
        None => Vec::new(),
    };
    let more = uploads.len() as u64 > limit;
    uploads.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let last = uploads.last().filter(|_| more).map(|upload| (upload.key.clone(), upload.id.clone()));
    let content = UploadListing {
        bucket: bucket.as_str().to_owned(),
        key_marker,
        upload_id_marker,
        next_key_marker: last.as_ref().map(|last| last.0.clone()),
        next_upload_id_marker: last.map(|last| last.1),
        prefix,
        max_uploads: limit,
        is_truncated: more,
        uploads: uploads
            .into_iter()
            .map(|upload| UploadElement {
                key: upload.key,
                upload_id: upload.id,
                initiator: Owner::of(s3),
                owner: Owner::of(s3),
                storage_class: "STANDARD",
                initiated: timestamp(upload.created),
            })
            .collect(),
    };
    xml::answer("ListMultipartUploadsResult", &content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_copies_lie_within_the_original() {
        let check = |text: &str, expected: Option<std::ops::Range<u64>>| {
            assert_eq!(copied_range(text, 100).ok(), expected, "{text}");
        };
        check("bytes=0-9", Some(0..10));
        check("bytes=0-99", Some(0..100));
        for bad in ["bytes=0-100", "bytes=9-0", "bytes=5-", "bytes=-5", "0-9", "bytes=+1-2", "bytes=a-b", ""] {
            check(bad, None);
        }
    }

    #[test]
    fn the_listed_parts_count() {
        let part = |number: u32, size: u64, digit: &str| Part {
            number,
            size,
            etag: digit.repeat(32),
            version: "v".into(),
            created: 0,
        };
        let there = || vec![part(1, LEAST_PART, "a"), part(2, 3, "b"), part(5, LEAST_PART, "c")];
        let check = |list: &[(u32, &str)], outcome: Result<usize, &str>| {
            let parts = list.iter().map(|(number, digit)| xml::CompletedPart {
                number: *number,
                etag: format!("\"{}\"", digit.repeat(32)),
            });
            let asked = xml::CompleteMultipartUpload { parts: parts.collect() };
            let chosen = chosen(there(), &asked).map(|chosen| chosen.len()).map_err(|error| error.code_and_message().0);
            assert_eq!(chosen, outcome, "{list:?}");
        };
        check(&[(1, "a")], Ok(1));
        check(&[(1, "A"), (5, "c")], Ok(2));
        check(&[(1, "a"), (2, "b")], Ok(2));
        check(&[(1, "a"), (2, "b"), (5, "c")], Err("EntityTooSmall"));
        check(&[(5, "c"), (1, "a")], Err("InvalidPartOrder"));
        check(&[(1, "a"), (1, "a")], Err("InvalidPartOrder"));
        check(&[(1, "b")], Err("InvalidPart"));
        check(&[(3, "a")], Err("InvalidPart"));
        check(&[], Err("MalformedXML"));
        // As S3 computes it: md5(unhex(a...a) || unhex(b...b))-2.
        let etag = etag_of(&there()[..2]);
        assert!(etag.ends_with("-2\"") && etag.len() == 36, "{etag}");
    }
}
