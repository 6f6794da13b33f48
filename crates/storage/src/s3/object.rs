//! Objects over S3: put, get, head, delete, copy.

use std::collections::HashSet;

use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::{Map, Value};

use super::error::S3Error;
use super::operation::copy_source;
use super::payload::Payload;
use super::{S3Cx, empty, xml};
use crate::body::Upload;
use crate::conditional;
use crate::content::{ContentHeaders, ContentInfo};
use crate::copy::{self, CopyParams};
use crate::download::{self, Readable, find_as_caller, readable};
use crate::error::Error;
use crate::key::{BucketId, ObjectKey};
use crate::remove;
use crate::request::set;
use crate::route::ObjectPath;
use crate::store;
use crate::store::object::Overwrite;
use crate::store::{changed, object};
use crate::upload::{self, Target};

/// What the headers of a user's own metadata begin with.
const META: &str = "x-amz-meta-";
/// Keys in one request.
const MOST_KEYS: usize = 1_000;
/// How often an object is looked up when its content is replaced just then.
const MOST_TRIES: usize = 4;

/// What a request says of a content.
pub(super) fn content_info(headers: &HeaderMap) -> ContentInfo {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let or = |text: Option<&str>, default: &str| text.filter(|text| !text.is_empty()).unwrap_or(default).to_owned();
    let own = |name: HeaderName| text(name).filter(|text| !text.is_empty()).map(str::to_owned);
    // How the body came is no property of the content.
    let encoding = text(header::CONTENT_ENCODING).unwrap_or_default().split(',').map(str::trim);
    let encoding: Vec<&str> =
        encoding.filter(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case("aws-chunked")).collect();
    ContentInfo {
        mime_type: or(text(header::CONTENT_TYPE), "application/octet-stream"),
        cache_control: or(text(header::CACHE_CONTROL), "no-cache"),
        headers: ContentHeaders {
            encoding: (!encoding.is_empty()).then(|| encoding.join(",")),
            disposition: own(header::CONTENT_DISPOSITION),
            language: own(header::CONTENT_LANGUAGE),
            expires: own(header::EXPIRES),
        },
    }
}

/// A user's own metadata: one text for each `x-amz-meta-` header.
pub(super) fn user_metadata(headers: &HeaderMap) -> Option<Value> {
    let mut map = Map::new();
    for (name, value) in headers {
        if let Some(name) = name.as_str().strip_prefix(META) {
            map.insert(name.to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned().into());
        }
    }
    (!map.is_empty()).then_some(Value::Object(map))
}

/// What an upload may overwrite: nothing with `If-None-Match: *`, a certain content with `If-Match`.
fn overwrites(headers: &HeaderMap) -> Result<Overwrite, S3Error> {
    match (if_match(headers)?, headers.get(header::IF_NONE_MATCH).map(HeaderValue::as_bytes)) {
        (None, None) => Ok(Overwrite::Anything),
        (None, Some(b"*")) => Ok(Overwrite::Nothing),
        (None, Some(_)) => Err(S3Error::NotImplemented("If-None-Match of an upload other than *")),
        (Some(etag), None) => Ok(Overwrite::Only(etag)),
        (Some(_), Some(_)) => Err(S3Error::InvalidRequest("If-Match and If-None-Match exclude each other")),
    }
}

/// The one entity tag (without quotes) that `If-Match` of a change names; none within for `*`.
fn if_match(headers: &HeaderMap) -> Result<Option<Option<String>>, S3Error> {
    let mut values = headers.get_all(header::IF_MATCH).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let tag = value.to_str().unwrap_or_default().trim();
    if tag.is_empty() || tag.contains(',') || values.next().is_some() {
        return Err(S3Error::InvalidArgument("If-Match has to be one entity tag"));
    }
    Ok(Some((tag != "*").then(|| tag.trim_matches('"').to_owned())))
}

