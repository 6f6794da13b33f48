//! Who a request acts for: the project's key and the user's token (contracts, section 3).
//!
//! Verified tokens are remembered, so that a request with a known one costs a hash lookup and no cryptography or JSON.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use base::api_key::{self, ApiKeyKind};
use base::jwt::{self, JwtError};
use base::{Caller, Credential, Project, ProjectRef, RoleName};
use http::{HeaderMap, header};
use quick_cache::{Equivalent, Weighter, sync::Cache};
use serde_json::json;

/// Why a request's credentials were refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyError {
    /// Neither an `apikey` nor a bearer.
    Missing,
    /// `Authorization: Bearer` without a token.
    Empty,
    /// A user's token without the project's key.
    UserTokenAlone,
    /// What was sent as a key is none of this project's.
    Unknown,
    /// A legacy `anon` or `service_role` JWT in a project that switched them off.
    LegacyKeysDisabled,
    Jwt(JwtError),
    /// Signed with the right secret, but made for another project.
    WrongProject,
    /// The token's role is missing or not one that a token of this project may choose.
    Role,
}

impl KeyError {
    /// The public text. For tokens it is what PostgREST says.
    pub fn message(&self) -> Cow<'static, str> {
        match self {
            Self::Missing => "No API key found in request".into(),
            Self::Empty => "Empty JWT is sent in Authorization header".into(),
            Self::UserTokenAlone => "No API key found in request beside the user's token".into(),
            Self::Unknown => "Invalid API key".into(),
            Self::LegacyKeysDisabled => "Legacy API keys are disabled in this project".into(),
            Self::WrongProject => "The JWT is not for this project".into(),
            Self::Role => "The JWT's role is not allowed in this project".into(),
            Self::Jwt(error) => match error {
                JwtError::Parts(n) => format!("Expected 3 parts in JWT; got {n}").into(),
                JwtError::Malformed => "JWT cryptographic operation failed".into(),
                JwtError::Unsecured => "Wrong or unsupported encoding algorithm".into(),
                JwtError::NoKey | JwtError::Signature => "No suitable key or wrong key type".into(),
                JwtError::Payload => "Parsing claims failed".into(),
                JwtError::Expired => "JWT expired".into(),
                JwtError::NotYetValid => "JWT not yet valid".into(),
                JwtError::IssuedInFuture => "JWT issued at future".into(),
                JwtError::Audience => "JWT not in audience".into(),
                JwtError::ClaimType(name) => format!("The JWT '{name}' claim must be a number").into(),
            },
        }
    }
}

/// Roles that no token may choose, whatever a project's settings list.
fn is_reserved_role(role: &str) -> bool {
    const PREFIXES: [&str; 4] = ["supabase_", "pg_", "proj_", "launchdb"];
    matches!(role, "postgres" | "authenticator" | "dashboard_user" | "pgbouncer" | "none" | "public")
        || PREFIXES.iter().any(|prefix| role.starts_with(prefix))
}

/// A token that was verified once.
struct Verified {
    caller: Caller,
    /// Unix seconds outside of which the token is refused.
    times: RangeInclusive<i64>,
    /// For opaque keys: where the last use is noted.
    last_use: Option<Arc<LastUse>>,
}

impl Verified {
    fn is_key(&self) -> bool {
        self.caller.credential != Credential::UserToken
    }
}

struct LastUse {
    api_key_id: i64,
    unix_seconds: AtomicI64,
}

struct CacheKey {
    token: Box<str>,
    project_ref: ProjectRef,
    revision: i64,
}

#[derive(Clone, Copy)]
struct CacheKeyRef<'a> {
    token: &'a str,
    project_ref: &'a str,
    revision: i64,
}

impl CacheKey {
    fn borrowed(&self) -> CacheKeyRef<'_> {
        CacheKeyRef { token: &self.token, project_ref: self.project_ref.as_str(), revision: self.revision }
    }
}

impl Hash for CacheKeyRef<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // The end of a token is its signature or its random part. Only verified tokens are stored, so that nobody can
        // fill the cache with tokens that end alike; equality compares the whole.
        let bytes = self.token.as_bytes();
        state.write(&bytes[bytes.len().saturating_sub(24)..]);
        state.write(self.project_ref.as_bytes());
        state.write_i64(self.revision);
    }
}

impl Hash for CacheKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.borrowed().hash(state);
    }
}

impl PartialEq for CacheKey {
    fn eq(&self, other: &Self) -> bool {
        self.borrowed().equivalent(other)
    }
}

impl Eq for CacheKey {}

