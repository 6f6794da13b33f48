//! `/api/tls/ask`: which host names the server's proxy may get a certificate for (Caddy docs, `on_demand_tls.ask`).
//!
//! Asked without a token, by a proxy that knows none. It tells no more than a TLS handshake with the proxy does.

use axum::extract::State;
use base::ProjectStatus;
use http::StatusCode;

use crate::error::Error;
use crate::platform::Platform;
use crate::request::QueryFields;

/// Longest name that DNS knows.
const LONGEST: usize = 253;

/// 200 for the server's own name, an active project's below it, and an approved domain of a project; 404 for every other.
/// Certificates are few (the authority counts them), so that nobody gets one by projects that answer nothing.
pub(crate) async fn ask_tls(
    State(platform): State<Platform>,
    QueryFields(mut query): QueryFields,
) -> Result<StatusCode, Error> {
    let domain = query.required_text("domain", LONGEST);
    query.finish()?;
    let host = domain.trim_end_matches('.').to_ascii_lowercase();
    let (own, projects) = (platform.config().domain.as_deref(), platform.directory().projects());
    let of_project = own
        .and_then(|own| host.strip_suffix(own)?.strip_suffix('.')?.strip_prefix("proj-"))
        .and_then(|rest| projects.find(&format!("proj_{rest}")))
        .is_some_and(|project| project.status == ProjectStatus::Active);
    if Some(host.as_str()) == own || of_project || projects.by_domain(&host).is_some() {
        Ok(StatusCode::OK)
    } else {
        Err(Error::NoSuchDomain)
    }
}
