//! Secrets at rest: AES-256-GCM under the master key, bound to project, type and key version (the spec's "Secrets").

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use crate::random;
use crate::secret::Secret;

/// The master key (`LAUNCHDB_MASTER_KEY`): 32 bytes that never leave the process.
pub struct MasterKey {
    key: LessSafeKey,
    version: i32,
}

/// A sealed value as it is stored: nonce, then ciphertext and tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    pub bytes: Vec<u8>,
    /// Version of the master key that sealed it.
    pub key_version: i32,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SealError {
    #[error("the master key must be 32 bytes in base64 (make one with: openssl rand -base64 32)")]
    BadKey,
    #[error("a secret does not open: it was sealed with another master key, or was moved or altered")]
    DoesNotOpen,
}

/// What a sealed value belongs to; part of the authenticated data, so that a value copied to another row does not open.
#[derive(Clone, Copy, Debug)]
pub struct SealContext<'a> {
    /// The project's id, or `platform` for what belongs to the platform itself.
    pub owner: &'a str,
    /// The kind of secret, for instance `jwt_secret`.
    pub kind: &'a str,
}

impl MasterKey {
    /// Reads the key from its base64 text.
    pub fn from_base64(text: &str, version: i32) -> Result<Self, SealError> {
        let raw = BASE64_STANDARD.decode(text.trim()).map_err(|_| SealError::BadKey)?;
        if raw.len() != 32 || raw.iter().all(|b| *b == raw[0]) {
            return Err(SealError::BadKey);
        }
        let key = UnboundKey::new(&AES_256_GCM, &raw).map_err(|_| SealError::BadKey)?;
        Ok(Self { key: LessSafeKey::new(key), version })
    }

    /// A fresh key as base64 text.
    pub fn generate_base64() -> String {
        BASE64_STANDARD.encode(random::bytes::<32>())
    }

    pub fn seal(&self, cx: SealContext<'_>, plain: &[u8]) -> Sealed {
        let nonce = random::bytes::<NONCE_LEN>();
        let mut body = plain.to_vec();
        let aad = Aad::from(aad(cx, self.version));
        #[expect(clippy::expect_used, reason = "only fails beyond 64 GiB")]
        self.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut body)
            .expect("a secret is shorter than 64 GiB");
        Sealed { bytes: [nonce.as_slice(), &body].concat(), key_version: self.version }
    }

    pub fn open(&self, cx: SealContext<'_>, sealed: &Sealed) -> Result<Secret<Vec<u8>>, SealError> {
        let (nonce, body) = sealed.bytes.split_at_checked(NONCE_LEN).ok_or(SealError::DoesNotOpen)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::DoesNotOpen)?;
        let mut body = body.to_vec();
        let plain = self
            .key
            .open_in_place(nonce, Aad::from(aad(cx, sealed.key_version)), &mut body)
            .map_err(|_| SealError::DoesNotOpen)?;
        Ok(Secret::new(plain.to_vec()))
    }
}

fn aad(cx: SealContext<'_>, version: i32) -> Vec<u8> {
    format!("launchdb\0{}\0{}\0{version}", cx.owner, cx.kind).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_value_opens_only_where_it_belongs() {
        let key = MasterKey::from_base64(&MasterKey::generate_base64(), 1).unwrap();
        let cx = SealContext { owner: "proj_a1b2c3", kind: "jwt_secret" };
        let sealed = key.seal(cx, b"attack at dawn");
        assert_eq!(key.open(cx, &sealed).unwrap().expose(), b"attack at dawn");
        let elsewhere = SealContext { owner: "proj_b1b2c3", ..cx };
        assert_eq!(key.open(elsewhere, &sealed), Err(SealError::DoesNotOpen));
        let other_kind = SealContext { kind: "db_password", ..cx };
        assert_eq!(key.open(other_kind, &sealed), Err(SealError::DoesNotOpen));
        let other_version = Sealed { key_version: 2, ..sealed.clone() };
        assert_eq!(key.open(cx, &other_version), Err(SealError::DoesNotOpen));
        let other_key = MasterKey::from_base64(&MasterKey::generate_base64(), 1).unwrap();
        assert_eq!(other_key.open(cx, &sealed), Err(SealError::DoesNotOpen));
        assert_eq!(key.open(cx, &Sealed { bytes: vec![1, 2], key_version: 1 }), Err(SealError::DoesNotOpen));
    }

    #[test]
    fn weak_keys_are_refused() {
        let zero = BASE64_STANDARD.encode([0; 32]);
        for bad in ["", "short", zero.as_str(), "bm90IDMyIGJ5dGVz"] {
            assert!(matches!(MasterKey::from_base64(bad, 1), Err(SealError::BadKey)), "{bad:?}");
        }
    }
}
