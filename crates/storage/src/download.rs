//! Reading an object: who may, which part, whether the client has it already, and the headers.

use std::borrow::Cow;

use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;

use crate::backend::{BackendError, Location};
use crate::conditional::{self, Outcome, http_date};
use crate::content::Content;
use crate::error::Error;
use crate::key::{BucketId, ObjectKey, Version};
use crate::range::{self, Asked};
use crate::request::{Cx, json as json_answer, set};
use crate::route::{Access, ObjectPath};
use crate::sign;
use crate::store;
use crate::store::object::{self, Object};

/// How often an object is looked up when its content is replaced just then.
const MOST_TRIES: usize = 4;

/// What JavaScript's `encodeURIComponent` leaves as it is.
const COMPONENT: AsciiSet = NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'!')
    .remove(b'~')
    .remove(b'*')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')');

/// An object that the caller may read.
pub(crate) struct Readable {
    pub(crate) object: Object,
    pub(crate) content: Content,
    pub(crate) location: Location,
}

pub(crate) async fn download_object(cx: &Cx, at: ObjectPath, access: Access) -> Result<Response, Error> {
    let expires = match access {
        Access::Signed => Some(sign::check_download(cx, &at)?),
        _ => None,
    };
    let mut tries = 0;
    loop {
        tries += 1;
        let found = find(cx, &at, access, "storage.object.get_authenticated").await?;
        match respond(cx, &found, expires).await {
            // Replaced between the look at the row and the one at the file.
            Err(Error::FileMissing) if tries < MOST_TRIES => {}
            Err(Error::FileMissing) => {
                tracing::error!(
                    project.r#ref = %cx.project.project_ref, bucket.id = %at.bucket, object.version = ?found.object.version,
                    "the file of an object is missing"
                );
                return Err(Error::FileMissing);
            }
            answer => return answer,
        }
    }
}

pub(crate) async fn object_info(cx: &Cx, at: ObjectPath, access: Access) -> Result<Response, Error> {
    if access == Access::Signed {
        sign::check_download(cx, &at)?;
    }
    let Readable { object, content, .. } = find(cx, &at, access, "object.get_authenticated_info").await?;
    let mut response = json_answer(&json!({
        "id": object.id,
        "name": object.name,
        "version": object.version,
        "bucket_id": object.bucket_id,
        "size": content.size,
        "content_type": content.mime_type,
        "cache_control": content.cache_control,
        "etag": content.etag,
        "metadata": object.user_metadata,
        "last_modified": object.updated_at,
        "created_at": object.created_at,
    }))?;
    set(&mut response, header::ETAG, &content.etag);
    set(&mut response, header::LAST_MODIFIED, &http_date(object.modified.unwrap_or_default()));
    Ok(response)
}

/// The object, by the right that the route gives.
pub(crate) async fn find(cx: &Cx, at: &ObjectPath, access: Access, operation: &'static str) -> Result<Readable, Error> {
    let rows = cx.database.look_up(object::object_find_with_bucket(&at.bucket, &at.key)).await?;
    let row = rows.rows.first().ok_or(Error::NoSuchBucket)?;
    let public = row.bool(0).unwrap_or_default();
    let object: Option<Object> = store::json(row, 1)?;
    let object = match access {
        Access::Signed => object,
        _ if public => object,
        // That there is such a bucket is not for everybody to know.
        Access::Public => return Err(Error::NoSuchBucket),
        Access::Caller if cx.is_anonymous() => return Err(Error::NoSuchBucket),
        Access::Caller => find_as_caller(cx, &at.bucket, &at.key, operation).await?,
    };
    readable(cx, at, object.ok_or(Error::NoSuchKey)?).await
}

/// The object as the caller's policies show it.
pub(crate) async fn find_as_caller(
    cx: &Cx,
    bucket: &BucketId,
    key: &ObjectKey,
    operation: &'static str,
) -> Result<Option<Object>, Error> {
    let rows = cx.database.read(&cx.session(operation), vec![object::object_find(bucket, key)]).await?;
    match rows.first().and_then(|rows| rows.rows.first()) {
        Some(row) => store::json(row, 0),
        None => Ok(None),
    }
}

/// Completes what a row says with where its content is.
pub(crate) async fn readable(cx: &Cx, at: &ObjectPath, object: Object) -> Result<Readable, Error> {
    // A row that SQL made has no content.
    let version = object.version.as_deref().and_then(Version::parse).ok_or(Error::NoSuchKey)?;
    let location =
        Location { project: cx.project.project_ref.clone(), bucket: at.bucket.clone(), key: at.key.clone(), version };
    let content = match Content::read(object.metadata.as_ref(), location.version.as_str()) {
        Some(content) => content,
        // Rows of other origin may not know.
        None => {
            let size = cx.shared.backend.size(&location).await?;
            let known = serde_json::Map::from_iter([("size".to_owned(), size.into())]);
            Content::read(Some(&known), location.version.as_str()).ok_or(Error::NoSuchKey)?
        }
    };
    Ok(Readable { object, content, location })
}

