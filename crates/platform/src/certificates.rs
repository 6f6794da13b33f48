//! Which host names this server gets certificates for: what `/api/tls/ask` answers the proxy (Caddy docs,
//! `on_demand_tls.ask`), and what `serve --tls` goes by.
//!
//! Asked without a token, by a proxy that knows none. It tells no more than a TLS handshake with the proxy does.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use axum::extract::State;
use base::{Project, ProjectStatus};
use http::StatusCode;

use crate::directory::Directory;
use crate::error::Error;
use crate::platform::Platform;
use crate::request::QueryFields;
use crate::store::certificate_name::{self, NewNames};

/// Longest name that DNS knows.
const LONGEST: usize = 253;
/// Names that are remembered to be known; more are only looked up again.
const MOST_REMEMBERED: usize = 10_000;
/// Seconds until a refused name is worth another try.
const FULL_FOR_SECONDS: u64 = 3600;

/// Names that were allowed before: these are allowed for good, as long as they lead to a project.
#[derive(Debug, Default)]
pub(crate) struct KnownNames(Mutex<HashSet<String>>);

impl KnownNames {
    fn contains(&self, name: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(name)
    }

    fn insert(&self, name: &str) {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if names.len() >= MOST_REMEMBERED {
            names.clear();
        }
        names.insert(name.to_owned());
    }
}

/// Whose name a host is.
enum Name {
    Own,
    Project { project: std::sync::Arc<Project>, is_below_domain: bool },
}

/// Whether a host gets a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Admission {
    Allowed,
    /// It is not of this server, or of a project that answers nothing.
    Unknown,
    /// There were too many new names of late.
    Full,
}

impl Directory {
    /// Whether this server may get a certificate for a host name.
    ///
    /// # Errors
    /// The platform database does not answer.
    pub async fn certificate_allowed(&self, host: &str) -> Result<bool, Error> {
        Ok(self.admit_certificate(host).await? == Admission::Allowed)
    }

    /// The server's own name, an active project's below it, and an approved domain of one. Certificates are few (the
    /// authority counts them), so that names which are new are counted here as well.
    async fn admit_certificate(&self, host: &str) -> Result<Admission, Error> {
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let (project, is_below_domain) = match self.name(&host) {
            None => return Ok(Admission::Unknown),
            Some(Name::Own) => return Ok(Admission::Allowed),
            Some(Name::Project { project, is_below_domain }) => (project, is_below_domain),
        };
        let Some(most) = new_names(self.config().new_certificates_per_week) else { return Ok(Admission::Allowed) };
        if self.known_names().contains(&host) {
            return Ok(Admission::Allowed);
        }
        let mut db = self.db().await?;
        if !certificate_name::certificate_name_is_known(&**db, &host).await? {
            let tx = db.transaction().await?;
            certificate_name::certificate_names_lock_in_tx(&*tx).await?;
            certificate_name::certificate_names_prune(&*tx).await?;
            // Somebody else may have been first.
            let allowed = certificate_name::certificate_name_is_known(&*tx, &host).await?
                || certificate_name::certificate_name_insert_in_tx(
                    &*tx,
                    &host,
                    &project.project_ref,
                    is_below_domain,
                    most,
                )
                .await?;
            tx.commit().await?;
            if !allowed {
                tracing::warn!(
                    name = host,
                    project.r#ref = %project.project_ref,
                    mend = "LAUNCHDB_NEW_CERTIFICATES_PER_WEEK is the limit; mind what the authority allows",
                    "no certificate for a name: there were too many new ones in seven days"
                );
                return Ok(Admission::Full);
            }
        }
        self.known_names().insert(&host);
        Ok(Admission::Allowed)
    }

    fn name(&self, host: &str) -> Option<Name> {
        let own = self.config().domain.as_deref().map(str::to_ascii_lowercase);
        if Some(host) == own.as_deref() {
            return Some(Name::Own);
        }
        let projects = self.projects();
        let label = own.as_deref().and_then(|own| host.strip_suffix(own)?.strip_suffix('.')?.strip_prefix("proj-"));
        let (project, is_below_domain) = match label {
            Some(label) => (projects.find(&format!("proj_{label}")), true),
            None => (projects.by_domain(host), false),
        };
        let project = project.filter(|project| project.status == ProjectStatus::Active)?;
        Some(Name::Project { project, is_below_domain })
    }
}

/// An owner has half of what there is for all; an administrator decides for himself. None is no limit.
fn new_names(per_week: u32) -> Option<NewNames> {
    let all = i64::from(per_week);
    (all > 0).then(|| NewNames { below_domain: all, of_owner: (all / 2).max(1) })
}

/// 200 for a name that gets a certificate, 404 for one that leads nowhere, 429 for one too many.
pub(crate) async fn ask_tls(
    State(platform): State<Platform>,
    QueryFields(mut query): QueryFields,
) -> Result<StatusCode, Error> {
    let domain = query.required_text("domain", LONGEST);
    query.finish()?;
    match platform.directory().admit_certificate(&domain).await? {
        Admission::Allowed => Ok(StatusCode::OK),
        Admission::Unknown => Err(Error::NoSuchDomain),
        Admission::Full => Err(Error::TooManyRequests(FULL_FOR_SECONDS)),
    }
}
