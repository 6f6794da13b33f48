//! The keys that sign a project's access tokens: a shared secret (HS256), or P-256 key pairs (ES256, RFC 7518) that
//! follow each other with overlap.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as B64;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::jwt;
use crate::secret::Secret;

/// What a key is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyStatus {
    /// Published, so that whoever keeps the keys for a while knows it before it signs anything.
    Standby,
    /// Signs new tokens.
    InUse,
    /// Verifies the tokens that it signed.
    PreviouslyUsed,
}

/// A key pair as it is stored, sealed.
#[derive(Clone, Serialize, Deserialize)]
pub struct StoredKey {
    pub kid: String,
    pub status: KeyStatus,
    /// PKCS#8, in base64url.
    pub private: String,
    /// Unix seconds.
    pub created_at: i64,
}

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("a signing key is unusable")]
pub struct InvalidKey;

impl StoredKey {
    /// A fresh key pair; its `kid` is random.
    ///
    /// # Panics
    /// When the operating system has no randomness to give, which leaves nothing safe to do.
    pub fn generate(status: KeyStatus, now: i64) -> Self {
        #[expect(clippy::expect_used, reason = "no safe way to go on without randomness")]
        let pair = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
            .expect("the operating system gives random bytes");
        let kid = crate::random::hex::<16>();
        Self { kid, status, private: B64.encode(pair.as_ref()), created_at: now }
    }

    fn pair(&self) -> Result<EcdsaKeyPair, InvalidKey> {
        let private = B64.decode(&self.private).map_err(|_| InvalidKey)?;
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &private, &SystemRandom::new())
            .map_err(|_| InvalidKey)
    }

    /// The public half as a JWK (RFC 7517).
    pub fn public_jwk(&self) -> Result<Value, InvalidKey> {
        let pair = self.pair()?;
        let point = pair.public_key().as_ref();
        // Uncompressed: 4, then both coordinates.
        let (x, y) = point.get(1..).and_then(|rest| rest.split_at_checked(32)).ok_or(InvalidKey)?;
        Ok(json!({
            "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "key_ops": ["verify"], "ext": true,
            "kid": self.kid, "x": B64.encode(x), "y": B64.encode(y),
        }))
    }
}

/// Signs a project's tokens, and knows what verifies them.
#[derive(Clone)]
pub struct SigningKeys {
    secret: Arc<Secret<Vec<u8>>>,
    /// Secrets before it, of which what was issued is still accepted; the newest last.
    previous: Arc<Vec<Secret<Vec<u8>>>>,
    current: Option<Arc<(String, EcdsaKeyPair)>>,
    public: Arc<Vec<Value>>,
}

impl SigningKeys {
    /// The project's secret, and the key pairs that are not revoked; one of them that is in use signs in place of the
    /// secret.
    pub fn new(secret: &[u8], keys: &[StoredKey]) -> Result<Self, InvalidKey> {
        let in_use = keys.iter().find(|key| key.status == KeyStatus::InUse);
        let current = in_use.map(|key| Ok(Arc::new((key.kid.clone(), key.pair()?)))).transpose()?;
        let public = keys.iter().map(StoredKey::public_jwk).collect::<Result<Vec<_>, _>>()?;
        let secret = Arc::new(Secret::new(secret.to_vec()));
        Ok(Self { secret, previous: Arc::default(), current, public: Arc::new(public) })
    }

    /// The same with secrets of before, oldest first.
    #[must_use]
    pub fn with_previous(self, secrets: impl Iterator<Item = Vec<u8>>) -> Self {
        Self { previous: Arc::new(secrets.map(Secret::new).collect()), ..self }
    }

    /// A compact JWS over `claims`.
    pub fn sign(&self, claims: &Value) -> Result<String, InvalidKey> {
        let Some(current) = &self.current else { return Ok(jwt::sign_hs256(self.secret.expose(), claims)) };
        let (kid, pair) = current.as_ref();
        let header = B64.encode(json!({"alg": "ES256", "kid": kid, "typ": "JWT"}).to_string());
        let message = format!("{header}.{}", B64.encode(claims.to_string()));
        let signature = pair.sign(&SystemRandom::new(), message.as_bytes()).map_err(|_| InvalidKey)?;
        Ok(format!("{message}.{}", B64.encode(signature)))
    }

