//! From method and path to what is asked for. Pure.

use http::Method;
use percent_encoding::percent_decode_str;

use crate::error::Error;
use crate::key::{BucketId, ObjectKey};

/// An object's place as a path names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ObjectPath {
    pub(crate) bucket: BucketId,
    pub(crate) key: ObjectKey,
}

/// By which right an object is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// The bucket is public.
    Public,
    /// The caller's policies, or the bucket is public.
    Caller,
    /// The token in the query.
    Signed,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    Health,
    Options,
    ListBuckets,
    CreateBucket,
    GetBucket(BucketId),
    UpdateBucket(BucketId),
    DeleteBucket(BucketId),
    EmptyBucket(BucketId),
    /// `update`: PUT, which overwrites.
    Upload {
        at: ObjectPath,
        update: bool,
    },
    UploadSigned(ObjectPath),
    Download {
        at: ObjectPath,
        access: Access,
    },
    Info {
        at: ObjectPath,
        access: Access,
    },
    List(BucketId),
    ListV2(BucketId),
    Move,
    Copy,
    Delete(ObjectPath),
    DeleteMany(BucketId),
    Sign(ObjectPath),
    SignMany(BucketId),
    SignUpload(ObjectPath),
    /// What caches of a content network would hold; there is none.
    PurgeCache,
    /// Compare rows and files; ours.
    Verify,
    Resumable {
        signed: bool,
        id: Option<String>,
    },
    /// A changed copy of an image.
    Render {
        at: ObjectPath,
        access: Access,
    },
    /// The S3 protocol has routes of its own.
    S3,
}

/// What `method` and `path` (relative to the service, as the client wrote it) ask for.
pub(crate) fn route(method: &Method, path: &str) -> Result<Route, Error> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let (head, rest) = split(path);
    if method == Method::OPTIONS {
        return Ok(Route::Options);
    }
    let not_found = || Error::NoSuchRoute { method: method.to_string(), path: format!("/{path}") };
    let read = method == Method::GET || method == Method::HEAD;
    match head {
        "health" | "status" if rest.is_none() && read => Ok(Route::Health),
        "bucket" => bucket(method, rest).ok_or_else(not_found)?,
        "object" => match rest {
            Some(rest) => object(method, rest).unwrap_or_else(|| Err(not_found())),
            None => Err(not_found()),
        },
        "upload" => resumable(rest.unwrap_or_default()).ok_or_else(not_found),
        "render" if read => render(rest.unwrap_or_default()).unwrap_or_else(|| Err(not_found())),
        "cdn" if method == Method::DELETE => Ok(Route::PurgeCache),
        "s3" => Ok(Route::S3),
        "_launchdb" if rest == Some("verify") && method == Method::POST => Ok(Route::Verify),
        "render" | "cdn" | "vector" | "iceberg" | "" => Err(not_found()),
        // The specification's routes leave `object/` out.
        _ if rest.is_some_and(|rest| !rest.is_empty()) => plain(method, path).unwrap_or_else(|| Err(not_found())),
        _ => Err(not_found()),
    }
}

/// The first segment and, when there is a slash, what follows it.
fn split(path: &str) -> (&str, Option<&str>) {
    match path.split_once('/') {
        Some((head, rest)) => (head, Some(rest)),
        None => (path, None),
    }
}