pub(crate) async fn respond(cx: &Cx, found: &Readable, expires: Option<i64>) -> Result<Response, Error> {
    let (content, modified) = (&found.content, found.object.modified.unwrap_or_default());
    let request = &cx.parts.headers;
    let mut response = Response::new(Body::empty());
    describe(&mut response, found, expires, cx.query("download").as_deref());
    match conditional::outcome(request, &content.etag, modified) {
        Outcome::Send => {}
        Outcome::NotModified => {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return Ok(response);
        }
        Outcome::Failed => return Err(Error::PreconditionFailed),
    }
    let range = match asked(request, content, modified) {
        Asked::Whole => 0..content.size,
        Asked::Part { start, end } => {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let value = format!("bytes {start}-{}/{}", end.saturating_sub(1), content.size);
            set(&mut response, header::CONTENT_RANGE, &value);
            start..end
        }
        Asked::Unsatisfiable => return Err(Error::InvalidRange { size: content.size }),
    };
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(range.end - range.start));
    if cx.parts.method != Method::HEAD && !range.is_empty() {
        let body = match cx.shared.backend.open(&found.location, range).await {
            Err(BackendError::Missing) => return Err(Error::FileMissing),
            body => body?,
        };
        *response.body_mut() = body;
    }
    Ok(response)
}

fn asked(request: &HeaderMap, content: &Content, modified: i64) -> Asked {
    match request.get(header::RANGE).map(|value| value.to_str()) {
        Some(Ok(range)) if conditional::range_counts(request, &content.etag, modified) => {
            range::asked(range, content.size)
        }
        _ => Asked::Whole,
    }
}

/// The headers that say what the content is.
pub(crate) fn describe(response: &mut Response, found: &Readable, expires: Option<i64>, download: Option<&str>) {
    let content = &found.content;
    let (mime, opens) = served_type(&content.mime_type);
    response.headers_mut().insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    response.headers_mut().insert("x-robots-tag", HeaderValue::from_static("none"));
    set(response, header::CONTENT_TYPE, &mime);
    set(response, header::ETAG, &content.etag);
    set(response, header::LAST_MODIFIED, &http_date(found.object.modified.unwrap_or_default()));
    for (name, value) in [
        (header::CONTENT_ENCODING, &content.headers.encoding),
        (header::CONTENT_LANGUAGE, &content.headers.language),
        (header::EXPIRES, &content.headers.expires),
    ] {
        if let Some(value) = value {
            set(response, name, value);
        }
    }
    match expires {
        Some(at) => set(response, header::EXPIRES, &http_date(at)),
        None => set(response, header::CACHE_CONTROL, &content.cache_control),
    }
    match download {
        Some("") => set(response, header::CONTENT_DISPOSITION, "attachment;"),
        Some(name) => {
            let name = utf8_percent_encode(name, &COMPONENT);
            let value = format!("attachment; filename={name}; filename*=UTF-8''{name}");
            set(response, header::CONTENT_DISPOSITION, &value);
        }
        None => {
            let stored = content.headers.disposition.as_deref();
            // What a browser would run is saved, not opened; a page still can show it as an image.
            if let Some(value) = stored.filter(|stored| opens || saves(stored)).or((!opens).then_some("attachment")) {
                set(response, header::CONTENT_DISPOSITION, value);
            }
        }
    }
}

/// Whether a `Content-Disposition` has a browser save what comes.
pub(crate) fn saves(disposition: &str) -> bool {
    disposition.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("attachment")
}

/// The type a content is sent with, and whether a browser may open it: what it would run as a page never is one.
pub(crate) fn served_type(mime: &str) -> (Cow<'_, str>, bool) {
    let essence = crate::mime::essence(mime);
    // A row may have been written by SQL: what is no one type is none.
    if mime.contains(',') || !essence.contains('/') {
        return ("application/octet-stream".into(), true);
    }
    if essence.contains("text/html") {
        // As upstream does.
        return ("text/plain".into(), true);
    }
    let runs = essence.ends_with("xml") || essence.contains("xhtml") || essence.contains("xsl");
    (mime.into(), !runs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_not_opened() {
        let check = |mime: &str, sent: &str, opens: bool| {
            assert_eq!(served_type(mime), (sent.into(), opens), "{mime}");
        };
        check("image/png", "image/png", true);
        check("text/plain;charset=UTF-8", "text/plain;charset=UTF-8", true);
        check("text/html; charset=utf-8", "text/plain", true);
        check("TEXT/HTML", "text/plain", true);
        check("image/png;, text/html", "application/octet-stream", true);
        check("image", "application/octet-stream", true);
        check("image/svg+xml", "image/svg+xml", false);
        check("application/xhtml+xml", "application/xhtml+xml", false);
        check("text/xml", "text/xml", false);
    }
}
