//! Security keys and passkeys as second factor.

use serde::Deserialize;
use serde_json::{Value, json};

use super::CHALLENGE_EXPIRES;
use crate::cx::Cx;
use crate::error::{Error, ErrorCode};
use crate::redirect;
use crate::store::Tx;
use crate::store::factor as store;
use crate::user::{Factor, User};
use crate::webauthn::{Ceremony, Credential, RelyingParty, Response};

/// Where the client is, as it says.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Site {
    rp_id: Option<String>,
    rp_origins: Option<Vec<String>>,
}

/// The client's answer to a ceremony.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Proof {
    #[serde(rename = "type")]
    kind: Option<String>,
    credential_response: Option<Value>,
}

fn refused(message: &'static str) -> Error {
    Error::new(ErrorCode::WebauthnVerificationFailed, message)
}

/// Begins a ceremony: makes a credential for a factor without one, or asks for the one it has. What the client needs, and what
/// is kept of it.
pub(super) async fn begin(
    cx: &Cx,
    tx: &mut Tx,
    user: &User,
    factor: &Factor,
    site: Option<&Site>,
) -> Result<(Value, Value), Error> {
    let site = site.ok_or_else(|| Error::invalid("webauthn with rpId and rpOrigins is required"))?;
    let origins = site.rp_origins.clone().unwrap_or_default();
    // The project's own sites only: what is good for sending users to is good for asking them for their keys.
    let known = |origin: &String| {
        redirect::is_allowed(cx.settings(), origin) || redirect::is_allowed(cx.settings(), &format!("{origin}/"))
    };
    if !origins.iter().all(known) {
        return Err(Error::invalid("rpOrigins has an origin that the project does not allow"));
    }
    let party = RelyingParty::named(site.rp_id.as_deref().unwrap_or_default(), &origins)
        .map_err(|error| Error::invalid("rpId and rpOrigins do not fit together").because(error))?;
    let credential: Option<Credential> = credential(tx, factor).await?;
    let ceremony = Ceremony::new(party, credential.is_none());
    let options = match &credential {
        Some(credential) => ceremony.request_options(std::slice::from_ref(credential), CHALLENGE_EXPIRES),
        None => {
            let name = user.email().or(user.phone()).unwrap_or("user");
            let others = others(tx, user, factor).await?;
            ceremony.creation_options(user.id.as_bytes(), name, &others, CHALLENGE_EXPIRES)
        }
    };
    let kind = if ceremony.creates { "create" } else { "request" };
    let kept =
        serde_json::to_value(&ceremony).map_err(|error| Error::internal("Error starting the ceremony", error))?;
    Ok((json!({ "type": kind, "credential_options": options }), kept))
}

async fn credential(tx: &mut Tx, factor: &Factor) -> Result<Option<Credential>, Error> {
    let stored = store::factor_credential_in_tx(tx, factor.id).await?;
    let read = stored.map(serde_json::from_value).transpose();
    read.map_err(|error| Error::internal("Error reading the credential", error))
}

/// Keys that the user has already: one is enough of each.
async fn others(tx: &mut Tx, user: &User, factor: &Factor) -> Result<Vec<Credential>, Error> {
    let mut all = Vec::new();
    for other in user.factors.iter().filter(|other| other.factor_type == "webauthn" && other.id != factor.id) {
        all.extend(credential(tx, other).await?);
    }
    Ok(all)
}

/// Whether the client's answer is right; a new or used credential is stored.
pub(super) async fn is_proved(
    tx: &mut Tx,
    factor: &Factor,
    kept: Option<&Value>,
    proof: Option<&Proof>,
) -> Result<bool, Error> {
    let ceremony: Ceremony = kept
        .and_then(|kept| serde_json::from_value(kept.clone()).ok())
        .ok_or_else(|| Error::new(ErrorCode::WebauthnChallengeNotFound, "The challenge has no ceremony"))?;
    let proof = proof.ok_or_else(|| Error::invalid("webauthn with type and credential_response is required"))?;
    let asked = if ceremony.creates { "create" } else { "request" };
    if proof.kind.as_deref() != Some(asked) {
        return Err(refused("The answer is to another kind of ceremony"));
    }
    let response = proof.credential_response.clone().unwrap_or_default();
    let response: Response = serde_json::from_value(response)
        .map_err(|error| Error::invalid("credential_response cannot be read").because(error))?;
    let result = match credential(tx, factor).await? {
        None => ceremony.registered(&response),
        Some(known) => ceremony.authenticated(&known, &response),
    };
    match result {
        Ok(credential) => {
            let value = serde_json::to_value(&credential)
                .map_err(|error| Error::internal("Error storing the credential", error))?;
            store::factor_credential_put_in_tx(tx, factor.id, &value).await?;
            Ok(true)
        }
        Err(error) => {
            tracing::debug!(factor = %factor.id, %error, "a WebAuthn ceremony failed");
            Ok(false)
        }
    }
}
