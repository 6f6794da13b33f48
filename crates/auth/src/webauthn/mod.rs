//! What a relying party checks of WebAuthn (W3C Web Authentication, level 3, sections 7.1 and 7.2), over `ring`.
//!
//! Attestation is not asked for and not believed: a second factor has to be the same authenticator as before, and nobody
//! here has a list of makers to trust. ES256, Ed25519 and RS256 are what authenticators speak.

mod authenticator_data;
mod cose_key;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD as B64URL};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use subtle::ConstantTimeEq as _;
use url::Url;

use self::authenticator_data::AuthenticatorData;
use self::cose_key::PublicKey;

/// COSE's numbers of the algorithms, in the order of preference.
const ALGORITHMS: [i64; 3] = [-7, -8, -257];
/// Origins that a ceremony may come from.
const MOST_ORIGINS: usize = 8;
/// Longest credential id (section 5.8.3), in bytes.
const LONGEST_ID: usize = 1023;

/// Why a ceremony failed; the text is for the log, not for whoever tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refused(&'static str);

/// The site that a credential belongs to, as one ceremony has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RelyingParty {
    pub(crate) id: String,
    pub(crate) origins: Vec<String>,
    /// What browsers show.
    #[serde(default)]
    name: String,
}

impl RelyingParty {
    /// The site that a client names: its origins have to be secure, and lie within the id.
    pub(crate) fn named(id: &str, origins: &[String]) -> Result<Self, Refused> {
        if id.is_empty() || id.len() > 253 || origins.is_empty() || origins.len() > MOST_ORIGINS {
            return Err(Refused("no usable relying party"));
        }
        for origin in origins {
            let url = Url::parse(origin).map_err(|_| Refused("an origin is no URL"))?;
            let host = url.host_str().unwrap_or_default();
            let local = host == "localhost";
            let secure = url.scheme() == "https" || url.scheme() == "http" && local;
            let within = host == id || host.strip_suffix(id).is_some_and(|rest| rest.ends_with('.'));
            if !secure || !within || url.origin().ascii_serialization() != *origin {
                return Err(Refused("an origin does not belong to the relying party"));
            }
        }
        Ok(Self { id: id.to_owned(), origins: origins.to_vec(), name: id.to_owned() })
    }

    /// The same site with a name for people.
    pub(crate) fn called(self, name: String) -> Self {
        Self { name, ..self }
    }
}

/// A ceremony that waits for the client's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ceremony {
    /// In base64url.
    pub(crate) challenge: String,
    pub(crate) relying_party: RelyingParty,
    /// Whether a credential is made, rather than used.
    pub(crate) creates: bool,
    /// Whether the credential has to be found without a name, and used by nobody but its owner: a passkey.
    #[serde(default)]
    verifies_user: bool,
}

impl Ceremony {
    pub(crate) fn new(relying_party: RelyingParty, creates: bool) -> Self {
        Self { challenge: B64URL.encode(base::random::bytes::<32>()), relying_party, creates, verifies_user: false }
    }

    /// The same for a passkey, which signs in by itself: not only somebody has to be there, but its owner.
    pub(crate) fn verifying_users(self) -> Self {
        Self { verifies_user: true, ..self }
    }

