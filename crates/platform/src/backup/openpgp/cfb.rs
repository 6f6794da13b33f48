//! The encrypted data: AES-256 in CFB mode with the integrity code at its end (RFC 4880, section 5.13).
//!
//! Whole buffers are handed to the cipher: each call makes its round keys ready for the processor's widest instructions,
//! and one block at a time that costs more than encrypting it.

use std::io::{self, Read, Write};

use aes::Aes256;
use base::Secret;
use cfb_mode::cipher::{Array, BlockModeDecrypt as _, BlockModeEncrypt as _, KeyIvInit as _};
use cfb_mode::{Decryptor, Encryptor};
use sha1::{Digest as _, Sha1};
use subtle::ConstantTimeEq as _;

use super::packet::malformed;
use super::{BLOCK, INTEGRITY, PREFIX, tag};

const NO_IV: [u8; BLOCK] = [0; BLOCK];
/// Whole blocks.
const BUFFER: usize = 64 * 1024;

/// Encrypts what is written.
pub(super) struct CfbWriter<W: Write> {
    inner: W,
    cipher: Encryptor<Aes256>,
    hash: Sha1,
    /// What waits to be encrypted; less than [`BUFFER`].
    buffer: Vec<u8>,
}

impl<W: Write> CfbWriter<W> {
    pub(super) fn begin(mut inner: W, key: &Secret<[u8; 32]>) -> io::Result<Self> {
        // The version of the packet's format.
        inner.write_all(&[1])?;
        let cipher = Encryptor::new(key.expose().into(), &NO_IV.into());
        let mut writer = Self { inner, cipher, hash: Sha1::new(), buffer: Vec::with_capacity(BUFFER) };
        let random: [u8; BLOCK] = base::random::bytes();
        writer.write_all(&random)?;
        writer.write_all(&random[BLOCK - 2..])?;
        Ok(writer)
    }

    /// Writes the rest and the integrity code.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.hash.update(&self.buffer);
        self.hash.update(tag::INTEGRITY_HEADER);
        self.buffer.extend_from_slice(&tag::INTEGRITY_HEADER);
        self.buffer.extend_from_slice(&self.hash.finalize());
        self.cipher.encrypt(&mut self.buffer);
        self.inner.write_all(&self.buffer)?;
        Ok(self.inner)
    }
}

impl<W: Write> Write for CfbWriter<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let take = data.len().min(BUFFER - self.buffer.len());
        self.buffer.extend_from_slice(&data[..take]);
        if self.buffer.len() == BUFFER {
            self.hash.update(&self.buffer);
            self.cipher.encrypt_blocks(Array::slice_as_chunks_mut(&mut self.buffer).0);
            self.inner.write_all(&self.buffer)?;
            self.buffer.clear();
        }
        Ok(take)
    }

    /// What is less than a buffer waits for more.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Decrypts, and fails at the end when anything was altered.
pub(super) struct CfbReader<R: Read> {
    inner: R,
    /// None once the end was reached.
    open: Option<Open>,
    /// Decrypted bytes; the last [`INTEGRITY`] of them may be the code and wait, as long as it is open.
    buffer: Vec<u8>,
    /// Those before this one were handed out.
    at: usize,
}

struct Open {
    cipher: Decryptor<Aes256>,
    /// Of what is no more in the buffer.
    hash: Sha1,
}

impl<R: Read> CfbReader<R> {
    /// None when the passphrase is wrong.
    pub(super) fn begin(mut inner: R, key: &Secret<[u8; 32]>) -> io::Result<Option<Self>> {
        if super::packet::byte(&mut inner)? != 1 {
            return Err(malformed("the encrypted data is of a version that is not known"));
        }
        // Whole blocks: the prefix, and a part of what every message has behind it.
        let mut buffer = super::packet::bytes::<{ 2 * BLOCK }>(&mut inner)?.to_vec();
        let mut cipher = Decryptor::new(key.expose().into(), &NO_IV.into());
        cipher.decrypt_blocks(Array::slice_as_chunks_mut(&mut buffer).0);
        if buffer[BLOCK - 2..BLOCK] != buffer[BLOCK..PREFIX] {
            return Ok(None);
        }
        Ok(Some(Self { inner, open: Some(Open { cipher, hash: Sha1::new() }), buffer, at: PREFIX }))
    }

    /// How far the buffer is known to be no part of the code.
    fn free(&self) -> usize {
        let may_be_code = if self.open.is_some() { INTEGRITY } else { 0 };
        self.buffer.len().saturating_sub(may_be_code).max(self.at)
    }

    /// Reads more into the buffer, of which everything that may be was handed out; at the end checks the code. After an
    /// error nothing more is handed out.
    fn fill(&mut self) -> io::Result<()> {
        let Some(mut open) = self.open.take() else { return Ok(()) };
        let mut buffer = std::mem::take(&mut self.buffer);
        open.hash.update(&buffer[..self.at]);
        buffer.drain(..self.at);
        self.at = 0;
        let decrypted = buffer.len();
        if self.inner.by_ref().take(BUFFER as u64).read_to_end(&mut buffer)? == BUFFER {
            open.cipher.decrypt_blocks(Array::slice_as_chunks_mut(&mut buffer[decrypted..]).0);
            (self.open, self.buffer) = (Some(open), buffer);
            return Ok(());
        }
        open.cipher.decrypt(&mut buffer[decrypted..]);
        let code = buffer.split_off(buffer.len().saturating_sub(INTEGRITY));
        open.hash.update(&buffer);
        open.hash.update(tag::INTEGRITY_HEADER);
        let right = code.len() == INTEGRITY
            && code[..2] == tag::INTEGRITY_HEADER
            && bool::from(code[2..].ct_eq(&open.hash.finalize()));
        if !right {
            return Err(malformed("the integrity code is wrong: the file was altered or cut off"));
        }
        self.buffer = buffer;
        Ok(())
    }
}

impl<R: Read> Read for CfbReader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let free = self.free();
            if self.at < free {
                let take = out.len().min(free - self.at);
                out[..take].copy_from_slice(&self.buffer[self.at..self.at + take]);
                self.at += take;
                return Ok(take);
            }
            if self.open.is_none() {
                return Ok(0);
            }
            self.fill()?;
        }
    }
}
