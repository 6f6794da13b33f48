//! Who calls a drop-in server: the bearer token's role and claims, as PostgREST reads them (PostgREST docs,
//! "Authentication"). In front of projects the gateway's key check does this work.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base::claims::Claims;
use base::jwt::{JwtError, accepted_times, check_times};
use base::{Caller, Credential, RoleName};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use quick_cache::sync::Cache;
use quick_cache::{DefaultHashBuilder, Lifecycle, UnitWeighter};
use serde_json::Value;

use crate::config::Config;
use crate::error::Error;

/// How the cache of tokens is used.
#[derive(Default)]
pub(crate) struct TokenCacheCounters {
    pub(crate) requests: AtomicU64,
    pub(crate) hits: AtomicU64,
    pub(crate) evictions: AtomicU64,
}

#[derive(Clone)]
struct CountEvictions(Arc<TokenCacheCounters>);

impl Lifecycle<String, Arc<Verified>> for CountEvictions {
    type RequestState = ();

    fn on_evict(&self, (): &mut (), _: String, _: Arc<Verified>) {
        self.0.evictions.fetch_add(1, Ordering::Relaxed);
    }
}

type TokenCache = Cache<String, Arc<Verified>, UnitWeighter, DefaultHashBuilder, CountEvictions>;

/// A token whose signature was verified.
struct Verified {
    claims: Claims,
    /// Unix seconds outside of which it is refused.
    times: RangeInclusive<i64>,
    /// Who it is for, or what besides its times keeps it from being accepted.
    caller: Result<Caller, Error>,
}

/// Tokens whose signature was verified, and what one configuration makes of them.
pub(crate) struct VerifiedTokens {
    /// None verifies every time.
    cache: Option<TokenCache>,
    counters: Arc<TokenCacheCounters>,
}

impl VerifiedTokens {
    /// Remembers at most `entries` tokens.
    pub(crate) fn new(entries: u32, counters: Arc<TokenCacheCounters>) -> Self {
        let evictions = CountEvictions(counters.clone());
        let capacity = usize::try_from(entries).unwrap_or(usize::MAX);
        let hasher = DefaultHashBuilder::default();
        let cache =
            (entries > 0).then(|| Cache::with(capacity.min(1024), u64::from(entries), UnitWeighter, hasher, evictions));
        Self { cache, counters }
    }

    /// A token whose signature is right.
    fn verify(&self, config: &Config, token: &str) -> Result<Arc<Verified>, Error> {
        let verify = || {
            let claims = config.jwt_keys.verify_signature(token).map_err(Error::Jwt)?;
            Ok(Arc::new(Verified { times: accepted_times(&claims), caller: caller_of(config, &claims), claims }))
        };
        let Some(cache) = &self.cache else { return verify() };
        self.counters.requests.fetch_add(1, Ordering::Relaxed);
        if let Some(verified) = cache.get(token) {
            self.counters.hits.fetch_add(1, Ordering::Relaxed);
            return Ok(verified);
        }
        let verified = verify()?;
        cache.insert(token.to_owned(), verified.clone());
        Ok(verified)
    }

    /// The caller of a request with these headers. `now` is in Unix seconds.
    pub(crate) fn caller(&self, config: &Config, headers: &HeaderMap, now: i64) -> Result<Caller, Error> {
        let Some(token) = bearer(headers).map(String::from_utf8_lossy) else {
            let role = config.db_anon_role.as_deref().ok_or(Error::JwtTokenRequired)?;
            return Ok(caller(role, &serde_json::Map::new(), Credential::None));
        };
        if config.jwt_keys.is_empty() {
            return Err(Error::JwtSecretMissing);
        }
        if token.is_empty() {
            return Err(Error::EmptyJwt);
        }
        let verified = self.verify(config, &token)?;
        // The times are an error before all others.
        if verified.caller.is_err() || !verified.times.contains(&now) {
            check_times(&verified.claims, now).map_err(Error::Jwt)?;
        }
        verified.caller.clone()
    }
}

fn caller_of(config: &Config, claims: &Claims) -> Result<Caller, Error> {
    check_audience(config, claims).map_err(Error::Jwt)?;
    let role = config.jwt_role_claim_key.role(&Value::Object((*claims.map).clone()));
    let role = role.or_else(|| config.db_anon_role.clone()).ok_or(Error::JwtTokenRequired)?;
    Ok(caller(&role, &claims.map, Credential::UserToken))
}

fn caller(role: &str, claims: &serde_json::Map<String, Value>, credential: Credential) -> Caller {
    let mut claims = claims.clone();
    claims.insert("role".to_owned(), Value::String(role.to_owned()));
    Caller { role: RoleName::new(role), claims: Arc::from(Value::Object(claims).to_string()), credential }
}

/// The token of `Authorization: Bearer`, in whatever case the scheme is written. Bytes that no token has are a bad
/// token, not none.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    let end = value.iter().position(u8::is_ascii_whitespace).unwrap_or(value.len());
    let (scheme, token) = value.split_at(end);
    scheme.eq_ignore_ascii_case(b"bearer").then(|| token.trim_ascii())
}

fn check_audience(config: &Config, claims: &Claims) -> Result<(), JwtError> {
    let fits = match claims.map.get("aud") {
        None | Some(Value::Null) => true,
        Some(Value::String(one)) => config.audience_fits(std::iter::once(one.as_str())),
        Some(Value::Array(many)) => {
            let many: Option<Vec<&str>> = many.iter().map(Value::as_str).collect();
            config.audience_fits(many.ok_or(JwtError::ClaimType("aud"))?.into_iter())
        }
        Some(_) => return Err(JwtError::ClaimType("aud")),
    };
    if fits { Ok(()) } else { Err(JwtError::Audience) }
}
