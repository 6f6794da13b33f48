//! A project's secrets in plain form, and the legacy keys made from its JWT secret.

use std::collections::HashMap;

use base::api_key::{self, ApiKeyKind};
use base::sealed::{MasterKey, SealContext, SealError, Sealed};
use base::{ProjectRef, RoleName, Secret, jwt, random};
use serde_json::json;

/// Whose secrets those are that belong to no project.
pub(crate) const PLATFORM: &str = "platform";
/// Kind of the platform's random id; see `provision::cluster`.
pub(crate) const INSTANCE_ID: &str = "instance_id";
/// Kind of the first owner's password, kept until it was shown.
pub(crate) const FIRST_OWNER_PASSWORD: &str = "first_owner_password";

/// Kinds of secrets in `platform.secrets`.
pub mod kind {
    /// Signs the project's tokens.
    pub const JWT_SECRET: &str = "jwt_secret";
    /// Secrets before it whose tokens are still accepted: a JSON array of texts, oldest first.
    pub const PREVIOUS_JWT_SECRETS: &str = "previous_jwt_secrets";
    /// Key pairs that sign tokens in place of the secret: a JSON array of `base::signing::StoredKey`.
    pub const SIGNING_KEYS: &str = "signing_keys";
    /// Password of the owner's role.
    pub const DB_PASSWORD: &str = "db_password";
    /// Password of the authenticator role.
    pub const AUTHENTICATOR_PASSWORD: &str = "authenticator_password";
    pub const ANON_KEY: &str = "anon_key";
    pub const SERVICE_ROLE_KEY: &str = "service_role_key";
    /// The opaque keys that the connection page shows.
    pub const PUBLISHABLE_KEY: &str = "publishable_key";
    pub const SECRET_KEY: &str = "secret_key";
}

/// The kind of an S3 access key's secret, which is kept beside the key.
pub(crate) fn s3_kind(access_key_id: &str) -> String {
    format!("s3:{access_key_id}")
}

/// How long legacy keys are valid: ten years, in seconds.
const LEGACY_KEY_TTL: i64 = 10 * 365 * 24 * 3600;

/// The legacy key of a role: a JWT signed with the project's secret. `now` in Unix seconds.
pub fn legacy_key(jwt_secret: &str, project_ref: &ProjectRef, role: &str, now: i64) -> Secret<String> {
    let claims = json!({
        "iss": "supabase",
        "ref": project_ref,
        "project_id": project_ref,
        "role": role,
        "iat": now,
        "exp": now + LEGACY_KEY_TTL,
    });
    Secret::new(jwt::sign_hs256(jwt_secret.as_bytes(), &claims))
}

/// Both legacy keys with their kinds.
pub fn legacy_keys(jwt_secret: &str, project_ref: &ProjectRef, now: i64) -> [(&'static str, Secret<String>); 2] {
    [(kind::ANON_KEY, RoleName::ANON), (kind::SERVICE_ROLE_KEY, RoleName::SERVICE_ROLE)]
        .map(|(kind, role)| (kind, legacy_key(jwt_secret, project_ref, role, now)))
}

/// Everything that lets somebody into a new project, by kind. `now` in Unix seconds.
pub(crate) fn fresh(project_ref: &ProjectRef, now: i64) -> Vec<(&'static str, Secret<String>)> {
    let jwt_secret = random::hex::<32>();
    let mut made = vec![
        (kind::DB_PASSWORD, Secret::new(random::password())),
        (kind::AUTHENTICATOR_PASSWORD, Secret::new(random::password())),
    ];
    made.extend(legacy_keys(&jwt_secret, project_ref, now));
    made.push((kind::JWT_SECRET, Secret::new(jwt_secret)));
    made.push((kind::PUBLISHABLE_KEY, api_key::generate(ApiKeyKind::Publishable)));
    made.push((kind::SECRET_KEY, api_key::generate(ApiKeyKind::Secret)));
    made
}

/// Opens one secret that is text.
pub(crate) fn open(key: &MasterKey, owner: &str, kind: &str, sealed: &Sealed) -> Result<Secret<String>, SealError> {
    let plain = key.open(SealContext { owner, kind }, sealed)?;
    String::from_utf8(plain.expose().clone()).map(Secret::new).map_err(|_| SealError::DoesNotOpen)
}

/// Opens one secret of a project's secrets; none when it does not have it.
pub(crate) fn open_kind(
    key: &MasterKey,
    project_ref: &ProjectRef,
    secrets: &HashMap<String, Sealed>,
    kind: &str,
) -> Result<Option<Secret<String>>, SealError> {
    secrets.get(kind).map(|sealed| open(key, project_ref.as_str(), kind, sealed)).transpose()
}
