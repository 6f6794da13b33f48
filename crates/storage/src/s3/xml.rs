//! XML of answers and requests. Names of elements are S3's own.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, header};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::error::S3Error;
use crate::error::Error;

const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";
const DECLARATION: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";

/// Renders an answer whose root element is called `root`.
pub(crate) fn answer<T: Serialize>(root: &str, content: &T) -> Result<Response, S3Error> {
    let rendered = quick_xml::se::to_string_with_root(root, content);
    let rendered = rendered.map_err(|_| Error::Internal("an answer that is no XML"))?;
    // The root element begins the text; it is the only one with an attribute.
    let rest = rendered.strip_prefix('<').and_then(|text| text.strip_prefix(root)).unwrap_or_default();
    let text = format!("{DECLARATION}<{root} xmlns=\"{NAMESPACE}\"{rest}");
    let mut response = Response::new(Body::from(text));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    Ok(response)
}

/// The body of an error.
pub(crate) fn error(code: &str, message: &str, resource: &str, request_id: &str) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Content<'a> {
        code: &'a str,
        message: &'a str,
        resource: &'a str,
        request_id: &'a str,
    }
    let content = Content { code, message, resource, request_id };
    let rendered = quick_xml::se::to_string_with_root("Error", &content);
    format!("{DECLARATION}{}", rendered.unwrap_or_else(|_| format!("<Error><Code>{code}</Code></Error>"))).into_bytes()
}

/// Reads a request's body.
pub(crate) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, S3Error> {
    let text = std::str::from_utf8(body).map_err(|_| S3Error::MalformedXml)?;
    quick_xml::de::from_str(text).map_err(|_| S3Error::MalformedXml)
}

/// Body of `DeleteObjects`.
#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(rename = "Delete", rename_all = "PascalCase")]
pub(crate) struct Delete {
    #[serde(rename = "Object", default)]
    pub(crate) objects: Vec<DeleteEntry>,
    #[serde(default)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct DeleteEntry {
    pub(crate) key: String,
    pub(crate) version_id: Option<String>,
    #[serde(rename = "ETag")]
    pub(crate) etag: Option<String>,
}

/// Body of `CompleteMultipartUpload`.
#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(rename = "CompleteMultipartUpload")]
pub(crate) struct CompleteMultipartUpload {
    #[serde(rename = "Part", default)]
    pub(crate) parts: Vec<CompletedPart>,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
pub(crate) struct CompletedPart {
    #[serde(rename = "PartNumber")]
    pub(crate) number: u32,
    #[serde(rename = "ETag")]
    pub(crate) etag: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_however_they_are_written() {
        let text = br#"<?xml version="1.0" encoding="UTF-8"?>
            <Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
              <Object><Key>a &amp; b</Key></Object><Quiet>true</Quiet><Object><Key>c</Key></Object>
            </Delete>"#;
        // Elements of one name may stand apart.
        let delete: Delete = read(text).unwrap();
        let entry = |key: &str| DeleteEntry { key: key.into(), version_id: None, etag: None };
        assert_eq!(delete, Delete { objects: vec![entry("a & b"), entry("c")], quiet: true });
        let text = br#"<CompleteMultipartUpload><Part><ETag>"abc-1"</ETag><PartNumber>1</PartNumber>
            <ChecksumCRC32>AAAAAA==</ChecksumCRC32></Part></CompleteMultipartUpload>"#;
        let complete: CompleteMultipartUpload = read(text).unwrap();
        assert_eq!(complete.parts, [CompletedPart { number: 1, etag: "\"abc-1\"".into() }]);
    }

    #[test]
    fn what_is_no_such_xml_is_refused() {
        let nested = "<Delete>".repeat(20_000);
        let entities =
            "<!DOCTYPE d [<!ENTITY a \"x\"><!ENTITY b \"&a;&a;\">]><Delete><Object><Key>&b;</Key></Object></Delete>";
        for bad in ["", "<", "<Delete>", "<Delete><Object></Object></Delete>", "{}", "\u{0}", &*nested, entities] {
            assert!(read::<Delete>(bad.as_bytes()).is_err(), "{:?}", &bad[..bad.len().min(60)]);
        }
        assert!(read::<Delete>(b"\xff\xfe").is_err());
    }

    #[test]
    fn errors_are_escaped() {
        let body = String::from_utf8(error("NoSuchKey", "a <b> & c", "/x/\"y\"", "id-1")).unwrap();
        assert!(body.starts_with(DECLARATION), "{body}");
        assert!(body.contains("<Code>NoSuchKey</Code><Message>a &lt;b&gt; &amp; c</Message>"), "{body}");
        assert!(body.ends_with("<RequestId>id-1</RequestId></Error>"), "{body}");
    }
}