fn decoded(text: &str) -> Option<String> {
    percent_decode_str(text).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

fn bucket_id(text: &str) -> Result<BucketId, Error> {
    decoded(text).and_then(|text| BucketId::parse(&text)).ok_or(Error::InvalidBucketName)
}

fn object_path(text: &str) -> Result<ObjectPath, Error> {
    let (bucket, key) = split(text);
    let bucket = bucket_id(bucket)?;
    let key = decoded(key.unwrap_or_default()).ok_or_else(|| Error::InvalidKey("not in UTF-8".to_owned()))?;
    match ObjectKey::parse(&key) {
        Some(key) => Ok(ObjectPath { bucket, key }),
        None => Err(Error::InvalidKey(key.chars().filter(|c| !c.is_control()).take(200).collect())),
    }
}

fn bucket(method: &Method, rest: Option<&str>) -> Option<Result<Route, Error>> {
    let rest = rest.unwrap_or_default();
    if rest.is_empty() {
        return match *method {
            Method::GET | Method::HEAD => Some(Ok(Route::ListBuckets)),
            Method::POST => Some(Ok(Route::CreateBucket)),
            _ => None,
        };
    }
    let (id, below) = split(rest);
    let make: fn(BucketId) -> Route = match (method.as_str(), below) {
        ("GET" | "HEAD", None) => Route::GetBucket,
        ("PUT" | "PATCH", None) => Route::UpdateBucket,
        ("DELETE", None) => Route::DeleteBucket,
        ("POST", Some("empty")) => Route::EmptyBucket,
        _ => return None,
    };
    Some(bucket_id(id).map(make))
}

fn object(method: &Method, rest: &str) -> Option<Result<Route, Error>> {
    let (head, below) = split(rest);
    let read = method == Method::GET || method == Method::HEAD;
    let download = |text: &str, access| object_path(text).map(|at| Route::Download { at, access });
    let info = |text: &str, access| object_path(text).map(|at| Route::Info { at, access });
    match (method.as_str(), head, below) {
        ("POST", "move", None) => Some(Ok(Route::Move)),
        ("POST", "copy", None) => Some(Ok(Route::Copy)),
        ("POST", "list", Some(bucket)) => Some(bucket_id(bucket).map(Route::List)),
        ("POST", "list-v2", Some(bucket)) => Some(bucket_id(bucket).map(Route::ListV2)),
        (_, "public", Some(at)) if read => Some(download(at, Access::Public)),
        (_, "authenticated", Some(at)) if read => Some(download(at, Access::Caller)),
        (_, "sign", Some(at)) if read => Some(download(at, Access::Signed)),
        ("POST", "sign", Some(at)) => Some(match at.split_once('/') {
            Some((_, key)) if !key.is_empty() => object_path(at).map(Route::Sign),
            _ => bucket_id(at.trim_end_matches('/')).map(Route::SignMany),
        }),
        (_, "info", Some(at)) if read => Some(match split(at) {
            ("public", Some(at)) => info(at, Access::Public),
            ("authenticated", Some(at)) => info(at, Access::Caller),
            ("sign", Some(at)) => info(at, Access::Signed),
            _ => info(at, Access::Caller),
        }),
        (_, "upload", Some(below)) if below.starts_with("sign/") => {
            let at = object_path(&below["sign/".len()..]);
            match method.as_str() {
                "POST" => Some(at.map(Route::SignUpload)),
                "PUT" => Some(at.map(Route::UploadSigned)),
                _ => None,
            }
        }
        ("DELETE", bucket, None) => Some(bucket_id(bucket).map(Route::DeleteMany)),
        ("DELETE", bucket, Some("")) => Some(bucket_id(bucket).map(Route::DeleteMany)),
        (_, _, Some(_)) => plain(method, rest),
        _ => None,
    }
}

/// `<bucket>/<path>` alone.
fn plain(method: &Method, path: &str) -> Option<Result<Route, Error>> {
    let at = object_path(path);
    Some(match *method {
        Method::GET | Method::HEAD => at.map(|at| Route::Download { at, access: Access::Caller }),
        Method::POST => at.map(|at| Route::Upload { at, update: false }),
        Method::PUT => at.map(|at| Route::Upload { at, update: true }),
        Method::DELETE => at.map(Route::Delete),
        _ => return None,
    })
}

fn resumable(rest: &str) -> Option<Route> {
    let rest = match rest.strip_prefix("resumable")? {
        "" => "",
        below => below.strip_prefix('/')?,
    };
    let (signed, rest) = match rest.strip_prefix("sign") {
        Some("") => (true, ""),
        Some(below) if below.starts_with('/') => (true, &below[1..]),
        _ => (false, rest),
    };
    let id = rest.trim_end_matches('/');
    if id.contains('/') {
        return None;
    }
    Some(Route::Resumable { signed, id: (!id.is_empty()).then(|| id.to_owned()) })
}

fn render(rest: &str) -> Option<Result<Route, Error>> {
    let (access, at) = split(rest.strip_prefix("image/")?);
    let access = match access {
        "public" => Access::Public,
        "authenticated" => Access::Caller,
        "sign" => Access::Signed,
        _ => return None,
    };
    Some(object_path(at?).map(|at| Route::Render { at, access }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: &str, path: &str, expected: &str) {
        let found = match route(&Method::from_bytes(method.as_bytes()).unwrap(), path) {
            Ok(Route::Resumable { signed, id }) => format!("Resumable {signed} {}", id.unwrap_or_default()),
            Ok(route) => {
                let text = format!("{route:?}");
                text.replace("BucketId(\"", "<").replace("ObjectKey(\"", "<").replace("\")", ">")
            }
            Err(error) => format!("{}: {}", error.real_status().as_u16(), error.public_message()),
        };
        assert_eq!(found, expected, "{method} {path}");
    }

    #[test]
    fn routes_of_upstream() {
        check("GET", "/bucket", "ListBuckets");
        check("GET", "/bucket/", "ListBuckets");
        check("POST", "/bucket", "CreateBucket");
        check("GET", "/bucket/my%20b", "GetBucket(<my b>)");
        check("PUT", "/bucket/b", "UpdateBucket(<b>)");
        check("DELETE", "/bucket/b", "DeleteBucket(<b>)");
        check("POST", "/bucket/b/empty", "EmptyBucket(<b>)");
        check("POST", "/object/b/a/c.png", "Upload { at: ObjectPath { bucket: <b>, key: <a/c.png> }, update: false }");
        check("PUT", "/object/b/c", "Upload { at: ObjectPath { bucket: <b>, key: <c> }, update: true }");
        check("POST", "/object/b/a%2Fc", "Upload { at: ObjectPath { bucket: <b>, key: <a/c> }, update: false }");
        check("GET", "/object/b/c", "Download { at: ObjectPath { bucket: <b>, key: <c> }, access: Caller }");
        check("HEAD", "/object/public/b/c", "Download { at: ObjectPath { bucket: <b>, key: <c> }, access: Public }");
        check("GET", "/object/sign/b/c", "Download { at: ObjectPath { bucket: <b>, key: <c> }, access: Signed }");
        check(
            "GET",
            "/object/authenticated/b/c",
            "Download { at: ObjectPath { bucket: <b>, key: <c> }, access: Caller }",
        );
        check("GET", "/object/info/b/c", "Info { at: ObjectPath { bucket: <b>, key: <c> }, access: Caller }");
        check("GET", "/object/info/public/b/c", "Info { at: ObjectPath { bucket: <b>, key: <c> }, access: Public }");
        check("POST", "/object/sign/b", "SignMany(<b>)");
        check("POST", "/object/sign/b/c", "Sign(ObjectPath { bucket: <b>, key: <c> })");
        check("POST", "/object/upload/sign/b/c", "SignUpload(ObjectPath { bucket: <b>, key: <c> })");
        check("PUT", "/object/upload/sign/b/c", "UploadSigned(ObjectPath { bucket: <b>, key: <c> })");
        check("POST", "/object/list/b", "List(<b>)");
        check("POST", "/object/list-v2/b", "ListV2(<b>)");
        check("POST", "/object/move", "Move");
        check("POST", "/object/copy", "Copy");
        check("DELETE", "/object/b", "DeleteMany(<b>)");
        check("DELETE", "/object/b/c", "Delete(ObjectPath { bucket: <b>, key: <c> })");
        check("POST", "/upload/resumable", "Resumable false ");
        check("POST", "/upload/resumable/", "Resumable false ");
        check("PATCH", "/upload/resumable/abc", "Resumable false abc");
        check("POST", "/upload/resumable/sign", "Resumable true ");
        check("PATCH", "/upload/resumable/sign/abc", "Resumable true abc");
        check("GET", "/render/image/public/b/c", "Render { at: ObjectPath { bucket: <b>, key: <c> }, access: Public }");
        check("PUT", "/s3/b/c", "S3");
        check("DELETE", "/cdn/b/c", "PurgeCache");
        check("GET", "/health", "Health");
        check("OPTIONS", "/upload/resumable", "Options");
    }

    #[test]
    fn the_specifications_routes_leave_object_out() {
        check("POST", "/b/c", "Upload { at: ObjectPath { bucket: <b>, key: <c> }, update: false }");
        check("GET", "/b/c/d", "Download { at: ObjectPath { bucket: <b>, key: <c/d> }, access: Caller }");
        check("DELETE", "/b/c", "Delete(ObjectPath { bucket: <b>, key: <c> })");
        check("GET", "/b", "404: Route GET:/b not found");
        check("GET", "", "404: Route GET:/ not found");
        check("GET", "/object", "404: Route GET:/object not found");
        check("PATCH", "/b/c", "404: Route PATCH:/b/c not found");
    }

    #[test]
    fn nothing_gets_out_of_its_bucket() {
        for key in ["..", "../x", "a/%2e%2e/b", "%2e%2e%2f%2e%2e%2fetc/passwd", "a/..%2fb", ".", "a/./b"] {
            for method in ["GET", "POST", "PUT", "DELETE"] {
                let found = route(&Method::from_bytes(method.as_bytes()).unwrap(), &format!("/object/b/{key}"));
                assert!(matches!(found, Err(Error::InvalidKey(_))), "{method} {key}: {found:?}");
            }
        }
        check("GET", "/object/../c", "400: Bucket name invalid");
        check("GET", "/object/%2e%2e/c", "400: Bucket name invalid");
        check("GET", "/object/b/%ff", "400: Invalid key: not in UTF-8");
        check("GET", "/object/b/a%00b", "400: Invalid key: ab");
        check("GET", "/object/b/", "400: Invalid key: ");
    }
}