    fn user_verification(&self) -> &'static str {
        if self.verifies_user { "required" } else { "preferred" }
    }

    /// What the browser makes a credential from.
    pub(crate) fn creation_options(&self, user_id: &[u8], name: &str, exclude: &[Credential], seconds: i64) -> Value {
        let parameters: Vec<Value> = ALGORITHMS.iter().map(|alg| json!({ "type": "public-key", "alg": alg })).collect();
        json!({ "publicKey": {
            "rp": { "id": self.relying_party.id, "name": self.relying_party.name },
            "user": { "id": B64URL.encode(user_id), "name": name, "displayName": name },
            "challenge": self.challenge,
            "pubKeyCredParams": parameters,
            "timeout": seconds * 1000,
            "excludeCredentials": exclude.iter().map(Credential::descriptor).collect::<Vec<_>>(),
            "authenticatorSelection": {
                "userVerification": self.user_verification(),
                "residentKey": self.user_verification(),
                "requireResidentKey": self.verifies_user,
            },
            "attestation": "none",
        }})
    }

    /// What the browser looks for a credential with.
    pub(crate) fn request_options(&self, allow: &[Credential], seconds: i64) -> Value {
        json!({ "publicKey": {
            "challenge": self.challenge,
            "timeout": seconds * 1000,
            "rpId": self.relying_party.id,
            "allowCredentials": allow.iter().map(Credential::descriptor).collect::<Vec<_>>(),
            "userVerification": self.user_verification(),
        }})
    }

    /// Checks the answer to [`Self::creation_options`].
    pub(crate) fn registered(&self, response: &Response) -> Result<Credential, Refused> {
        let answer = &response.response;
        self.check_client_data(&decoded(Some(&answer.client_data_json))?, "webauthn.create")?;
        let attestation = decoded(answer.attestation_object.as_ref())?;
        let data = authenticator_data::of_attestation(&attestation).ok_or(Refused("the attestation cannot be read"))?;
        let data = AuthenticatorData::read(&data).ok_or(Refused("the authenticator's data cannot be read"))?;
        self.check_authenticator(&data)?;
        let made = data.credential.ok_or(Refused("there is no credential in the answer"))?;
        if made.id.is_empty() || made.id.len() > LONGEST_ID || decoded(Some(&response.id))? != made.id {
            return Err(Refused("the credential has another id"));
        }
        PublicKey::read(&made.public_key).ok_or(Refused("the public key is of an unknown kind"))?;
        Ok(Credential {
            id: BASE64_STANDARD.encode(&made.id),
            public_key: BASE64_STANDARD.encode(&made.public_key),
            attestation_type: "none".to_owned(),
            transport: answer.transports.iter().flatten().filter(|t| t.len() <= 32).take(8).cloned().collect(),
            flags: Flags { backup_eligible: data.backup_eligible, backup_state: data.backed_up },
            authenticator: Authenticator { aaguid: BASE64_STANDARD.encode(made.aaguid), sign_count: data.sign_count },
        })
    }

    /// Checks the answer to [`Self::request_options`]; the credential as it is afterwards.
    pub(crate) fn authenticated(&self, credential: &Credential, response: &Response) -> Result<Credential, Refused> {
        let answer = &response.response;
        let client_data = decoded(Some(&answer.client_data_json))?;
        self.check_client_data(&client_data, "webauthn.get")?;
        if decoded(Some(&response.id))? != credential.id_bytes() {
            return Err(Refused("another credential answered"));
        }
        let raw = decoded(answer.authenticator_data.as_ref())?;
        let data = AuthenticatorData::read(&raw).ok_or(Refused("the authenticator's data cannot be read"))?;
        self.check_authenticator(&data)?;
        let key = BASE64_STANDARD.decode(&credential.public_key).unwrap_or_default();
        let key = PublicKey::read(&key).ok_or(Refused("the stored public key cannot be read"))?;
        let message = [raw.as_slice(), &base::digest::sha256(&client_data)].concat();
        if !key.verifies(&message, &decoded(answer.signature.as_ref())?) {
            return Err(Refused("the signature is wrong"));
        }
        let known = credential.authenticator.sign_count;
        // Authenticators that do not count say 0 for ever. One that counts and does not get on has been copied.
        if (data.sign_count != 0 || known != 0) && data.sign_count <= known {
            return Err(Refused("the authenticator may have been copied"));
        }
        let mut credential = credential.clone();
        credential.authenticator.sign_count = data.sign_count;
        credential.flags.backup_state = data.backed_up;
        Ok(credential)
    }

    fn check_client_data(&self, raw: &[u8], kind: &str) -> Result<(), Refused> {
        #[derive(Deserialize)]
        struct ClientData {
            #[serde(rename = "type")]
            kind: String,
            challenge: String,
            origin: String,
            #[serde(default, rename = "crossOrigin")]
            cross_origin: bool,
        }
        let data: ClientData = serde_json::from_slice(raw).map_err(|_| Refused("the client's data cannot be read"))?;
        if data.kind != kind {
            return Err(Refused("the answer is to another kind of ceremony"));
        }
        if !bool::from(data.challenge.as_bytes().ct_eq(self.challenge.as_bytes())) {
            return Err(Refused("the answer is to another challenge"));
        }
        if data.cross_origin || !self.relying_party.origins.contains(&data.origin) {
            return Err(Refused("the answer is of another origin"));
        }
        Ok(())
    }

    fn check_authenticator(&self, data: &AuthenticatorData) -> Result<(), Refused> {
        if data.relying_party_hash != base::digest::sha256(self.relying_party.id.as_bytes()) {
            return Err(Refused("the answer is for another relying party"));
        }
        if !data.user_present {
            return Err(Refused("nobody touched the authenticator"));
        }
        if self.verifies_user && !data.user_verified {
            return Err(Refused("the authenticator did not verify its user"));
        }
        if data.backed_up && !data.backup_eligible {
            return Err(Refused("a credential that cannot be backed up says that it is"));
        }
        Ok(())
    }
}

