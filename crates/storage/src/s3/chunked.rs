//! The `aws-chunked` encoding: a body in pieces, each with its length and perhaps a signature, and trailers at the end.
//! Pure: pieces of the wire go in, pieces of the content come out.
//!
//! ```text
//! 400;chunk-signature=<hex>\r\n <1,024 bytes> \r\n
//! 0;chunk-signature=<hex>\r\n
//! x-amz-checksum-crc32:<base64>\r\n
//! x-amz-trailer-signature:<hex>\r\n
//! \r\n
//! ```
//!
//! Content comes out before its piece's signature has been seen. Whoever uses it must not act on it before
//! [`Decoder::finish`].

use base::random::to_hex;
use bytes::{Buf as _, Bytes};
use ring::digest::{Context, SHA256};

use super::sigv4::{ChunkChain, is_lower_hex};

/// Longest line, in bytes.
const LONGEST_LINE: usize = 4 * 1024;
/// Most trailers.
const MOST_TRAILERS: usize = 16;

/// What is wrong with a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    #[error("the body is not in aws-chunked encoding: {0}")]
    Malformed(&'static str),
    #[error("the body ended before it was complete")]
    Incomplete,
    #[error("the signature of a chunk does not match")]
    Signature,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The line with the length of a piece.
    Length,
    /// Bytes of the piece that are still to come.
    Content(u64),
    /// The end of line behind a piece.
    Behind,
    /// Lines behind the last piece.
    Trailers,
    Done,
}

/// Takes a body in `aws-chunked` apart.
pub(crate) struct Decoder {
    state: State,
    line: Vec<u8>,
    chain: Option<ChunkChain>,
    /// Whether there may be trailers.
    trailing: bool,
    digest: Context,
    /// The signature that the piece under way has to have.
    expected: String,
    trailers: Vec<(String, String)>,
    trailers_signed: bool,
}

impl Decoder {
    /// `chain` when the pieces are signed; `trailing` when trailers were announced.
    pub(crate) fn new(chain: Option<ChunkChain>, trailing: bool) -> Self {
        Self {
            state: State::Length,
            line: Vec::new(),
            chain,
            trailing,
            digest: Context::new(&SHA256),
            expected: String::new(),
            trailers: Vec::new(),
            trailers_signed: false,
        }
    }

    /// The next content in `wire`, of which what was read is taken away; none when more has to come.
    pub(crate) fn next(&mut self, wire: &mut Bytes) -> Result<Option<Bytes>, ChunkError> {
        while !wire.is_empty() {
            match self.state {
                State::Content(left) => {
                    let here = usize::try_from(left).unwrap_or(usize::MAX).min(wire.len());
                    let content = wire.split_to(here);
                    if self.chain.is_some() {
                        self.digest.update(&content);
                    }
                    let left = left - here as u64;
                    self.state = State::Content(left);
                    if left == 0 {
                        self.end_piece()?;
                        self.state = State::Behind;
                    }
                    return Ok(Some(content));
                }
                State::Done => return Err(ChunkError::Malformed("something follows its end")),
                State::Length | State::Behind | State::Trailers => {
                    if let Some(line) = self.take_line(wire)? {
                        self.read_line(&line)?;
                    }
                }
            }
        }
        Ok(None)
    }

    /// The end of the wire: gives the trailers when nothing is missing.
    pub(crate) fn finish(self) -> Result<Vec<(String, String)>, ChunkError> {
        let complete = match self.state {
            State::Done => true,
            // Some clients leave out the last end of line.
            State::Trailers => self.line.is_empty() && (!self.trailing || !self.trailers.is_empty()),
            _ => false,
        };
        if !complete {
            return Err(ChunkError::Incomplete);
        }
        if self.chain.is_some() && self.trailing && !self.trailers_signed {
            return Err(ChunkError::Signature);
        }
        Ok(self.trailers)
    }

