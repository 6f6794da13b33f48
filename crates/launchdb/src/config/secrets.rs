//! The platform's own secrets: which there are, how good they have to be, and how a good one is made.

use std::collections::BTreeMap;

use base::Secret;
use base::sealed::MasterKey;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::reader::Reader;
use super::strength;
use super::{InvalidConfig, Problem};

/// One secret of the specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecretKind {
    pub name: &'static str,
    /// A command that makes a good value.
    pub command: &'static str,
    /// Whether a server that was given a database has to be given this too.
    required: bool,
    min_chars: usize,
    is_master_key: bool,
    /// Whether the data folder is bound to the value of its first start.
    pub is_bound: bool,
}

/// Password of the role that owns the platform database of an embedded cluster; ours, not the specification's.
pub const PLATFORM_DB_PASSWORD: &str = "LAUNCHDB_PLATFORM_DB_PASSWORD";

/// Every secret, in the order of the secrets file.
pub const SECRET_KINDS: &[SecretKind] = &[
    SecretKind {
        name: "LAUNCHDB_MASTER_KEY",
        command: "openssl rand -base64 32",
        required: true,
        min_chars: 43,
        is_master_key: true,
        is_bound: true,
    },
    kind("PLATFORM_JWT_SECRET", "openssl rand -base64 32", true, 32),
    kind("INTERNAL_API_KEY", "openssl rand -hex 32", false, 24),
    kind("POSTGREST_ADMIN_KEY", "openssl rand -hex 32", false, 24),
    kind("BACKUP_ENCRYPTION_KEY", "openssl rand -base64 32", false, 24),
    SecretKind { is_bound: true, ..kind("POSTGRES_SUPERUSER_PASSWORD", "openssl rand -hex 24", false, 16) },
    kind(PLATFORM_DB_PASSWORD, "openssl rand -hex 24", false, 16),
];

/// Keys that were replaced and are still accepted: never made, never needed.
pub const PREVIOUS_KINDS: &[SecretKind] = &[
    SecretKind { is_master_key: true, ..kind(MASTER_KEY_PREVIOUS, "openssl rand -base64 32", false, 43) },
    kind(INTERNAL_KEY_PREVIOUS, "openssl rand -hex 32", false, 24),
];

pub const MASTER_KEY_PREVIOUS: &str = "LAUNCHDB_MASTER_KEY_PREVIOUS";
pub const INTERNAL_KEY_PREVIOUS: &str = "INTERNAL_API_KEY_PREVIOUS";

const fn kind(name: &'static str, command: &'static str, required: bool, min_chars: usize) -> SecretKind {
    SecretKind { name, command, required, min_chars, is_master_key: false, is_bound: false }
}

impl SecretKind {
    /// Why a value is not good enough; the text never holds the value.
    pub fn weakness(&self, value: &str) -> Option<String> {
        if let Some(weakness) = strength::weakness(value, self.min_chars) {
            return Some(weakness);
        }
        (self.is_master_key && MasterKey::from_base64(value, 1).is_err())
            .then(|| "is not 32 bytes written in base64".to_owned())
    }

    /// A fresh value from the system's generator.
    pub fn generate(&self) -> Secret<String> {
        // 256 bits each; only the master key and keys the specification makes with -base64 are written in base64.
        Secret::new(if self.command.contains("base64") {
            BASE64_STANDARD.encode(base::random::bytes::<32>())
        } else {
            base::random::hex::<32>()
        })
    }

    /// The mend for a missing or weak value.
    pub fn mend(&self) -> String {
        format!("{}=$({})", self.name, self.command)
    }
}

/// Secrets that the environment or a `.env` file gave; all strong enough.
#[derive(Clone, Debug, Default)]
pub struct GivenSecrets {
    values: BTreeMap<&'static str, Secret<String>>,
    /// Whether required ones must be among them or in the data folder already, instead of being made.
    must_exist: bool,
}

/// Secrets that a data folder has already.
pub type StoredSecrets = BTreeMap<&'static str, Secret<String>>;

impl GivenSecrets {
    /// Reads all secrets; weak ones are problems. `must_exist`: nothing may be invented, because other processes
    /// share the database, so required ones that are neither given nor `stored` (none: unknown) are problems too.
    pub fn read(reader: &mut Reader<'_>, must_exist: bool, stored: Option<&StoredSecrets>) -> Self {
        let is_stored = |name: &str| stored.is_none_or(|stored| stored.contains_key(name));
        let mut values = BTreeMap::new();
        for kind in SECRET_KINDS {
            match reader.text(kind.name) {
                Some(value) => match kind.weakness(&value) {
                    Some(weakness) => reader.problem(kind.name, &weakness, &kind.mend()),
                    None => {
                        values.insert(kind.name, Secret::new(value));
                    }
                },
                None if must_exist && kind.required && !is_stored(kind.name) => {
                    reader.problem(kind.name, "is missing", &kind.mend());
                }
                None => {}
            }
        }
        for kind in PREVIOUS_KINDS {
            if let Some(value) = reader.text(kind.name) {
                match kind.weakness(&value) {
                    Some(weakness) => reader.problem(kind.name, &weakness, "unset it, or put back the key of before"),
                    None => {
                        values.insert(kind.name, Secret::new(value));
                    }
                }
            }
        }
        let given: Vec<_> = values.iter().collect();
        for (index, (name, value)) in given.iter().enumerate() {
            if let Some((other, _)) = given[..index].iter().find(|(_, other)| other == value) {
                reader.problem(name, &format!("has the same value as {other}"), "make another one for each");
            }
        }
        Self { values, must_exist }
    }

    pub fn get(&self, name: &str) -> Option<&Secret<String>> {
        self.values.get(name)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Secret<String>)> {
        self.values.iter().map(|(name, value)| (*name, value))
    }

    pub fn must_exist(&self) -> bool {
        self.must_exist
    }
}

/// The platform's secrets, complete.
#[derive(Clone, Debug)]
pub struct PlatformSecrets {
    pub values: BTreeMap<&'static str, Secret<String>>,
}

impl PlatformSecrets {
    /// Checks that everything a server cannot do without is there.
    pub fn new(values: BTreeMap<&'static str, Secret<String>>) -> Result<Self, InvalidConfig> {
        let missing: Vec<_> = SECRET_KINDS
            .iter()
            .filter(|kind| kind.required && !values.contains_key(kind.name))
            .map(|kind| Problem::new(kind.name, "is missing", &kind.mend()))
            .collect();
        if missing.is_empty() { Ok(Self { values }) } else { Err(InvalidConfig(missing)) }
    }

    /// The master key, ready for use, with the one before it when that is still needed.
    pub fn master_key(&self) -> Result<MasterKey, InvalidConfig> {
        let kind = &SECRET_KINDS[0];
        let text = self.get(kind.name).map(|value| value.expose().as_str()).unwrap_or_default();
        let previous = self.get(MASTER_KEY_PREVIOUS).map(|value| value.expose().as_str());
        MasterKey::with_previous(text, previous).map_err(|_| {
            InvalidConfig(vec![Problem::new(kind.name, "is not 32 bytes written in base64", &kind.mend())])
        })
    }

    pub fn get(&self, name: &str) -> Option<&Secret<String>> {
        self.values.get(name)
    }
}
