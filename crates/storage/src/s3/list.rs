//! Listings of a bucket over S3: both versions, with delimiters and pages.

use axum::response::Response;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;

use super::bucket::{Owner, check_visible};
use super::error::S3Error;
use super::{S3Cx, timestamp, xml};
use crate::content::Content;
use crate::key::{BucketId, LONGEST_KEY};
use crate::store;
use crate::store::listing::{Entry, list_flat, list_folded};

/// Entries of one listing.
const MOST_ENTRIES: u64 = 1_000;
/// What `encoding-type=url` leaves as it is.
const URL: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'*').remove(b'/');

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ContentsElement {
    key: String,
    last_modified: String,
    #[serde(rename = "ETag")]
    etag: String,
    size: u64,
    storage_class: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<Owner>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct PrefixElement {
    prefix: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Listing {
    name: String,
    prefix: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    delimiter: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    marker: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_marker: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_after: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    continuation_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_continuation_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_count: Option<usize>,
    max_keys: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    encoding_type: Option<&'static str>,
    is_truncated: bool,
    #[serde(rename = "Contents")]
    contents: Vec<ContentsElement>,
    #[serde(rename = "CommonPrefixes")]
    common_prefixes: Vec<PrefixElement>,
}

/// What both versions ask for.
struct Asked {
    prefix: String,
    delimiter: Option<String>,
    max_keys: u64,
    encodes: bool,
}

impl Asked {
    fn read(s3: &S3Cx) -> Result<Self, S3Error> {
        let max_keys = match s3.query("max-keys").map(|text| text.parse::<u64>()) {
            None => MOST_ENTRIES,
            Some(Ok(most)) => most.min(MOST_ENTRIES),
            Some(Err(_)) => return Err(S3Error::InvalidArgument("max-keys must be a number of at least 0")),
        };
        let encodes = match s3.query("encoding-type").as_deref() {
            None => false,
            Some("url") => true,
            Some(_) => return Err(S3Error::InvalidArgument("Invalid Encoding Method specified in Request")),
        };
        Ok(Self {
            prefix: name(s3, "prefix")?,
            delimiter: Some(name(s3, "delimiter")?).filter(|d| !d.is_empty()),
            max_keys,
            encodes,
        })
    }

    fn encoded(&self, text: &str) -> String {
        if self.encodes { utf8_percent_encode(text, &URL).to_string() } else { text.to_owned() }
    }

    /// Where a list goes on behind `last`, in the order of bytes. No key has a control character or anything beyond ASCII,
    /// so that these are neighbours: what follows an object is what is not it, what follows a folder is not in it.
    fn behind(&self, last: &str) -> String {
        match &self.delimiter {
            _ if last.is_empty() => String::new(),
            Some(delimiter) if last.ends_with(delimiter.as_str()) && last.len() > self.prefix.len() => {
                format!("{last}\u{10ffff}")
            }
            _ => format!("{last}\u{1}"),
        }
    }
}

/// A parameter that is a part of a key.
fn name(s3: &S3Cx, parameter: &str) -> Result<String, S3Error> {
    let text = s3.query(parameter).unwrap_or_default();
    match text.len() > LONGEST_KEY || text.contains('\0') {
        true => Err(S3Error::InvalidArgument("A prefix, delimiter or marker that no key can have")),
        false => Ok(text),
    }
}

/// One page.
struct Page {
    entries: Vec<Entry>,
    /// The last key or folder, when there is more.
    last: Option<String>,
}

async fn page(s3: &S3Cx, bucket: &BucketId, asked: &Asked, after: &str) -> Result<Page, S3Error> {
    check_visible(s3, bucket).await?;
    if asked.max_keys == 0 {
        return Ok(Page { entries: Vec::new(), last: None });
    }
    let after = asked.behind(after);
    let statement = match &asked.delimiter {
        None => list_flat(bucket, &asked.prefix, &after, asked.max_keys + 1),
        Some(delimiter) => list_folded(bucket, &asked.prefix, delimiter, &after, asked.max_keys + 1),
    };
    let rows = s3.cx.database.read(&s3.cx.session(s3.operation), vec![statement]).await?;
    let mut entries: Vec<Entry> = match rows.first().and_then(|rows| rows.rows.first()) {
        Some(row) => store::json(row, 0)?.unwrap_or_default(),
        None => Vec::new(),
    };
    for entry in &mut entries {
        if entry.id.is_none()
            && let Some(delimiter) = &asked.delimiter
        {
            entry.name.push_str(delimiter);
        }
    }
    let more = entries.len() as u64 > asked.max_keys;
    entries.truncate(usize::try_from(asked.max_keys).unwrap_or(usize::MAX));
    let last = entries.last().filter(|_| more).map(|entry| entry.name.clone());
    Ok(Page { entries, last })
}

fn listing(s3: &S3Cx, bucket: &BucketId, asked: &Asked, page: Page, owners: bool) -> Listing {
    let (mut contents, mut common_prefixes) = (Vec::new(), Vec::new());
    for entry in page.entries {
        let key = asked.encoded(&entry.name);
        if entry.id.is_none() {
            common_prefixes.push(PrefixElement { prefix: key });
            continue;
        }
        let content = Content::read(entry.metadata.as_ref(), entry.version.as_deref().unwrap_or_default());
        contents.push(ContentsElement {
            key,
            last_modified: timestamp(entry.modified.unwrap_or_default()),
            etag: content.as_ref().map(|content| content.etag.clone()).unwrap_or_default(),
            size: content.map(|content| content.size).unwrap_or_default(),
            storage_class: "STANDARD",
            owner: owners.then(|| Owner::of(s3)),
        });
    }
    Listing {
        name: bucket.as_str().to_owned(),
        prefix: asked.encoded(&asked.prefix),
        delimiter: asked.delimiter.as_deref().map(|delimiter| asked.encoded(delimiter)),
        marker: None,
        next_marker: None,
        start_after: None,
        continuation_token: None,
        next_continuation_token: None,
        key_count: None,
        max_keys: asked.max_keys,
        encoding_type: asked.encodes.then_some("url"),
        is_truncated: page.last.is_some(),
        contents,
        common_prefixes,
    }
}

pub(super) async fn list_objects(s3: &S3Cx, bucket: &BucketId) -> Result<Response, S3Error> {
    let asked = Asked::read(s3)?;
    let marker = name(s3, "marker")?;
    let page = page(s3, bucket, &asked, &marker).await?;
    let last = page.last.clone();
    let mut listing = listing(s3, bucket, &asked, page, true);
    listing.marker = Some(asked.encoded(&marker));
    // Without a delimiter the last key itself says where to go on.
    listing.next_marker = last.filter(|_| asked.delimiter.is_some()).map(|last| asked.encoded(&last));
    xml::answer("ListBucketResult", &listing)
}

pub(super) async fn list_objects_v2(s3: &S3Cx, bucket: &BucketId) -> Result<Response, S3Error> {
    let asked = Asked::read(s3)?;
    let start_after = name(s3, "start-after")?;
    let token = s3.query("continuation-token");
    let after = match &token {
        None => start_after.clone(),
        Some(token) => {
            let decoded = BASE64_URL_SAFE_NO_PAD.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let decoded = decoded.filter(|text| text.len() <= LONGEST_KEY && !text.contains('\0'));
            decoded.ok_or(S3Error::InvalidArgument("The continuation token provided is incorrect"))?
        }
    };
    let page = page(s3, bucket, &asked, &after).await?;
    let last = page.last.clone();
    let owners = s3.query("fetch-owner").as_deref() == Some("true");
    let mut listing = listing(s3, bucket, &asked, page, owners);
    listing.key_count = Some(listing.contents.len() + listing.common_prefixes.len());
    listing.start_after = Some(start_after).filter(|text| !text.is_empty()).map(|text| asked.encoded(&text));
    listing.continuation_token = token;
    listing.next_continuation_token = last.map(|last| BASE64_URL_SAFE_NO_PAD.encode(last));
    xml::answer("ListBucketResult", &listing)
}