impl Equivalent<CacheKey> for CacheKeyRef<'_> {
    fn equivalent(&self, key: &CacheKey) -> bool {
        self.revision == key.revision && *self.token == *key.token && self.project_ref == key.project_ref.as_str()
    }
}

/// Weighs an entry by the bytes it holds.
#[derive(Clone)]
struct Bytes;

impl Weighter<CacheKey, Arc<Verified>> for Bytes {
    fn weight(&self, key: &CacheKey, value: &Arc<Verified>) -> u64 {
        (key.token.len() + value.caller.claims.len() + 256) as u64
    }
}

/// Most memory the remembered tokens take, in bytes.
const CACHE_BYTES: u64 = 8 * 1024 * 1024;
/// Entries the cache makes room for at first.
const CACHE_ENTRIES: usize = 1024;

/// Checks keys and tokens, and remembers the good ones.
pub struct ApiKeyCheck {
    verified: Cache<CacheKey, Arc<Verified>, Bytes>,
    /// By the id of the API key. Read and written only when a key was not remembered, and by [`Self::take_last_uses`].
    last_uses: Mutex<HashMap<i64, Arc<LastUse>>>,
}

impl Default for ApiKeyCheck {
    fn default() -> Self {
        Self::new()
    }
}

impl ApiKeyCheck {
    pub fn new() -> Self {
        Self { verified: Cache::with_weighter(CACHE_ENTRIES, CACHE_BYTES, Bytes), last_uses: Mutex::default() }
    }

    /// Decides who a request to `project` acts for.
    ///
    /// The key is the `apikey` header, or the `apikey` of the query, or a bearer that is itself a key. A bearer that is
    /// a user's token decides the role over the key, but does not replace it. `now` is in Unix seconds.
    pub fn authenticate(
        &self,
        project: &Project,
        headers: &HeaderMap,
        query: Option<&str>,
        now: i64,
    ) -> Result<Caller, KeyError> {
        let api_key = match headers.get("apikey") {
            Some(value) => Some(value.to_str().map_err(|_| KeyError::Unknown)?.trim()),
            None => query.and_then(api_key_of_query),
        }
        .filter(|key| !key.is_empty());
        let bearer = bearer(headers)?;
        match (api_key, bearer) {
            (None, None) => Err(KeyError::Missing),
            (Some(key), None) => self.key(project, key, now),
            (Some(key), Some(bearer)) if key == bearer => self.key(project, key, now),
            (Some(key), Some(bearer)) => {
                self.key(project, key, now)?;
                Ok(self.verify(project, bearer, now)?.caller.clone())
            }
            (None, Some(bearer)) => {
                let verified = self.verify(project, bearer, now)?;
                if verified.is_key() { Ok(verified.caller.clone()) } else { Err(KeyError::UserTokenAlone) }
            }
        }
    }

    /// Who a token is for that came where no key belongs (the session token of S3): a JWT of a user or of a role.
    /// `now` is in Unix seconds.
    pub fn verify_token(&self, project: &Project, token: &str, now: i64) -> Result<Caller, KeyError> {
        if api_key::is_opaque(token) {
            return Err(KeyError::Jwt(JwtError::Malformed));
        }
        Ok(self.verify(project, token, now)?.caller.clone())
    }

    /// A credential that has to be one of the project's keys.
    fn key(&self, project: &Project, key: &str, now: i64) -> Result<Caller, KeyError> {
        let verified = self.verify(project, key, now)?;
        if verified.is_key() { Ok(verified.caller.clone()) } else { Err(KeyError::Unknown) }
    }

    fn verify(&self, project: &Project, token: &str, now: i64) -> Result<Arc<Verified>, KeyError> {
        let key = CacheKeyRef { token, project_ref: project.project_ref.as_str(), revision: project.revision };
        let verified = match self.verified.get(&key) {
            Some(verified) => verified,
            None => {
                let fresh = if api_key::is_opaque(token) {
                    self.verify_opaque(project, token)?
                } else {
                    verify_jwt(project, token, now)?
                };
                let fresh = Arc::new(fresh);
                let key = CacheKey {
                    token: token.into(),
                    project_ref: project.project_ref.clone(),
                    revision: project.revision,
                };
                self.verified.insert(key, fresh.clone());
                fresh
            }
        };
        if now > *verified.times.end() {
            return Err(KeyError::Jwt(JwtError::Expired));
        }
        if now < *verified.times.start() {
            return Err(KeyError::Jwt(JwtError::NotYetValid));
        }
        if let Some(last_use) = &verified.last_use {
            // A plain load first: a store on each request would bounce the cache line between cores.
            if last_use.unix_seconds.load(Ordering::Relaxed) != now {
                last_use.unix_seconds.store(now, Ordering::Relaxed);
            }
        }
        Ok(verified)
    }

