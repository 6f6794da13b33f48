//! Who calls a drop-in server: the bearer token's role and claims, as PostgREST reads them (PostgREST docs,
//! "Authentication"). In front of projects the gateway's key check does this work.

use std::sync::Arc;

use base::claims::Claims;
use base::jwt::{JwtError, check_times};
use base::{Caller, Credential, RoleName};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use quick_cache::sync::Cache;
use serde_json::Value;

use crate::config::Config;
use crate::error::Error;

/// Tokens whose signature was verified.
pub(crate) struct VerifiedTokens {
    cache: Cache<String, Claims>,
}

impl VerifiedTokens {
    pub(crate) fn new(entries: usize) -> Self {
        Self { cache: Cache::new(entries.max(1)) }
    }

    /// The caller of a request with these headers. `now` is in Unix seconds.
    pub(crate) fn caller(&self, config: &Config, headers: &HeaderMap, now: i64) -> Result<Caller, Error> {
        let Some(token) = bearer(headers) else {
            let role = config.db_anon_role.as_deref().ok_or(Error::JwtTokenRequired)?;
            return Ok(caller(role, &serde_json::Map::new(), Credential::None));
        };
        if config.jwt_keys.is_empty() {
            return Err(Error::JwtSecretMissing);
        }
        if token.is_empty() {
            return Err(Error::EmptyJwt);
        }
        let claims = match self.cache.get(token) {
            Some(claims) => claims,
            None => {
                let claims = config.jwt_keys.verify_signature(token).map_err(Error::Jwt)?;
                self.cache.insert(token.to_owned(), claims.clone());
                claims
            }
        };
        check_times(&claims, now).map_err(Error::Jwt)?;
        check_audience(config, &claims).map_err(Error::Jwt)?;
        let role = config.jwt_role_claim_key.role(&Value::Object((*claims.map).clone()));
        let role = role.or_else(|| config.db_anon_role.clone()).ok_or(Error::JwtTokenRequired)?;
        Ok(caller(&role, &claims.map, Credential::UserToken))
    }
}

fn caller(role: &str, claims: &serde_json::Map<String, Value>, credential: Credential) -> Caller {
    let mut claims = claims.clone();
    claims.insert("role".to_owned(), Value::String(role.to_owned()));
    Caller { role: RoleName::new(role), claims: Arc::from(Value::Object(claims).to_string()), credential }
}

/// The token of `Authorization: Bearer`, in whatever case the scheme is written.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
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