    /// Public halves of the key pairs, as JWKs. The secret is never among them.
    pub fn public_jwks(&self) -> &[Value] {
        &self.public
    }

    /// A key for `purpose` that belongs to the project's secret: 32 bytes that tell nothing about it and end with it.
    pub fn derive(&self, purpose: &str) -> [u8; 32] {
        derive(&self.secret, purpose)
    }

    /// The key that is used for `purpose` now, and behind it those of secrets before, for what they issued.
    pub fn derive_all(&self, purpose: &str) -> Vec<[u8; 32]> {
        let secrets = std::iter::once(&*self.secret).chain(self.previous.iter().rev());
        secrets.map(|secret| derive(secret, purpose)).collect()
    }

    /// Algorithms that tokens are signed with now.
    pub fn algorithm(&self) -> &'static str {
        if self.current.is_some() { "ES256" } else { "HS256" }
    }
}

fn derive(secret: &Secret<Vec<u8>>, purpose: &str) -> [u8; 32] {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.expose());
    let mut out = [0; 32];
    out.copy_from_slice(ring::hmac::sign(&key, format!("launchdb {purpose}").as_bytes()).as_ref());
    out
}

impl Default for SigningKeys {
    /// Of a project that has no secret yet: nobody knows the key.
    fn default() -> Self {
        Self {
            secret: Arc::new(Secret::new(crate::random::bytes::<32>().to_vec())),
            previous: Arc::default(),
            current: None,
            public: Arc::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jwt::{JwtError, JwtKey, JwtKeys};

    fn verifier(keys: &SigningKeys) -> JwtKeys {
        let public = keys.public_jwks().iter().map(|jwk| JwtKey::from_jwk(jwk).unwrap().unwrap());
        JwtKeys::new(public.chain([JwtKey::secret(b"a secret of the project's own")]).collect())
    }

    #[test]
    fn tokens_outlive_a_rotation_and_end_with_their_key() {
        let secret = b"a secret of the project's own";
        let plain = SigningKeys::new(secret, &[]).unwrap();
        let old = plain.sign(&json!({"n": 1})).unwrap();
        assert!(plain.public_jwks().is_empty());
        let mut first = StoredKey::generate(KeyStatus::InUse, 0);
        let keys = SigningKeys::new(secret, std::slice::from_ref(&first)).unwrap();
        let token = keys.sign(&json!({"n": 2})).unwrap();
        assert_eq!(verifier(&keys).verify_signature(&token).unwrap().seconds("n"), Some(2));
        assert!(verifier(&keys).verify_signature(&old).is_ok());
        first.status = KeyStatus::PreviouslyUsed;
        let second = StoredKey::generate(KeyStatus::InUse, 0);
        let rotated = SigningKeys::new(secret, &[first, second.clone()]).unwrap();
        assert!(verifier(&rotated).verify_signature(&token).is_ok());
        let revoked = SigningKeys::new(secret, &[second]).unwrap();
        assert_eq!(verifier(&revoked).verify_signature(&token), Err(JwtError::NoKey));
    }

    #[test]
    fn derived_keys_of_before_are_known() {
        let old = SigningKeys::new(b"old", &[]).unwrap();
        let new =
            SigningKeys::new(b"new", &[]).unwrap().with_previous([b"older".to_vec(), b"old".to_vec()].into_iter());
        let all = new.derive_all("links");
        assert_eq!((all.len(), all[0], all[1]), (3, new.derive("links"), old.derive("links")));
        assert_ne!(all[0], new.derive("codes"));
    }

    #[test]
    fn what_is_published_has_no_private_part() {
        let jwk = StoredKey::generate(KeyStatus::Standby, 0).public_jwk().unwrap();
        assert!(jwk.get("d").is_none() && jwk.get("k").is_none());
        assert_eq!(jwk["kty"], "EC");
    }
}