    fn verify_opaque(&self, project: &Project, token: &str) -> Result<Verified, KeyError> {
        let key = project.find_api_key(&api_key::hash(token)).ok_or(KeyError::Unknown)?;
        let claims = json!({"role": key.kind.role(), "iss": "launchdb", "ref": project.project_ref.as_str()});
        let credential = match key.kind {
            ApiKeyKind::Publishable => Credential::PublishableKey,
            ApiKeyKind::Secret => Credential::SecretKey,
        };
        let caller = Caller { role: RoleName::new(key.kind.role()), claims: claims.to_string().into(), credential };
        let mut last_uses = self.last_uses.lock().unwrap_or_else(PoisonError::into_inner);
        let last_use = last_uses
            .entry(key.id)
            .or_insert_with(|| Arc::new(LastUse { api_key_id: key.id, unix_seconds: AtomicI64::new(0) }))
            .clone();
        Ok(Verified { caller, times: i64::MIN..=i64::MAX, last_use: Some(last_use) })
    }

    /// The opaque keys that were used since the last call: (row of the key, Unix seconds). Keys that nothing remembers
    /// any more are forgotten, so that the list stays as small as the cache.
    pub fn take_last_uses(&self) -> Vec<(i64, i64)> {
        let mut uses = Vec::new();
        let mut last_uses = self.last_uses.lock().unwrap_or_else(PoisonError::into_inner);
        last_uses.retain(|_, last_use| {
            let seconds = last_use.unix_seconds.swap(0, Ordering::Relaxed);
            if seconds != 0 {
                uses.push((last_use.api_key_id, seconds));
            }
            Arc::strong_count(last_use) > 1
        });
        uses
    }
}

fn verify_jwt(project: &Project, token: &str, now: i64) -> Result<Verified, KeyError> {
    let claims = project.jwt_keys.verify_signature(token).map_err(KeyError::Jwt)?;
    jwt::check_times(&claims, now).map_err(KeyError::Jwt)?;
    for name in ["ref", "project_id"] {
        if claims.map.get(name).is_some_and(|value| value.as_str() != Some(project.project_ref.as_str())) {
            return Err(KeyError::WrongProject);
        }
    }
    let role = claims.text("role").ok_or(KeyError::Role)?;
    let listed = RoleName::STANDARD.contains(&role) || project.data_api.jwt_roles.iter().any(|own| own == role);
    if !listed || is_reserved_role(role) {
        return Err(KeyError::Role);
    }
    // A legacy key is a token of a role and not of a user.
    let credential = match role {
        _ if claims.map.contains_key("sub") => Credential::UserToken,
        RoleName::ANON => Credential::PublishableKey,
        RoleName::SERVICE_ROLE => Credential::SecretKey,
        _ => Credential::UserToken,
    };
    if credential != Credential::UserToken && !project.legacy_keys_enabled {
        return Err(KeyError::LegacyKeysDisabled);
    }
    let times = jwt::accepted_times(&claims);
    let caller = Caller { role: RoleName::new(role), claims: claims.json, credential };
    Ok(Verified { caller, times, last_use: None })
}

/// The token of `Authorization: Bearer`. Other schemes (`Basic`, S3's signature) are not for us.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, KeyError> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let Some((scheme, token)) = value.as_bytes().split_at_checked(6) else { return Ok(None) };
    if !scheme.eq_ignore_ascii_case(b"bearer") || token.first().is_some_and(|b| *b != b' ') {
        return Ok(None);
    }
    match std::str::from_utf8(token) {
        Ok(token) if !token.trim().is_empty() => Ok(Some(token.trim())),
        Ok(_) => Err(KeyError::Empty),
        Err(_) => Err(KeyError::Jwt(JwtError::Malformed)),
    }
}

/// The `apikey` parameter of a query (websockets and links cannot send headers). Keys need no percent-encoding.
pub fn api_key_of_query(query: &str) -> Option<&str> {
    query.split('&').find_map(|part| part.strip_prefix("apikey="))
}

/// The query without its `apikey` parameter, which no service may take for one of its own.
pub fn query_without_api_key(query: &str) -> Cow<'_, str> {
    if api_key_of_query(query).is_none() {
        return query.into();
    }
    query.split('&').filter(|part| !part.starts_with("apikey=")).collect::<Vec<_>>().join("&").into()
}

/// The caller of a route that needs no key.
pub fn anonymous() -> Caller {
    Caller { role: RoleName::new(RoleName::ANON), claims: r#"{"role":"anon"}"#.into(), credential: Credential::None }
}

#[cfg(test)]
mod tests;
