//! `GET /callback` and `POST /callback`: back from a provider.

use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, Method, header};
use serde_json::{Value, json};
use url::form_urlencoded;
use uuid::Uuid;

use crate::account::{self, Arrival};
use crate::audit::{self, Action};
use crate::authorize::{self, FLOW_EXPIRES};
use crate::cx::Cx;
use crate::error::{Error, ErrorCode};
use crate::pkce;
use crate::provider::{Profile, Provider, SealedFlow, Tokens};
use crate::rate_limit::Limit;
use crate::redirect;
use crate::response;
use crate::session::{self, method};
use crate::signup::after_user_created;
use crate::store::Tx;
use crate::store::flow_state::{FlowState, IssuedFlow, flow_state_put_issued_in_tx, flow_state_take_in_tx};
use crate::verify::error_url;

/// What a provider sends back (RFC 6749, section 4.1.2).
#[derive(Debug, Default)]
struct Params {
    state: Option<String>,
    code: Option<String>,
    error: Option<String>,
    error_description: Option<String>,
    /// Apple's name of the user, once.
    user: Option<String>,
}

impl Params {
    fn read(cx: &Cx, http_method: &Method, body: &Bytes) -> Self {
        let form: Vec<(String, String)> = match *http_method {
            Method::POST => form_urlencoded::parse(body).into_owned().collect(),
            _ => cx.query.clone(),
        };
        let mut params = Self::default();
        for (name, value) in form {
            let slot = match name.as_str() {
                "state" => &mut params.state,
                "code" => &mut params.code,
                "error" => &mut params.error,
                "error_description" => &mut params.error_description,
                "user" => &mut params.user,
                _ => continue,
            };
            if !value.is_empty() && !value.contains('\0') {
                slot.get_or_insert(value);
            }
        }
        params
    }
}

/// Where the user goes, and the cookie that is of no use any more.
struct Ended {
    url: String,
    cookie: Option<HeaderValue>,
}

