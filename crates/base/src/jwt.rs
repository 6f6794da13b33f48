//! JSON Web Tokens (RFC 7515, 7517, 7519) over *ring*: signing with HS256, verifying with HS*, RS*, PS*, ES256/384 and EdDSA.

use std::ops::RangeInclusive;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as B64;
use ring::{hmac, signature};
use serde_json::{Map, Value, json};

use crate::claims::Claims;

/// Clock skew granted on `exp`, `nbf` and `iat` (PostgREST docs, "JWT Claims Validation"), in seconds.
pub const LEEWAY_SECONDS: i64 = 30;

/// Why a token was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwtError {
    /// The token does not have three parts; holds how many it has.
    #[error("expected 3 parts in JWT; got {0}")]
    Parts(usize),
    /// The parts are not in base64url, or the header is none that is understood: no JSON object, an algorithm that is
    /// missing or unknown, or extensions that must be understood.
    #[error("the JWT's form or its header is not understood")]
    Malformed,
    /// The header says that there is no signature (`alg` is `none`).
    #[error("the JWT is not signed")]
    Unsecured,
    /// No configured key fits the token's `alg` and `kid`.
    #[error("no suitable key was found to decode the JWT")]
    NoKey,
    #[error("the JWT's signature is wrong")]
    Signature,
    #[error("the JWT's claims are no JSON object")]
    Payload,
    #[error("JWT expired")]
    Expired,
    #[error("JWT not yet valid")]
    NotYetValid,
    #[error("JWT issued at future")]
    IssuedInFuture,
    #[error("JWT not in audience")]
    Audience,
    /// A registered claim has the wrong JSON type; holds its name.
    #[error("the JWT '{0}' claim has the wrong type")]
    ClaimType(&'static str),
}

enum Verifier {
    Hmac(Vec<u8>),
    /// Uncompressed point, and whether the curve is P-384.
    Ecdsa {
        point: Vec<u8>,
        p384: bool,
    },
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    Ed25519(Vec<u8>),
}

/// What a key goes by.
enum KeyId {
    Unnamed,
    /// The JWK's `kid`. A token that asks for a key by name gets no other, not even one without a name.
    Jwk(Option<String>),
}

/// One key that can verify tokens.
pub struct JwtKey {
    id: KeyId,
    /// The JWK's `alg`: the key serves this algorithm only.
    alg: Option<String>,
    verifier: Verifier,
}

