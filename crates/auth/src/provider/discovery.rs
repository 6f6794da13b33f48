//! What issuers publish of themselves, kept for a while: endpoints and keys.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base::jwt::{JwtKey, JwtKeys};
use outbound::{ConfiguredBy, Request};
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::Provider;
use crate::cx::Cx;
use crate::error::{Error, ErrorCode};

/// How long documents are good, and how soon keys may be fetched again for a key that is not among them.
const FRESH: Duration = Duration::from_secs(3600);
const REFETCHED: Duration = Duration::from_secs(60);
/// Documents that are kept.
const MOST: usize = 512;
const LARGEST: usize = 256 * 1024;
const TIMEOUT: Duration = Duration::from_secs(8);
/// Keys of an issuer that are looked at.
const MOST_KEYS: usize = 64;

/// The endpoints of an issuer (OpenID Connect Discovery 1.0, section 3).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Discovery {
    pub(crate) issuer: String,
    pub(crate) authorization_endpoint: String,
    pub(crate) token_endpoint: String,
    pub(crate) userinfo_endpoint: Option<String>,
    pub(crate) jwks_uri: String,
    pub(crate) token_endpoint_auth_methods_supported: Vec<String>,
    pub(crate) code_challenge_methods_supported: Vec<String>,
}

#[derive(Clone)]
enum Document {
    Discovery(Arc<Discovery>),
    Keys(JwtKeys),
}

struct Entry {
    document: Document,
    fetched: Instant,
}

/// Documents by project and address: what one project made an address answer is not believed for another.
#[derive(Default)]
pub(crate) struct Documents(Mutex<HashMap<(String, String), Entry>>);

impl Documents {
    fn entries(&self) -> MutexGuard<'_, HashMap<(String, String), Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, key: &(String, String), now: Instant, oldest: Duration) -> Option<Document> {
        let entries = self.entries();
        let entry = entries.get(key).filter(|entry| now.saturating_duration_since(entry.fetched) < oldest)?;
        Some(entry.document.clone())
    }

    fn put(&self, key: (String, String), document: Document, fetched: Instant) {
        let mut entries = self.entries();
        if entries.len() >= MOST && !entries.contains_key(&key) {
            let oldest = entries.iter().min_by_key(|(_, entry)| entry.fetched).map(|(key, _)| key.clone());
            oldest.map(|key| entries.remove(&key));
        }
        entries.insert(key, Entry { document, fetched });
    }
}

fn failed(provider: &Provider, what: &str) -> Error {
    Error::new(ErrorCode::UnexpectedFailure, format!("The provider {} {what}", provider.name))
}

async fn fetch(cx: &Cx, provider: &Provider, address: &str) -> Result<Value, Error> {
    let url = provider.checked_url(cx, address)?;
    let request = Request { timeout: TIMEOUT, most_bytes: LARGEST, ..Request::get(url) };
    let project = cx.project.project_ref.as_str();
    let answer = cx.shared.config.outbound.send(ConfiguredBy::Project, project, request).await;
    let answer = answer.map_err(|error| failed(provider, &format!("cannot be reached: {error}")).because(error))?;
    if !answer.status.is_success() {
        return Err(failed(provider, &format!("answered {} when asked about itself", answer.status.as_u16())));
    }
    serde_json::from_slice(&answer.body).map_err(|error| failed(provider, "answered with no JSON").because(error))
}

/// The endpoints of a provider's issuer.
pub(crate) async fn discover(cx: &Cx, provider: &Provider) -> Result<Arc<Discovery>, Error> {
    let (documents, now) = (&cx.shared.documents, cx.shared.config.clock.instant());
    let issuer = provider.issuer();
    let key = (cx.project.project_ref.to_string(), format!("{issuer}/.well-known/openid-configuration"));
    if let Some(Document::Discovery(known)) = documents.get(&key, now, FRESH) {
        return Ok(known);
    }
    let value = fetch(cx, provider, &key.1).await?;
    let found: Discovery = serde_json::from_value(value)
        .map_err(|error| failed(provider, "describes itself in an unknown way").because(error))?;
    // Who answers for another issuer is not believed. Azure names tenants by their ids, or by a placeholder.
    let host = |text: &str| Url::parse(text).ok().and_then(|url| url.host_str().map(str::to_owned));
    let same = found.issuer.trim_end_matches('/') == issuer
        || provider.name == "azure" && host(&found.issuer).is_some() && host(&found.issuer) == host(&issuer);
    if !same {
        return Err(failed(provider, "describes another issuer"));
    }
    let complete = [&found.authorization_endpoint, &found.token_endpoint, &found.jwks_uri];
    if complete.iter().any(|address| Url::parse(address).is_err()) {
        return Err(failed(provider, "describes itself incompletely"));
    }
    let found = Arc::new(found);
    documents.put(key, Document::Discovery(found.clone()), now);
    Ok(found)
}

/// The keys of a provider's issuer; those at hand may be up to `oldest` old.
async fn keys(cx: &Cx, provider: &Provider, address: &str, oldest: Duration) -> Result<JwtKeys, Error> {
    let (documents, now) = (&cx.shared.documents, cx.shared.config.clock.instant());
    let key = (cx.project.project_ref.to_string(), address.to_owned());
    if let Some(Document::Keys(known)) = documents.get(&key, now, oldest) {
        return Ok(known);
    }
    let value = fetch(cx, provider, address).await?;
    let all = value["keys"].as_array().map(Vec::as_slice).unwrap_or_default();
    // A shared secret that is published is nobody's secret.
    let public = all.iter().filter(|jwk| jwk["kty"] != "oct").take(MOST_KEYS);
    let keys: Vec<JwtKey> = public.filter_map(|jwk| JwtKey::from_jwk(jwk).ok().flatten()).collect();
    let keys = JwtKeys::new(keys);
    documents.put(key, Document::Keys(keys.clone()), now);
    Ok(keys)
}

/// The keys that are at hand.
pub(crate) async fn known_keys(cx: &Cx, provider: &Provider, address: &str) -> Result<JwtKeys, Error> {
    keys(cx, provider, address, FRESH).await
}

/// The keys as they are now, or were a minute ago: for a token whose key is not among those at hand.
pub(crate) async fn new_keys(cx: &Cx, provider: &Provider, address: &str) -> Result<JwtKeys, Error> {
    keys(cx, provider, address, REFETCHED).await
}
