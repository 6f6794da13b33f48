//! The encrypted data: AES-256 in CFB mode with the integrity code at its end (RFC 4880, section 5.13).

use std::io::{self, Read, Write};

use aes::Aes256;
use base::Secret;
use cfb_mode::cipher::KeyIvInit as _;
use cfb_mode::{BufDecryptor, BufEncryptor};
use sha1::{Digest as _, Sha1};
use subtle::ConstantTimeEq as _;

use super::packet::malformed;
use super::{BLOCK, INTEGRITY, PREFIX, tag};

const NO_IV: [u8; BLOCK] = [0; BLOCK];
const BUFFER: usize = 64 * 1024;

/// Encrypts what is written.
pub(super) struct CfbWriter<W: Write> {
    inner: W,
    cipher: BufEncryptor<Aes256>,
    hash: Sha1,
    buffer: Vec<u8>,
}

impl<W: Write> CfbWriter<W> {
    pub(super) fn begin(mut inner: W, key: &Secret<[u8; 32]>) -> io::Result<Self> {
        // The version of the packet's format.
        inner.write_all(&[1])?;
        let cipher = BufEncryptor::new(key.expose().into(), &NO_IV.into());
        let mut writer = Self { inner, cipher, hash: Sha1::new(), buffer: Vec::new() };
        let random: [u8; BLOCK] = base::random::bytes();
        writer.write_all(&random)?;
        writer.write_all(&random[BLOCK - 2..])?;
        Ok(writer)
    }

    /// Writes the integrity code.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.hash.update(tag::INTEGRITY_HEADER);
        let mut end = [0; INTEGRITY];
        end[..2].copy_from_slice(&tag::INTEGRITY_HEADER);
        end[2..].copy_from_slice(&self.hash.finalize());
        self.cipher.encrypt(&mut end);
        self.inner.write_all(&end)?;
        Ok(self.inner)
    }
}

impl<W: Write> Write for CfbWriter<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let data = &data[..data.len().min(BUFFER)];
        self.hash.update(data);
        self.buffer.clear();
        self.buffer.extend_from_slice(data);
        self.cipher.encrypt(&mut self.buffer);
        self.inner.write_all(&self.buffer)?;
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Decrypts, and fails at the end when anything was altered.
pub(super) struct CfbReader<R: Read> {
    inner: R,
    cipher: BufDecryptor<Aes256>,
    /// None once the end was reached and found right.
    hash: Option<Sha1>,
    /// Decrypted bytes; the last [`INTEGRITY`] of them may be the code and wait.
    buffer: Vec<u8>,
    /// Those before this one were handed out.
    at: usize,
}

impl<R: Read> CfbReader<R> {
    /// None when the passphrase is wrong.
    pub(super) fn begin(mut inner: R, key: &Secret<[u8; 32]>) -> io::Result<Option<Self>> {
        if super::packet::byte(&mut inner)? != 1 {
            return Err(malformed("the encrypted data is of a version that is not known"));
        }
        let mut prefix: [u8; PREFIX] = super::packet::bytes(&mut inner)?;
        let mut cipher = BufDecryptor::<Aes256>::new(key.expose().into(), &NO_IV.into());
        cipher.decrypt(&mut prefix);
        if prefix[BLOCK - 2..BLOCK] != prefix[BLOCK..] {
            return Ok(None);
        }
        let mut hash = Sha1::new();
        hash.update(prefix);
        Ok(Some(Self { inner, cipher, hash: Some(hash), buffer: Vec::new(), at: 0 }))
    }

    /// Reads more into the buffer; at the end checks the code.
    fn fill(&mut self) -> io::Result<()> {
        let Some(hash) = &mut self.hash else { return Ok(()) };
        self.buffer.drain(..self.at);
        self.at = 0;
        let kept = self.buffer.len();
        self.buffer.resize(kept + BUFFER, 0);
        let read = self.inner.read(&mut self.buffer[kept..]);
        self.buffer.truncate(kept + *read.as_ref().unwrap_or(&0));
        if read? > 0 {
            self.cipher.decrypt(&mut self.buffer[kept..]);
            let free = self.buffer.len().saturating_sub(INTEGRITY);
            hash.update(&self.buffer[..free]);
            return Ok(());
        }
        let code = self.buffer.split_off(0);
        hash.update(tag::INTEGRITY_HEADER);
        let hash = self.hash.take().map(Sha1::finalize);
        let right = hash.is_some_and(|hash| {
            code.len() == INTEGRITY && code[..2] == tag::INTEGRITY_HEADER && code[2..].ct_eq(&hash).into()
        });
        if right { Ok(()) } else { Err(malformed("the integrity code is wrong: the file was altered or cut off")) }
    }
}

impl<R: Read> Read for CfbReader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let free = self.buffer.len().saturating_sub(INTEGRITY).max(self.at);
            if self.at < free {
                let take = out.len().min(free - self.at);
                out[..take].copy_from_slice(&self.buffer[self.at..self.at + take]);
                self.at += take;
                return Ok(take);
            }
            if self.hash.is_none() {
                return Ok(0);
            }
            self.fill()?;
        }
    }
}
