//! What a row says of an object's content: upstream's `metadata` column, and the headers made of it.

use base::calendar::civil_date;
use serde_json::{Map, Value, json};

use crate::backend::Digest;

/// What the uploader says of a content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ContentInfo {
    pub(crate) mime_type: String,
    pub(crate) cache_control: String,
}

/// The `metadata` of a content that was received.
pub(crate) fn metadata(info: &ContentInfo, digest: &Digest, unix_seconds: i64) -> Value {
    json!({
        "eTag": digest.etag(),
        "size": digest.size,
        "mimetype": info.mime_type,
        "cacheControl": info.cache_control,
        "lastModified": iso_8601(unix_seconds),
        "contentLength": digest.size,
        "httpStatusCode": 200,
    })
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
    pub(crate) mime_type: String,
    pub(crate) cache_control: String,
}

impl Content {
    /// None when the row does not say how long the content is.
    pub(crate) fn read(metadata: Option<&Map<String, Value>>, version: &str) -> Option<Self> {
        let metadata = metadata?;
        let size = metadata.get("size").or_else(|| metadata.get("contentLength"));
        let size = size.and_then(|size| size.as_u64().or_else(|| size.as_str()?.parse().ok()))?;
        let text = |name: &str| metadata.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        Some(Self {
            size,
            etag: text("eTag").map_or_else(|| format!("\"{version}\""), quoted),
            mime_type: text("mimetype").unwrap_or("application/octet-stream").to_owned(),
            cache_control: text("cacheControl").unwrap_or("no-cache").to_owned(),
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
        let info = ContentInfo { mime_type: "image/png".into(), cache_control: "max-age=60".into() };
        let digest = Digest { size: 5, md5: [0xab; 16] };
        let written = metadata(&info, &digest, 1_000_000_000);
        assert_eq!(written["lastModified"], "2001-09-09T01:46:40.000Z");
        let full = read(written).unwrap();
        assert_eq!(full.etag, digest.etag());
        assert_eq!((full.size, &*full.mime_type, &*full.cache_control), (5, "image/png", "max-age=60"));
    }
}
