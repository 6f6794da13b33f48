//! ID tokens (OpenID Connect Core 1.0, section 3.1.3.7).

use base::digest;
use base::jwt::{self, JwtError};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as B64;
use serde_json::{Map, Value};
use subtle::ConstantTimeEq as _;

use super::{Provider, discovery};
use crate::cx::Cx;
use crate::error::{Error, ErrorCode};

/// What a token has to say.
#[derive(Debug)]
pub(crate) struct Expected<'a> {
    pub(crate) audiences: Vec<&'a str>,
    pub(crate) nonce: Nonce<'a>,
    /// The access token that came with it, if any.
    pub(crate) access_token: Option<&'a str>,
}

/// What the claim `nonce` has to be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Nonce<'a> {
    /// Exactly this.
    Is(&'a str),
    /// The hash of what the client says, or nothing when it says nothing.
    HashOf(Option<&'a str>),
    Any,
}

fn bad(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorCode::BadJwt, message).with_status(http::StatusCode::BAD_REQUEST)
}

impl Provider {
    /// Checks an ID token of this provider and returns its claims.
    pub(crate) async fn verify_id_token(
        &self,
        cx: &Cx,
        token: &str,
        expected: &Expected<'_>,
    ) -> Result<Map<String, Value>, Error> {
        let discovery = discovery::discover(cx, self).await?;
        let keys = discovery::known_keys(cx, self, &discovery.jwks_uri).await?;
        let verified = match keys.verify_signature(token) {
            Err(JwtError::NoKey) => discovery::new_keys(cx, self, &discovery.jwks_uri).await?.verify_signature(token),
            verified => verified,
        };
        let claims = verified.map_err(|error| bad("Bad ID token: its signature cannot be verified").because(error))?;
        jwt::check_times(&claims, cx.now.unix_seconds())
            .map_err(|error| bad(format!("Bad ID token: {error}")).because(error))?;
        if claims.seconds("exp").is_none() {
            return Err(bad("Bad ID token: it has no end"));
        }
        let claims = &claims.map;
        self.check_issuer(&discovery.issuer, claims)?;
        check_audience(claims, &expected.audiences)?;
        check_nonce(claims, expected.nonce)?;
        check_access_token(claims, expected.access_token)?;
        if claims.get("sub").and_then(Value::as_str).is_none_or(str::is_empty) {
            return Err(bad("Bad ID token: it names no subject"));
        }
        Ok((**claims).clone())
    }

    fn check_issuer(&self, issuer: &str, claims: &Map<String, Value>) -> Result<(), Error> {
        let claimed = text(claims, "iss");
        let tenant = text(claims, "tid");
        let is_tenant = !tenant.is_empty() && tenant.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
        let expected = if is_tenant { issuer.replace("{tenantid}", tenant) } else { issuer.to_owned() };
        // Google's tokens have both forms (its documentation of OpenID Connect).
        let google = self.name == "google" && claimed == "accounts.google.com";
        if claimed == expected || google { Ok(()) } else { Err(bad("Bad ID token: it is of another issuer")) }
    }
}

fn text<'a>(claims: &'a Map<String, Value>, name: &str) -> &'a str {
    claims.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn check_audience(claims: &Map<String, Value>, audiences: &[&str]) -> Result<(), Error> {
    let named: Vec<&str> = match claims.get("aud") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let ours = |id: &str| audiences.contains(&id);
    // Who it was made for, when it names several.
    let party = text(claims, "azp");
    let fits = named.iter().any(|id| ours(id)) && (named.len() == 1 || party.is_empty() || ours(party));
    if fits {
        return Ok(());
    }
    Err(Error::new(ErrorCode::UnexpectedAudience, "Unacceptable audience in id_token")
        .with_status(http::StatusCode::BAD_REQUEST))
}

fn check_nonce(claims: &Map<String, Value>, expected: Nonce<'_>) -> Result<(), Error> {
    let own = text(claims, "nonce");
    let expected = match expected {
        Nonce::Any => return Ok(()),
        Nonce::Is(nonce) => nonce.to_owned(),
        Nonce::HashOf(nonce) => {
            let nonce = nonce.unwrap_or_default();
            if nonce.is_empty() != own.is_empty() {
                return Err(Error::invalid("Passed nonce and nonce in id_token should either both exist or not."));
            }
            if nonce.is_empty() {
                return Ok(());
            }
            digest::sha256_hex(nonce.as_bytes())
        }
    };
    if bool::from(expected.as_bytes().ct_eq(own.as_bytes())) { Ok(()) } else { Err(Error::invalid("Nonces mismatch")) }
}

/// The first half of a hash binds the access token to the ID token, where there is one.
fn check_access_token(claims: &Map<String, Value>, access_token: Option<&str>) -> Result<(), Error> {
    let (bound, Some(access_token)) = (text(claims, "at_hash"), access_token) else { return Ok(()) };
    if bound.is_empty() {
        return Ok(());
    }
    // With SHA-256, that of every algorithm in wide use; another one's hash has another length and is left alone.
    let hash = B64.encode(&digest::sha256(access_token.as_bytes())[..16]);
    if bound.len() == hash.len() && bound != hash {
        return Err(bad("Bad ID token: the access token is not the one it was made with"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap()
    }

    #[test]
    fn audiences_and_nonces_are_compared() {
        let audience = |claims: Value| check_audience(&object(claims), &["a", "b"]).is_ok();
        assert!(audience(json!({"aud": "a"})) && audience(json!({"aud": ["b"]})));
        assert!(audience(json!({"aud": ["x", "a"], "azp": "a"})) && audience(json!({"aud": ["x", "a"]})));
        for bad in [
            json!({}),
            json!({"aud": "x"}),
            json!({"aud": ["x", "a"], "azp": "x"}),
            json!({"aud": 7}),
            json!({"aud": []}),
        ] {
            assert!(!audience(bad.clone()), "{bad}");
        }
        let hash = digest::sha256_hex(b"n");
        let nonce = |claims: Value, expected| check_nonce(&object(claims), expected).is_ok();
        assert!(nonce(json!({"nonce": hash}), Nonce::HashOf(Some("n"))) && nonce(json!({}), Nonce::HashOf(None)));
        assert!(
            !nonce(json!({"nonce": "n"}), Nonce::HashOf(Some("n")))
                && !nonce(json!({"nonce": hash}), Nonce::HashOf(None))
        );
        assert!(!nonce(json!({}), Nonce::HashOf(Some("n"))) && !nonce(json!({}), Nonce::Is("n")));
        assert!(nonce(json!({"nonce": "n"}), Nonce::Is("n")) && nonce(json!({"nonce": "n"}), Nonce::Any));
    }

    #[test]
    fn an_access_token_belongs_to_its_id_token() {
        // The example of OpenID Connect Core 1.0, appendix A.3.
        let claims = object(json!({"at_hash": "77QmUPtjPfzWtF2AnpK9RQ"}));
        assert!(check_access_token(&claims, Some("jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y")).is_ok());
        assert!(check_access_token(&claims, Some("another")).is_err());
        assert!(check_access_token(&claims, None).is_ok() && check_access_token(&Map::new(), Some("x")).is_ok());
    }
}
