//! What a provider gave, while it waits for the client that has the verifier: sealed under a key that only the code in that
//! client's redirect makes. Who reads the database finds nothing that opens anything.

use base::digest;
use base::sealed::{MasterKey, SealContext, SealError, Sealed};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};

use super::Profile;
use crate::cx::Cx;
use crate::error::Error;

#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct SealedFlow {
    pub(crate) access_token: String,
    pub(crate) refresh_token: Option<String>,
    /// The identity that the user who is signed in asked for: linked only when the client shows its verifier, so that nobody
    /// links what is somebody else's by sending them to the provider.
    pub(crate) links: Option<Profile>,
}

fn key(code: &str) -> Result<MasterKey, SealError> {
    let key = digest::sha256(format!("what a provider gave\0{code}").as_bytes());
    MasterKey::from_base64(&BASE64_STANDARD.encode(key), 1)
}

fn context(cx: &Cx) -> SealContext<'_> {
    SealContext { owner: cx.project.project_ref.as_str(), kind: "auth.flow_state" }
}

impl SealedFlow {
    pub(crate) fn seal(&self, cx: &Cx, code: &str) -> Result<String, Error> {
        let what = "Error keeping the flow";
        let plain = serde_json::to_vec(self).map_err(|error| Error::internal(what, error))?;
        let sealed = key(code).map_err(|error| Error::internal(what, error))?.seal(context(cx), &plain);
        Ok(BASE64_STANDARD.encode(sealed.bytes))
    }

    /// None for what this code does not open.
    pub(crate) fn open(cx: &Cx, code: &str, text: &str) -> Option<Self> {
        let sealed = Sealed { bytes: BASE64_STANDARD.decode(text).ok()?, key_version: 1 };
        let plain = key(code).ok()?.open(context(cx), &sealed).ok()?;
        serde_json::from_slice(plain.expose()).ok()
    }
}
