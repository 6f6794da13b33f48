//! What is written down of what users and administrators do (`auth.audit_log_entries`).

use serde_json::{Value, json};

use crate::cx::Cx;
use crate::error::Error;
use crate::store::Tx;
use crate::store::audit as store;
use crate::user::User;

/// GoTrue's actions (`internal/models/audit_log_entry.go`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    ChallengeCreated,
    EnrollFactor,
    FactorDeleted,
    FactorUnenrolled,
    FactorUpdated,
    IdentityLinked,
    IdentityUnlinked,
    Login,
    Logout,
    PasskeyCreated,
    PasskeyDeleted,
    PasskeyUpdated,
    TokenRefreshed,
    TokenRevoked,
    UserConfirmationRequested,
    UserDeleted,
    UserInvited,
    UserModified,
    UserReauthenticateRequested,
    UserRecoveryRequested,
    UserRepeatedSignup,
    UserSignedUp,
    UserUpdatedPassword,
    VerificationAttempted,
}

impl Action {
    /// Its name, and the kind of entry.
    fn entry(self) -> (&'static str, &'static str) {
        match self {
            Self::FactorDeleted => ("factor_deleted", "factor"),
            Self::ChallengeCreated => ("challenge_created", "factor"),
            Self::EnrollFactor => ("factor_in_progress", "factor"),
            Self::FactorUnenrolled => ("factor_unenrolled", "factor"),
            Self::VerificationAttempted => ("verification_attempted", "factor"),
            Self::FactorUpdated => ("factor_updated", "factor"),
            Self::IdentityLinked => ("identity_linked", "user"),
            Self::IdentityUnlinked => ("identity_unlinked", "user"),
            Self::Login => ("login", "account"),
            Self::Logout => ("logout", "account"),
            Self::PasskeyCreated => ("passkey_created", "user"),
            Self::PasskeyDeleted => ("passkey_deleted", "user"),
            Self::PasskeyUpdated => ("passkey_updated", "user"),
            Self::TokenRefreshed => ("token_refreshed", "token"),
            Self::TokenRevoked => ("token_revoked", "token"),
            Self::UserConfirmationRequested => ("user_confirmation_requested", "user"),
            Self::UserDeleted => ("user_deleted", "team"),
            Self::UserInvited => ("user_invited", "team"),
            Self::UserModified => ("user_modified", "user"),
            Self::UserReauthenticateRequested => ("user_reauthenticate_requested", "user"),
            Self::UserRecoveryRequested => ("user_recovery_requested", "user"),
            Self::UserRepeatedSignup => ("user_repeated_signup", "user"),
            Self::UserSignedUp => ("user_signedup", "team"),
            Self::UserUpdatedPassword => ("user_updated_password", "user"),
        }
    }
}

/// An entry about what a user did.
pub(crate) async fn of_user(
    cx: &Cx,
    tx: &mut Tx,
    user: &User,
    action: Action,
    traits: Option<Value>,
) -> Result<(), Error> {
    let payload = payload(actor(user), action, traits);
    store::audit_insert_in_tx(tx, &payload, &cx.client_ip.to_canonical().to_string(), cx.now).await
}

/// Such entries without traits, for a statement that writes them beside what they are about.
pub(crate) fn payloads(user: &User, actions: &[Action]) -> Vec<String> {
    actions.iter().map(|action| payload(actor(user), *action, None).to_string()).collect()
}

fn actor(user: &User) -> Value {
    let mut actor = json!({
        "actor_id": user.id, "actor_username": user.audit_name(), "actor_via_sso": user.is_sso_user,
    });
    if let Some(name) = user.raw_user_meta_data.as_ref().and_then(|data| data.get("full_name")) {
        actor["actor_name"] = name.clone();
    }
    actor
}

/// An entry about what somebody with the project's secret key did.
pub(crate) async fn of_admin(cx: &Cx, tx: &mut Tx, action: Action, traits: Value) -> Result<(), Error> {
    let role = cx.caller.role.as_str();
    let actor = json!({
        "actor_id": uuid::Uuid::nil(), "actor_username": role, "actor_via_sso": false,
    });
    let payload = payload(actor, action, Some(traits));
    store::audit_insert_in_tx(tx, &payload, &cx.client_ip.to_canonical().to_string(), cx.now).await
}

fn payload(actor: Value, action: Action, traits: Option<Value>) -> Value {
    let mut payload = actor;
    let (name, kind) = action.entry();
    payload["action"] = name.into();
    payload["log_type"] = kind.into();
    if let Some(traits) = traits {
        payload["traits"] = traits;
    }
    payload
}

/// What entries about a user's change by an administrator say of the user.
pub(crate) fn about(user: &User) -> Value {
    json!({
        "user_id": user.id, "user_email": user.email().unwrap_or_default(),
        "user_phone": user.phone().unwrap_or_default(),
    })
}