/// Where an upload of this request goes.
pub(super) fn target(s3: &S3Cx, at: ObjectPath) -> Result<Target, S3Error> {
    Ok(Target {
        at,
        overwrite: overwrites(&s3.cx.parts.headers)?,
        owner: s3.cx.owner.clone(),
        session: s3.cx.session(s3.operation),
    })
}

/// Why an upload was refused: not to overwrite is a condition that failed, and what is not there has no entity tag.
pub(super) async fn refusal(s3: &S3Cx, at: &ObjectPath, error: Error) -> S3Error {
    match error {
        Error::AlreadyExists => Error::PreconditionFailed.into(),
        Error::PreconditionFailed if s3.cx.parts.headers.contains_key(header::IF_MATCH) => {
            find(s3, at).await.err().unwrap_or(Error::PreconditionFailed.into())
        }
        other => other.into(),
    }
}

pub(super) async fn put_object(s3: &S3Cx, at: ObjectPath, payload: Payload) -> Result<Response, S3Error> {
    if payload.length().is_none() {
        return Err(S3Error::MissingContentLength);
    }
    let headers = &s3.cx.parts.headers;
    let mut upload = Upload::signed(content_info(headers), user_metadata(headers), payload);
    let stored = match upload::receive_upload(&s3.cx, target(s3, at.clone())?, &mut upload).await {
        Ok(stored) => stored,
        Err(error) => return Err(refusal(s3, &at, error).await),
    };
    let mut response = empty(StatusCode::OK);
    set(&mut response, header::ETAG, &stored.etag);
    echo_checksum(&mut response, &upload);
    Ok(response)
}

/// Tells the client which checksum was compared.
pub(super) fn echo_checksum(response: &mut Response, upload: &Upload) {
    if let Some((algorithm, value)) = upload.checksum()
        && let Ok(name) = HeaderName::try_from(algorithm.header())
    {
        set(response, name, &value);
    }
}

/// An object that the caller may read. A bucket that is not there is told apart.
pub(super) async fn find(s3: &S3Cx, at: &ObjectPath) -> Result<Readable, S3Error> {
    let found = find_as_caller(&s3.cx, &at.bucket, &at.key, s3.operation).await?;
    match found {
        Some(object) => Ok(readable(&s3.cx, at, object).await?),
        None => {
            upload::find_bucket(&s3.cx.database, &at.bucket).await?;
            Err(Error::NoSuchKey.into())
        }
    }
}

pub(super) async fn get_object(s3: &S3Cx, at: ObjectPath) -> Result<Response, S3Error> {
    if s3.query("partNumber").is_some_and(|number| number != "1") {
        return Err(S3Error::NotImplemented("Reading one part of an object"));
    }
    for _ in 0..MOST_TRIES {
        let found = find(s3, &at).await?;
        match download::respond(&s3.cx, &found, None).await {
            // Replaced between the look at the row and the one at the file.
            Err(Error::FileMissing) => {}
            Err(error) => return Err(error.into()),
            Ok(mut response) => {
                describe(s3, &mut response, &found);
                return Ok(response);
            }
        }
    }
    Err(Error::FileMissing.into())
}

