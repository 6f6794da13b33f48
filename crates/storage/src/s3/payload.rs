//! The content of an S3 request's body: decoded, held to its announced length, and compared with every digest that the
//! client sent along. A content that ends without an error is the one that was signed.

use axum::body::Body;
use base::random::to_hex;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::{HeaderMap, header};
use md5::Digest as _;
use ring::digest::{Context, SHA256};
use web::limits::BODY_READ_TIMEOUT;

use super::checksum::{Algorithm, Running};
use super::chunked::{ChunkError, Decoder};
use super::error::S3Error;
use super::sigv4::{ChunkChain, is_lower_hex};
use crate::body::next_piece;
use crate::error::Error;
use crate::request::Cx;

const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
/// Largest body that is read as a whole, in bytes: the list of a thousand keys of the greatest length, escaped.
pub(crate) const LONGEST_XML: u64 = 8 * 1024 * 1024;

/// How a content is not what was announced.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    #[error("{0}")]
    Chunk(ChunkError),
    #[error("the content is shorter or longer than announced")]
    Incomplete,
    #[error("the SHA-256 is another")]
    Sha256,
    /// Another digest; holds the name of its header.
    #[error("the {0} is another")]
    Digest(String),
}

impl From<PayloadError> for Error {
    fn from(error: PayloadError) -> Self {
        Self::Payload(error)
    }
}

/// A checksum as the client announced it and as it is.
struct Compared {
    algorithm: Algorithm,
    running: Running,
    /// None while it is still to come as a trailer.
    expected: Option<String>,
}

/// The content of a request, which comes in pieces.
pub(crate) struct Payload {
    body: Body,
    /// The wire that came and was not decoded yet.
    wire: Bytes,
    decoder: Option<Decoder>,
    /// Bytes of the content, when it was announced.
    length: Option<u64>,
    received: u64,
    /// SHA-256 (hex) that the request was signed with, and the content's own.
    sha256: Option<(String, Context)>,
    md5: Option<(Vec<u8>, md5::Md5)>,
    checksum: Option<Compared>,
    ended: bool,
}

