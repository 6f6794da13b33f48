//! A user as clients see it (GoTrue's order of fields; auth-js `User`).

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{Factor, User};
use crate::identity::Identity;
use crate::timestamp::Timestamp;

/// A factor without its secret.
#[derive(Serialize)]
pub(crate) struct FactorView<'a> {
    id: Uuid,
    created_at: Timestamp,
    updated_at: Timestamp,
    status: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    friendly_name: Option<&'a str>,
    factor_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    phone: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_challenged_at: Option<Timestamp>,
}

impl<'a> From<&'a Factor> for FactorView<'a> {
    fn from(factor: &'a Factor) -> Self {
        Self {
            id: factor.id,
            created_at: factor.created_at,
            updated_at: factor.updated_at,
            status: &factor.status,
            friendly_name: factor.friendly_name.as_deref().filter(|name| !name.is_empty()),
            factor_type: &factor.factor_type,
            phone: factor.phone.as_deref(),
            last_challenged_at: factor.last_challenged_at,
        }
    }
}

#[derive(Serialize)]
struct View<'a> {
    id: Uuid,
    aud: &'a str,
    role: &'a str,
    email: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    email_confirmed_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    invited_at: Option<Timestamp>,
    phone: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    phone_confirmed_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    confirmation_sent_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    confirmed_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recovery_sent_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    new_email: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email_change_sent_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    new_phone: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    phone_change_sent_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reauthentication_sent_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_sign_in_at: Option<Timestamp>,
    app_metadata: &'a Map<String, Value>,
    user_metadata: &'a Map<String, Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    factors: Vec<FactorView<'a>>,
    identities: &'a [Identity],
    created_at: Option<Timestamp>,
    updated_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    banned_until: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted_at: Option<Timestamp>,
    is_anonymous: bool,
}

impl Serialize for User {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let empty = Map::new();
        View {
            id: self.id,
            aud: self.aud.as_deref().unwrap_or_default(),
            role: self.role.as_deref().unwrap_or_default(),
            email: self.email().unwrap_or_default(),
            email_confirmed_at: self.email_confirmed_at,
            invited_at: self.invited_at,
            phone: self.phone().unwrap_or_default(),
            phone_confirmed_at: self.phone_confirmed_at,
            confirmation_sent_at: self.confirmation_sent_at,
            confirmed_at: self.confirmed_at,
            recovery_sent_at: self.recovery_sent_at,
            new_email: self.new_email(),
            email_change_sent_at: self.email_change_sent_at,
            new_phone: self.new_phone(),
            phone_change_sent_at: self.phone_change_sent_at,
            reauthentication_sent_at: self.reauthentication_sent_at,
            last_sign_in_at: self.last_sign_in_at,
            app_metadata: self.raw_app_meta_data.as_ref().unwrap_or(&empty),
            user_metadata: self.raw_user_meta_data.as_ref().unwrap_or(&empty),
            factors: self.factors.iter().map(FactorView::from).collect(),
            identities: &self.identities,
            created_at: self.created_at,
            updated_at: self.updated_at,
            banned_until: self.banned_until,
            deleted_at: self.deleted_at,
            is_anonymous: self.is_anonymous,
        }
        .serialize(serializer)
    }
}