/// Why a JWK was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("no usable JWK: {0}")]
pub struct InvalidJwk(&'static str);

impl JwtKey {
    /// A shared secret for HS256, HS384 and HS512. It has no name, so it serves tokens that ask for any.
    pub fn secret(bytes: &[u8]) -> Self {
        Self { id: KeyId::Unnamed, alg: None, verifier: Verifier::Hmac(bytes.to_vec()) }
    }

    /// Reads one JWK object (RFC 7517); None when it is a key that signs nothing (`use` is `enc`) or one of a kind
    /// that is not known here.
    pub fn from_jwk(jwk: &Value) -> Result<Option<Self>, InvalidJwk> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        let bytes = |name: &'static str| {
            text(name).and_then(|t| B64.decode(t.trim_end_matches('=')).ok()).ok_or(InvalidJwk(name))
        };
        let verifier = match (text("kty"), text("crv")) {
            (Some("oct"), _) => Verifier::Hmac(bytes("k")?),
            (Some("RSA"), _) => Verifier::Rsa { n: bytes("n")?, e: bytes("e")? },
            (Some("EC"), Some(crv @ ("P-256" | "P-384"))) => {
                let point = [vec![4], bytes("x")?, bytes("y")?].concat();
                Verifier::Ecdsa { point, p384: crv == "P-384" }
            }
            (Some("OKP"), Some("Ed25519")) => Verifier::Ed25519(bytes("x")?),
            (None, _) => return Err(InvalidJwk("kty")),
            (Some(_), _) => return Ok(None),
        };
        let id = KeyId::Jwk(text("kid").map(str::to_owned));
        let signs = text("use") != Some("enc");
        Ok(signs.then(|| Self { id, alg: text("alg").map(str::to_owned), verifier }))
    }

    fn serves(&self, alg: &str, kid: Option<&str>) -> bool {
        let kid_fits = match (&self.id, kid) {
            (KeyId::Jwk(own), Some(wanted)) => own.as_deref() == Some(wanted),
            (KeyId::Jwk(_), None) | (KeyId::Unnamed, _) => true,
        };
        let family = match &self.verifier {
            Verifier::Hmac(_) => matches!(alg, "HS256" | "HS384" | "HS512"),
            Verifier::Rsa { .. } => matches!(alg, "RS256" | "RS384" | "RS512" | "PS256" | "PS384" | "PS512"),
            Verifier::Ecdsa { p384: false, .. } => alg == "ES256",
            Verifier::Ecdsa { p384: true, .. } => alg == "ES384",
            Verifier::Ed25519(_) => alg == "EdDSA",
        };
        kid_fits && family && self.alg.as_deref().is_none_or(|own| own == alg)
    }

    fn verify(&self, alg: &str, message: &[u8], sig: &[u8]) -> bool {
        let public = |algorithm: &'static dyn signature::VerificationAlgorithm, key: &[u8]| {
            signature::UnparsedPublicKey::new(algorithm, key).verify(message, sig).is_ok()
        };
        match &self.verifier {
            Verifier::Hmac(secret) => {
                hmac_algorithm(alg).is_some_and(|a| hmac::verify(&hmac::Key::new(a, secret), message, sig).is_ok())
            }
            Verifier::Ecdsa { point, p384: false } => public(&signature::ECDSA_P256_SHA256_FIXED, point),
            Verifier::Ecdsa { point, p384: true } => public(&signature::ECDSA_P384_SHA384_FIXED, point),
            Verifier::Ed25519(key) => public(&signature::ED25519, key),
            Verifier::Rsa { n, e } => rsa_parameters(alg).is_some_and(|parameters| {
                signature::RsaPublicKeyComponents { n, e }.verify(parameters, message, sig).is_ok()
            }),
        }
    }
}

fn hmac_algorithm(alg: &str) -> Option<hmac::Algorithm> {
    match alg {
        "HS256" => Some(hmac::HMAC_SHA256),
        "HS384" => Some(hmac::HMAC_SHA384),
        "HS512" => Some(hmac::HMAC_SHA512),
        _ => None,
    }
}

fn rsa_parameters(alg: &str) -> Option<&'static signature::RsaParameters> {
    match alg {
        "RS256" => Some(&signature::RSA_PKCS1_2048_8192_SHA256),
        "RS384" => Some(&signature::RSA_PKCS1_2048_8192_SHA384),
        "RS512" => Some(&signature::RSA_PKCS1_2048_8192_SHA512),
        "PS256" => Some(&signature::RSA_PSS_2048_8192_SHA256),
        "PS384" => Some(&signature::RSA_PSS_2048_8192_SHA384),
        "PS512" => Some(&signature::RSA_PSS_2048_8192_SHA512),
        _ => None,
    }
}

/// What `alg` can be (RFC 7518, section 3.1; RFC 8037), whether there is a key for it or not.
const ALGORITHMS: [&str; 13] = [
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
];

/// The keys a server accepts tokens of, tried in order.
#[derive(Clone, Default)]
pub struct JwtKeys(Arc<Vec<JwtKey>>);

