//! TLS of the server itself, for those who want no proxy: certificate and key from files, read again when they change.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_util::sync::CancellationToken;

use crate::config::TlsConfig;
use crate::exit::{self, Exit, ResultExt as _};

/// Between two looks at the files.
const LOOK: Duration = Duration::from_secs(30);

/// The certificate in use, for every name that clients ask for.
#[derive(Debug)]
pub(super) struct Certificate {
    files: TlsConfig,
    current: RwLock<(Arc<CertifiedKey>, Stamp)>,
}

/// When both files were changed last.
type Stamp = [Option<SystemTime>; 2];

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.read().unwrap_or_else(PoisonError::into_inner).0.clone())
    }
}

impl Certificate {
    /// Reads both files; they have to fit each other.
    pub(super) fn open(files: &TlsConfig) -> Result<Arc<Self>, Exit> {
        let stamp = stamp(files);
        let key = read(files).exit(exit::CONFIG)?;
        Ok(Arc::new(Self { files: files.clone(), current: RwLock::new((key, stamp)) }))
    }

    /// For the public listener.
    pub(super) fn server_config(self: &Arc<Self>) -> Result<Arc<ServerConfig>, Exit> {
        let provider = Arc::new(ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let mut config = config.exit(exit::FAILURE)?.with_no_client_auth().with_cert_resolver(self.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// Takes new files over as they come, until `shutdown`. Files that do not fit each other change nothing: somebody
    /// may be about to write the second one.
    pub(super) async fn follow(self: Arc<Self>, shutdown: CancellationToken) {
        while shutdown.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_some() {
            let this = self.clone();
            let looked = tokio::task::spawn_blocking(move || this.look()).await;
            match looked {
                Ok(Ok(true)) => tracing::info!("a new TLS certificate is in use"),
                Ok(Err(error)) => {
                    tracing::warn!(cause = %format!("{error:#}"), "the new TLS certificate cannot be used")
                }
                Ok(Ok(false)) | Err(_) => {}
            }
        }
    }

    /// Whether there were new files, which are in use now.
    fn look(&self) -> Result<bool, anyhow::Error> {
        let found = stamp(&self.files);
        if self.current.read().unwrap_or_else(PoisonError::into_inner).1 == found {
            return Ok(false);
        }
        let key = read(&self.files)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = (key, found);
        Ok(true)
    }
}

fn stamp(files: &TlsConfig) -> Stamp {
    let changed = |path: &PathBuf| std::fs::metadata(path).and_then(|meta| meta.modified()).ok();
    [changed(&files.certificate), changed(&files.key)]
}

fn read(files: &TlsConfig) -> Result<Arc<CertifiedKey>, anyhow::Error> {
    let shown = |path: &Path| path.display().to_string();
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(&files.certificate)
        .with_context(|| format!("{} cannot be read (LAUNCHDB_TLS_CERT)", shown(&files.certificate)))?
        .collect();
    let chain = chain.with_context(|| format!("{} is no chain of certificates", shown(&files.certificate)))?;
    anyhow::ensure!(!chain.is_empty(), "{} has no certificate in it", shown(&files.certificate));
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .with_context(|| format!("{} cannot be read as a key (LAUNCHDB_TLS_KEY)", shown(&files.key)))?;
    let key = CertifiedKey::from_der(chain, key, &ring::default_provider());
    key.map(Arc::new)
        .with_context(|| format!("{} and {} do not fit each other", shown(&files.certificate), shown(&files.key)))
}