    fn take_line(&mut self, wire: &mut Bytes) -> Result<Option<String>, ChunkError> {
        let end = wire.iter().position(|byte| *byte == b'\n');
        let here = end.unwrap_or(wire.len());
        if self.line.len() + here > LONGEST_LINE {
            return Err(ChunkError::Malformed("a line is too long"));
        }
        self.line.extend_from_slice(&wire[..here]);
        if end.is_none() {
            wire.clear();
            return Ok(None);
        }
        wire.advance(here + 1);
        let mut line = std::mem::take(&mut self.line);
        // A piece ends with exactly this; elsewhere some clients leave the first half out.
        if line.last() == Some(&b'\r') {
            line.pop();
        } else if self.state == State::Behind {
            return Err(ChunkError::Malformed("a chunk is shorter or longer than it says"));
        }
        String::from_utf8(line).map(Some).map_err(|_| ChunkError::Malformed("a line is no text"))
    }

    fn read_line(&mut self, line: &str) -> Result<(), ChunkError> {
        match self.state {
            State::Length => self.begin_piece(line),
            State::Behind if line.is_empty() => {
                self.state = State::Length;
                Ok(())
            }
            State::Behind => Err(ChunkError::Malformed("a chunk is longer than it says")),
            _ => self.read_trailer(line),
        }
    }

    fn begin_piece(&mut self, line: &str) -> Result<(), ChunkError> {
        let (length, extension) = line.split_once(';').unwrap_or((line, ""));
        let length = length.trim();
        let is_hex = !length.is_empty() && length.len() <= 16 && length.bytes().all(|b| b.is_ascii_hexdigit());
        let length = u64::from_str_radix(length, 16).ok().filter(|_| is_hex);
        let length = length.ok_or(ChunkError::Malformed("a chunk without a length"))?;
        if self.chain.is_some() {
            let signature = extension.trim().strip_prefix("chunk-signature=").filter(|text| is_lower_hex(text, 64));
            signature.ok_or(ChunkError::Malformed("a chunk without a signature"))?.clone_into(&mut self.expected);
        }
        self.state = State::Content(length);
        if length == 0 {
            self.end_piece()?;
            self.state = State::Trailers;
        }
        Ok(())
    }

    fn end_piece(&mut self) -> Result<(), ChunkError> {
        let Some(chain) = &mut self.chain else { return Ok(()) };
        let digest = std::mem::replace(&mut self.digest, Context::new(&SHA256)).finish();
        match chain.accepts_chunk(&to_hex(digest.as_ref()), &self.expected) {
            true => Ok(()),
            false => Err(ChunkError::Signature),
        }
    }

    fn read_trailer(&mut self, line: &str) -> Result<(), ChunkError> {
        let signed = self.chain.is_some() && self.trailing;
        if line.is_empty() {
            // A blank line may stand before the signature.
            if !signed || self.trailers_signed {
                self.state = State::Done;
            }
            return Ok(());
        }
        let (name, value) = line.split_once(':').ok_or(ChunkError::Malformed("a trailer without a value"))?;
        let (name, value) = (name.trim().to_ascii_lowercase(), value.trim().to_owned());
        if !self.trailing || self.trailers_signed || self.trailers.len() >= MOST_TRAILERS {
            return Err(ChunkError::Malformed("trailers that were not announced"));
        }
        if name != "x-amz-trailer-signature" {
            self.trailers.push((name, value));
            return Ok(());
        }
        let Some(chain) = &mut self.chain else {
            return Err(ChunkError::Malformed("a signature where nothing is signed"));
        };
        let text: String = self.trailers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let digest = base::digest::sha256_hex(text.as_bytes());
        if !is_lower_hex(&value, 64) || !chain.accepts_trailers(&digest, &value) {
            return Err(ChunkError::Signature);
        }
        self.trailers_signed = true;
        Ok(())
    }
}

#[cfg(test)]
#[path = "chunked_tests.rs"]
mod tests;
