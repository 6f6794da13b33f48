//! From method, path, query and headers to what S3 is asked to do. Pure.
//!
//! Buckets are in the path (`/<bucket>/<key>`). A word in the query names the part of a bucket or object that is meant
//! (`?uploads`, `?tagging`); those that this server has nothing for are told apart from those that nobody knows.

use http::{HeaderMap, Method};
use percent_encoding::percent_decode_str;

use super::error::S3Error;
use super::settings::{self, Setting};
use super::sigv4::pairs;
use crate::key::{BucketId, ObjectKey};
use crate::route::ObjectPath;

/// Most parts of an upload.
pub(crate) const MOST_PARTS: u32 = 10_000;

/// An upload in parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UploadPath {
    pub(crate) at: ObjectPath,
    pub(crate) upload_id: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    ListBuckets,
    CreateBucket(BucketId),
    DeleteBucket(BucketId),
    HeadBucket(BucketId),
    GetBucketLocation(BucketId),
    GetBucketVersioning(BucketId),
    GetBucketSetting(BucketId, Setting),
    ListObjects(BucketId),
    ListObjectsV2(BucketId),
    ListMultipartUploads(BucketId),
    DeleteObjects(BucketId),
    PutObject(ObjectPath),
    CopyObject(ObjectPath),
    GetObject(ObjectPath),
    HeadObject(ObjectPath),
    DeleteObject(ObjectPath),
    GetObjectAttributes(ObjectPath),
    GetObjectSetting(ObjectPath, Setting),
    GetObjectTagging(ObjectPath),
    CreateMultipartUpload(ObjectPath),
    UploadPart { upload: UploadPath, number: u32 },
    UploadPartCopy { upload: UploadPath, number: u32 },
    CompleteMultipartUpload(UploadPath),
    AbortMultipartUpload(UploadPath),
    ListParts(UploadPath),
}