impl JwtKeys {
    pub fn new(keys: Vec<JwtKey>) -> Self {
        Self(Arc::new(keys))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Checks form and signature only. Claims are checked by [`check_times`] and the caller.
    pub fn verify_signature(&self, token: &str) -> Result<Claims, JwtError> {
        let parts: Vec<&str> = token.split('.').collect();
        let [header, payload, sig] = parts.as_slice() else { return Err(JwtError::Parts(parts.len())) };
        let decoded = |part: &str| B64.decode(part).map_err(|_| JwtError::Malformed);
        let header: Map<String, Value> = serde_json::from_slice(&decoded(header)?).map_err(|_| JwtError::Malformed)?;
        let alg = header.get("alg").and_then(Value::as_str).ok_or(JwtError::Malformed)?;
        let raw = decoded(payload)?;
        if alg == "none" {
            return Err(JwtError::Unsecured);
        }
        if !ALGORITHMS.contains(&alg) || header.contains_key("crit") {
            return Err(JwtError::Malformed);
        }
        let sig = decoded(sig)?;
        let kid = header.get("kid").and_then(Value::as_str);
        let mut fitting = self.0.iter().filter(|key| key.serves(alg, kid)).peekable();
        if fitting.peek().is_none() {
            return Err(JwtError::NoKey);
        }
        let message = &token.as_bytes()[..token.rfind('.').unwrap_or(0)];
        if !fitting.any(|key| key.verify(alg, message, &sig)) {
            return Err(JwtError::Signature);
        }
        serde_json::from_slice(&raw).map(Claims::new).map_err(|_| JwtError::Payload)
    }
}

/// Checks `exp`, `nbf` and `iat` against `now` (Unix seconds) with [`LEEWAY_SECONDS`].
pub fn check_times(claims: &Claims, now: i64) -> Result<(), JwtError> {
    let time = |name: &'static str| match claims.map.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Number(_)) => Ok(claims.seconds(name)),
        Some(_) => Err(JwtError::ClaimType(name)),
    };
    if time("exp")?.is_some_and(|exp| now - LEEWAY_SECONDS > exp) {
        return Err(JwtError::Expired);
    }
    if time("nbf")?.is_some_and(|nbf| now + LEEWAY_SECONDS < nbf) {
        return Err(JwtError::NotYetValid);
    }
    if time("iat")?.is_some_and(|iat| now + LEEWAY_SECONDS < iat) {
        return Err(JwtError::IssuedInFuture);
    }
    Ok(())
}

/// The Unix seconds at which [`check_times`] accepts such claims; none when one of them is no number.
pub fn accepted_times(claims: &Claims) -> RangeInclusive<i64> {
    let is_number = |name| claims.map.get(name).is_none_or(|value| value.is_number() || value.is_null());
    if !["exp", "nbf", "iat"].into_iter().all(is_number) {
        return RangeInclusive::new(1, 0);
    }
    let starts = [claims.seconds("nbf"), claims.seconds("iat")].into_iter().flatten().max();
    let first = starts.map_or(i64::MIN, |start| start.saturating_sub(LEEWAY_SECONDS));
    let last = claims.seconds("exp").map_or(i64::MAX, |exp| exp.saturating_add(LEEWAY_SECONDS));
    first..=last
}

/// Signs `claims` with HS256.
pub fn sign_hs256(secret: &[u8], claims: &Value) -> String {
    sign_hs256_text(secret, &claims.to_string())
}

