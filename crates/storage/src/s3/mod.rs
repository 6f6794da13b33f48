//! The S3 protocol, at `/s3`: signatures, buckets, objects, listings and uploads in parts.
//!
//! A request is authenticated ([`auth`]), read ([`operation`]) and acted out by the same code that serves REST: policies
//! decide, contents go the same way. Why the protocol is not a crate's: see ARCHITECTURE.md.

mod attributes;
mod auth;
mod bucket;
mod checksum;
pub(crate) mod chunked;
mod error;
pub(crate) mod fuzz;
mod list;
mod multipart;
mod object;
mod operation;
mod parts;
mod payload;
mod settings;
pub(crate) mod sigv4;
mod xml;

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use web::{OriginalPath, RequestId};

pub(crate) use self::checksum::Algorithm;
use self::error::S3Error;
use self::operation::Operation;
pub(crate) use self::parts::remove_stale;
pub(crate) use self::payload::{Payload, PayloadError};
use crate::error::Error;
use crate::request::{Cx, set};

/// What this server calls its one region; clients may sign for any.
const REGION: &str = "us-east-1";

/// An authenticated request.
struct S3Cx {
    cx: Cx,
    operation: &'static str,
    is_link: bool,
}

impl S3Cx {
    fn header(&self, name: &str) -> Option<&str> {
        self.cx.header(name)
    }

    /// A parameter of the query; empty ones count as missing.
    fn query(&self, name: &str) -> Option<String> {
        let query = self.cx.parts.uri.query().unwrap_or_default();
        let value = sigv4::pairs(query).find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
        value.filter(|value| !value.is_empty())
    }
}

pub(crate) async fn handle(cx: Cx, body: Body) -> Response {
    let original = cx.parts.extensions.get::<OriginalPath>().map_or(&cx.parts.uri, |original| &original.0);
    let resource = original.path().to_owned();
    let request_id = cx.parts.extensions.get::<RequestId>().map(|id| id.as_str().to_owned()).unwrap_or_default();
    let mut response = match Box::pin(answer(cx, body)).await {
        Ok(response) => response,
        Err(error) => error.respond(&resource, &request_id),
    };
    set(&mut response, http::HeaderName::from_static("x-amz-request-id"), &request_id);
    response
}

async fn answer(mut cx: Cx, body: Body) -> Result<Response, S3Error> {
    if !cx.project.storage.features.s3_protocol_enabled() {
        return Err(Error::FeatureNotEnabled("s3Protocol").into());
    }
    let proved = auth::authenticate(&cx)?;
    cx.act_as(proved.caller);
    let uri = &cx.parts.uri;
    let path = uri.path().trim_start_matches('/');
    let path = path.strip_prefix("s3").unwrap_or(path);
    let operation = Operation::read(&cx.parts.method, path, uri.query().unwrap_or_default(), &cx.parts.headers)?;
    let payload = Payload::new(&cx.parts.headers, body, &proved.payload, proved.chain)?;
    let s3 = S3Cx { cx, operation: operation.name(), is_link: proved.is_link };
    run(&s3, operation, payload).await
}

async fn run(s3: &S3Cx, operation: Operation, payload: Payload) -> Result<Response, S3Error> {
    match operation {
        Operation::ListBuckets => bucket::list_buckets(s3).await,
        Operation::CreateBucket(id) => bucket::create_bucket(s3, &id, payload).await,
        Operation::DeleteBucket(id) => bucket::delete_bucket(s3, &id).await,
        Operation::HeadBucket(id) => bucket::head_bucket(s3, &id).await,
        Operation::GetBucketLocation(id) => bucket::get_bucket_location(s3, &id).await,
        Operation::GetBucketVersioning(id) => bucket::get_bucket_versioning(s3, &id).await,
        Operation::GetBucketSetting(id, setting) => settings::get_bucket_setting(s3, &id, setting).await,
        Operation::ListObjects(id) => list::list_objects(s3, &id).await,
        Operation::ListObjectsV2(id) => list::list_objects_v2(s3, &id).await,
        Operation::ListMultipartUploads(id) => multipart::list_uploads(s3, &id).await,
        Operation::DeleteObjects(id) => object::delete_objects(s3, &id, payload).await,
        Operation::PutObject(at) => object::put_object(s3, at, payload).await,
        Operation::CopyObject(at) => object::copy_object(s3, &at).await,
        Operation::GetObject(at) | Operation::HeadObject(at) => object::get_object(s3, at).await,
        Operation::DeleteObject(at) => object::delete_object(s3, &at).await,
        Operation::GetObjectAttributes(at) => attributes::get_object_attributes(s3, &at).await,
        Operation::GetObjectSetting(at, setting) => settings::get_object_setting(s3, &at, setting).await,
        Operation::GetObjectTagging(at) => object::get_object_tagging(s3, &at).await,
        Operation::CreateMultipartUpload(at) => multipart::create(s3, at).await,
        Operation::UploadPart { upload, number } => multipart::upload_part(s3, &upload, number, payload).await,
        Operation::UploadPartCopy { upload, number } => multipart::copy_part(s3, &upload, number).await,
        Operation::CompleteMultipartUpload(upload) => multipart::complete(s3, &upload, payload).await,
        Operation::AbortMultipartUpload(upload) => multipart::abort(s3, &upload).await,
        Operation::ListParts(upload) => multipart::list_parts(s3, &upload).await,
    }
}

/// An answer without a body.
fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// Unix seconds as S3 writes a time in XML.
fn timestamp(unix_seconds: i64) -> String {
    crate::content::iso_8601(unix_seconds)
}
