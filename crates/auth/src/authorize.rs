//! `GET /authorize`, and `GET /user/identities/authorize` for who wants another way to sign in: off to a provider.
//!
//! Everything about the flow is in one row, whose random id is the `state`. It is good for one callback. What the provider
//! has to give back (the verifier of the proof key, the nonce) is derived from the id under a key of the project, so that
//! it is stored nowhere.

use axum::response::Response;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as B64;
use http::{HeaderValue, header};
use ring::hmac;
use serde_json::json;
use url::Url;
use uuid::Uuid;

use crate::authenticate::SignedIn;
use crate::cx::Cx;
use crate::error::{Error, ErrorCode};
use crate::identities;
use crate::pkce::Challenge;
use crate::provider::{Flow, Provider};
use crate::rate_limit::{Limit, network};
use crate::response;
use crate::session::{self, method};
use crate::store::Tx;
use crate::store::flow_state::{NewFlowState, flow_state_insert_in_tx};

/// How long somebody may take at a provider, in seconds.
pub(crate) const FLOW_EXPIRES: i64 = 900;

/// Parameters that are ours; all others are for the provider (`prompt`, `login_hint`, `access_type`, ...).
const OURS: [&str; 18] = [
    "provider",
    "scopes",
    "redirect_to",
    "code_challenge",
    "code_challenge_method",
    "skip_http_redirect",
    "apikey",
    "invite_token",
    "canonical",
    "client_id",
    "redirect_uri",
    "response_type",
    "response_mode",
    "scope",
    "state",
    "nonce",
    "request",
    "request_uri",
];
/// Most parameters for the provider, and the longest of them.
const MOST_EXTRA: usize = 16;
const LONGEST_EXTRA: usize = 512;

pub(crate) async fn authorize(cx: &Cx) -> Result<Response, Error> {
    cx.limit_client(Limit::TokenRefresh)?;
    if let Some(url) = canonical(cx) {
        return response::see_other(&url);
    }
    begin(cx, None).await
}

/// `GET /user/identities/authorize`
pub(crate) async fn authorize_link(cx: &Cx) -> Result<Response, Error> {
    let signed_in = SignedIn::of(cx).await?;
    if !cx.settings().security_manual_linking_enabled {
        return Err(Error::new(ErrorCode::ManualLinkingDisabled, "Manual linking is disabled"));
    }
    signed_in.require_second_factor(identities::SECOND_FACTOR)?;
    begin(cx, Some(signed_in.user.id)).await
}

async fn begin(cx: &Cx, linking_target: Option<Uuid>) -> Result<Response, Error> {
    let provider = Provider::find(cx, cx.query_param("provider").unwrap_or_default())?;
    let [challenge, challenge_method] =
        ["code_challenge", "code_challenge_method"].map(|name| cx.query_param(name).map(str::to_owned));
    let challenge = Challenge::read(challenge.as_ref(), challenge_method.as_ref())?;
    // Clients ask for linking out of a page, where no cookie stays: without a verifier the flow belongs to a network.
    let id = if linking_target.is_some() && challenge.is_none() { id_of_network(cx) } else { session::new_id() };
    let flow = flow(cx, id);
    let mut url = provider.authorization_url(cx, &flow, cx.query_param("scopes").unwrap_or_default()).await?;
    add_extra(cx, &mut url);
    let redirect_to = cx.redirect_to();
    let new = NewFlowState {
        id: Some(id),
        code_challenge: challenge.map(|challenge| challenge.challenge),
        code_challenge_method: challenge.map(|challenge| challenge.method),
        provider_type: provider.name,
        authentication_method: method::OAUTH,
        referrer: Some(&redirect_to),
        linking_target_id: linking_target,
        email_optional: provider.settings.email_optional,
        ..NewFlowState::default()
    };
    let mut tx = Tx::begin(&cx.pool).await?;
    flow_state_insert_in_tx(&mut tx, &new, cx.now).await?;
    tx.commit().await?;
    let mut response = match cx.query_param("skip_http_redirect") {
        Some("true") => response::ok(&json!({ "url": url.as_str() }))?,
        _ => response::see_other(url.as_str())?,
    };
    if challenge.is_none() && linking_target.is_none() {
        // Without a verifier only this ties the callback to the browser in which the flow began.
        response.headers_mut().append(header::SET_COOKIE, cookie(cx, &provider, id, FLOW_EXPIRES)?);
    }
    Ok(response)
}

/// The flow with this id: what it was at the beginning it is again at the callback.
pub(crate) fn flow(cx: &Cx, id: Uuid) -> Flow {
    Flow {
        state: id.to_string(),
        verifier: derived(cx, "verifier", id),
        nonce: derived(cx, "nonce", id),
        redirect_uri: format!("{}/callback", cx.auth_url()),
    }
}

