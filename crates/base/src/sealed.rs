//! Secrets at rest: AES-256-GCM under the master key, bound to project, type and key version (the spec's "Secrets").
//!
//! A master key can be replaced while everything runs: the new one seals, the old one still opens what it sealed, until
//! all of that was sealed anew (see `platform::rotation`).

use std::sync::Arc;

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::digest::{SHA256, digest};

use crate::random;
use crate::secret::Secret;

/// The master key (`LAUNCHDB_MASTER_KEY`): 32 bytes that never leave the process.
pub struct MasterKey {
    ring: ArcSwap<Ring>,
}

struct Ring {
    current: Arc<Key>,
    /// What may have sealed something once.
    previous: Vec<Arc<Key>>,
}

struct Key {
    key: LessSafeKey,
    version: i32,
}

impl Key {
    fn from_base64(text: &str, version: Option<i32>) -> Result<Self, SealError> {
        let raw = BASE64_STANDARD.decode(text.trim()).map_err(|_| SealError::BadKey)?;
        if raw.len() != 32 || raw.iter().all(|b| *b == raw[0]) {
            return Err(SealError::BadKey);
        }
        let key = UnboundKey::new(&AES_256_GCM, &raw).map_err(|_| SealError::BadKey)?;
        Ok(Self { key: LessSafeKey::new(key), version: version.unwrap_or_else(|| fingerprint(&raw)) })
    }

    fn open(&self, cx: SealContext<'_>, sealed: &Sealed) -> Result<Secret<Vec<u8>>, SealError> {
        let (nonce, body) = sealed.bytes.split_at_checked(NONCE_LEN).ok_or(SealError::DoesNotOpen)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::DoesNotOpen)?;
        let mut body = body.to_vec();
        let aad = Aad::from(aad(cx, sealed.key_version));
        let plain = self.key.open_in_place(nonce, aad, &mut body).map_err(|_| SealError::DoesNotOpen)?;
        Ok(Secret::new(plain.to_vec()))
    }
}

/// A number that tells keys apart and nothing about them; 1 is that of installations before there were rotations.
fn fingerprint(raw: &[u8]) -> i32 {
    let hash = digest(&SHA256, &[b"launchdb master key version\0", raw].concat());
    let mut four = [0; 4];
    four.copy_from_slice(&hash.as_ref()[..4]);
    (u32::from_be_bytes(four) >> 1).cast_signed().max(2)
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
        let current = Arc::new(Key::from_base64(text, Some(version))?);
        Ok(Self { ring: ArcSwap::from_pointee(Ring { current, previous: Vec::new() }) })
    }

    /// Reads the key, and the one before it when what that sealed may not all have been sealed anew yet.
    pub fn with_previous(text: &str, previous: Option<&str>) -> Result<Self, SealError> {
        let current = Arc::new(Key::from_base64(text, None)?);
        let previous = previous.map(|text| Key::from_base64(text, None).map(Arc::new)).transpose()?;
        Ok(Self { ring: ArcSwap::from_pointee(Ring { current, previous: previous.into_iter().collect() }) })
    }

    /// From now on this key seals; those before it only open.
    pub fn begin_rotation(&self, text: &str) -> Result<(), SealError> {
        let current = Arc::new(Key::from_base64(text, None)?);
        self.ring.rcu(|ring| {
            let previous = ring.previous.iter().chain([&ring.current]).cloned().collect();
            Ring { current: current.clone(), previous }
        });
        Ok(())
    }

    /// Forgets every key but the present one.
    pub fn end_rotation(&self) {
        self.ring.rcu(|ring| Ring { current: ring.current.clone(), previous: Vec::new() });
    }

    /// Whether another key than the present one may have sealed something.
    pub fn is_rotating(&self) -> bool {
        !self.ring.load().previous.is_empty()
    }

    /// What [`Sealed::key_version`] of everything is that is sealed now.
    pub fn version(&self) -> i32 {
        self.ring.load().current.version
    }

    /// A fresh key as base64 text.
    pub fn generate_base64() -> String {
        BASE64_STANDARD.encode(random::bytes::<32>())
    }

    pub fn seal(&self, cx: SealContext<'_>, plain: &[u8]) -> Sealed {
        let nonce = random::bytes::<NONCE_LEN>();
        let mut body = plain.to_vec();
        let current = self.ring.load().current.clone();
        let aad = Aad::from(aad(cx, current.version));
        #[expect(clippy::expect_used, reason = "only fails beyond 64 GiB")]
        current
            .key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut body)
            .expect("a secret is shorter than 64 GiB");
        Sealed { bytes: [nonce.as_slice(), &body].concat(), key_version: current.version }
    }

    pub fn open(&self, cx: SealContext<'_>, sealed: &Sealed) -> Result<Secret<Vec<u8>>, SealError> {
        let ring = self.ring.load();
        let opened = ring.current.open(cx, sealed);
        ring.previous.iter().rev().fold(opened, |opened, key| opened.or_else(|_| key.open(cx, sealed)))
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
    fn a_key_is_replaced_with_overlap() {
        let (old, new) = (MasterKey::generate_base64(), MasterKey::generate_base64());
        let cx = SealContext { owner: "proj_a1b2c3", kind: "jwt_secret" };
        let first = MasterKey::from_base64(&old, 1).unwrap().seal(cx, b"of the first version");
        let key = MasterKey::with_previous(&old, None).unwrap();
        let before = key.seal(cx, b"before");
        assert!(!key.is_rotating() && before.key_version == key.version());
        key.begin_rotation(&new).unwrap();
        let after = key.seal(cx, b"after");
        assert!(key.is_rotating() && after.key_version != before.key_version);
        let opens = |key: &MasterKey| [&first, &before, &after].map(|sealed| key.open(cx, sealed).is_ok());
        assert_eq!(opens(&key), [true, true, true]);
        key.end_rotation();
        assert_eq!(opens(&key), [false, false, true]);
        // As after a start in the middle of it.
        assert_eq!(opens(&MasterKey::with_previous(&new, Some(&old)).unwrap()), [true, true, true]);
        assert!(key.begin_rotation("short").is_err() && !key.is_rotating());
    }

    #[test]
    fn weak_keys_are_refused() {
        let zero = BASE64_STANDARD.encode([0; 32]);
        for bad in ["", "short", zero.as_str(), "bm90IDMyIGJ5dGVz"] {
            assert!(matches!(MasterKey::from_base64(bad, 1), Err(SealError::BadKey)), "{bad:?}");
        }
    }
}
