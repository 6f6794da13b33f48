//! OpenPGP messages encrypted with a passphrase (RFC 4880), as `gpg --symmetric` makes and `gpg --decrypt` reads them:
//! a passphrase packet (v4), encrypted and integrity protected data (v1, AES-256 in CFB mode, SHA-1 code), compressed
//! data (deflate), literal data. Both directions are streams with constant memory.
//!
//! Only what backups need is here: no keys, no signatures, no armour. Why it is our own: ARCHITECTURE.md, "Backups".
//!
//! The integrity code stands at the end of a message, so nothing that was read may be believed before the end was
//! reached without an error.

mod cfb;
mod decrypt;
mod deflate;
mod encrypt;
mod packet;
mod s2k;
#[cfg(test)]
mod tests;

pub use decrypt::{Decryptor, NotReadable};
pub use encrypt::Encryptor;
pub(super) use s2k::DerivedKey;

/// Packet tags (RFC 4880, section 4.3).
mod tag {
    pub(super) const PASSPHRASE: u8 = 3;
    pub(super) const COMPRESSED: u8 = 8;
    pub(super) const LITERAL: u8 = 11;
    pub(super) const ENCRYPTED: u8 = 18;
    /// The integrity code; always with a length of 20, so its header is two fixed bytes.
    pub(super) const INTEGRITY_HEADER: [u8; 2] = [0xd3, 0x14];
}

/// AES-256 in the registry of RFC 4880, section 9.2.
const AES_256: u8 = 9;
/// Bytes of a block, and of the random text that the plain text begins with.
const BLOCK: usize = 16;
/// Random bytes, and the last two of them again, which show a wrong passphrase.
const PREFIX: usize = BLOCK + 2;
/// SHA-1 and its packet's header.
const INTEGRITY: usize = 22;
