//! What a row says of an object's content: upstream's `metadata` column, and the headers made of it.

use base::calendar::civil_date;
use serde_json::{Map, Value, json};

use crate::backend::{ContentHash, Digest};

/// What the uploader says of a content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ContentInfo {
    pub(crate) mime_type: String,
    pub(crate) cache_control: String,
    pub(crate) headers: ContentHeaders,
}

/// Headers that come back with a content as they were sent. Only S3 clients can say them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ContentHeaders {
    pub(crate) encoding: Option<String>,
    pub(crate) disposition: Option<String>,
    pub(crate) language: Option<String>,
    pub(crate) expires: Option<String>,
}

impl ContentHeaders {
    fn named(&self) -> [(&'static str, &Option<String>); 4] {
        [
            ("contentEncoding", &self.encoding),
            ("contentDisposition", &self.disposition),
            ("contentLanguage", &self.language),
            ("expires", &self.expires),
        ]
    }

    /// Puts them into a row's metadata, in place of those that are there.
    pub(crate) fn write(&self, metadata: &mut Map<String, Value>) {
        for (name, value) in self.named() {
            match value {
                Some(value) => drop(metadata.insert(name.to_owned(), value.as_str().into())),
                None => drop(metadata.remove(name)),
            }
        }
    }

    fn read(metadata: &Map<String, Value>) -> Self {
        let text = |name: &str| metadata.get(name).and_then(Value::as_str).map(str::to_owned);
        Self {
            encoding: text("contentEncoding"),
            disposition: text("contentDisposition"),
            language: text("contentLanguage"),
            expires: text("expires"),
        }
    }
}

impl ContentInfo {
    pub(crate) fn new(mime_type: impl Into<String>, cache_control: impl Into<String>) -> Self {
        Self { mime_type: mime_type.into(), cache_control: cache_control.into(), headers: ContentHeaders::default() }
    }

    /// What is known before the content has come, as `metadata` holds it.
    pub(crate) fn to_metadata(&self) -> Map<String, Value> {
        let mut map = Map::new();
        map.insert("mimetype".to_owned(), self.mime_type.as_str().into());
        map.insert("cacheControl".to_owned(), self.cache_control.as_str().into());
        self.headers.write(&mut map);
        map
    }

    /// What [`Self::to_metadata`] made.
    pub(crate) fn of_metadata(map: &Map<String, Value>) -> Self {
        let text = |name: &str, default: &str| map.get(name).and_then(Value::as_str).unwrap_or(default).to_owned();
        Self {
            mime_type: text("mimetype", "application/octet-stream"),
            cache_control: text("cacheControl", "no-cache"),
            headers: ContentHeaders::read(map),
        }
    }
}

/// The `metadata` of a content that was received.
pub(crate) fn metadata(info: &ContentInfo, digest: &Digest, unix_seconds: i64) -> Map<String, Value> {
    let mut map = info.to_metadata();
    if let ContentHash::Blake3(_) = digest.hash {
        map.insert("contentBlake3".to_owned(), digest.hash.to_hex().into());
    }
    for (name, value) in [
        ("eTag", Value::from(digest.etag())),
        ("size", digest.size.into()),
        ("lastModified", iso_8601(unix_seconds).into()),
        ("contentLength", digest.size.into()),
        ("httpStatusCode", 200.into()),
    ] {
        map.insert(name.to_owned(), value);
    }
    map
}

/// What policies may see of a content that is still to come.
pub(crate) fn announced(info: &ContentInfo, length: Option<u64>) -> Value {
    json!({"mimetype": info.mime_type, "contentLength": length, "size": length, "cacheControl": info.cache_control})
}

/// A content as its row describes it. Rows of other origin may lack anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) size: u64,
    /// With its quotes.
    pub(crate) etag: String,
    /// How many parts of the S3 protocol it came in, as its entity tag says; none of other contents.
    pub(crate) parts: Option<u32>,
    pub(crate) mime_type: String,
    pub(crate) cache_control: String,
    pub(crate) headers: ContentHeaders,
}

impl Content {
    /// None when the row does not say how long the content is.
    pub(crate) fn read(metadata: Option<&Map<String, Value>>, version: &str) -> Option<Self> {
        let metadata = metadata?;
        let size = metadata.get("size").or_else(|| metadata.get("contentLength"));
        let size = size.and_then(|size| size.as_u64().or_else(|| size.as_str()?.parse().ok()))?;
        let text = |name: &str| metadata.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let hash = ContentHash::of_row(text("contentBlake3"), None);
        let parts =
            text("eTag").map(|etag| etag.trim_matches('"')).filter(|tag| hash.is_none_or(|hash| hash.tag() != *tag));
        Some(Self {
            size,
            etag: text("eTag").map_or_else(|| format!("\"{version}\""), quoted),
            parts: parts.and_then(|tag| tag.rsplit_once('-')?.1.parse().ok()),
            mime_type: text("mimetype").unwrap_or("application/octet-stream").to_owned(),
            cache_control: text("cacheControl").unwrap_or("no-cache").to_owned(),
            headers: ContentHeaders::read(metadata),
        })
    }
}

fn quoted(etag: &str) -> String {
    if etag.starts_with('"') || etag.starts_with("W/") { etag.to_owned() } else { format!("\"{etag}\"") }
}

/// Unix seconds as JavaScript writes a date.
pub(crate) fn iso_8601(unix_seconds: i64) -> String {
    let (year, month, day) = civil_date(unix_seconds.div_euclid(86_400));
    let of_day = unix_seconds.rem_euclid(86_400);
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.000Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_any_origin_are_read() {
        let read = |value: Value| Content::read(value.as_object(), "v1");
        assert_eq!(read(json!({})), None);
        assert_eq!(read(json!({"size": -1})), None);
        let poor = read(json!({"size": 3})).unwrap();
        assert_eq!((poor.size, &*poor.etag, &*poor.mime_type), (3, "\"v1\"", "application/octet-stream"));
        let mut info = ContentInfo::new("image/png", "max-age=60");
        info.headers.encoding = Some("gzip".into());
        let digest = Digest { size: 5, hash: ContentHash::Blake3([0xab; 32]) };
        let written = metadata(&info, &digest, 1_000_000_000);
        assert_eq!(written["lastModified"], "2001-09-09T01:46:40.000Z");
        assert_eq!(ContentInfo::of_metadata(&written), info);
        let full = read(written.into()).unwrap();
        assert_eq!(full.etag, digest.etag());
        assert_eq!((full.size, &*full.mime_type, &*full.cache_control), (5, "image/png", "max-age=60"));
        assert_eq!(full.headers, info.headers);
        for (metadata, parts) in [
            (json!({"size": 1, "eTag": digest.etag(), "contentBlake3": digest.hash.to_hex()}), None),
            (json!({"size": 1, "eTag": digest.etag()}), Some(1)),
            (json!({"size": 1, "eTag": "\"0123-2\"", "contentBlake3": digest.hash.to_hex()}), Some(2)),
            (json!({"size": 1, "eTag": "\"0123\""}), None),
            (json!({"size": 1}), None),
        ] {
            assert_eq!(read(metadata.clone()).unwrap().parts, parts, "{metadata}");
        }
    }
}
