//! Hashes of contents, by which a damaged file is found, and of which entity tags are made.

use base::random;
use md5::Digest as _;
use md5::digest::common::hazmat::{SerializableState as _, SerializedState};

/// How a content is hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashAlgorithm {
    /// What clients of S3 take an entity tag for, and what can be gone on with after a restart. About 500 MB/s on one
    /// processor, which is slower than many disks.
    Md5,
    /// Several times as fast.
    Blake3,
}

/// A hash on its way.
#[derive(Clone)]
pub(crate) enum Hasher {
    Md5(md5::Md5),
    Blake3(Box<blake3::Hasher>),
}

/// The hash of a whole content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentHash {
    /// It proves nothing against an attacker.
    Md5([u8; 16]),
    Blake3([u8; 32]),
}

impl Hasher {
    pub(crate) fn new(algorithm: HashAlgorithm) -> Self {
        match algorithm {
            HashAlgorithm::Md5 => Self::Md5(md5::Md5::new()),
            HashAlgorithm::Blake3 => Self::Blake3(Box::default()),
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Md5(hasher) => hasher.update(bytes),
            Self::Blake3(hasher) => drop(hasher.update(bytes)),
        }
    }

    pub(crate) fn finish(self) -> ContentHash {
        match self {
            Self::Md5(hasher) => ContentHash::Md5(hasher.finalize().into()),
            Self::Blake3(hasher) => ContentHash::Blake3(hasher.finalize().into()),
        }
    }

    /// What [`Self::of_state`] goes on with; nothing of an algorithm that has no such state.
    pub(super) fn state(&self) -> Vec<u8> {
        match self {
            Self::Md5(hasher) => hasher.serialize().to_vec(),
            Self::Blake3(_) => Vec::new(),
        }
    }

    pub(super) fn of_state(state: &[u8]) -> Option<Self> {
        let state = SerializedState::<md5::Md5>::try_from(state).ok()?;
        md5::Md5::deserialize(&state).ok().map(Self::Md5)
    }
}

impl ContentHash {
    /// The hash that a row says: `contentBlake3`, or an entity tag or `contentMd5` that is an MD5. None of tags that are
    /// none: of parts, or of other origin.
    pub(crate) fn of_row(blake3: Option<&str>, md5: Option<&str>) -> Option<Self> {
        match blake3 {
            Some(text) => from_hex(text).map(Self::Blake3),
            None => from_hex(md5?.trim_matches('"')).map(Self::Md5),
        }
    }

    pub(crate) fn algorithm(&self) -> HashAlgorithm {
        match self {
            Self::Md5(_) => HashAlgorithm::Md5,
            Self::Blake3(_) => HashAlgorithm::Blake3,
        }
    }

    pub(crate) fn to_hex(self) -> String {
        match self {
            Self::Md5(hash) => random::to_hex(&hash),
            Self::Blake3(hash) => random::to_hex(&hash),
        }
    }

    /// The entity tag without quotes. What is no MD5 looks as the tags of contents that came in parts do, which clients of
    /// S3 compare with no MD5 of theirs.
    pub fn tag(self) -> String {
        match self {
            Self::Md5(hash) => random::to_hex(&hash),
            Self::Blake3(hash) => format!("{}-1", random::to_hex(&hash[..16])),
        }
    }
}

fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits: Option<Vec<u8>> = text.chars().map(|digit| digit.to_digit(16)?.try_into().ok()).collect();
    let digits = digits.filter(|digits| digits.len() == 2 * N)?;
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = pair[0] << 4 | pair[1];
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(algorithm: HashAlgorithm, pieces: &[&[u8]]) -> ContentHash {
        let mut hasher = Hasher::new(algorithm);
        for piece in pieces {
            hasher.update(piece);
        }
        hasher.finish()
    }

    /// Both with the vectors of their specifications.
    #[test]
    fn hashes_and_tags() {
        let md5 = hash(HashAlgorithm::Md5, &[b"a", b"bc"]);
        assert_eq!(md5.tag(), "900150983cd24fb0d6963f7d28e17f72");
        let blake3 = hash(HashAlgorithm::Blake3, &[b"a", b"bc"]);
        assert_eq!(blake3.to_hex(), "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85");
        assert_eq!(blake3.tag(), "6437b3ac38465133ffb63b75273a8db5-1");
        let check = |blake3: Option<&str>, md5: Option<&str>, expected| {
            assert_eq!(ContentHash::of_row(blake3, md5), expected, "{blake3:?} {md5:?}");
        };
        check(None, Some("\"900150983CD24FB0D6963F7D28E17F72\""), Some(md5));
        check(Some(&blake3.to_hex()), Some("\"900150983cd24fb0d6963f7d28e17f72\""), Some(blake3));
        check(Some("6437"), Some("\"900150983cd24fb0d6963f7d28e17f72\""), None);
        for tag in
            [&blake3.tag(), "", "\"\"", "900150983cd24fb0d6963f7d28e17f7", "900150983cd24fb0d6963f7d28e17f7ä", "+0"]
        {
            check(None, Some(tag), None);
        }
        check(None, None, None);
    }

    #[test]
    fn an_md5_goes_on_after_a_restart() {
        let mut hasher = Hasher::new(HashAlgorithm::Md5);
        hasher.update(b"a");
        let mut hasher = Hasher::of_state(&hasher.state()).unwrap();
        hasher.update(b"bc");
        assert_eq!(hasher.finish(), hash(HashAlgorithm::Md5, &[b"abc"]));
        assert!(Hasher::of_state(&Hasher::new(HashAlgorithm::Blake3).state()).is_none());
    }
}
