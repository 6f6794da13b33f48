//! Reading a message.

use std::io::{self, BufReader, Read};

use base::Secret;
use flate2::bufread::{DeflateDecoder, ZlibDecoder};

use super::cfb::CfbReader;
use super::encrypt::DEFLATE;
use super::packet::{PacketReader, byte, bytes, malformed};
use super::s2k::{DerivedKey, StringToKey};
use super::{AES_256, tag};

/// Keys that are kept for messages of the same origin.
const MOST_KNOWN: usize = 4096;

/// The zlib format in the same registry, which earlier backups have.
const ZLIB: u8 = 2;

/// Why a message cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum NotReadable {
    #[error("the key does not open the file")]
    WrongKey,
    #[error("the file is no backup: {0}")]
    NoMessage(#[source] io::Error),
}

type Encrypted<R> = CfbReader<PacketReader<R>>;

enum Compressed<R: Read> {
    Deflate(DeflateDecoder<BufReader<PacketReader<Encrypted<R>>>>),
    Zlib(ZlibDecoder<BufReader<PacketReader<Encrypted<R>>>>),
}

impl<R: Read> Compressed<R> {
    /// Reads what is behind the literal data, so that the integrity code is met.
    fn drain(&mut self) -> io::Result<()> {
        let mut rest = [0; 64];
        if self.read(&mut rest)? > 0 {
            return Err(malformed("there is something behind the data"));
        }
        let packet = match self {
            Self::Deflate(decoder) => decoder.get_mut().get_mut(),
            Self::Zlib(decoder) => decoder.get_mut().get_mut(),
        };
        if packet.read(&mut rest)? > 0 || packet.get_mut().read(&mut rest)? > 0 {
            return Err(malformed("there is something behind the data"));
        }
        Ok(())
    }
}

impl<R: Read> Read for Compressed<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Deflate(decoder) => decoder.read(out),
            Self::Zlib(decoder) => decoder.read(out),
        }
    }
}

enum Literal<R: Read> {
    Compressed(Box<PacketReader<Compressed<R>>>),
    Plain(Box<PacketReader<Encrypted<R>>>),
}

/// The plain text of a message. Its end was reached only when a read returned 0 and no error.
pub struct Decryptor<R: Read> {
    literal: Literal<R>,
    ended: bool,
}

impl<R: Read> Decryptor<R> {
    /// Reads the beginning of a message.
    #[cfg(test)]
    pub(in crate::backup) fn new(inner: R, passphrase: &Secret<String>) -> Result<Self, NotReadable> {
        Self::with(inner, |s2k| DerivedKey::new(s2k, passphrase))
    }

    /// Reads the beginning of a message. `known` has the keys that were made for others, and gets this one's.
    pub(in crate::backup) fn with_known(
        inner: R,
        passphrase: &Secret<String>,
        known: &mut Vec<DerivedKey>,
    ) -> Result<Self, NotReadable> {
        Self::with(inner, |s2k| match known.iter().find(|key| key.from == s2k) {
            Some(key) => key.clone(),
            None => {
                let key = DerivedKey::new(s2k, passphrase);
                known.push(key.clone());
                known.truncate(MOST_KNOWN);
                key
            }
        })
    }

    fn with(inner: R, derive: impl FnOnce(StringToKey) -> DerivedKey) -> Result<Self, NotReadable> {
        let read = || -> io::Result<Option<Self>> {
            let mut session = PacketReader::begin(inner)?;
            if session.tag != tag::PASSPHRASE {
                return Err(malformed("it was not encrypted with a passphrase"));
            }
            let mut body = Vec::new();
            session.by_ref().take(256).read_to_end(&mut body)?;
            let s2k = match body.as_slice() {
                [4, AES_256, s2k @ ..] => StringToKey::read(s2k),
                _ => None,
            };
            let s2k = s2k.ok_or_else(|| malformed("it was not encrypted with AES-256 in the way that is known"))?;
            let packet = PacketReader::begin(session.into_inner())?;
            if packet.tag != tag::ENCRYPTED {
                return Err(malformed("it has no encrypted data with an integrity code"));
            }
            let Some(encrypted) = CfbReader::begin(packet, &derive(s2k).key)? else { return Ok(None) };
            let mut packet = PacketReader::begin(encrypted)?;
            let literal = match packet.tag {
                tag::LITERAL => Literal::Plain(Box::new(packet)),
                tag::COMPRESSED => {
                    let compressed = match byte(&mut packet)? {
                        DEFLATE => Compressed::Deflate(DeflateDecoder::new(BufReader::new(packet))),
                        ZLIB => Compressed::Zlib(ZlibDecoder::new(BufReader::new(packet))),
                        _ => return Err(malformed("it is compressed in a way that is not known")),
                    };
                    Literal::Compressed(Box::new(PacketReader::begin(compressed)?))
                }
                _ => return Err(malformed("there is no data in it")),
            };
            let mut message = Self { literal, ended: false };
            message.skip_literal_header()?;
            Ok(Some(message))
        };
        match read() {
            Ok(Some(message)) => Ok(message),
            // Two bytes in 65536 fit a wrong key too; then what follows is no packet.
            Ok(None) => Err(NotReadable::WrongKey),
            Err(error) => Err(NotReadable::NoMessage(error)),
        }
    }

    fn skip_literal_header(&mut self) -> io::Result<()> {
        let body: &mut dyn Read = match &mut self.literal {
            Literal::Compressed(packet) if packet.tag == tag::LITERAL => packet,
            Literal::Plain(packet) => packet,
            Literal::Compressed(_) => return Err(malformed("there is no data in it")),
        };
        let mut body = body;
        let _format = byte(&mut body)?;
        let mut name = vec![0; usize::from(byte(&mut body)?)];
        body.read_exact(&mut name)?;
        bytes::<4>(&mut body).map(drop)
    }
}

impl<R: Read> Read for Decryptor<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.ended || out.is_empty() {
            return Ok(0);
        }
        let read = match &mut self.literal {
            Literal::Compressed(packet) => packet.read(out),
            Literal::Plain(packet) => packet.read(out),
        }?;
        if read == 0 {
            match &mut self.literal {
                Literal::Compressed(packet) => packet.get_mut().drain()?,
                Literal::Plain(packet) => {
                    if packet.get_mut().read(&mut [0; 64])? > 0 {
                        return Err(malformed("there is something behind the data"));
                    }
                }
            }
            self.ended = true;
        }
        Ok(read)
    }
}
