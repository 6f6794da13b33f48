//! A project's opaque keys: `sb_publishable_...` (role anon) and `sb_secret_...` (role service_role).

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::digest;

use crate::random;
use crate::role::RoleName;
use crate::secret::Secret;

/// The two kinds of opaque keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiKeyKind {
    Publishable,
    Secret,
}

impl ApiKeyKind {
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Publishable => "sb_publishable_",
            Self::Secret => "sb_secret_",
        }
    }

    /// The database role a request with such a key runs as.
    pub fn role(self) -> &'static str {
        match self {
            Self::Publishable => RoleName::ANON,
            Self::Secret => RoleName::SERVICE_ROLE,
        }
    }

    /// The kind's name in the platform's API and database.
    pub fn name(self) -> &'static str {
        match self {
            Self::Publishable => "publishable",
            Self::Secret => "secret",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Publishable, Self::Secret].into_iter().find(|kind| kind.name() == name)
    }
}

/// SHA-256 of a key's whole text. The keys carry 192 random bits, so a plain digest cannot be searched.
pub type ApiKeyHash = [u8; 32];

/// Makes a fresh key.
pub fn generate(kind: ApiKeyKind) -> Secret<String> {
    Secret::new(format!("{}{}", kind.prefix(), BASE64_URL_SAFE_NO_PAD.encode(random::bytes::<24>())))
}

pub fn hash(key: &str) -> ApiKeyHash {
    let digest = digest::digest(&digest::SHA256, key.as_bytes());
    let mut out = [0; 32];
    out.copy_from_slice(digest.as_ref());
    out
}

/// Whether a credential is written like an opaque key (as opposed to a JWT).
pub fn is_opaque(text: &str) -> bool {
    text.starts_with("sb_")
}