/// Headers that only S3 has, and those that the query overrides.
fn describe(s3: &S3Cx, response: &mut Response, found: &Readable) {
    if !s3.is_link {
        // A program gets what was put there; what a browser may open was made safe.
        set(response, header::CONTENT_TYPE, &found.content.mime_type);
        match &found.content.headers.disposition {
            Some(stored) => set(response, header::CONTENT_DISPOSITION, stored),
            None => drop(response.headers_mut().remove(header::CONTENT_DISPOSITION)),
        }
    }
    if let Some(map) = found.object.user_metadata.as_ref().and_then(Value::as_object) {
        for (name, value) in map {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            if let Ok(name) = HeaderName::try_from(format!("{META}{}", name.to_ascii_lowercase())) {
                set(response, name, &text);
            }
        }
    }
    const OVERRIDES: [(&str, HeaderName); 5] = [
        ("response-cache-control", header::CACHE_CONTROL),
        ("response-content-disposition", header::CONTENT_DISPOSITION),
        ("response-content-encoding", header::CONTENT_ENCODING),
        ("response-content-language", header::CONTENT_LANGUAGE),
        ("response-expires", header::EXPIRES),
    ];
    for (parameter, name) in OVERRIDES {
        if let Some(value) = s3.query(parameter) {
            set(response, name, &value);
        }
    }
    let mime = s3.query("response-content-type");
    if !s3.is_link {
        if let Some(mime) = mime {
            set(response, header::CONTENT_TYPE, &mime);
        }
        return;
    }
    // Whatever the link says, a browser runs nothing.
    let mime = mime.unwrap_or_else(|| found.content.mime_type.clone());
    let (mime, opens) = download::served_type(&mime);
    set(response, header::CONTENT_TYPE, &mime);
    let disposition = response.headers().get(header::CONTENT_DISPOSITION).and_then(|value| value.to_str().ok());
    if !opens && !disposition.is_some_and(download::saves) {
        set(response, header::CONTENT_DISPOSITION, "attachment");
    }
}

pub(super) async fn delete_object(s3: &S3Cx, at: &ObjectPath) -> Result<Response, S3Error> {
    let only = if_match(&s3.cx.parts.headers)?;
    let delete = match &only {
        Some(etag) => object::object_delete_only(&at.bucket, &at.key, etag.as_deref()),
        None => object::object_delete(&at.bucket, &at.key),
    };
    let rows = s3.cx.database.write(&s3.cx.session(s3.operation), vec![delete]).await?;
    if rows.first().map_or(0, changed) == 0 {
        upload::find_bucket(&s3.cx.database, &at.bucket).await?;
        let seen = find_as_caller(&s3.cx, &at.bucket, &at.key, s3.operation).await?;
        match &only {
            Some(Some(_)) if seen.is_some() => return Err(Error::PreconditionFailed.into()),
            Some(None) if seen.is_none() => return Err(Error::PreconditionFailed.into()),
            _ => {}
        }
        if !existing(s3, &at.bucket, [at.key.as_str()]).await?.is_empty() {
            return Err(Error::denied().into());
        }
    }
    remove::removed(&s3.cx);
    // That there was nothing is no error.
    Ok(empty(StatusCode::NO_CONTENT))
}