impl Operation {
    /// What policies read as `storage.operation()`.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::ListBuckets => "storage.s3.bucket.list",
            Self::CreateBucket(_) => "storage.s3.bucket.create",
            Self::DeleteBucket(_) => "storage.s3.bucket.delete",
            Self::HeadBucket(_) => "storage.s3.bucket.get",
            Self::GetBucketLocation(_) => "storage.s3.bucket.get_location",
            Self::GetBucketVersioning(_) => "storage.s3.bucket.get_versioning",
            Self::GetBucketSetting(..) => "storage.s3.bucket.get",
            Self::ListObjects(_) | Self::ListObjectsV2(_) => "storage.s3.object.list",
            Self::ListMultipartUploads(_) => "storage.s3.upload.list",
            Self::DeleteObjects(_) => "storage.s3.object.delete_many",
            Self::PutObject(_) => "storage.s3.upload",
            Self::CopyObject(_) => "storage.s3.object.copy",
            Self::GetObject(_) => "storage.s3.object.get",
            Self::HeadObject(_) | Self::GetObjectAttributes(_) | Self::GetObjectSetting(..) => "storage.s3.object.info",
            Self::DeleteObject(_) => "storage.s3.object.delete",
            Self::GetObjectTagging(_) => "storage.s3.object.get_tagging",
            Self::CreateMultipartUpload(_) => "storage.s3.upload.create",
            Self::UploadPart { .. } => "storage.s3.upload.part",
            Self::UploadPartCopy { .. } => "storage.s3.upload.part_copy",
            Self::CompleteMultipartUpload(_) => "storage.s3.upload.complete",
            Self::AbortMultipartUpload(_) => "storage.s3.upload.abort",
            Self::ListParts(_) => "storage.s3.upload.list_parts",
        }
    }

    /// The object that it is about; none for buckets.
    pub(crate) fn into_object(self) -> Option<ObjectPath> {
        match self {
            Self::PutObject(at)
            | Self::CopyObject(at)
            | Self::GetObject(at)
            | Self::HeadObject(at)
            | Self::DeleteObject(at)
            | Self::GetObjectAttributes(at)
            | Self::GetObjectSetting(at, _)
            | Self::GetObjectTagging(at)
            | Self::CreateMultipartUpload(at) => Some(at),
            Self::UploadPart { upload, .. }
            | Self::UploadPartCopy { upload, .. }
            | Self::CompleteMultipartUpload(upload)
            | Self::AbortMultipartUpload(upload)
            | Self::ListParts(upload) => Some(upload.at),
            _ => None,
        }
    }

    /// What a request asks for; `path` is relative to the protocol (`/<bucket>/<key>`), as the client wrote it.
    pub(crate) fn read(method: &Method, path: &str, query: &str, headers: &HeaderMap) -> Result<Self, S3Error> {
        let path = path.strip_prefix('/').unwrap_or(path);
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        if let Some(what) = headers.keys().find_map(|name| unsupported_header(name.as_str())) {
            return Err(S3Error::NotImplemented(what));
        }
        if !bucket.is_empty() {
            check_words(method, key.is_empty(), query)?;
        }
        if bucket.is_empty() {
            return match *method {
                Method::GET | Method::HEAD if key.is_empty() => Ok(Self::ListBuckets),
                _ => Err(S3Error::MethodNotAllowed),
            };
        }
        let bucket = decoded(bucket).and_then(|text| BucketId::parse(&text)).ok_or(S3Error::InvalidBucketName)?;
        if key.is_empty() {
            return Self::of_bucket(method, bucket, query);
        }
        let key = decoded(key).ok_or(S3Error::InvalidKey)?;
        let key = ObjectKey::parse(&key).ok_or_else(|| match key.len() > crate::key::LONGEST_KEY {
            true => S3Error::KeyTooLong,
            false => S3Error::InvalidKey,
        })?;
        Self::of_object(method, ObjectPath { bucket, key }, query, headers)
    }

    fn of_bucket(method: &Method, bucket: BucketId, query: &str) -> Result<Self, S3Error> {
        let has = |name: &str| pairs(query).any(|(key, _)| key == name);
        let v2 = || pairs(query).any(|(key, value)| key == "list-type" && value == "2");
        if *method == Method::GET
            && let Some(setting) = pairs(query).find_map(|(name, _)| settings::of_bucket(&name))
        {
            return Ok(Self::GetBucketSetting(bucket, setting));
        }
        match method.as_str() {
            "PUT" if has("versioning") => Err(S3Error::NotImplemented("Versioning of buckets")),
            "PUT" | "DELETE" if has("tagging") => Err(S3Error::NotImplemented("Tags")),
            "GET" if has("location") => Ok(Self::GetBucketLocation(bucket)),
            "GET" if has("versioning") => Ok(Self::GetBucketVersioning(bucket)),
            "GET" if has("uploads") => Ok(Self::ListMultipartUploads(bucket)),
            "GET" if v2() => Ok(Self::ListObjectsV2(bucket)),
            "GET" => Ok(Self::ListObjects(bucket)),
            "PUT" => Ok(Self::CreateBucket(bucket)),
            "HEAD" => Ok(Self::HeadBucket(bucket)),
            "DELETE" => Ok(Self::DeleteBucket(bucket)),
            "POST" if has("delete") => Ok(Self::DeleteObjects(bucket)),
            "POST" => Err(S3Error::NotImplemented("Uploading with a form")),
            _ => Err(S3Error::MethodNotAllowed),
        }
    }

    fn of_object(method: &Method, at: ObjectPath, query: &str, headers: &HeaderMap) -> Result<Self, S3Error> {
        let value = |name: &str| pairs(query).find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
        let tagging = value("tagging").is_some();
        if *method == Method::GET
            && let Some(setting) = pairs(query).find_map(|(name, _)| settings::of_object(&name))
        {
            return Ok(Self::GetObjectSetting(at, setting));
        }
        let copies = headers.contains_key("x-amz-copy-source");
        if let Some(upload_id) = value("uploadId") {
            if !upload_id.bytes().all(|b| b.is_ascii_alphanumeric()) || upload_id.is_empty() || upload_id.len() > 64 {
                return Err(S3Error::NoSuchUpload);
            }
            let upload = UploadPath { at, upload_id };
            let number = value("partNumber").map(|text| part_number(&text));
            return match (method.as_str(), number) {
                ("PUT", Some(number)) if copies => Ok(Self::UploadPartCopy { upload, number: number? }),
                ("PUT", Some(number)) => Ok(Self::UploadPart { upload, number: number? }),
                ("PUT", None) => Err(S3Error::InvalidRequest("A part needs its partNumber")),
                ("GET", _) => Ok(Self::ListParts(upload)),
                ("POST", _) => Ok(Self::CompleteMultipartUpload(upload)),
                ("DELETE", _) => Ok(Self::AbortMultipartUpload(upload)),
                _ => Err(S3Error::MethodNotAllowed),
            };
        }
        match method.as_str() {
            "GET" if value("attributes").is_some() => Ok(Self::GetObjectAttributes(at)),
            "GET" if tagging => Ok(Self::GetObjectTagging(at)),
            "PUT" | "DELETE" if tagging => Err(S3Error::NotImplemented("Tags")),
            "GET" => Ok(Self::GetObject(at)),
            "HEAD" => Ok(Self::HeadObject(at)),
            "PUT" if copies => Ok(Self::CopyObject(at)),
            "PUT" => Ok(Self::PutObject(at)),
            "DELETE" => Ok(Self::DeleteObject(at)),
            "POST" if value("uploads").is_some() => Ok(Self::CreateMultipartUpload(at)),
            _ => Err(S3Error::MethodNotAllowed),
        }
    }
}

