//! Proof Key for Code Exchange (RFC 7636): a client that has a verifier gets a code in place of a session, and only its
//! verifier makes a session of the code.

use base::digest;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as B64;
use subtle::ConstantTimeEq as _;
use uuid::Uuid;

use crate::cx::Cx;
use crate::error::{Error, ErrorCode};
use crate::request;
use crate::session;
use crate::store::Tx;
use crate::store::flow_state::{self as store, FlowState, NewFlowState};

/// What the tokens of links begin with whose flow has a verifier.
pub(crate) const PREFIX: &str = "pkce_";

/// A challenge that was checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Challenge<'a> {
    pub(crate) challenge: &'a str,
    /// `s256` or `plain`.
    pub(crate) method: &'static str,
}

impl<'a> Challenge<'a> {
    /// Reads `code_challenge` and `code_challenge_method`: both or neither.
    pub(crate) fn read(challenge: Option<&'a String>, method: Option<&'a String>) -> Result<Option<Self>, Error> {
        let challenge = request::text("code_challenge", challenge)?;
        let method = request::text("code_challenge_method", method)?;
        let (challenge, method) = match (challenge, method) {
            (None, None) => return Ok(None),
            (Some(challenge), Some(method)) => (challenge, method),
            _ => return Err(Error::invalid("PKCE flow requires code_challenge_method and code_challenge")),
        };
        if !(43..=128).contains(&challenge.len()) {
            return Err(Error::invalid("code challenge has to be between 43 and 128 characters"));
        }
        if !challenge.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b)) {
            return Err(Error::invalid(
                "code challenge can only contain alphanumeric characters, hyphens, periods, underscores and tildes",
            ));
        }
        let method = match method.to_ascii_lowercase().as_str() {
            "s256" => "s256",
            "plain" => "plain",
            _ => return Err(Error::invalid("unsupported code_challenge method")),
        };
        Ok(Some(Self { challenge, method }))
    }

    /// Begins a flow of a user that ends with a code in a redirect.
    pub(crate) async fn begin(
        self,
        cx: &Cx,
        tx: &mut Tx,
        user_id: Uuid,
        provider: &str,
        method: &str,
    ) -> Result<(), Error> {
        let new = NewFlowState {
            user_id: Some(user_id),
            code_challenge: Some(self.challenge),
            code_challenge_method: Some(self.method),
            provider_type: provider,
            authentication_method: method,
            ..NewFlowState::default()
        };
        store::flow_state_insert_in_tx(tx, &new, cx.now).await.map(drop)
    }
}

/// What is stored of a code.
pub(crate) fn stored(code: &str) -> String {
    digest::sha256_hex(code.as_bytes())
}

/// A code for a flow; it stands in the redirect, and only its hash is stored.
pub(crate) async fn issue_code(cx: &Cx, tx: &mut Tx, flow: &FlowState, user_id: Uuid) -> Result<String, Error> {
    let code = session::new_id().to_string();
    store::flow_state_issue_in_tx(tx, flow.id, user_id, &stored(&code), cx.now).await?;
    Ok(code)
}

/// Whether a verifier belongs to a flow's challenge.
pub(crate) fn verify(flow: &FlowState, verifier: &str) -> Result<(), Error> {
    let mismatch =
        || Error::new(ErrorCode::BadCodeVerifier, "code challenge does not match previously saved code verifier");
    let challenge = flow.code_challenge.as_deref().filter(|text| !text.is_empty()).ok_or_else(mismatch)?;
    let derived = match flow.code_challenge_method.as_deref() {
        Some("plain") => verifier.to_owned(),
        Some("s256") => B64.encode(digest::sha256(verifier.as_bytes())),
        _ => return Err(mismatch()),
    };
    if bool::from(derived.as_bytes().ct_eq(challenge.as_bytes())) { Ok(()) } else { Err(mismatch()) }
}
