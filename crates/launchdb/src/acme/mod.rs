//! Certificates that come by themselves (`serve --tls`): from any authority that speaks ACME (RFC 8555), proved over TLS on
//! the public port itself (TLS-ALPN-01, RFC 8737), so that nothing else has to be open.
//!
//! The server's own name gets one at the start. Names of projects get theirs when somebody first connects to one: then it
//! leads here, which the authority is about to look at. Which names may have one is asked of the control plane each time.
//! A connection waits a few seconds for its certificate; one that still has none is told so by TLS itself.
//!
//! [`Certificates`] is what connections ask, [`Worker`] the one task that gets and renews.

mod backoff;
mod folder;
mod http;
mod order;
mod validity;
mod worker;

use std::collections::HashMap;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Context as _;
use base::Clock;
use outbound::{Client, Rules};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::sync::{mpsc, oneshot};

use self::folder::{Folder, Held};
use self::order::Authority;
pub use self::worker::Worker;
use crate::config::AcmeConfig;

/// What browsers and clients speak here.
pub const HTTP: &[u8] = b"http/1.1";
/// What the authority speaks, and nobody else (RFC 8737, section 4).
const VALIDATION: &[u8] = b"acme-tls/1";
/// How long a connection waits for its certificate. An authority takes two to ten seconds.
const PATIENCE: Duration = Duration::from_secs(20);
/// Names that connections wait for at the same time; any more have to come again.
const MOST_WISHES: usize = 64;

/// TLS with what `certificates` has, for clients that speak `protocol`.
pub fn server_config(
    certificates: Arc<dyn ResolvesServerCert>,
    protocol: &[u8],
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions()?.with_no_client_auth();
    let mut config = builder.with_cert_resolver(certificates);
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok(Arc::new(config))
}

/// Whether a name may have a certificate from this server: the control plane's answer.
pub type Allowed = Arc<dyn Fn(String) -> Pin<Box<dyn Future<Output = bool> + Send>> + Send + Sync>;

/// How many names have a certificate, and how it stands with them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub held: usize,
    /// Names whose last try failed.
    pub failing: usize,
    /// Seconds until the first one ends, if there is one; below 0 when it has.
    pub first_end: Option<i64>,
}

/// Answers to the authority's validations, by name.
#[derive(Debug, Default)]
struct Challenges(RwLock<HashMap<String, Arc<CertifiedKey>>>);

impl Challenges {
    fn insert(&self, name: &str, proof: CertifiedKey) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), Arc::new(proof));
    }

    fn remove(&self, name: &str) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}

impl ResolvesServerCert for Challenges {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = normal(hello.server_name()?);
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&name).cloned()
    }
}

/// The certificates in use.
#[derive(Debug)]
struct Store {
    /// The server's own name, for those who name none.
    own: String,
    held: RwLock<HashMap<String, Held>>,
}

impl Store {
    fn has(&self, name: &str, now: i64) -> bool {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        held.get(name).is_some_and(|held| now < held.not_after)
    }

    fn put(&self, name: &str, certificate: Held) {
        self.held.write().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), certificate);
    }

    /// Forgets a certificate that is over; whether there was one.
    fn forget_if_over(&self, name: &str, now: i64) -> bool {
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        let is_over = held.get(name).is_some_and(|held| held.not_after <= now);
        is_over && held.remove(name).is_some()
    }

    /// Names whose certificates are due, or over.
    fn due(&self, now: i64) -> Vec<String> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        held.iter().filter(|(_, held)| held.renew_at <= now).map(|(name, _)| name.clone()).collect()
    }
}

impl ResolvesServerCert for Store {
    /// One that is over is better than none: who looks sees what is wrong.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map_or_else(|| self.own.clone(), normal);
        self.held.read().unwrap_or_else(PoisonError::into_inner).get(&name).map(|held| held.key.clone())
    }
}