fn decoded(text: &str) -> Option<String> {
    percent_decode_str(text).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

fn part_number(text: &str) -> Result<u32, S3Error> {
    let number = text.parse::<u32>().ok().filter(|number| (1..=MOST_PARTS).contains(number));
    number.ok_or(S3Error::InvalidArgument("Part number must be an integer between 1 and 10000, inclusive"))
}

/// Words in the query of a change that this server knows. `x-id` is what some SDKs call their operation.
const WORDS_OF_CHANGES: [&str; 7] = ["uploadId", "partNumber", "uploads", "tagging", "versioning", "versionId", "x-id"];

/// Words in the query of a bucket that is read.
const WORDS_OF_LISTS: [&str; 17] = [
    "continuation-token",
    "delimiter",
    "encoding-type",
    "fetch-owner",
    "key-marker",
    "list-type",
    "location",
    "marker",
    "max-keys",
    "max-uploads",
    "prefix",
    "start-after",
    "upload-id-marker",
    "uploads",
    "versioning",
    "versionId",
    "x-id",
];

/// Refuses what this server has not, so that a request for a part of a bucket or object never is taken for one for all of it.
fn check_words(method: &Method, is_bucket: bool, query: &str) -> Result<(), S3Error> {
    let reads = *method == Method::GET || *method == Method::HEAD;
    for (name, value) in pairs(query) {
        let setting = if is_bucket { settings::of_bucket(&name) } else { settings::of_object(&name) };
        if *method == Method::GET && setting.is_some() {
            continue;
        }
        // Where there are no versions, the one that is there is called so.
        if name == "versionId" && value == "null" {
            continue;
        }
        if let Some(what) = unsupported(&name) {
            return Err(S3Error::NotImplemented(what));
        }
        let known = match (reads, is_bucket) {
            // Links may carry whatever their makers put there.
            (true, false) => true,
            (true, true) => WORDS_OF_LISTS.contains(&&*name),
            (false, _) => WORDS_OF_CHANGES.contains(&&*name) || (is_bucket && name == "delete"),
        };
        let known = known || name.to_ascii_lowercase().starts_with("x-amz-");
        if !known {
            return Err(S3Error::NotImplemented("This part of a bucket or object"));
        }
    }
    Ok(())
}

/// Parts of buckets and objects that S3 has and this server has not.
fn unsupported(name: &str) -> Option<&'static str> {
    Some(match name {
        "acl" => "Access control lists; the project's row level security decides",
        "policy" | "policyStatus" => "Bucket policies; the project's row level security decides",
        "cors" => "CORS settings of a bucket",
        "lifecycle" => "Lifecycle rules",
        "versions" | "versionId" => "Versions of objects",
        "replication" => "Replication",
        "website" => "Websites",
        "notification" => "Notifications",
        "encryption" => "Encryption settings of a bucket",
        "logging"
        | "requestPayment"
        | "accelerate"
        | "analytics"
        | "inventory"
        | "metrics"
        | "intelligent-tiering"
        | "ownershipControls"
        | "publicAccessBlock" => "This setting of a bucket",
        "object-lock" | "legal-hold" | "retention" => "Object lock",
        "torrent" => "Torrents",
        "select" | "restore" => "This operation on an object",
        _ => return None,
    })
}

