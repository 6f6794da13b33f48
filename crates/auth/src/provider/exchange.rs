//! The code of a callback for tokens, and the tokens for what the provider knows of the user.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderValue, header};
use outbound::{ConfiguredBy, Request};
use ring::hmac;
use serde::Deserialize;
use serde_json::{Map, Value};
use url::form_urlencoded::{self, byte_serialize};

use super::id_token::{Expected, Nonce};
use super::plain::{Client, Endpoint, Extra, Plain, Source};
use super::{Flow, Profile, Protocol, Provider, discovery};
use crate::cx::Cx;
use crate::error::{Error, ErrorCode};

const TIMEOUT: Duration = Duration::from_secs(10);
const LARGEST: usize = 256 * 1024;
/// Longest token that is handed on, in bytes: it travels in a URL.
const LONGEST_TOKEN: usize = 8192;

/// What a provider gave for a code (RFC 6749, section 5.1).
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct Tokens {
    pub(crate) access_token: String,
    pub(crate) refresh_token: Option<String>,
    id_token: Option<String>,
}

fn failed(what: &'static str) -> Error {
    Error::new(ErrorCode::UnexpectedFailure, what)
}

impl Provider {
    /// Exchanges a code, and reads who the user is.
    pub(crate) async fn profile_of_code(&self, cx: &Cx, flow: &Flow, code: &str) -> Result<(Tokens, Profile), Error> {
        let answer = self.exchange(cx, flow, code).await?;
        let tokens = usable(&answer)?;
        let profile = match self.protocol {
            Protocol::OpenId => self.openid_profile(cx, flow, &tokens).await?,
            Protocol::GitHub => {
                let api = match self.base.as_str() {
                    "https://github.com" => "https://api.github.com".to_owned(),
                    own => format!("{own}/api/v3"),
                };
                let user = self.get(cx, &format!("{api}/user"), &tokens).await?;
                let emails = self.get(cx, &format!("{api}/user/emails"), &tokens).await?;
                Profile::of_api(self, &user, &emails)
            }
            Protocol::GitLab => {
                let user = self.get(cx, &format!("{}/api/v4/user", self.base), &tokens).await?;
                Profile::of_api(self, &user, &Value::Null)
            }
            Protocol::Discord => {
                let user = self.get(cx, &format!("{}/api/users/@me", self.base), &tokens).await?;
                Profile::of_api(self, &user, &Value::Null)
            }
            Protocol::Plain(plain) => self.plain_profile(cx, plain, &tokens, &answer).await?,
        };
        let profile = profile.ok_or_else(|| failed("Error getting user profile from external provider"))?;
        Ok((tokens, profile))
    }

    async fn exchange(&self, cx: &Cx, flow: &Flow, code: &str) -> Result<Value, Error> {
        let refused = || failed("Unable to exchange external code");
        let (endpoint, basic) = match self.protocol {
            Protocol::OpenId => {
                let discovery = discovery::discover(cx, self).await?;
                let methods = &discovery.token_endpoint_auth_methods_supported;
                let posts = methods.iter().any(|method| method == "client_secret_post");
                (discovery.token_endpoint.clone(), !posts)
            }
            Protocol::GitHub => (format!("{}/login/oauth/access_token", self.base), false),
            Protocol::GitLab => (format!("{}/oauth/token", self.base), false),
            Protocol::Discord => (format!("{}/api/oauth2/token", self.base), false),
            Protocol::Plain(plain) => (self.endpoint(plain.token), plain.client == Client::Basic),
        };
        let mut pairs =
            vec![("grant_type", "authorization_code"), ("code", code), ("redirect_uri", &flow.redirect_uri)];
        if self.takes_proof_key(cx).await? {
            pairs.push(("code_verifier", &flow.verifier));
        }
        if !basic {
            pairs.extend([("client_id", self.client_id()), ("client_secret", self.secret()?)]);
        }
        let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
        let url = self.checked_url(cx, &endpoint)?;
        let mut request = Request::post(url, "application/x-www-form-urlencoded", form);
        (request.timeout, request.most_bytes) = (TIMEOUT, LARGEST);
        request.headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        if basic {
            // Both parts are form-encoded first (RFC 6749, section 2.3.1).
            let encoded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
            let pair = format!("{}:{}", encoded(self.client_id()), encoded(self.secret()?));
            let value = HeaderValue::try_from(format!("Basic {}", BASE64_STANDARD.encode(pair)));
            request.headers.insert(header::AUTHORIZATION, value.map_err(|error| refused().because(error))?);
        }
        let project = cx.project.project_ref.as_str();
        let answer = cx.shared.config.outbound.send(ConfiguredBy::Project, project, request).await;
        let answer = answer.map_err(|error| refused().because(error))?;
        if !answer.status.is_success() {
            let status = answer.status;
            return Err(refused().because(format!("the token endpoint answered {status}")));
        }
        serde_json::from_slice(&answer.body).map_err(|error| refused().because(error))
    }

