//! Sign-in providers: OAuth 2 with OpenID Connect where they speak it, and the few that do not.

mod discovery;
mod exchange;
mod id_token;
mod plain;
mod profile;
mod sealed_flow;

use base::auth_settings::ProviderSettings;
use url::Url;

pub(crate) use discovery::Documents;
pub(crate) use exchange::Tokens;
pub(crate) use id_token::{Expected, Nonce};
pub(crate) use profile::Profile;
pub(crate) use sealed_flow::SealedFlow;

use self::plain::{Endpoint, PLAIN, Plain};
use crate::cx::Cx;
use crate::error::{Error, ErrorCode};

/// How a provider is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Everything is found out from the issuer (OpenID Connect Discovery 1.0).
    OpenId,
    GitHub,
    GitLab,
    Discord,
    /// All there is to know is a row of [`plain`].
    Plain(&'static Plain),
}

/// What is known of a provider beside its settings.
struct Known {
    name: &'static str,
    protocol: Protocol,
    /// The issuer, or the base of the provider's API.
    base: &'static str,
    /// Always asked for.
    scopes: &'static str,
}

/// Providers that are supported beside those of [`plain`]. Those without a base have one in their settings.
const KNOWN: [Known; 10] = [
    Known { name: "apple", protocol: Protocol::OpenId, base: "https://appleid.apple.com", scopes: "email name" },
    Known {
        name: "azure",
        protocol: Protocol::OpenId,
        base: "https://login.microsoftonline.com/common",
        scopes: "openid email",
    },
    Known { name: "discord", protocol: Protocol::Discord, base: "https://discord.com", scopes: "email identify" },
    Known { name: "github", protocol: Protocol::GitHub, base: "https://github.com", scopes: "user:email" },
    Known { name: "gitlab", protocol: Protocol::GitLab, base: "https://gitlab.com", scopes: "read_user" },
    Known {
        name: "google",
        protocol: Protocol::OpenId,
        base: "https://accounts.google.com",
        scopes: "openid email profile",
    },
    Known { name: "keycloak", protocol: Protocol::OpenId, base: "", scopes: "openid email profile" },
    Known {
        name: "linkedin_oidc",
        protocol: Protocol::OpenId,
        base: "https://www.linkedin.com/oauth",
        scopes: "openid email profile",
    },
    Known { name: "oidc", protocol: Protocol::OpenId, base: "", scopes: "openid email profile" },
    Known { name: "slack_oidc", protocol: Protocol::OpenId, base: "https://slack.com", scopes: "openid email profile" },
];

/// A provider that the project has switched on.
#[derive(Clone, Debug)]
pub(crate) struct Provider {
    pub(crate) name: &'static str,
    pub(crate) protocol: Protocol,
    /// Without a slash at the end; of [`Protocol::Plain`] it replaces the hosts, if there is one.
    pub(crate) base: String,
    scopes: &'static str,
    pub(crate) settings: ProviderSettings,
}

impl Provider {
    /// The provider of this name, if it is known, switched on and set up.
    pub(crate) fn find(cx: &Cx, name: &str) -> Result<Self, Error> {
        let name = name.to_lowercase();
        let known = KNOWN.iter().find(|known| known.name == name);
        let plain = PLAIN.iter().find(|plain| plain.name == name);
        let settings = cx.settings().providers.get(&name);
        let unsupported = |what: &str| Error::invalid(format!("Unsupported provider: {what}"));
        let settings = settings.ok_or_else(|| unsupported(&format!("Provider {} could not be found", shown(&name))))?;
        if !settings.enabled {
            return Err(unsupported("provider is not enabled"));
        }
        let own = settings.url.as_deref().map(|url| url.trim_end_matches('/')).filter(|url| !url.is_empty());
        let settings = settings.clone();
        let provider = match (known, plain) {
            (Some(known), _) => {
                let base = own.unwrap_or(known.base).to_owned();
                if base.is_empty() {
                    return Err(unsupported("missing provider url"));
                }
                Self { name: known.name, protocol: known.protocol, base, scopes: known.scopes, settings }
            }
            (None, Some(plain)) => {
                let base = own.unwrap_or_default().to_owned();
                Self { name: plain.name, protocol: Protocol::Plain(plain), base, scopes: plain.scopes, settings }
            }
            (None, None) => {
                let what = format!("The provider {name} is not supported by this server");
                return Err(Error::new(ErrorCode::OauthProviderNotSupported, what));
            }
        };
        if provider.client_id().is_empty() {
            return Err(unsupported("missing OAuth client ID"));
        }
        Ok(provider)
    }

    /// What the provider knows the application as: the first of the ids in its setting.
    pub(crate) fn client_id(&self) -> &str {
        self.settings.client_id.as_deref().unwrap_or_default().split(',').next().unwrap_or_default().trim()
    }

    /// Every client id that ID tokens may be made for (native applications have their own).
    pub(crate) fn audiences(&self) -> Vec<&str> {
        let all = [self.settings.client_id.as_deref(), self.settings.additional_client_ids.as_deref()];
        all.into_iter().flatten().flat_map(|ids| ids.split(',')).map(str::trim).filter(|id| !id.is_empty()).collect()
    }

