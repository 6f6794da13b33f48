//! Checksums that clients send along with a body: `x-amz-checksum-<algorithm>` and `Content-MD5`. Pure.
//!
//! The SDKs send a CRC with every upload, mostly as a trailer.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use crc::{CRC_32_ISCSI, CRC_32_ISO_HDLC, CRC_64_NVME, Crc, Digest, Table};
use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};

/// What every header of a checksum begins with.
const PREFIX: &str = "x-amz-checksum-";

static CRC32: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISO_HDLC);
static CRC32C: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);
static CRC64_NVME: Crc<u64, Table<16>> = Crc::<u64, Table<16>>::new(&CRC_64_NVME);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Crc32,
    Crc32C,
    Crc64Nvme,
    Sha1,
    Sha256,
}

impl Algorithm {
    const ALL: [Self; 5] = [Self::Crc32, Self::Crc32C, Self::Crc64Nvme, Self::Sha1, Self::Sha256];

    fn name(self) -> &'static str {
        match self {
            Self::Crc32 => "crc32",
            Self::Crc32C => "crc32c",
            Self::Crc64Nvme => "crc64nvme",
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
        }
    }

    /// The algorithm whose header this is, in lower case.
    pub(crate) fn of_header(name: &str) -> Option<Self> {
        let name = name.strip_prefix(PREFIX)?;
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    pub(crate) fn header(self) -> String {
        format!("{PREFIX}{}", self.name())
    }

    pub(crate) fn begin(self) -> Running {
        match self {
            Self::Crc32 => Running::Crc32(CRC32.digest()),
            Self::Crc32C => Running::Crc32(CRC32C.digest()),
            Self::Crc64Nvme => Running::Crc64(CRC64_NVME.digest()),
            Self::Sha1 => Running::Ring(Box::new(Context::new(&SHA1_FOR_LEGACY_USE_ONLY))),
            Self::Sha256 => Running::Ring(Box::new(Context::new(&SHA256))),
        }
    }
}

/// A checksum of a body that is still coming.
#[derive(Clone)]
pub(crate) enum Running {
    Crc32(Digest<'static, u32, Table<16>>),
    Crc64(Digest<'static, u64, Table<16>>),
    Ring(Box<Context>),
}

impl Running {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Crc32(digest) => digest.update(bytes),
            Self::Crc64(digest) => digest.update(bytes),
            Self::Ring(context) => context.update(bytes),
        }
    }

    /// The checksum as headers carry it: in base64.
    pub(crate) fn finish(self) -> String {
        match self {
            Self::Crc32(digest) => BASE64_STANDARD.encode(digest.finalize().to_be_bytes()),
            Self::Crc64(digest) => BASE64_STANDARD.encode(digest.finalize().to_be_bytes()),
            Self::Ring(context) => BASE64_STANDARD.encode(context.finish()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_of_the_catalogues_check_text() {
        let check = |algorithm: Algorithm, expected: &str| {
            let mut running = algorithm.begin();
            running.update(b"1234");
            running.update(b"56789");
            assert_eq!(running.finish(), expected, "{algorithm:?}");
            assert_eq!(Algorithm::of_header(&algorithm.header()), Some(algorithm));
        };
        // CRC catalogue: cbf43926, e3069283, ae8b14860a799888.
        check(Algorithm::Crc32, "y/Q5Jg==");
        check(Algorithm::Crc32C, "4waSgw==");
        check(Algorithm::Crc64Nvme, "rosUhgp5mIg=");
        check(Algorithm::Sha1, "98O8HYCOBHMq32eZZczDTKeuNEE=");
        check(Algorithm::Sha256, "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU=");
        assert_eq!(Algorithm::of_header("x-amz-checksum-type"), None);
        assert_eq!(Algorithm::of_header("x-amz-checksum-algorithm"), None);
    }
}