fn derived(cx: &Cx, purpose: &str, id: Uuid) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &cx.project.signing.derive("sign-in at providers"));
    B64.encode(hmac::sign(&key, format!("{purpose} {id}").as_bytes()))
}

fn add_extra(cx: &Cx, url: &mut Url) {
    let extra = cx.query.iter().filter(|(name, value)| {
        !OURS.contains(&name.as_str()) && name.len() <= 64 && value.len() <= LONGEST_EXTRA && !name.is_empty()
    });
    let extra: Vec<_> = extra.take(MOST_EXTRA).collect();
    if !extra.is_empty() {
        url.query_pairs_mut().extend_pairs(extra);
    }
}

/// An id of which one can tell the network that asked for it: half of it is random, the other half a MAC of that and the
/// network.
fn id_of_network(cx: &Cx) -> Uuid {
    let mut random = base::random::bytes::<8>();
    // Version and variant of RFC 9562.
    random[6] = random[6] & 0x0f | 0x40;
    with_network(cx, random)
}

fn with_network(cx: &Cx, random: [u8; 8]) -> Uuid {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &cx.project.signing.derive("flows that link identities"));
    let tag = hmac::sign(&key, &[&random, network(cx.client_ip).as_bytes()].concat());
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&random);
    bytes[8..].copy_from_slice(tag.as_ref().get(..8).unwrap_or(&[0; 8]));
    bytes[8] = bytes[8] & 0x3f | 0x80;
    Uuid::from_bytes(bytes)
}

/// Whether a flow that links an identity began in the network that it comes back to. Whoever sends somebody else to the
/// provider sits elsewhere.
pub(crate) fn is_of_this_network(cx: &Cx, id: Uuid) -> bool {
    let mut random = [0; 8];
    random.copy_from_slice(&id.as_bytes()[..8]);
    with_network(cx, random) == id
}

fn cookie_name(id: Uuid) -> String {
    format!("sb-oauth-{}", id.simple())
}

/// The cookie that ties a flow to a browser; of age 0 it takes the cookie away.
pub(crate) fn cookie(cx: &Cx, provider: &Provider, id: Uuid, age: i64) -> Result<HeaderValue, Error> {
    let callback = format!("{}/callback", cx.auth_url());
    let path = Url::parse(&callback).map(|url| url.path().to_owned()).unwrap_or_else(|_| "/".to_owned());
    let secure = callback.starts_with("https:");
    // A form that another site posts takes a cookie along only with None, which needs TLS.
    let attributes = match (provider.posts_back(), secure) {
        (true, true) => "; Secure; SameSite=None",
        (false, true) => "; Secure; SameSite=Lax",
        (_, false) => "; SameSite=Lax",
    };
    let (name, value) = (cookie_name(id), derived(cx, "cookie", id));
    HeaderValue::try_from(format!("{name}={value}; Path={path}; Max-Age={age}; HttpOnly{attributes}"))
        .map_err(|error| Error::internal("The cookie is unusable", error))
}

/// Whether the request comes from the browser in which the flow began.
pub(crate) fn has_cookie(cx: &Cx, id: Uuid) -> bool {
    use subtle::ConstantTimeEq as _;
    let (name, expected) = (cookie_name(id), derived(cx, "cookie", id));
    let headers = cx.headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    headers
        .flat_map(|cookies| cookies.split(';'))
        .filter_map(|cookie| cookie.trim().split_once('='))
        .any(|(key, value)| key == name && bool::from(value.as_bytes().ct_eq(expected.as_bytes())))
}

/// Where a browser that came by another of the project's names has to begin: at the name that the provider will send it
/// back to, because the cookie belongs to that. Asked for once only, whatever a proxy makes of the name.
fn canonical(cx: &Cx) -> Option<String> {
    let asked = cx.query_param("code_challenge").is_some()
        || cx.query_param("skip_http_redirect").is_some()
        || cx.query_param("canonical").is_some();
    if asked {
        return None;
    }
    let host = cx.headers.get(header::HOST)?.to_str().ok()?;
    let own = Url::parse(&cx.auth_url()).ok()?;
    let authority = own.host_str().map(|name| match own.port() {
        Some(port) => format!("{name}:{port}"),
        None => name.to_owned(),
    })?;
    if host.eq_ignore_ascii_case(&authority) {
        return None;
    }
    let mut url = Url::parse(&format!("{}/authorize", cx.auth_url())).ok()?;
    url.query_pairs_mut().extend_pairs(&cx.query).append_pair("canonical", "1");
    Some(url.into())
}