    fn secret(&self) -> Result<&str, Error> {
        let secret = self.settings.secret.as_ref().map(|secret| secret.expose().as_str()).filter(|s| !s.is_empty());
        secret.ok_or_else(|| Error::invalid("Unsupported provider: missing OAuth secret"))
    }

    /// Whether the provider calls back with a form from its own page (Apple, as soon as a name is asked for).
    pub(crate) fn posts_back(&self) -> bool {
        self.name == "apple"
    }

    /// The issuer that discovery is asked of.
    fn issuer(&self) -> String {
        match self.name {
            "azure" => format!("{}/v2.0", self.base),
            _ => self.base.clone(),
        }
    }

    /// Whether tokens of `issuer` are this provider's.
    pub(crate) fn is_issuer(&self, issuer: &str) -> bool {
        self.protocol == Protocol::OpenId && self.issuer() == issuer.trim_end_matches('/')
    }

    /// Where the user is sent to sign in. `verifier` and `nonce` belong to this one flow.
    pub(crate) async fn authorization_url(&self, cx: &Cx, flow: &Flow, more_scopes: &str) -> Result<Url, Error> {
        // A flow that could not be ended need not begin.
        self.secret()?;
        let proves = self.takes_proof_key(cx).await?;
        let endpoint = match self.protocol {
            Protocol::OpenId => discovery::discover(cx, self).await?.authorization_endpoint.clone(),
            Protocol::GitHub => format!("{}/login/oauth/authorize", self.base),
            Protocol::GitLab => format!("{}/oauth/authorize", self.base),
            Protocol::Discord => format!("{}/api/oauth2/authorize", self.base),
            Protocol::Plain(plain) => self.endpoint(plain.authorize),
        };
        let mut url = self.checked_url(cx, &endpoint)?;
        let mut scopes: Vec<&str> = self.scopes.split(' ').filter(|scope| !scope.is_empty()).collect();
        for scope in more_scopes.split([' ', ',']).filter(|scope| !scope.is_empty()) {
            if !scopes.contains(&scope) {
                scopes.push(scope);
            }
        }
        {
            let mut query = url.query_pairs_mut();
            query
                .append_pair("client_id", self.client_id())
                .append_pair("redirect_uri", &flow.redirect_uri)
                .append_pair("response_type", "code")
                .append_pair("state", &flow.state);
            if !scopes.is_empty() {
                query.append_pair("scope", &scopes.join(" "));
            }
            if let Protocol::Plain(plain) = self.protocol {
                query.extend_pairs(plain.asked);
            }
            if proves {
                query.append_pair("code_challenge", &flow.challenge()).append_pair("code_challenge_method", "S256");
            }
            if self.protocol == Protocol::OpenId {
                query.append_pair("nonce", &flow.nonce);
            }
            if self.posts_back() {
                query.append_pair("response_mode", "form_post");
            }
        }
        Ok(url)
    }

    /// Whether the provider knows proof keys (RFC 7636); to one that does not they may be an error.
    async fn takes_proof_key(&self, cx: &Cx) -> Result<bool, Error> {
        match self.protocol {
            Protocol::OpenId => {}
            Protocol::Plain(plain) => return Ok(plain.proof_key),
            _ => return Ok(true),
        }
        let discovery = discovery::discover(cx, self).await?;
        // Azure takes them and does not say so.
        let says = discovery.code_challenge_methods_supported.iter().any(|method| method == "S256");
        Ok(says || self.name == "azure")
    }

    fn endpoint(&self, endpoint: Endpoint) -> String {
        let Endpoint(host, path) = endpoint;
        match self.base.as_str() {
            "" => format!("https://{host}{path}"),
            own => format!("{own}{path}"),
        }
    }

    /// An address of the provider's that the project may call.
    fn checked_url(&self, cx: &Cx, text: &str) -> Result<Url, Error> {
        let unusable = || Error::invalid(format!("Unsupported provider: the address of {} is unusable", self.name));
        let url = Url::parse(text).map_err(|error| unusable().because(error))?;
        let outbound = &cx.shared.config.outbound;
        outbound.check(outbound::ConfiguredBy::Project, &url).map_err(|error| {
            Error::invalid(format!("Unsupported provider: {} cannot be used: {error}", self.name)).because(error)
        })?;
        Ok(url)
    }
}

/// A name from a request, short enough to be said back.
fn shown(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(40).collect()
}

/// What belongs to one sign-in at a provider.
#[derive(Clone, Debug)]
pub(crate) struct Flow {
    pub(crate) state: String,
    /// Of the proof key towards the provider (RFC 7636).
    pub(crate) verifier: String,
    pub(crate) nonce: String,
    pub(crate) redirect_uri: String,
}

impl Flow {
    fn challenge(&self) -> String {
        use base64::Engine as _;
        base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(base::digest::sha256(self.verifier.as_bytes()))
    }
}
