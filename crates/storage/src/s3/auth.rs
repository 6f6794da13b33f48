//! Who an S3 request acts for: the signature proves a key, the key says a role.
//!
//! | access key | secret | acts as |
//! |---|---|---|
//! | one of the project's | its secret | `service_role` |
//! | the project's id | the anon key | whoever the session token (a user's JWT) is for |

use std::borrow::Cow;

use base::{Caller, Credential, RoleName};
use http::header;
use serde_json::json;
use web::OriginalPath;

use super::error::S3Error;
use super::sigv4::{ChunkChain, Claim, Placement, Signed, SigningKey};
use crate::request::Cx;

/// A request whose signature was proved.
pub(crate) struct Authenticated {
    pub(crate) caller: Caller,
    /// What the signature says of the body.
    pub(crate) payload: String,
    pub(crate) chain: ChunkChain,
    /// The signature came in the query: a link, which a browser may have opened.
    pub(crate) is_link: bool,
}

/// Proves a request's signature.
pub(crate) fn authenticate(cx: &Cx) -> Result<Authenticated, S3Error> {
    let uri = cx.parts.extensions.get::<OriginalPath>().map_or(&cx.parts.uri, |original| &original.0);
    let (path, query) = (uri.path(), uri.query().unwrap_or_default());
    let headers = &cx.parts.headers;
    let claim = Claim::read(headers, query)?;
    let now = cx.shared.config.clock.unix_seconds();
    let secret = secret(cx, &claim)?;
    let key = SigningKey::derive(&secret, &claim.scope);
    let host = match (uri.authority(), headers.get(header::HOST)) {
        (Some(authority), _) => authority.as_str(),
        (None, Some(host)) => host.to_str().unwrap_or_default(),
        (None, None) => "",
    };
    // A proxy may have changed the host; what the server is called from outside is known.
    let public = public_host(&cx.shared.config.public_url);
    let request = Signed { method: cx.parts.method.as_str(), path, query, headers, host };
    if !claim.is_proved_by(&key, &request) && !claim.is_proved_by(&key, &Signed { host: public, ..request }) {
        return Err(S3Error::SignatureDoesNotMatch);
    }
    claim.check_time(now)?;
    claim.check_headers(headers)?;
    let caller = match &claim.session_token {
        Some(token) => cx
            .shared
            .config
            .keys
            .verify_token(&cx.project, token, now)
            .map_err(|error| S3Error::InvalidToken(error.message().into_owned().into()))?,
        None => service_role(cx),
    };
    Ok(Authenticated {
        caller,
        is_link: matches!(claim.placement, Placement::Query { .. }),
        payload: claim.payload.clone(),
        chain: claim.chain(key),
    })
}

/// The secret of the access key that a request names.
fn secret<'a>(cx: &'a Cx, claim: &Claim) -> Result<Cow<'a, str>, S3Error> {
    let keys = &cx.project.s3;
    if claim.session_token.is_some() {
        let own = claim.access_key == cx.project.project_ref.as_str();
        let anon_key = keys.anon_key.as_ref().filter(|_| own).ok_or(S3Error::InvalidAccessKeyId)?;
        return Ok(anon_key.expose().into());
    }
    match keys.access_keys.iter().find(|key| key.access_key_id == claim.access_key) {
        Some(key) => Ok(key.secret.expose().into()),
        None => Err(S3Error::InvalidAccessKeyId),
    }
}

fn service_role(cx: &Cx) -> Caller {
    let claims = json!({"role": RoleName::SERVICE_ROLE, "iss": "launchdb", "ref": cx.project.project_ref.as_str()});
    Caller {
        role: RoleName::new(RoleName::SERVICE_ROLE),
        claims: claims.to_string().into(),
        credential: Credential::SecretKey,
    }
}

/// Host and port of a URL.
fn public_host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split('/').next().unwrap_or_default()
}