/// A connection that wants a certificate for a name.
#[derive(Debug)]
struct Wish {
    name: String,
    /// Told when there is one, or none for now.
    done: oneshot::Sender<()>,
}

/// TLS of a listener whose certificates come by themselves.
#[derive(Debug)]
pub struct Certificates {
    store: Arc<Store>,
    clock: Clock,
    /// Names whose last try failed; the worker writes.
    failing: RwLock<usize>,
    wishes: mpsc::Sender<Wish>,
    http: Arc<ServerConfig>,
    validation: Arc<ServerConfig>,
}

impl Certificates {
    /// Opens the folder. Nothing is asked of the authority before the worker runs.
    ///
    /// # Errors
    /// The folder cannot be used, or the authority's own certificate cannot be read.
    pub fn open(
        config: &AcmeConfig,
        folder: &Path,
        allowed: Allowed,
        clock: Clock,
    ) -> Result<(Arc<Self>, Worker), anyhow::Error> {
        let folder = Folder::open(folder).with_context(|| format!("{} cannot be used", folder.display()))?;
        let store = Arc::new(Store { own: normal(&config.name), held: RwLock::default() });
        let challenges = Arc::new(Challenges::default());
        let (wishes, wished) = mpsc::channel(MOST_WISHES);
        let certificates = Arc::new(Self {
            http: server_config(store.clone(), HTTP)?,
            validation: server_config(challenges.clone(), VALIDATION)?,
            store,
            clock,
            failing: RwLock::default(),
            wishes,
        });
        let authority = Authority {
            client: client(config)?,
            folder,
            directory: config.directory.clone(),
            contact: config.contact.clone(),
        };
        Ok((certificates.clone(), Worker::new(certificates, authority, challenges, allowed, wished)))
    }

    /// For metrics.
    pub fn tally(&self) -> Tally {
        let held = self.store.held.read().unwrap_or_else(PoisonError::into_inner);
        let first_end = held.values().map(|held| held.not_after).min();
        Tally {
            held: held.len(),
            failing: *self.failing.read().unwrap_or_else(PoisonError::into_inner),
            first_end: first_end.map(|end| end - self.clock.unix_seconds()),
        }
    }

    fn set_failing(&self, count: usize) {
        *self.failing.write().unwrap_or_else(PoisonError::into_inner) = count;
    }

    /// Waits until there is a certificate for a name, or it is clear that there will be none soon.
    async fn wish(&self, name: String) {
        let (done, told) = oneshot::channel();
        // With too many others waiting, or at the shutdown, the connection goes on without.
        if self.wishes.try_send(Wish { name, done }).is_ok() {
            let _ = tokio::time::timeout(PATIENCE, told).await;
        }
    }
}

impl web::Tls for Certificates {
    fn config(&self, hello: web::Hello) -> Pin<Box<dyn Future<Output = Arc<ServerConfig>> + Send + '_>> {
        Box::pin(async move {
            if hello.protocols == [VALIDATION] {
                return self.validation.clone();
            }
            let name = hello.server_name.as_deref().map_or_else(|| self.store.own.clone(), normal);
            if !self.store.has(&name, self.clock.unix_seconds()) {
                self.wish(name).await;
            }
            self.http.clone()
        })
    }
}

/// Names are the same in every case.
fn normal(name: &str) -> String {
    name.to_ascii_lowercase()
}

/// Authorities are called as everything else is, and believed by the same roots and those of the operator.
fn client(config: &AcmeConfig) -> Result<Client, anyhow::Error> {
    let mut rules = Rules::default();
    if let Some(path) = &config.roots {
        let shown = || format!("{} is no PEM file of certificates (LAUNCHDB_ACME_CA)", path.display());
        let roots: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).with_context(shown)?.collect();
        rules.extra_roots = roots.with_context(shown)?.into_iter().map(|root| root.to_vec()).collect();
        anyhow::ensure!(!rules.extra_roots.is_empty(), shown());
    }
    Client::new(rules).context("the authority cannot be called")
}
