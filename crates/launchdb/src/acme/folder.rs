//! What is kept in the data folder: the account at the authority, and a file for each name with its key and certificates.
//! All of it is for the server's user only.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use instant_acme::AccountCredentials;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use serde::{Deserialize, Serialize};

use super::backoff::Backoff;
use super::validity::validity;
use crate::private_file;

/// A certificate in use.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) key: Arc<CertifiedKey>,
    /// Seconds since the Unix epoch.
    pub(super) not_after: i64,
    /// A third of its life is left then.
    pub(super) renew_at: i64,
}

impl Held {
    /// From key and chain in one PEM text.
    pub(super) fn parse(pem: &[u8]) -> Result<Self, anyhow::Error> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        let chain = chain.context("no chain of certificates")?;
        let first = chain.first().context("no certificate in it")?;
        let (not_before, not_after) = validity(first).context("a certificate without an end")?;
        let key = PrivateKeyDer::from_pem_slice(pem).context("no key in it")?;
        let key = CertifiedKey::from_der(chain, key, &ring::default_provider());
        let key = key.context("key and certificate do not fit each other")?;
        let renew_at = not_after - (not_after - not_before) / 3;
        Ok(Self { key: Arc::new(key), not_after, renew_at })
    }
}

/// The account, and what it was made with.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredAccount {
    pub(super) directory: String,
    pub(super) contact: Option<String>,
    pub(super) credentials: AccountCredentials,
}

/// `DATA/acme`.
#[derive(Clone, Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let folder = Self(path.to_owned());
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder.names())?;
        for folder in [path, &folder.names()] {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
        }
        Ok(folder)
    }

    fn names(&self) -> PathBuf {
        self.0.join("names")
    }

    fn account(&self) -> PathBuf {
        self.0.join("account.json")
    }

    /// Names are of letters, digits, `-` and dots, and so are files of them.
    fn of_name(&self, name: &str, ending: &str) -> PathBuf {
        self.names().join(format!("{name}.{ending}"))
    }

    /// None when there is none yet, or another authority's.
    pub(super) fn read_account(&self, directory: &str) -> Result<Option<StoredAccount>, anyhow::Error> {
        let Some(text) = read(&self.account())? else { return Ok(None) };
        let account: StoredAccount = serde_json::from_slice(&text).context("account.json is not ours")?;
        Ok(Some(account).filter(|account| account.directory == directory))
    }

    pub(super) fn write_account(&self, account: &StoredAccount) -> Result<(), anyhow::Error> {
        let text = serde_json::to_vec_pretty(account)?;
        private_file::write(&self.account(), &text).context("the account cannot be written down")
    }

    /// The authority does not know it any more.
    pub(super) fn forget_account(&self) -> io::Result<()> {
        remove(&self.account())
    }

    /// None when there is none, or one that cannot be used.
    pub(super) fn read_certificate(&self, name: &str) -> Result<Option<Held>, anyhow::Error> {
        let Some(pem) = read(&self.of_name(name, "pem"))? else { return Ok(None) };
        match Held::parse(&pem) {
            Ok(held) => Ok(Some(held)),
            Err(error) => {
                let cause = format!("{error:#}");
                tracing::warn!(name, cause, "a certificate that was kept cannot be used, so another one is got");
                Ok(None)
            }
        }
    }

    pub(super) fn write_certificate(&self, name: &str, pem: &[u8]) -> io::Result<()> {
        private_file::write(&self.of_name(name, "pem"), pem)?;
        remove(&self.of_name(name, "retry"))
    }

    /// Nothing of a name is kept any more.
    pub(super) fn forget_name(&self, name: &str) -> io::Result<()> {
        remove(&self.of_name(name, "pem"))?;
        remove(&self.of_name(name, "retry"))
    }

    /// What is known of tries that failed, also of an earlier process: the authority counts those too.
    pub(super) fn read_backoff(&self, name: &str) -> Backoff {
        let text = read(&self.of_name(name, "retry")).ok().flatten();
        text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }

    pub(super) fn write_backoff(&self, name: &str, backoff: &Backoff) -> io::Result<()> {
        private_file::write(&self.of_name(name, "retry"), &serde_json::to_vec(backoff)?)
    }

    /// Names that a certificate is kept for.
    pub(super) fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.names())? {
            let file = entry?.file_name();
            names.extend(file.to_str().and_then(|file| file.strip_suffix(".pem")).map(str::to_owned));
        }
        Ok(names)
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, anyhow::Error> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("{} cannot be read", path.display())),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
