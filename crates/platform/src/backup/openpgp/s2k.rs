//! From a passphrase to a key (RFC 4880, section 3.7).

use base::Secret;
use ring::digest;

/// How gpg and others make keys of passphrases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StringToKey {
    hash: u8,
    salt: [u8; 8],
    /// The count as it is written in a message.
    coded_count: u8,
}

/// A key with what it was made from. Making one takes a tenth of a second, so that many messages share it; each begins
/// with random text of its own, from which all of its key stream follows.
#[derive(Clone)]
pub(in crate::backup) struct DerivedKey {
    pub(super) from: StringToKey,
    pub(super) key: Secret<[u8; 32]>,
}

impl DerivedKey {
    pub(super) fn new(from: StringToKey, passphrase: &Secret<String>) -> Self {
        Self { from, key: from.key(passphrase) }
    }

    pub(in crate::backup) fn fresh(passphrase: &Secret<String>) -> Self {
        Self::new(StringToKey::fresh(), passphrase)
    }
}

/// SHA-256 in the registry of RFC 4880, section 9.4.
const SHA_256: u8 = 8;
/// Iterated and salted.
const ITERATED: u8 = 3;
/// 65,011,712 bytes: the most there is, and what gpg takes on present machines.
const MOST: u8 = 255;

impl StringToKey {
    pub(super) fn fresh() -> Self {
        Self { hash: SHA_256, salt: base::random::bytes(), coded_count: MOST }
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend([ITERATED, self.hash]);
        out.extend(self.salt);
        out.push(self.coded_count);
    }

    /// Reads the kind that gpg writes; none for other kinds and hashes.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let (&[kind, hash], rest) = bytes.split_first_chunk::<2>()?;
        let (salt, rest) = rest.split_first_chunk::<8>()?;
        let read = Self { hash, salt: *salt, coded_count: *rest.first()? };
        (kind == ITERATED && rest.len() == 1 && read.algorithm().is_some()).then_some(read)
    }

    fn algorithm(&self) -> Option<&'static digest::Algorithm> {
        match self.hash {
            2 => Some(&digest::SHA1_FOR_LEGACY_USE_ONLY),
            SHA_256 => Some(&digest::SHA256),
            9 => Some(&digest::SHA384),
            10 => Some(&digest::SHA512),
            _ => None,
        }
    }

    /// The key of 32 bytes.
    pub(super) fn key(&self, passphrase: &Secret<String>) -> Secret<[u8; 32]> {
        let mut key = [0; 32];
        let mut filled = 0;
        // A hash shorter than the key is taken again behind one zero byte more.
        for round in 0.. {
            let hash = self.hash_round(passphrase, round);
            let take = hash.as_ref().len().min(key.len() - filled);
            key[filled..filled + take].copy_from_slice(&hash.as_ref()[..take]);
            filled += take;
            if filled == key.len() {
                break;
            }
        }
        Secret::new(key)
    }

    fn hash_round(&self, passphrase: &Secret<String>, zeros: usize) -> digest::Digest {
        let input = [self.salt.as_slice(), passphrase.expose().as_bytes()].concat();
        let count = (16 + usize::from(self.coded_count & 15)) << (usize::from(self.coded_count >> 4) + 6);
        let mut context = digest::Context::new(self.algorithm().unwrap_or(&digest::SHA256));
        context.update(&vec![0; zeros]);
        // In large pieces, because there are millions of small ones.
        let piece = input.repeat((64 * 1024) / input.len() + 1);
        let mut left = count.max(input.len());
        while left > 0 {
            let take = left.min(piece.len());
            context.update(&piece[..take]);
            left -= take;
        }
        context.finish()
    }
}