/// As [`sign_hs256`] for claims that are written already: the text of a JSON object.
pub fn sign_hs256_text(secret: &[u8], claims: &str) -> String {
    let header = B64.encode(json!({"alg": "HS256", "typ": "JWT"}).to_string());
    let message = format!("{header}.{}", B64.encode(claims));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
    format!("{message}.{}", B64.encode(tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"reallyreallyreallyreallyverysafe";

    fn keys() -> JwtKeys {
        JwtKeys::new(vec![JwtKey::secret(SECRET)])
    }

    #[test]
    fn tokens_are_refused_by_form_algorithm_and_signature() {
        let good = sign_hs256(SECRET, &json!({"role": "anon"}));
        assert_eq!(keys().verify_signature(&good).unwrap().text("role"), Some("anon"));
        let check = |token: &str, error: JwtError| assert_eq!(keys().verify_signature(token), Err(error), "{token}");
        let (head, sig) = good.rsplit_once('.').unwrap();
        check("", JwtError::Parts(1));
        check(head, JwtError::Parts(2));
        check(&format!("{head}."), JwtError::Signature);
        check(&format!("{head}.{}A", &sig[..sig.len() - 1]), JwtError::Signature);
        check(&sign_hs256(b"another secret, of another project", &json!({})), JwtError::Signature);
        let none = format!("{}.{}.", B64.encode(r#"{"alg":"none"}"#), B64.encode("{}"));
        check(&none, JwtError::Unsecured);
        let es256 = format!("{}.{}.{sig}", B64.encode(r#"{"alg":"ES256"}"#), B64.encode("{}"));
        check(&es256, JwtError::NoKey);
        check("a.b.c", JwtError::Malformed);
        check(&format!("{head}.{sig}="), JwtError::Malformed);
        for header in ["7", "{}", r#"{"alg":"HS1"}"#, r#"{"alg":"HS256","crit":["exp"]}"#] {
            check(&format!("{}.{}.{sig}", B64.encode(header), B64.encode("{}")), JwtError::Malformed);
        }
    }

    #[test]
    fn a_token_that_names_its_key_gets_no_other() {
        let jwk = |more: Value| {
            let mut jwk = json!({"kty": "oct", "k": B64.encode(SECRET)});
            jwk.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            JwtKey::from_jwk(&jwk).unwrap()
        };
        let token = |header: Value| {
            let message = format!("{}.{}", B64.encode(header.to_string()), B64.encode("{}"));
            let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), message.as_bytes());
            format!("{message}.{}", B64.encode(tag))
        };
        let check = |key: Option<JwtKey>, kid: Option<&str>, expected: Result<(), JwtError>| {
            let keys = JwtKeys::new(key.into_iter().collect());
            let token = token(json!({"alg": "HS256", "kid": kid}));
            assert_eq!(keys.verify_signature(&token).map(|_| ()), expected, "{kid:?}");
        };
        check(jwk(json!({"kid": "a"})), Some("a"), Ok(()));
        check(jwk(json!({"kid": "a"})), None, Ok(()));
        check(jwk(json!({"kid": "a"})), Some("b"), Err(JwtError::NoKey));
        check(jwk(json!({})), Some("b"), Err(JwtError::NoKey));
        check(Some(JwtKey::secret(SECRET)), Some("b"), Ok(()));
        check(jwk(json!({"use": "sig"})), None, Ok(()));
        check(jwk(json!({"alg": "HS512"})), None, Err(JwtError::NoKey));
        // Keys that sign nothing, and kinds of keys that are not known.
        check(jwk(json!({"use": "enc"})), None, Err(JwtError::NoKey));
        check(jwk(json!({"kty": "OKP", "crv": "X25519"})), None, Err(JwtError::NoKey));
        assert_eq!(JwtKey::from_jwk(&json!({"kty": "RSA"})).err(), Some(InvalidJwk("n")));
        assert_eq!(JwtKey::from_jwk(&json!({"k": "x"})).err(), Some(InvalidJwk("kty")));
    }

    #[test]
    fn times_have_thirty_seconds_of_leeway() {
        let check = |claims: Value, expected: Result<(), JwtError>| {
            let Value::Object(map) = claims else { panic!("an object") };
            let claims = Claims::new(map.clone());
            assert_eq!(accepted_times(&claims).contains(&1000), expected.is_ok(), "{map:?}");
            assert_eq!(check_times(&claims, 1000), expected, "{map:?}");
        };
        check(json!({"exp": 970}), Ok(()));
        check(json!({"exp": 969}), Err(JwtError::Expired));
        check(json!({"nbf": 1030}), Ok(()));
        check(json!({"nbf": 1031}), Err(JwtError::NotYetValid));
        check(json!({"iat": 1031}), Err(JwtError::IssuedInFuture));
        check(json!({"exp": "soon"}), Err(JwtError::ClaimType("exp")));
        check(json!({}), Ok(()));
    }
}