/// Headers that ask for what this server has not: who sends one would believe that it was done.
fn unsupported_header(name: &str) -> Option<&'static str> {
    let name = name.strip_prefix("x-amz-")?;
    Some(match name {
        "tagging" => "Tags",
        "website-redirect-location" => "Websites",
        "write-offset-bytes" => "Appending to an object",
        "if-match-size" | "if-match-last-modified-time" => "This condition",
        _ if name.starts_with("server-side-encryption") || name.starts_with("copy-source-server-side-encryption") => {
            "Encryption by the server"
        }
        _ if name.starts_with("object-lock-") => "Object lock",
        _ => return None,
    })
}

/// Where `x-amz-copy-source` points: `/<bucket>/<key>`, percent-encoded, perhaps with a version.
pub(crate) fn copy_source(headers: &HeaderMap) -> Result<ObjectPath, S3Error> {
    const BAD: S3Error = S3Error::InvalidArgument("Invalid copy source object key");
    let text = headers.get("x-amz-copy-source").and_then(|value| value.to_str().ok()).ok_or(BAD)?;
    let (path, query) = text.split_once('?').unwrap_or((text, ""));
    if !query.is_empty() && query != "versionId=null" {
        return Err(S3Error::NotImplemented("Versions of objects"));
    }
    let path = decoded(path).ok_or(BAD)?;
    let (bucket, key) = path.strip_prefix('/').unwrap_or(&path).split_once('/').ok_or(BAD)?;
    let (bucket, key) = (BucketId::parse(bucket), ObjectKey::parse(key));
    Ok(ObjectPath { bucket: bucket.ok_or(BAD)?, key: key.ok_or(BAD)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(method: &str, target: &str, copies: bool) -> Result<Operation, S3Error> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut headers = HeaderMap::new();
        if copies {
            headers.insert("x-amz-copy-source", "b/source".parse().unwrap());
        }
        Operation::read(&Method::from_bytes(method.as_bytes()).unwrap(), path, query, &headers)
    }

    #[test]
    fn requests_name_operations() {
        let check = |method: &str, target: &str, name: &str| {
            let operation = read(method, target, false);
            assert_eq!(operation.map(|operation| operation.name()).unwrap_or("refused"), name, "{method} {target}");
        };
        check("GET", "", "storage.s3.bucket.list");
        check("GET", "/?x-id=ListBuckets", "storage.s3.bucket.list");
        check("PUT", "/", "refused");
        check("PUT", "/b", "storage.s3.bucket.create");
        check("PUT", "/b/", "storage.s3.bucket.create");
        check("HEAD", "/b", "storage.s3.bucket.get");
        check("DELETE", "/b", "storage.s3.bucket.delete");
        check("GET", "/b?location", "storage.s3.bucket.get_location");
        check("GET", "/b?location=", "storage.s3.bucket.get_location");
        check("GET", "/b?versioning", "storage.s3.bucket.get_versioning");
        check("PUT", "/b?versioning", "refused");
        check("GET", "/b", "storage.s3.object.list");
        check("GET", "/b?list-type=2&prefix=a", "storage.s3.object.list");
        check("GET", "/b?uploads", "storage.s3.upload.list");
        check("POST", "/b?delete", "storage.s3.object.delete_many");
        check("POST", "/b", "refused");
        check("GET", "/b?acl", "storage.s3.bucket.get");
        check("PUT", "/b?acl", "refused");
        check("GET", "/b?tagging", "storage.s3.bucket.get");
        for part in ["tagging", "cors", "policy", "lifecycle", "replication", "new-in-2030", "analytics&id=1"] {
            check("DELETE", &format!("/b?{part}"), "refused");
            check("PUT", &format!("/b?{part}"), "refused");
            check("DELETE", &format!("/b/a?{part}"), "refused");
            check("PUT", &format!("/b/a?{part}"), "refused");
        }
        check("DELETE", "/b?x-id=DeleteBucket", "storage.s3.bucket.delete");
        check("GET", "/b?versions", "refused");
        check("GET", "/b?session", "refused");
        check("GET", "/b?list-type=2&x-id=ListObjectsV2&X-Amz-Expires=60", "storage.s3.object.list");
        check("PUT", "/b/a", "storage.s3.upload");
        check("GET", "/b/a/c.png?response-content-type=x", "storage.s3.object.get");
        check("HEAD", "/b/a", "storage.s3.object.info");
        check("DELETE", "/b/a", "storage.s3.object.delete");
        check("GET", "/b/a?versionId=1", "refused");
        check("GET", "/b/a?versionId=null", "storage.s3.object.get");
        check("DELETE", "/b/a?versionId=null&x-id=DeleteObject", "storage.s3.object.delete");
        check("GET", "/b/a?attributes", "storage.s3.object.info");
        check("GET", "/b/a?acl", "storage.s3.object.info");
        check("PUT", "/b/a?acl", "refused");
        check("GET", "/b/a?tagging", "storage.s3.object.get_tagging");
        check("PUT", "/b/a?tagging", "refused");
        check("POST", "/b/a?uploads", "storage.s3.upload.create");
        check("PUT", "/b/a?partNumber=1&uploadId=abc", "storage.s3.upload.part");
        for bad in ["0", "10001", "-1", "x", "", "4294967296"] {
            check("PUT", &format!("/b/a?partNumber={bad}&uploadId=abc"), "refused");
        }
        check("PUT", "/b/a?uploadId=abc", "refused");
        check("PUT", "/b/a?partNumber=1&uploadId=..%2F..", "refused");
        check("GET", "/b/a?uploadId=abc", "storage.s3.upload.list_parts");
        check("POST", "/b/a?uploadId=abc", "storage.s3.upload.complete");
        check("DELETE", "/b/a?uploadId=abc", "storage.s3.upload.abort");
        check("PATCH", "/b/a", "refused");
        for hostile in
            ["/b/..", "/b/../c", "/b/%2e%2e/c", "/..", "/%2e%2e/a", "/b/a%00", "/b/%ff", "/b%2fc/a", "/b/a%5cb"]
        {
            check("GET", hostile, "refused");
        }
        assert_eq!(read("PUT", "/b/a", true).unwrap().name(), "storage.s3.object.copy");
        let part = read("PUT", "/b/a?partNumber=1&uploadId=abc", true).unwrap();
        assert_eq!(part.name(), "storage.s3.upload.part_copy");
    }

    #[test]
    fn what_would_not_be_done_is_refused() {
        let check = |name: &'static str, refused: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(name, "x".parse().unwrap());
            assert_eq!(Operation::read(&Method::PUT, "/b/a", "", &headers).is_err(), refused, "{name}");
        };
        check("x-amz-tagging", true);
        check("x-amz-server-side-encryption", true);
        check("x-amz-server-side-encryption-customer-key", true);
        check("x-amz-object-lock-mode", true);
        check("x-amz-write-offset-bytes", true);
        check("x-amz-acl", false);
        check("x-amz-storage-class", false);
        check("x-amz-meta-tagging", false);
    }

    #[test]
    fn copy_sources() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-amz-copy-source", text.parse().unwrap());
            copy_source(&headers).map(|at| format!("{}:{}", at.bucket, at.key)).ok()
        };
        assert_eq!(read("/b/a").as_deref(), Some("b:a"));
        assert_eq!(read("b/a/c").as_deref(), Some("b:a/c"));
        assert_eq!(read("b/a%20b").as_deref(), Some("b:a b"));
        assert_eq!(read("b%2Fa").as_deref(), Some("b:a"));
        for bad in ["", "/", "b", "b/", "/b/../a", "b/%2e%2e/a", "b/a?versionId=1", "b/%ff"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
