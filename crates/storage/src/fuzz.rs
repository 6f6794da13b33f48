//! What `storage-fuzz` reaches of the pure stages: each takes what a client sends and says in plain types what was read of
//! it. Nothing here is used by the server.

use std::ops::Range;

use bytes::Bytes;
use http::Method;
use serde_json::Value;

use crate::error::Error;
use crate::key::{BucketId, ObjectKey};
use crate::range::{self, Asked};
use crate::route::{self, ObjectPath, Route};
pub use crate::s3::fuzz::{S3Claim, SignedRequest, copied_range, copy_source, s3_operation};
use crate::tus::header;

/// How a stage says no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The real HTTP status.
    pub status: u16,
    /// What the client reads.
    pub message: String,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self { status: error.real_status().as_u16(), message: error.public_message().into_owned() }
    }
}

/// Bucket and key that a request names.
pub type Named = (BucketId, ObjectKey);

pub(crate) fn named(at: ObjectPath) -> Named {
    (at.bucket, at.key)
}

/// The object that a REST request is about; none where it is about something else.
///
/// # Errors
/// What the client would be told.
pub fn rest_path(method: &Method, path: &str) -> Result<Option<Named>, Refusal> {
    Ok(match route::route(method, path)? {
        Route::Upload { at, .. }
        | Route::UploadSigned(at)
        | Route::Download { at, .. }
        | Route::Info { at, .. }
        | Route::Delete(at)
        | Route::Sign(at)
        | Route::SignUpload(at)
        | Route::Render { at, .. } => Some(named(at)),
        _ => None,
    })
}

/// What a `Range` header asks for of a content of `size` bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RangeAsked {
    /// The header is ignored.
    Whole,
    Part(Range<u64>),
    Unsatisfiable,
}

/// Reads a `Range` header.
pub fn range(header: &str, size: u64) -> RangeAsked {
    match range::asked(header, size) {
        Asked::Whole => RangeAsked::Whole,
        Asked::Part { start, end } => RangeAsked::Part(start..end),
        Asked::Unsatisfiable => RangeAsked::Unsatisfiable,
    }
}

/// What an `Upload-Metadata` header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TusMetadata {
    pub at: Named,
    pub mime_type: String,
    pub cache_control: String,
    pub user_metadata: Option<Value>,
}

/// Reads an `Upload-Metadata` header.
///
/// # Errors
/// What the client would be told.
pub fn tus_metadata(text: &str) -> Result<TusMetadata, Refusal> {
    let announced = header::announced(text)?;
    Ok(TusMetadata {
        at: named(announced.at),
        mime_type: announced.info.mime_type,
        cache_control: announced.info.cache_control,
        user_metadata: announced.user_metadata,
    })
}

/// Reads `Upload-Length` and `Upload-Defer-Length`; none when the length comes later.
///
/// # Errors
/// What the client would be told.
pub fn tus_length(length: Option<&str>, defer: Option<&str>) -> Result<Option<u64>, Refusal> {
    Ok(header::length(length, defer)?)
}

/// Reads `Upload-Offset`.
///
/// # Errors
/// What the client would be told.
pub fn tus_offset(text: Option<&str>) -> Result<u64, Refusal> {
    Ok(header::required_number(text, "Upload-Offset")?)
}

/// What came out of a body in `aws-chunked` encoding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    pub content: Vec<u8>,
    /// Names in lower case.
    pub trailers: Vec<(String, String)>,
}

/// Decodes an unsigned body in `aws-chunked` encoding, which comes in `pieces`.
///
/// # Errors
/// What is wrong with it.
pub fn unsigned_chunks(pieces: Vec<Bytes>, trailing: bool) -> Result<Decoded, String> {
    crate::s3::fuzz::decode(None, pieces, trailing)
}
