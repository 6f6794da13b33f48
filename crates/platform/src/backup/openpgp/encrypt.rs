//! Writing a message.

use std::io::{self, Write};

use base::Secret;

use super::cfb::CfbWriter;
use super::deflate::DeflateWriter;
use super::packet::{PacketWriter, write_short};
use super::s2k::{DerivedKey, StringToKey};
use super::{AES_256, tag};

/// Plain deflate in the registry of RFC 4880, section 9.3.
pub(super) const DEFLATE: u8 = 1;

type Compressed<W> = DeflateWriter<PacketWriter<CfbWriter<PacketWriter<W>>>>;

/// Encrypts what is written; [`Encryptor::finish`] has to be called at the end.
pub struct Encryptor<W: Write>(PacketWriter<Compressed<W>>);

impl<W: Write> Encryptor<W> {
    /// Begins a message.
    pub(in crate::backup) fn new(inner: W, passphrase: &Secret<String>) -> io::Result<Self> {
        let key = DerivedKey::new(StringToKey::fresh(), passphrase);
        Self::begin(inner, &key, DeflateWriter::by_threads)
    }

    /// Begins a message of contents that are mostly compressed already.
    pub(in crate::backup) fn stored(inner: W, key: &DerivedKey) -> io::Result<Self> {
        Self::begin(inner, key, DeflateWriter::stored)
    }

    fn begin(
        mut inner: W,
        key: &DerivedKey,
        compress: impl FnOnce(PacketWriter<CfbWriter<PacketWriter<W>>>) -> Compressed<W>,
    ) -> io::Result<Self> {
        let mut session = vec![4, AES_256];
        key.from.write(&mut session);
        write_short(&mut inner, tag::PASSPHRASE, &session)?;
        let encrypted = CfbWriter::begin(PacketWriter::begin(inner, tag::ENCRYPTED)?, &key.key)?;
        let mut compressed = PacketWriter::begin(encrypted, tag::COMPRESSED)?;
        compressed.write_all(&[DEFLATE])?;
        let mut literal = PacketWriter::begin(compress(compressed), tag::LITERAL)?;
        // Bytes, without a name and a date: the file's name has both.
        literal.write_all(&[b'b', 0, 0, 0, 0, 0])?;
        Ok(Self(literal))
    }

    /// Ends the message.
    ///
    /// # Errors
    /// When the rest of it cannot be written.
    pub fn finish(self) -> io::Result<W> {
        self.0.finish()?.finish()?.finish()?.finish()?.finish()
    }
}

impl<W: Write> Write for Encryptor<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
