//! Keys of the whole installation are replaced while it runs: the master key, and the internal key.
//!
//! A new master key is written down beside the old one before anything is sealed with it. Then every secret is sealed
//! anew, and at the end the old key goes. Whoever is killed in between starts with both keys and goes on.

mod reseal;
pub(crate) mod routes;
mod store;

use std::sync::{Arc, PoisonError, RwLock};

use base::Secret;

pub use reseal::Resealed;

use crate::error::Error;
use crate::platform::Platform;

/// A key of the installation that can be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstallationKey {
    Master,
    Internal,
}

impl InstallationKey {
    /// The variable's name.
    pub fn variable(self) -> &'static str {
        match self {
            Self::Master => "LAUNCHDB_MASTER_KEY",
            Self::Internal => "INTERNAL_API_KEY",
        }
    }
}

/// Why a key cannot be written down.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It is the operator's to change; holds a sentence.
    #[error("{0}")]
    NotOurs(String),
    #[error("the secrets file cannot be written")]
    Io(#[source] std::io::Error),
}

/// Where the installation's keys are written down, durably.
pub trait KeyFile: Send + Sync {
    /// Puts `fresh` in the present key's place, and that in the place of the one before.
    ///
    /// # Errors
    /// When the key does not come from there, or it cannot be written.
    fn begin(&self, key: InstallationKey, fresh: &Secret<String>) -> Result<(), KeyFileError>;

    /// Forgets the one before.
    ///
    /// # Errors
    /// When the key does not come from there, or it cannot be written.
    fn end(&self, key: InstallationKey) -> Result<(), KeyFileError>;
}

/// Keys that callers of internal services may show; the newest first.
#[derive(Clone, Default)]
pub(crate) struct InternalKeys(Arc<RwLock<Vec<Secret<String>>>>);

impl InternalKeys {
    /// Whether one of the keys is `given`; compared in constant time.
    pub(crate) fn accept(&self, given: &[u8]) -> bool {
        use subtle::ConstantTimeEq as _;
        let keys = self.0.read().unwrap_or_else(PoisonError::into_inner);
        keys.iter().fold(false, |found, key| found | bool::from(key.expose().as_bytes().ct_eq(given)))
    }

    /// Adds the newest key.
    pub(crate) fn add_first(&self, key: Secret<String>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(0, key);
    }

    /// Adds one of before.
    pub(crate) fn add_last(&self, key: Secret<String>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).push(key);
    }

    /// Forgets all but the newest; says whether there were others.
    pub(crate) fn keep_first(&self) -> bool {
        let mut keys = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let had = keys.len() > 1;
        keys.truncate(1);
        had
    }

    pub(crate) fn len(&self) -> usize {
        self.0.read().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Platform {
    /// Lets administrators replace the installation's keys in this process; only the first call counts.
    pub fn offer_key_file(&self, file: Arc<dyn KeyFile>) {
        self.set_key_file(file);
    }

    /// Also accepts the internal key of before.
    pub fn accept_previous_internal_key(&self, key: Secret<String>) {
        self.internal_keys().add_last(key);
    }

    /// Goes on with a change of the master key that a start found unfinished; nothing without one.
    pub fn resume_rotation(&self) {
        if self.config().master_key.is_rotating() {
            let platform = self.clone();
            self.spawn(async move { platform.reseal_to_the_end().await });
        }
    }

    fn require_key_file(&self) -> Result<&Arc<dyn KeyFile>, Error> {
        self.key_file().ok_or_else(|| {
            Error::Unsupported("the installation's keys are replaced in the process that keeps the projects".to_owned())
        })
    }
}

impl From<KeyFileError> for Error {
    fn from(error: KeyFileError) -> Self {
        match error {
            KeyFileError::NotOurs(what) => Self::Unsupported(what),
            error @ KeyFileError::Io(_) => Self::Internal(error.into()),
        }
    }
}