pub(crate) async fn callback(cx: &Cx, http_method: &Method, body: &Bytes) -> Result<Response, Error> {
    cx.limit_client(Limit::TokenRefresh)?;
    let params = Params::read(cx, http_method, body);
    let ended = end(cx, &params).await?;
    let mut response = response::see_other(&ended.url)?;
    if let Some(cookie) = ended.cookie {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

async fn end(cx: &Cx, params: &Params) -> Result<Ended, Error> {
    let flow = match take_flow(cx, params).await {
        Ok(flow) => flow,
        // Nothing is known of where the user came from.
        Err(error) if !error.status().is_server_error() => {
            return Ok(Ended { url: error_url(&cx.settings().site_url, &error, false), cookie: None });
        }
        Err(error) => return Err(error),
    };
    let pkce = flow.code_challenge.is_some();
    let to = redirect::choose(cx.settings(), [flow.referrer.as_deref()]);
    let provider = match Provider::find(cx, &flow.provider_type) {
        Ok(provider) => provider,
        Err(error) => return Ok(Ended { url: error_url(&to, &error, pkce), cookie: None }),
    };
    let bound = !pkce && flow.linking_target_id.is_none();
    let cookie = if bound { Some(authorize::cookie(cx, &provider, flow.id, 0)?) } else { None };
    if let Some(error) = &params.error {
        return Ok(Ended { url: providers_error(&to, error, params.error_description.as_deref(), pkce), cookie });
    }
    let elsewhere = flow.linking_target_id.is_some() && !pkce && !authorize::is_of_this_network(cx, flow.id);
    let result = match bound && !authorize::has_cookie(cx, flow.id) || elsewhere {
        true => Err(Error::new(ErrorCode::BadOauthState, "OAuth state belongs to another browser")),
        false => sign_in(cx, params, &flow, &provider, &to).await,
    };
    let url = match result {
        Ok(url) => url,
        Err(error) => {
            if error.status().is_server_error() {
                tracing::warn!(
                    project.ref = %cx.project.project_ref, provider = provider.name, cause = ?error,
                    "a sign-in at a provider failed"
                );
            }
            error_url(&to, &error, pkce)
        }
    };
    Ok(Ended { url, cookie })
}

/// Takes the flow that the state names: it is gone, whoever comes with the state again.
async fn take_flow(cx: &Cx, params: &Params) -> Result<FlowState, Error> {
    let missing = || Error::new(ErrorCode::BadOauthCallback, "OAuth state parameter missing");
    let state = params.state.as_deref().ok_or_else(missing)?;
    let invalid = |what: &'static str| Error::new(ErrorCode::BadOauthState, what);
    let id = Uuid::parse_str(state).map_err(|_| invalid("OAuth state parameter is invalid"))?;
    let mut tx = Tx::begin(&cx.pool).await?;
    let flow = flow_state_take_in_tx(&mut tx, id, method::OAUTH).await?;
    tx.commit().await?;
    let flow = flow.ok_or_else(|| invalid("OAuth state not found or expired"))?;
    let young = flow.created_at.is_some_and(|began| cx.now.seconds_since(began) <= FLOW_EXPIRES);
    if young { Ok(flow) } else { Err(invalid("OAuth state has expired")) }
}

/// What a provider says went wrong, handed on in its own words.
fn providers_error(to: &str, error: &str, description: Option<&str>, pkce: bool) -> String {
    let clean = |text: &str| text.chars().filter(|c| !c.is_control()).take(300).collect::<String>();
    let (error, description) = (clean(error), clean(description.unwrap_or("The provider refused the sign-in")));
    let params = [("error", error.as_str()), ("error_code", "bad_oauth_callback"), ("error_description", &description)];
    let to = if pkce { redirect::with_query(to, &params) } else { to.to_owned() };
    redirect::with_fragment(&to, &[params[0], params[1], params[2], ("sb", "")])
}

async fn sign_in(cx: &Cx, params: &Params, flow: &FlowState, provider: &Provider, to: &str) -> Result<String, Error> {
    let missing = || Error::new(ErrorCode::BadOauthCallback, "OAuth callback with missing authorization code");
    let code = params.code.as_deref().ok_or_else(missing)?;
    let (tokens, mut profile) = provider.profile_of_code(cx, &authorize::flow(cx, flow.id), code).await?;
    if let Some(name) = params.user.as_deref().filter(|_| provider.posts_back()).and_then(apples_name) {
        profile.add_name(&name);
    }
    let mut tx = Tx::begin(&cx.pool).await?;
    if let (Some(target), Some(_)) = (flow.linking_target_id, &flow.code_challenge) {
        let url = code_url(cx, &mut tx, flow, target, tokens, Some(profile), to).await?;
        tx.commit().await?;
        return Ok(url);
    }
    let Arrival { user, created } = match flow.linking_target_id {
        Some(target) => account::link(cx, &mut tx, target, provider, &profile).await?,
        None => account::sign_in(cx, &mut tx, provider, &profile, flow.email_optional).await?,
    };
    if flow.code_challenge.is_some() {
        let url = code_url(cx, &mut tx, flow, user.id, tokens, None, to).await?;
        tx.commit().await?;
        if created {
            after_user_created(cx, &user).await?;
        }
        return Ok(url);
    }
    audit::of_user(cx, &mut tx, &user, Action::Login, Some(json!({ "provider": provider.name }))).await?;
    let mut view = session::begin(cx, &mut tx, &user, method::OAUTH).await?;
    tx.commit().await?;
    if created {
        after_user_created(cx, &view.user).await?;
    }
    view.provider_token = Some(tokens.access_token);
    view.provider_refresh_token = tokens.refresh_token.filter(|token| !token.is_empty());
    Ok(redirect::with_fragment(to, &view.fragment(&view.numbers(), None)))
}

/// A code that only the client with the verifier can exchange.
async fn code_url(
    cx: &Cx,
    tx: &mut Tx,
    flow: &FlowState,
    user_id: Uuid,
    tokens: Tokens,
    links: Option<Profile>,
    to: &str,
) -> Result<String, Error> {
    let code = session::new_id().to_string();
    let kept = SealedFlow { access_token: tokens.access_token, refresh_token: tokens.refresh_token, links };
    let kept = kept.seal(cx, &code)?;
    let issued = IssuedFlow { flow, user_id, code_hash: &pkce::stored(&code), kept: &kept };
    flow_state_put_issued_in_tx(tx, &issued, cx.now).await?;
    Ok(redirect::with_query(to, &[("code", &code)]))
}

/// `{"name": {"firstName": "Ann", "lastName": "Lee"}}`
fn apples_name(user: &str) -> Option<String> {
    let user: Value = serde_json::from_str(user).ok()?;
    let part = |name: &str| user["name"][name].as_str().unwrap_or_default();
    Some(format!("{} {}", part("firstName"), part("lastName")).trim().to_owned())
}
