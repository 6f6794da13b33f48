//! The S3 protocol's part of [`crate::fuzz`].

use std::ops::Range;

use bytes::Bytes;
use http::{HeaderMap, Method};

use super::chunked::Decoder;
use super::error::S3Error;
use super::multipart;
use super::operation::{self, Operation};
use super::sigv4::{ChunkChain, Claim, Signed, SigningKey};
use crate::fuzz::{Decoded, Named, Refusal, named};

impl From<S3Error> for Refusal {
    fn from(error: S3Error) -> Self {
        let (_, message) = error.code_and_message();
        Self { status: error.status(), message: message.into_owned() }
    }
}

/// What an S3 request asks for: the operation's name and the object it is about, if it is about one.
///
/// # Errors
/// What the client would be told.
pub fn s3_operation(
    method: &Method,
    path: &str,
    query: &str,
    headers: &HeaderMap,
) -> Result<(&'static str, Option<Named>), Refusal> {
    let operation = Operation::read(method, path, query, headers)?;
    Ok((operation.name(), operation.into_object().map(named)))
}

/// Reads `x-amz-copy-source`.
///
/// # Errors
/// What the client would be told.
pub fn copy_source(headers: &HeaderMap) -> Result<Named, Refusal> {
    Ok(named(operation::copy_source(headers)?))
}

/// Reads `x-amz-copy-source-range` of an original of `size` bytes.
///
/// # Errors
/// What the client would be told.
pub fn copied_range(text: &str, size: u64) -> Result<Range<u64>, Refusal> {
    Ok(multipart::copied_range(text, size)?)
}

/// What a request says of its signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Claim(Claim);

impl S3Claim {
    /// Reads it from the `Authorization` header or the query.
    ///
    /// # Errors
    /// What the client would be told.
    pub fn read(headers: &HeaderMap, query: &str) -> Result<Self, Refusal> {
        Ok(Self(Claim::read(headers, query)?))
    }

    pub fn access_key(&self) -> &str {
        &self.0.access_key
    }

    /// What it says of the body.
    pub fn payload(&self) -> &str {
        &self.0.payload
    }

    fn key(&self, secret: &str) -> SigningKey {
        SigningKey::derive(secret, &self.0.scope)
    }

    /// Whether `secret` signed this request, and it counts at `now` (Unix seconds), and every header that says what to do
    /// is covered.
    ///
    /// # Errors
    /// What the client would be told.
    pub fn prove(&self, secret: &str, request: &SignedRequest<'_>, now: i64) -> Result<(), Refusal> {
        let SignedRequest { method, path, query, headers, host } = *request;
        let signed = Signed { method, path, query, headers, host };
        if !self.0.is_proved_by(&self.key(secret), &signed) {
            return Err(S3Error::SignatureDoesNotMatch.into());
        }
        self.0.check_time(now)?;
        Ok(self.0.check_headers(headers)?)
    }

    /// Decodes the request's body, whose pieces are signed.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn signed_chunks(&self, secret: &str, pieces: Vec<Bytes>, trailing: bool) -> Result<Decoded, String> {
        decode(Some(self.0.chain(self.key(secret))), pieces, trailing)
    }
}

/// The parts of a request that a signature covers.
#[derive(Clone, Copy, Debug)]
pub struct SignedRequest<'a> {
    pub method: &'a str,
    /// As the client sent it.
    pub path: &'a str,
    pub query: &'a str,
    pub headers: &'a HeaderMap,
    pub host: &'a str,
}

pub(crate) fn decode(chain: Option<ChunkChain>, pieces: Vec<Bytes>, trailing: bool) -> Result<Decoded, String> {
    let mut decoder = Decoder::new(chain, trailing);
    let mut content = Vec::new();
    for mut piece in pieces {
        while let Some(part) = decoder.next(&mut piece).map_err(|error| error.to_string())? {
            content.extend_from_slice(&part);
        }
    }
    let trailers = decoder.finish().map_err(|error| error.to_string())?;
    Ok(Decoded { content, trailers })
}