fn decoded(text: Option<&String>) -> Result<Vec<u8>, Refused> {
    let text = text.ok_or(Refused("a part of the answer is missing"))?;
    B64URL.decode(text.trim_end_matches('=')).map_err(|_| Refused("a part of the answer is no base64url"))
}

/// A credential in the form in which GoTrue stores it (go-webauthn's, with base64 of bytes).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Credential {
    id: String,
    #[serde(rename = "publicKey")]
    public_key: String,
    #[serde(default, rename = "attestationType")]
    attestation_type: String,
    #[serde(default)]
    transport: Vec<String>,
    #[serde(default)]
    flags: Flags,
    authenticator: Authenticator,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Flags {
    backup_eligible: bool,
    backup_state: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Authenticator {
    #[serde(default, rename = "AAGUID")]
    aaguid: String,
    #[serde(default, rename = "signCount")]
    sign_count: u32,
}

impl Credential {
    /// One that is stored elsewhere: id and public key in base64.
    pub(crate) fn stored(id: &str, public_key: &str, sign_count: u32, transport: Vec<String>) -> Self {
        Self {
            id: id.to_owned(),
            public_key: public_key.to_owned(),
            attestation_type: "none".to_owned(),
            transport,
            flags: Flags::default(),
            authenticator: Authenticator { aaguid: String::new(), sign_count },
        }
    }

    /// In base64.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// In COSE's form, in base64.
    pub(crate) fn public_key(&self) -> &str {
        &self.public_key
    }

    pub(crate) fn sign_count(&self) -> u32 {
        self.authenticator.sign_count
    }

    pub(crate) fn transports(&self) -> &[String] {
        &self.transport
    }

    /// The authenticator's model; empty for one that does not say.
    pub(crate) fn aaguid(&self) -> Vec<u8> {
        BASE64_STANDARD.decode(&self.authenticator.aaguid).unwrap_or_default()
    }

    pub(crate) fn is_backup_eligible(&self) -> bool {
        self.flags.backup_eligible
    }

    pub(crate) fn is_backed_up(&self) -> bool {
        self.flags.backup_state
    }

    fn id_bytes(&self) -> Vec<u8> {
        BASE64_STANDARD.decode(&self.id).unwrap_or_default()
    }

    fn descriptor(&self) -> Value {
        json!({ "type": "public-key", "id": B64URL.encode(self.id_bytes()), "transports": self.transport })
    }
}

/// A browser's answer, in the JSON of level 3 (`PublicKeyCredential.toJSON`).
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Response {
    id: String,
    response: Answer,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    #[serde(rename = "clientDataJSON")]
    client_data_json: String,
    attestation_object: Option<String>,
    authenticator_data: Option<String>,
    signature: Option<String>,
    transports: Option<Vec<String>>,
    user_handle: Option<String>,
}

impl Response {
    /// The credential that answered.
    pub(crate) fn credential_id(&self) -> Result<Vec<u8>, Refused> {
        decoded(Some(&self.id))
    }

    /// Whom the authenticator has the credential for, as it was told when the credential was made.
    pub(crate) fn user_handle(&self) -> Option<Vec<u8>> {
        decoded(self.response.user_handle.as_ref()).ok()
    }
}

#[cfg(test)]
pub(crate) mod soft_authenticator;
#[cfg(test)]
mod tests;
