//! `grant_type=id_token`: native applications bring the ID token that the platform gave them.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use crate::account::{self, Arrival};
use crate::audit::{self, Action};
use crate::authenticate::SignedIn;
use crate::cx::Cx;
use crate::error::{Error, ErrorCode};
use crate::identities;
use crate::provider::{Expected, Nonce, Profile, Protocol, Provider};
use crate::request;
use crate::response;
use crate::session::{self, method};
use crate::signup::after_user_created;
use crate::store::Tx;

#[derive(Default, Deserialize)]
#[serde(default)]
struct IdTokenParams {
    id_token: Option<String>,
    access_token: Option<String>,
    nonce: Option<String>,
    provider: Option<String>,
    client_id: Option<String>,
    issuer: Option<String>,
    link_identity: Option<bool>,
}

pub(super) async fn sign_in(cx: &Cx, body: &Bytes) -> Result<axum::response::Response, Error> {
    let params: IdTokenParams = request::params(body)?;
    let token = request::text("id_token", params.id_token.as_ref())?;
    let token = token.ok_or_else(|| Error::invalid("id_token required"))?;
    let provider = provider_of(cx, &params)?;
    let linking = match params.link_identity {
        Some(true) => {
            let signed_in = SignedIn::of(cx).await?;
            if !cx.settings().security_manual_linking_enabled {
                return Err(Error::new(ErrorCode::ManualLinkingDisabled, "Manual linking is disabled"));
            }
            signed_in.require_second_factor(identities::SECOND_FACTOR)?;
            Some(signed_in.user.id)
        }
        _ => None,
    };
    let nonce = request::text("nonce", params.nonce.as_ref())?;
    let expected = Expected {
        audiences: provider.audiences(),
        nonce: if provider.settings.skip_nonce_check { Nonce::Any } else { Nonce::HashOf(nonce) },
        access_token: request::text("access_token", params.access_token.as_ref())?,
    };
    let claims = provider.verify_id_token(cx, token, &expected).await?;
    let profile =
        Profile::of_claims(&provider, &claims).ok_or_else(|| Error::invalid("Missing sub claim in id_token"))?;
    let mut tx = Tx::begin(&cx.pool).await?;
    let Arrival { user, created } = match linking {
        Some(target) => account::link(cx, &mut tx, target, &provider, &profile).await?,
        None => account::sign_in(cx, &mut tx, &provider, &profile, provider.settings.email_optional).await?,
    };
    audit::of_user(cx, &mut tx, &user, Action::Login, Some(json!({ "provider": provider.name }))).await?;
    let view = session::begin(cx, &mut tx, &user, method::OAUTH).await?;
    tx.commit().await?;
    if created {
        after_user_created(cx, &view.user).await?;
    }
    response::ok(&view)
}

/// The provider by its name, or by its issuer and a client id of it.
fn provider_of(cx: &Cx, params: &IdTokenParams) -> Result<Provider, Error> {
    let name = request::text("provider", params.provider.as_ref())?;
    let issuer = request::text("issuer", params.issuer.as_ref())?;
    let client_id = request::text("client_id", params.client_id.as_ref())?;
    let provider = match (name, issuer, client_id) {
        (Some(name), _, _) => Provider::find(cx, name)?,
        (None, Some(issuer), Some(client_id)) => {
            let names = cx.settings().providers.iter().filter(|(_, settings)| settings.enabled).map(|(name, _)| name);
            let found = names
                .filter_map(|name| Provider::find(cx, name).ok())
                .find(|provider| provider.is_issuer(issuer) && provider.audiences().contains(&client_id));
            found.ok_or_else(|| Error::invalid("Custom OIDC provider not allowed"))?
        }
        _ => return Err(Error::invalid("provider or client_id and issuer required")),
    };
    if provider.protocol != Protocol::OpenId {
        return Err(Error::invalid(format!("Provider {} does not issue ID tokens", provider.name)));
    }
    Ok(provider)
}