impl Payload {
    /// `signed` is what the signature says of the body, `chain` what its pieces are signed with.
    pub(crate) fn new(headers: &HeaderMap, body: Body, signed: &str, chain: ChunkChain) -> Result<Self, S3Error> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
        let trailer = text("x-amz-trailer").map(str::to_ascii_lowercase);
        let (decoder, sha256) = match signed {
            UNSIGNED => (None, None),
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" => (Some(Decoder::new(Some(chain), false)), None),
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER" => (Some(Decoder::new(Some(chain), true)), None),
            "STREAMING-UNSIGNED-PAYLOAD-TRAILER" => (Some(Decoder::new(None, trailer.is_some())), None),
            _ if is_lower_hex(signed, 64) => (None, Some((signed.to_owned(), Context::new(&SHA256)))),
            _ if signed.starts_with("STREAMING-") => {
                return Err(S3Error::NotImplemented("This way of signing a body"));
            }
            _ => {
                return Err(S3Error::InvalidArgument(
                    "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD, or a valid \
                     sha256 value.",
                ));
            }
        };
        let number = |name: &str| match text(name) {
            None => Ok(None),
            Some(text) => match text.parse::<u64>() {
                Ok(number) if text.bytes().all(|b| b.is_ascii_digit()) => Ok(Some(number)),
                _ => Err(S3Error::InvalidArgument("a length that is no number")),
            },
        };
        let length = match decoder {
            Some(_) => Some(number("x-amz-decoded-content-length")?.ok_or(S3Error::MissingContentLength)?),
            None => number(header::CONTENT_LENGTH.as_str())?,
        };
        let md5 = match text("content-md5") {
            None => None,
            Some(text) => {
                let digest = BASE64_STANDARD.decode(text).ok().filter(|digest| digest.len() == 16);
                Some((digest.ok_or(S3Error::InvalidDigest)?, md5::Md5::new()))
            }
        };
        Ok(Self {
            body,
            wire: Bytes::new(),
            checksum: announced_checksum(headers, trailer.as_deref())?,
            decoder,
            length,
            received: 0,
            sha256,
            md5,
            ended: false,
        })
    }

    /// Bytes of the content, when they were announced.
    pub(crate) fn length(&self) -> Option<u64> {
        self.length
    }

    /// The next piece of the content; none at its end, when everything about it was found to be right.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            if self.ended {
                return Ok(None);
            }
            let piece = match &mut self.decoder {
                None => next_piece(&mut self.body).await?,
                Some(decoder) => match decoder.next(&mut self.wire).map_err(PayloadError::Chunk)? {
                    Some(piece) => Some(piece),
                    None => match next_piece(&mut self.body).await? {
                        Some(wire) => {
                            self.wire = wire;
                            continue;
                        }
                        None => None,
                    },
                },
            };
            let Some(piece) = piece else {
                self.end()?;
                return Ok(None);
            };
            if piece.is_empty() {
                continue;
            }
            self.received += piece.len() as u64;
            if self.length.is_some_and(|length| self.received > length) {
                return Err(PayloadError::Incomplete.into());
            }
            if let Some((_, context)) = &mut self.sha256 {
                context.update(&piece);
            }
            if let Some((_, md5)) = &mut self.md5 {
                md5.update(&piece);
            }
            if let Some(checksum) = &mut self.checksum {
                checksum.running.update(&piece);
            }
            return Ok(Some(piece));
        }
    }

    /// The checksum of a content that came whole, as the client sent it: name of its header and value.
    pub(crate) fn checksum(&self) -> Option<(Algorithm, String)> {
        let checksum = self.checksum.as_ref().filter(|_| self.ended)?;
        Some((checksum.algorithm, checksum.expected.clone()?))
    }

    /// Reads the whole content, which has at most [`LONGEST_XML`] bytes.
    pub(crate) async fn read(mut self, cx: &Cx) -> Result<Vec<u8>, S3Error> {
        let room = cx.shared.memory.room(&cx.project.project_ref);
        let mut content = Vec::new();
        let read = async {
            while let Some(piece) = self.next().await? {
                if (content.len() + piece.len()) as u64 > LONGEST_XML {
                    return Err(Error::TooLarge { limit: LONGEST_XML });
                }
                room.grow(piece.len())?;
                content.extend_from_slice(&piece);
            }
            Ok(())
        };
        tokio::time::timeout(BODY_READ_TIMEOUT, read).await.map_err(|_| Error::from(web::BodyError::TimedOut))??;
        Ok(content)
    }

    fn end(&mut self) -> Result<(), PayloadError> {
        let trailers = self.decoder.take().map(Decoder::finish).transpose();
        let trailers = trailers.map_err(PayloadError::Chunk)?.unwrap_or_default();
        if self.length.is_some_and(|length| self.received != length) {
            return Err(PayloadError::Incomplete);
        }
        if let Some((expected, context)) = self.sha256.take()
            && to_hex(context.finish().as_ref()) != expected
        {
            return Err(PayloadError::Sha256);
        }
        if let Some((expected, md5)) = self.md5.take()
            && md5.finalize()[..] != expected[..]
        {
            return Err(PayloadError::Digest("Content-MD5".to_owned()));
        }
        if let Some(checksum) = &mut self.checksum {
            let header = checksum.algorithm.header();
            let in_trailer = trailers.into_iter().find(|(name, _)| *name == header).map(|(_, value)| value);
            // What was announced for the end has to come.
            let expected = checksum.expected.take().or(in_trailer).ok_or(PayloadError::Incomplete)?;
            if checksum.running.clone().finish() != expected {
                return Err(PayloadError::Digest(header));
            }
            checksum.expected = Some(expected);
        }
        self.ended = true;
        Ok(())
    }
}

/// The one checksum that headers give or announce for the end of the body.
fn announced_checksum(headers: &HeaderMap, trailer: Option<&str>) -> Result<Option<Compared>, S3Error> {
    let mut found = None;
    for (name, value) in headers {
        let Some(algorithm) = Algorithm::of_header(name.as_str()) else { continue };
        let expected = value.to_str().ok().map(|text| text.trim().to_owned());
        let expected = expected.filter(|text| BASE64_STANDARD.decode(text).is_ok()).ok_or(S3Error::InvalidDigest)?;
        if found.replace((algorithm, Some(expected))).is_some() {
            return Err(S3Error::InvalidRequest("Expecting a single x-amz-checksum- header"));
        }
    }
    for name in trailer.unwrap_or_default().split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let algorithm = Algorithm::of_header(name)
            .ok_or(S3Error::InvalidRequest("The value specified in the x-amz-trailer header is not supported"))?;
        if found.replace((algorithm, None)).is_some() {
            return Err(S3Error::InvalidRequest("Expecting a single x-amz-checksum- header"));
        }
    }
    Ok(found.map(|(algorithm, expected)| Compared { algorithm, running: algorithm.begin(), expected }))
}
