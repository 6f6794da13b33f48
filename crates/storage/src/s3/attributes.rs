//! `GetObjectAttributes`: what `HEAD` tells, as XML.

use axum::response::Response;
use http::header;
use serde::Serialize;

use super::error::S3Error;
use super::object::find;
use super::{S3Cx, xml};
use crate::conditional::{self, Outcome, http_date};
use crate::error::Error;
use crate::request::set;
use crate::route::ObjectPath;

#[derive(Serialize)]
struct ObjectParts {
    /// `TotalPartsCount` is what the SDKs call it.
    #[serde(rename = "PartsCount")]
    count: u32,
}

#[derive(Default, Serialize)]
struct Attributes {
    #[serde(rename = "ETag", skip_serializing_if = "Option::is_none")]
    etag: Option<String>,
    #[serde(rename = "ObjectParts", skip_serializing_if = "Option::is_none")]
    parts: Option<ObjectParts>,
    #[serde(rename = "StorageClass", skip_serializing_if = "Option::is_none")]
    storage_class: Option<&'static str>,
    #[serde(rename = "ObjectSize", skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
}

pub(super) async fn get_object_attributes(s3: &S3Cx, at: &ObjectPath) -> Result<Response, S3Error> {
    let headers = &s3.cx.parts.headers;
    let asked = headers.get_all("x-amz-object-attributes").iter().filter_map(|value| value.to_str().ok());
    let asked: Vec<&str> = asked.flat_map(|list| list.split(',')).map(str::trim).collect();
    const KNOWN: [&str; 5] = ["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"];
    if asked.is_empty() || !asked.iter().all(|name| KNOWN.contains(name)) {
        return Err(S3Error::InvalidArgument("Invalid attribute name specified"));
    }
    let found = find(s3, at).await?;
    let modified = found.object.modified.unwrap_or_default();
    if conditional::outcome(headers, &found.content.etag, modified) != Outcome::Send {
        return Err(Error::PreconditionFailed.into());
    }
    let etag = found.content.etag.trim_matches('"');
    let has = |name: &str| asked.contains(&name);
    // Checksums are not kept, and of parts only how many there were.
    let content = Attributes {
        etag: has("ETag").then(|| etag.to_owned()),
        parts: found.content.parts.filter(|_| has("ObjectParts")).map(|count| ObjectParts { count }),
        storage_class: has("StorageClass").then_some("STANDARD"),
        size: has("ObjectSize").then_some(found.content.size),
    };
    let mut response = xml::answer("GetObjectAttributesResponse", &content)?;
    set(&mut response, header::LAST_MODIFIED, &http_date(modified));
    Ok(response)
}
