//! SHA-256, as checksums of migrations and as what is stored of random tokens.

use ring::{digest, hmac};

use crate::random;

/// SHA-256 of `data`.
pub fn sha256(data: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, data).as_ref());
    out
}

/// SHA-256 of `data` in lower-case hex.
pub fn sha256_hex(data: &[u8]) -> String {
    random::to_hex(&sha256(data))
}

/// HMAC-SHA-256 of `data` under `key`: a key for one purpose, named by `data`, out of a secret.
pub fn derive_key(key: &[u8], data: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data).as_ref());
    out
}
