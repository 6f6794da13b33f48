//! Who a request acts for.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::role::RoleName;

/// What a request showed to prove its role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    /// No key; only for routes that need none.
    None,
    /// A project's key with the role `anon` (legacy JWT or `sb_publishable_...`).
    PublishableKey,
    /// A project's key with the role `service_role` (legacy JWT or `sb_secret_...`).
    SecretKey,
    /// A user's access token, over any key.
    UserToken,
}

/// The authenticated caller of a project's service: the role its statements run as, and the claims they see.
#[derive(Clone, Debug)]
pub struct Caller {
    pub role: RoleName,
    /// `request.jwt.claims`: a JSON object as text.
    pub claims: Arc<str>,
    pub credential: Credential,
}

/// The payload of a verified token.
#[derive(Clone, Debug, PartialEq)]
pub struct Claims {
    /// The payload re-serialised, as `request.jwt.claims` carries it.
    pub json: Arc<str>,
    pub map: Arc<Map<String, Value>>,
}

impl Claims {
    pub fn new(map: Map<String, Value>) -> Self {
        let json = Value::Object(map.clone()).to_string();
        Self { json: json.into(), map: Arc::new(map) }
    }

    /// A claim that is a string.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.map.get(name).and_then(Value::as_str)
    }

    /// A claim that is a number, in whole seconds (fractions are dropped, RFC 7519 NumericDate).
    pub fn seconds(&self, name: &str) -> Option<i64> {
        let value = self.map.get(name)?;
        #[expect(clippy::cast_possible_truncation, reason = "a saturating cast is wanted")]
        value.as_i64().or_else(|| value.as_f64().map(|f| f as i64))
    }
}
