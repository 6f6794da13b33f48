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
    FactorDeleted,
    FactorUpdated,
    Login,
    Logout,
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
}

impl Action {
    /// Its name, and the kind of entry.
    fn entry(self) -> (&'static str, &'static str) {
        match self {
            Self::FactorDeleted => ("factor_deleted", "factor"),
            Self::FactorUpdated => ("factor_updated", "factor"),
            Self::Login => ("login", "account"),
            Self::Logout => ("logout", "account"),
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
    let mut actor = json!({
        "actor_id": user.id, "actor_username": user.audit_name(), "actor_via_sso": user.is_sso_user,
    });
    if let Some(name) = user.raw_user_meta_data.as_ref().and_then(|data| data.get("full_name")) {
        actor["actor_name"] = name.clone();
    }
    write(cx, tx, actor, action, traits).await
}

/// An entry about what somebody with the project's secret key did.
pub(crate) async fn of_admin(cx: &Cx, tx: &mut Tx, action: Action, traits: Value) -> Result<(), Error> {
    let role = cx.caller.role.as_str();
    let actor = json!({
        "actor_id": uuid::Uuid::nil(), "actor_username": role, "actor_via_sso": false,
    });
    write(cx, tx, actor, action, Some(traits)).await
}

async fn write(cx: &Cx, tx: &mut Tx, mut payload: Value, action: Action, traits: Option<Value>) -> Result<(), Error> {
    let (name, kind) = action.entry();
    payload["action"] = name.into();
    payload["log_type"] = kind.into();
    if let Some(traits) = traits {
        payload["traits"] = traits;
    }
    store::audit_insert_in_tx(tx, &payload, &cx.client_ip.to_canonical().to_string(), cx.now).await
}

/// What entries about a user's change by an administrator say of the user.
pub(crate) fn about(user: &User) -> Value {
    json!({
        "user_id": user.id, "user_email": user.email().unwrap_or_default(),
        "user_phone": user.phone().unwrap_or_default(),
    })
}
