//! Names of buckets, objects and versions, checked once where they come in. Pure.
//!
//! What is allowed is what upstream allows: the characters that S3 calls safe or needing care, and nothing beyond ASCII.
//! What is refused on top is what no file system and no URL could keep apart: `.` and `..` as a whole segment.

use std::fmt;
use std::sync::Arc;

use base::random;

/// Longest key of an object, in bytes, as in S3.
pub(crate) const LONGEST_KEY: usize = 1024;
/// Most segments of a key. Each becomes a folder, and each of them costs an inode and a sync of the disk.
pub(crate) const MOST_SEGMENTS: usize = 64;
/// Longest name of a bucket, in bytes.
pub(crate) const LONGEST_BUCKET: usize = 100;
/// Longest version, in bytes. Ours are UUIDs; a row may hold what somebody else wrote.
const LONGEST_VERSION: usize = 64;

fn is_safe(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_!.*'() &$=@;:+,?-".contains(&byte)
}

fn is_dots(segment: &str) -> bool {
    segment == "." || segment == ".."
}

/// The id of a bucket that may have files.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BucketId(Arc<str>);

impl BucketId {
    /// None for what no bucket may be called.
    pub fn parse(text: &str) -> Option<Self> {
        let fits = !text.is_empty() && text.len() <= LONGEST_BUCKET && text.bytes().all(is_safe) && !is_dots(text);
        fits.then(|| Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BucketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of an object within its bucket: segments between slashes, some of which may be empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey(Arc<str>);

impl ObjectKey {
    /// None for what no object may be called.
    pub fn parse(text: &str) -> Option<Self> {
        let fits = !text.is_empty()
            && text.len() <= LONGEST_KEY
            && text.bytes().all(|byte| byte == b'/' || is_safe(byte))
            && text.split('/').count() <= MOST_SEGMENTS
            && !text.split('/').any(is_dots);
        fits.then(|| Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// Placeholders of the dashboard for folders without files: they are always empty.
    pub fn is_empty_folder(&self) -> bool {
        self.0.ends_with(".emptyFolderPlaceholder")
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which content of an object a row means. Contents never change; each upload makes a new version.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version(Arc<str>);

impl Version {
    /// A fresh one, a random UUID.
    pub fn generate() -> Self {
        Self(random_uuid().into())
    }

    /// None for what cannot be one.
    pub fn parse(text: &str) -> Option<Self> {
        let fits = !text.is_empty()
            && text.len() <= LONGEST_VERSION
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        fits.then(|| Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A random UUID (RFC 9562, version 4) as text.
pub(crate) fn random_uuid() -> String {
    let mut bytes = random::bytes::<16>();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = random::to_hex(&bytes);
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// Whether a text is a UUID in its usual form, of any version.
pub(crate) fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_what_upstream_takes_without_dot_segments() {
        let check = |text: &str, fits: bool| assert_eq!(ObjectKey::parse(text).is_some(), fits, "{text:?}");
        for good in [
            "a",
            "a/b.png",
            "a//b",
            "/a",
            "a/",
            "...",
            ".hidden",
            "a b",
            "it's (1) & $=@;:+,?-_!*.txt",
            "CON",
            "nul.txt",
            &"x".repeat(LONGEST_KEY),
            &"/".repeat(MOST_SEGMENTS - 1),
        ] {
            check(good, true);
        }
        for bad in [
            "",
            ".",
            "..",
            "../a",
            "a/..",
            "a/../b",
            "a/./b",
            "./a",
            "a\0b",
            "a\nb",
            "a\\b",
            "a%2fb",
            "a%b",
            "ä",
            "a\u{202e}b",
            "a#b",
            "a[1]",
            "a{b}",
            "a~b",
            "a|b",
            "a\"b",
            "a<b",
            "a^b",
            "a`b",
            "a\tb",
            "\u{7f}",
            &"x".repeat(LONGEST_KEY + 1),
            &"/".repeat(MOST_SEGMENTS),
            &"a/".repeat(MOST_SEGMENTS),
        ] {
            check(bad, false);
        }
    }

    #[test]
    fn buckets_have_no_slash() {
        let check = |text: &str, fits: bool| assert_eq!(BucketId::parse(text).is_some(), fits, "{text:?}");
        for good in ["avatars", "my bucket", "..a", "a.b", &"x".repeat(100)] {
            check(good, true);
        }
        for bad in ["", ".", "..", "a/b", "/", "a\0", "%staging", "ä", "a\\b", &"x".repeat(101)] {
            check(bad, false);
        }
    }

    #[test]
    fn versions_are_uuids_or_alike() {
        for _ in 0..100 {
            let version = Version::generate();
            assert!(is_uuid(version.as_str()), "{version:?}");
            assert_eq!(version.as_str().as_bytes()[14], b'4');
            assert_eq!(Version::parse(version.as_str()), Some(version));
        }
        for bad in ["", ".", "..", "a/b", "a%b", "a b", &"x".repeat(65)] {
            assert_eq!(Version::parse(bad), None, "{bad:?}");
        }
        assert!(!is_uuid("0123456789abcdef0123456789abcdef0123"));
    }
}