    /// What a provider without OpenID Connect says of the user; none when it names nobody.
    async fn plain_profile(
        &self,
        cx: &Cx,
        plain: &Plain,
        tokens: &Tokens,
        answer: &Value,
    ) -> Result<Option<Profile>, Error> {
        let user = match plain.profile {
            Source::Token(name) => answer[name].clone(),
            Source::Get(endpoint, extra) => self.get_plain(cx, endpoint, extra, tokens).await?,
        };
        let emails = match plain.emails {
            Some((endpoint, _)) => self.get_plain(cx, endpoint, Extra::Nothing, tokens).await?,
            None => Value::Null,
        };
        let Endpoint(host, _) = plain.token;
        let issuer = if self.base.is_empty() { format!("https://{host}") } else { self.base.clone() };
        Ok(Profile::of_plain(plain, &issuer, &user, &emails))
    }

    async fn get_plain(&self, cx: &Cx, endpoint: Endpoint, extra: Extra, tokens: &Tokens) -> Result<Value, Error> {
        let mut address = self.endpoint(endpoint);
        let header = match extra {
            Extra::Nothing => None,
            Extra::Header(name, value) => Some((name, value)),
            Extra::ClientId(name) => Some((name, self.client_id())),
            Extra::Proof(name) => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, self.secret()?.as_bytes());
                let proof = hmac::sign(&key, tokens.access_token.as_bytes());
                let proof: String = proof.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
                let separator = if address.contains('?') { '&' } else { '?' };
                address.push_str(&format!("{separator}{name}={proof}"));
                None
            }
        };
        self.get_with(cx, &address, header, tokens).await
    }

    /// The claims of the ID token, and what the user info endpoint adds.
    async fn openid_profile(&self, cx: &Cx, flow: &Flow, tokens: &Tokens) -> Result<Option<Profile>, Error> {
        let id_token = tokens.id_token.as_deref().ok_or_else(|| failed("The provider gave no ID token"))?;
        let expected = Expected {
            audiences: vec![self.client_id()],
            // LinkedIn's tokens have none, whatever was asked for.
            nonce: if self.name == "linkedin_oidc" { Nonce::Any } else { Nonce::Is(&flow.nonce) },
            access_token: Some(&tokens.access_token),
        };
        let mut claims = self.verify_id_token(cx, id_token, &expected).await?;
        let discovery = discovery::discover(cx, self).await?;
        if !claims.contains_key("email")
            && let Some(endpoint) = discovery.userinfo_endpoint.as_deref()
        {
            let more = self.get(cx, endpoint, tokens).await?;
            merge(&mut claims, more)?;
        }
        Ok(Profile::of_claims(self, &claims))
    }

    async fn get(&self, cx: &Cx, address: &str, tokens: &Tokens) -> Result<Value, Error> {
        self.get_with(cx, address, None, tokens).await
    }

    async fn get_with(
        &self,
        cx: &Cx,
        address: &str,
        header: Option<(&'static str, &str)>,
        tokens: &Tokens,
    ) -> Result<Value, Error> {
        let refused = || failed("Error getting user profile from external provider");
        let mut request = Request::get(self.checked_url(cx, address)?);
        (request.timeout, request.most_bytes) = (TIMEOUT, LARGEST);
        let mut bearer = HeaderValue::try_from(format!("Bearer {}", tokens.access_token))
            .map_err(|error| refused().because(error))?;
        bearer.set_sensitive(true);
        request.headers.insert(header::AUTHORIZATION, bearer);
        request.headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        if let Some((name, value)) = header {
            let value = HeaderValue::try_from(value).map_err(|error| refused().because(error))?;
            request.headers.insert(name, value);
        }
        let project = cx.project.project_ref.as_str();
        let answer = cx.shared.config.outbound.send(ConfiguredBy::Project, project, request).await;
        let answer = answer.map_err(|error| refused().because(error))?;
        if !answer.status.is_success() {
            let status = answer.status;
            return Err(refused().because(format!("the provider answered {status}")));
        }
        serde_json::from_slice(&answer.body).map_err(|error| refused().because(error))
    }
}

/// The tokens in the answer of a token endpoint.
fn usable(answer: &Value) -> Result<Tokens, Error> {
    let refused = || failed("Unable to exchange external code");
    let tokens: Tokens = serde_json::from_value(answer.clone()).map_err(|error| refused().because(error))?;
    let too_long = |token: &String| token.len() > LONGEST_TOKEN;
    if tokens.access_token.is_empty()
        || too_long(&tokens.access_token)
        || tokens.refresh_token.as_ref().is_some_and(too_long)
    {
        return Err(refused().because("the token endpoint gave no usable access token"));
    }
    Ok(tokens)
}

/// User info is believed for the subject of the ID token only (OpenID Connect Core 1.0, section 5.3.4), and never says
/// another thing than the token.
fn merge(claims: &mut Map<String, Value>, more: Value) -> Result<(), Error> {
    let Value::Object(more) = more else { return Ok(()) };
    if more.get("sub") != claims.get("sub") {
        return Err(failed("The provider described another user than it signed in"));
    }
    for (name, value) in more {
        claims.entry(name).or_insert(value);
    }
    Ok(())
}
