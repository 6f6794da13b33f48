//! TLS of the server itself, for those who want no proxy: certificate and key from files, read again when they change, or
//! certificates that come by themselves (`crate::acme`).

use std::fmt;
use std::future::{Future, ready};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use base::Clock;
use platform::Directory;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::acme::{self, HTTP};
use crate::config::{Config, TlsConfig, TlsFiles};
use crate::exit::{self, Exit, ResultExt as _};

/// Where the latter are kept, below the data folder.
const FOLDER: &str = "acme";
/// Between two looks at the files.
const LOOK: Duration = Duration::from_secs(30);

/// What the public listener needs; `loops` gets what keeps it fresh.
pub(super) fn open(
    config: &Config,
    data: Option<&Path>,
    directory: &Directory,
    registry: &mut Registry,
    (loops, shutdown): (&mut JoinSet<()>, &CancellationToken),
) -> Result<Option<Arc<dyn web::Tls>>, Exit> {
    let (tls, certificates): (Option<Arc<dyn web::Tls>>, _) = match &config.listen.tls {
        None => (None, None),
        Some(TlsConfig::Files(files)) => {
            let certificate = Certificate::open(files)?;
            let tls = certificate.tls()?;
            loops.spawn(certificate.follow(shutdown.clone()));
            (Some(tls), None)
        }
        Some(TlsConfig::Acme(acme)) => {
            let data = data.context("certificates need a data folder").exit(exit::CONFIG)?;
            let (certificates, worker) =
                acme::Certificates::open(acme, &data.join(FOLDER), allowed(directory), Clock::system())
                    .exit(exit::CONFIG)?;
            loops.spawn(worker.run(shutdown.clone()));
            (Some(certificates.clone()), Some(certificates))
        }
    };
    registry.register_collector(Box::new(CertificateCollector(certificates)));
    Ok(tls)
}

/// The rule that Caddy asks for, too.
fn allowed(directory: &Directory) -> acme::Allowed {
    let directory = directory.clone();
    Arc::new(move |name: String| {
        let directory = directory.clone();
        Box::pin(async move {
            let allowed = directory.certificate_allowed(&name).await;
            allowed.unwrap_or_else(|error| {
                let cause = web::error::chain(&error);
                tracing::warn!(name, cause, "whether a name may have a certificate is not known");
                false
            })
        })
    })
}

/// Certificates that come by themselves; all zero without.
#[derive(Debug)]
struct CertificateCollector(Option<Arc<acme::Certificates>>);

impl Collector for CertificateCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let tally = self.0.as_ref().map(|certificates| certificates.tally()).unwrap_or_default();
        let whole = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        for (name, help, value) in [
            ("launchdb_tls_certificates", "Certificates that came by themselves", Some(whole(tally.held))),
            (
                "launchdb_tls_certificates_failing",
                "Names that no certificate can be got for",
                Some(whole(tally.failing)),
            ),
            ("launchdb_tls_certificate_first_end_seconds", "Seconds until the first one ends", tally.first_end),
        ] {
            if let Some(value) = value {
                let encoder = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
                ConstGauge::new(value).encode(encoder)?;
            }
        }
        Ok(())
    }
}

/// The certificate in use, for every name that clients ask for.
#[derive(Debug)]
pub(super) struct Certificate {
    files: TlsFiles,
    current: RwLock<(Arc<CertifiedKey>, Stamp)>,
}

/// When both files were changed last.
type Stamp = [Option<SystemTime>; 2];

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.read().unwrap_or_else(PoisonError::into_inner).0.clone())
    }
}

/// The same for every client.
#[derive(Debug)]
struct OneConfig(Arc<ServerConfig>);

impl web::Tls for OneConfig {
    fn config(&self, _: web::Hello) -> Pin<Box<dyn Future<Output = Arc<ServerConfig>> + Send + '_>> {
        Box::pin(ready(self.0.clone()))
    }
}

impl Certificate {
    /// Reads both files; they have to fit each other.
    pub(super) fn open(files: &TlsFiles) -> Result<Arc<Self>, Exit> {
        let stamp = stamp(files);
        let key = read(files).exit(exit::CONFIG)?;
        Ok(Arc::new(Self { files: files.clone(), current: RwLock::new((key, stamp)) }))
    }

    /// For the public listener.
    pub(super) fn tls(self: &Arc<Self>) -> Result<Arc<dyn web::Tls>, Exit> {
        let config = acme::server_config(self.clone(), HTTP).exit(exit::FAILURE)?;
        Ok(Arc::new(OneConfig(config)))
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

fn stamp(files: &TlsFiles) -> Stamp {
    let changed = |path: &PathBuf| std::fs::metadata(path).and_then(|meta| meta.modified()).ok();
    [changed(&files.certificate), changed(&files.key)]
}

fn read(files: &TlsFiles) -> Result<Arc<CertifiedKey>, anyhow::Error> {
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