/// Those of some names that are there, as far as the caller may see.
async fn existing<'a>(
    s3: &S3Cx,
    bucket: &BucketId,
    names: impl IntoIterator<Item = &'a str>,
) -> Result<HashSet<String>, S3Error> {
    let found = object::objects_find(bucket, names);
    let rows = s3.cx.database.read(&s3.cx.session(s3.operation), vec![found]).await?;
    match rows.first().and_then(|rows| rows.rows.first()) {
        Some(row) => Ok(store::json(row, 0)?.unwrap_or_default()),
        None => Ok(HashSet::new()),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DeletedElement {
    key: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ErrorElement {
    key: String,
    code: &'static str,
    message: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DeleteOutcome {
    #[serde(rename = "Deleted")]
    deleted: Vec<DeletedElement>,
    #[serde(rename = "Error")]
    errors: Vec<ErrorElement>,
}

pub(super) async fn delete_objects(s3: &S3Cx, bucket: &BucketId, payload: Payload) -> Result<Response, S3Error> {
    let delete: xml::Delete = xml::read(&payload.read(&s3.cx).await?)?;
    if delete.objects.is_empty() || delete.objects.len() > MOST_KEYS {
        return Err(S3Error::MalformedXml);
    }
    if delete.objects.iter().any(|entry| entry.version_id.is_some()) {
        return Err(S3Error::NotImplemented("Versions of objects"));
    }
    if delete.objects.iter().any(|entry| entry.etag.is_some()) {
        return Err(S3Error::NotImplemented("Conditions in a list of objects to delete"));
    }
    upload::find_bucket(&s3.cx.database, bucket).await?;
    // What no key can be is not there.
    let keys: Vec<&str> = delete.objects.iter().map(|entry| &*entry.key).collect();
    let possible = || keys.iter().copied().filter(|key| ObjectKey::parse(key).is_some());
    let statement = object::objects_delete(bucket, possible());
    s3.cx.database.write(&s3.cx.session(s3.operation), vec![statement]).await?;
    remove::removed(&s3.cx);
    let left = existing(s3, bucket, possible()).await?;
    let mut outcome = DeleteOutcome { deleted: Vec::new(), errors: Vec::new() };
    let denied = S3Error::from(Error::denied());
    for key in keys {
        if left.contains(key) {
            let (code, message) = denied.code_and_message();
            outcome.errors.push(ErrorElement { key: key.to_owned(), code, message: message.into_owned() });
        } else if !delete.quiet {
            outcome.deleted.push(DeletedElement { key: key.to_owned() });
        }
    }
    xml::answer("DeleteResult", &outcome)
}

/// What `x-amz-copy-source-if-...` says of the original.
pub(super) fn check_source(headers: &HeaderMap, found: &Readable) -> Result<(), Error> {
    let mut conditions = HeaderMap::new();
    for (from, to) in [
        ("x-amz-copy-source-if-match", header::IF_MATCH),
        ("x-amz-copy-source-if-none-match", header::IF_NONE_MATCH),
        ("x-amz-copy-source-if-modified-since", header::IF_MODIFIED_SINCE),
        ("x-amz-copy-source-if-unmodified-since", header::IF_UNMODIFIED_SINCE),
    ] {
        if let Some(value) = headers.get(from) {
            conditions.insert(to, value.clone());
        }
    }
    match conditional::outcome(&conditions, &found.content.etag, found.object.modified.unwrap_or_default()) {
        conditional::Outcome::Send => Ok(()),
        _ => Err(Error::PreconditionFailed),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct CopyElement {
    #[serde(rename = "ETag")]
    pub(super) etag: String,
    pub(super) last_modified: String,
}

pub(super) async fn copy_object(s3: &S3Cx, to: &ObjectPath) -> Result<Response, S3Error> {
    let headers = &s3.cx.parts.headers;
    let from = copy_source(headers)?;
    let replaces = match s3.header("x-amz-metadata-directive") {
        None | Some("COPY") => false,
        Some("REPLACE") => true,
        Some(_) => return Err(S3Error::InvalidArgument("Unknown metadata directive")),
    };
    if from == *to && !replaces {
        return Err(S3Error::InvalidRequest(
            "This copy request is illegal because it is trying to copy an object to itself without changing the object's \
             metadata",
        ));
    }
    let info = replaces.then(|| content_info(headers));
    let params = CopyParams {
        operation: s3.operation,
        overwrite: overwrites(headers)?,
        cache_control: info.as_ref().map(|info| info.cache_control.clone()),
        headers: info.as_ref().map(|info| info.headers.clone()),
        mime_type: info.map(|info| info.mime_type),
        user_metadata: replaces.then(|| user_metadata(headers)),
    };
    let copied = copy::copy(&s3.cx, &from, to, &params, |found| check_source(headers, found)).await;
    let copied = match copied {
        Ok(copied) => copied,
        Err(error) => return Err(refusal(s3, to, error).await),
    };
    let text = |name: &str| copied.metadata.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let element = CopyElement { etag: text("eTag"), last_modified: text("lastModified") };
    xml::answer("CopyObjectResult", &element)
}

/// There are no tags.
pub(super) async fn get_object_tagging(s3: &S3Cx, at: &ObjectPath) -> Result<Response, S3Error> {
    #[derive(Serialize)]
    struct Tagging {
        #[serde(rename = "TagSet")]
        tags: &'static str,
    }
    find(s3, at).await?;
    xml::answer("Tagging", &Tagging { tags: "" })
}
