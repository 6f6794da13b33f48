//! Headers of TUS 1.0. Pure.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use crate::content::ContentInfo;
use crate::error::Error;
use crate::key::{BucketId, ObjectKey};
use crate::route::ObjectPath;

/// Longest `Upload-Metadata`, in bytes.
const LONGEST: usize = 16 * 1024;
/// Names in it.
const MOST_NAMES: usize = 64;

/// What an upload says of itself when it is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Announced {
    pub(crate) at: ObjectPath,
    pub(crate) info: ContentInfo,
    pub(crate) user_metadata: Option<Value>,
}

fn malformed() -> Error {
    Error::InvalidParameter("Invalid Upload-Metadata header".into())
}

/// Reads `Upload-Metadata`: names with values in base64, between commas.
pub(crate) fn announced(header: &str) -> Result<Announced, Error> {
    if header.len() > LONGEST {
        return Err(malformed());
    }
    let mut pairs: Vec<(&str, String)> = Vec::new();
    for part in header.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once(' ').unwrap_or((part, ""));
        let value = BASE64_STANDARD.decode(value.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let is_new = pairs.iter().all(|(known, _)| *known != name);
        match value {
            Some(value) if is_new && pairs.len() < MOST_NAMES => pairs.push((name, value)),
            _ => return Err(malformed()),
        }
    }
    let text = |name: &str| {
        pairs
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    };
    let bucket = text("bucketName").and_then(BucketId::parse).ok_or(Error::InvalidBucketName)?;
    let key = text("objectName").unwrap_or_default();
    let key = ObjectKey::parse(key)
        .ok_or_else(|| Error::InvalidKey(key.chars().filter(|c| !c.is_control()).take(200).collect()))?;
    let cache_control = match text("cacheControl") {
        Some(seconds) if seconds.bytes().all(|b| b.is_ascii_digit()) => format!("max-age={seconds}"),
        _ => "no-cache".to_owned(),
    };
    let mime_type = text("contentType").unwrap_or("application/octet-stream").to_owned();
    let user_metadata = text("metadata").and_then(|text| serde_json::from_str(text).ok()).filter(Value::is_object);
    Ok(Announced { at: ObjectPath { bucket, key }, info: ContentInfo::new(mime_type, cache_control), user_metadata })
}

/// The length that an upload announces: a number, or later (`Upload-Defer-Length: 1`).
pub(crate) fn length(upload_length: Option<&str>, defer: Option<&str>) -> Result<Option<u64>, Error> {
    match (upload_length, defer) {
        (Some(length), None) => number(length).map(Some).ok_or_else(|| bad("Upload-Length")),
        (None, Some("1")) => Ok(None),
        (None, Some(_)) => Err(bad("Upload-Defer-Length")),
        _ => Err(Error::InvalidRequest("Upload-Length or Upload-Defer-Length header required".into())),
    }
}

/// A header that has to be a whole number.
pub(crate) fn required_number(value: Option<&str>, name: &'static str) -> Result<u64, Error> {
    value.and_then(number).ok_or_else(|| bad(name))
}

fn number(text: &str) -> Option<u64> {
    // Not a sign, which `parse` would take.
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn bad(name: &'static str) -> Error {
    Error::InvalidRequest(format!("{name} header is missing or invalid").into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn encoded(pairs: &[(&str, &str)]) -> String {
        let pairs: Vec<String> =
            pairs.iter().map(|(name, value)| format!("{name} {}", BASE64_STANDARD.encode(value))).collect();
        pairs.join(",")
    }

    #[test]
    fn metadata_names_the_object() {
        let read = |pairs: &[(&str, &str)]| announced(&encoded(pairs));
        let found = read(&[
            ("bucketName", "b"),
            ("objectName", "a/c.png"),
            ("contentType", "image/png"),
            ("cacheControl", "60"),
            ("metadata", "{\"x\":1}"),
            ("other", ""),
        ])
        .unwrap();
        assert_eq!((found.at.bucket.as_str(), found.at.key.as_str()), ("b", "a/c.png"));
        assert_eq!((&*found.info.mime_type, &*found.info.cache_control), ("image/png", "max-age=60"));
        assert_eq!(found.user_metadata, Some(json!({"x": 1})));
        let poor =
            read(&[("bucketName", "b"), ("objectName", "a"), ("cacheControl", "x"), ("metadata", "no json")]).unwrap();
        assert_eq!((&*poor.info.mime_type, &*poor.info.cache_control), ("application/octet-stream", "no-cache"));
        assert_eq!(poor.user_metadata, None);
        assert!(matches!(read(&[("objectName", "a")]), Err(Error::InvalidBucketName)));
        assert!(matches!(read(&[("bucketName", "b")]), Err(Error::InvalidKey(_))));
        assert!(matches!(read(&[("bucketName", "b"), ("objectName", "../a")]), Err(Error::InvalidKey(_))));
        assert!(matches!(read(&[("bucketName", ".."), ("objectName", "a")]), Err(Error::InvalidBucketName)));
        for bad in ["bucketName b", "bucketName %%%", "a YQ==,a YQ==", &"a".repeat(LONGEST + 1)] {
            assert!(matches!(announced(bad), Err(Error::InvalidParameter(_))), "{bad}");
        }
    }

    #[test]
    fn lengths_are_whole_numbers_or_come_later() {
        let check = |upload_length, defer, expected: Option<Option<u64>>| {
            assert_eq!(length(upload_length, defer).ok(), expected, "{upload_length:?} {defer:?}");
        };
        check(Some("5"), None, Some(Some(5)));
        check(Some("0"), None, Some(Some(0)));
        check(None, Some("1"), Some(None));
        check(None, Some("2"), None);
        check(None, None, None);
        check(Some("5"), Some("1"), None);
        for bad in ["", "-1", "+1", "1.5", "x", "99999999999999999999999"] {
            check(Some(bad), None, None);
        }
    }

    /// Whatever comes in, a key that comes out is one.
    #[test]
    fn no_header_names_anything_else() {
        let mut seed = 11_u64;
        let mut next = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from((seed >> 33) % below).unwrap()
        };
        const NAMES: [&str; 5] = ["bucketName", "objectName", "contentType", "metadata", ""];
        const VALUES: [&str; 8] = ["b", "..", "a/../b", "%2e", "", "\0", "ä", "a b"];
        for _ in 0..20_000 {
            let parts: Vec<String> = (0..next(5))
                .map(|_| {
                    let value = VALUES[next(8)];
                    let value = if next(4) == 0 { value.to_owned() } else { BASE64_STANDARD.encode(value) };
                    format!("{}{}{value}", NAMES[next(5)], ["", " ", "  "][next(3)])
                })
                .collect();
            if let Ok(found) = announced(&parts.join([",", ", ", ";"][next(3)])) {
                assert_eq!(ObjectKey::parse(found.at.key.as_str()).as_ref(), Some(&found.at.key));
                assert!(!found.at.key.segments().any(|segment| matches!(segment, "." | "..")));
            }
        }
    }
}
