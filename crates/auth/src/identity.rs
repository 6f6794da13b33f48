//! Identities: how a user is known to a provider.

use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::timestamp::Timestamp;

/// Signing in with an e-mail address and a password or code.
pub(crate) const EMAIL: &str = "email";
/// Signing in with a phone number.
pub(crate) const PHONE: &str = "phone";

/// A row of `auth.identities`.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Identity {
    pub(crate) id: Uuid,
    /// The user's id at the provider.
    pub(crate) provider_id: String,
    pub(crate) user_id: Uuid,
    pub(crate) identity_data: Map<String, Value>,
    pub(crate) provider: String,
    pub(crate) last_sign_in_at: Option<Timestamp>,
    pub(crate) created_at: Option<Timestamp>,
    pub(crate) updated_at: Option<Timestamp>,
    pub(crate) email: Option<String>,
}

/// As clients see it (auth-js `UserIdentity`).
impl Serialize for Identity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct View<'a> {
            identity_id: Uuid,
            id: &'a str,
            user_id: Uuid,
            identity_data: &'a Map<String, Value>,
            provider: &'a str,
            last_sign_in_at: Option<Timestamp>,
            created_at: Option<Timestamp>,
            updated_at: Option<Timestamp>,
            #[serde(skip_serializing_if = "Option::is_none")]
            email: Option<&'a str>,
        }
        View {
            identity_id: self.id,
            id: &self.provider_id,
            user_id: self.user_id,
            identity_data: &self.identity_data,
            provider: &self.provider,
            last_sign_in_at: self.last_sign_in_at,
            created_at: self.created_at,
            updated_at: self.updated_at,
            email: self.email.as_deref(),
        }
        .serialize(serializer)
    }
}

/// The data of an e-mail identity; `more` never replaces what is ours.
pub(crate) fn email_data(user_id: Uuid, email: &str, verified: bool, more: &Map<String, Value>) -> Map<String, Value> {
    let mut data = more.clone();
    let own = json!({"sub": user_id, "email": email, "email_verified": verified, "phone_verified": false});
    if let Value::Object(own) = own {
        data.extend(own);
    }
    data
}

/// The data of a phone identity.
pub(crate) fn phone_data(user_id: Uuid, phone: &str, verified: bool, more: &Map<String, Value>) -> Map<String, Value> {
    let mut data = more.clone();
    let own = json!({"sub": user_id, "phone": phone, "email_verified": false, "phone_verified": verified});
    if let Value::Object(own) = own {
        data.extend(own);
    }
    data
}
