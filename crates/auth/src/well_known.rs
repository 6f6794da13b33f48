//! What anybody may read: public keys, discovery (OpenID Connect Discovery 1.0), health.

use axum::response::Response;
use http::{HeaderValue, header};
use serde_json::{Value, json};

use crate::cx::Cx;
use crate::error::Error;
use crate::response;

/// Keys are published before they sign, and verify after: ten minutes in a cache do no harm.
const CACHE: &str = "public, max-age=600";

fn cached(value: &Value) -> Result<Response, Error> {
    let mut response = response::ok(value)?;
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(CACHE));
    Ok(response)
}

/// `GET /.well-known/jwks.json`: never a symmetric key.
pub(crate) fn jwks(cx: &Cx) -> Result<Response, Error> {
    cached(&json!({ "keys": cx.project.signing.public_jwks() }))
}

/// `GET /.well-known/openid-configuration`
pub(crate) fn openid_configuration(cx: &Cx) -> Result<Response, Error> {
    let base = cx.auth_url();
    cached(&json!({
        "issuer": base,
        "authorization_endpoint": format!("{base}/authorize"),
        "token_endpoint": format!("{base}/token"),
        "userinfo_endpoint": format!("{base}/user"),
        "jwks_uri": format!("{base}/.well-known/jwks.json"),
        "response_types_supported": ["code", "token"],
        "response_modes_supported": ["query", "fragment"],
        "grant_types_supported": ["authorization_code", "refresh_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": [cx.project.signing.algorithm()],
        "token_endpoint_auth_methods_supported": ["none"],
        "code_challenge_methods_supported": ["S256", "plain"],
        "claims_supported": [
            "iss", "sub", "aud", "exp", "iat", "email", "phone", "role", "aal", "amr", "session_id", "is_anonymous",
        ],
    }))
}

/// `GET /health`
pub(crate) fn health() -> Result<Response, Error> {
    response::ok(&json!({
        "version": env!("CARGO_PKG_VERSION"),
        "name": "GoTrue",
        "description": "The auth service of LaunchDB, compatible with GoTrue",
    }))
}
