//! `DELETE /user/identities/{id}`: one way less to sign in.

use axum::response::Response;
use http::StatusCode;
use serde_json::json;
use uuid::Uuid;

use crate::audit::{self, Action};
use crate::authenticate::SignedIn;
use crate::cx::Cx;
use crate::error::{Error, ErrorCode};
use crate::identity::{EMAIL, Identity, PHONE};
use crate::response;
use crate::store::Tx;
use crate::store::identity::{identity_delete_in_tx, identity_owner_contacts_in_tx};
use crate::store::user as users;
use crate::user::User;

/// Whoever links an identity is let in by it from then on.
pub(crate) const SECOND_FACTOR: &str = "AAL2 session is required to link or unlink identities when MFA is enabled.";

pub(crate) async fn unlink(cx: &Cx, id: &str) -> Result<Response, Error> {
    let signed_in = SignedIn::of(cx).await?;
    if !cx.settings().security_manual_linking_enabled {
        return Err(Error::new(ErrorCode::ManualLinkingDisabled, "Manual linking is disabled"));
    }
    let id = Uuid::parse_str(id)
        .map_err(|_| Error::invalid("identity_id must be an UUID").with_status(StatusCode::NOT_FOUND))?;
    signed_in.require_second_factor(SECOND_FACTOR)?;
    let mut tx = Tx::begin(&cx.pool).await?;
    let user = signed_in.lock(&mut tx).await?;
    if user.identities.len() <= 1 {
        let what = "User must have at least 1 identity after unlinking";
        return Err(Error::new(ErrorCode::SingleIdentityNotDeletable, what));
    }
    let identity = user.identities.iter().find(|identity| identity.id == id);
    let identity = identity.ok_or_else(|| Error::new(ErrorCode::IdentityNotFound, "Identity doesn't exist"))?;
    let traits =
        json!({ "identity_id": identity.id, "provider": identity.provider, "provider_id": identity.provider_id });
    audit::of_user(cx, &mut tx, &user, Action::IdentityUnlinked, Some(traits)).await?;
    identity_delete_in_tx(&mut tx, identity.id).await?;
    let (email, phone) = contacts_without(&user, identity);
    if email.as_deref() != user.email() || phone.as_deref() != user.phone() {
        let taken = match email.as_deref().filter(|email| Some(*email) != user.email()) {
            Some(email) => users::user_lock_by_email_in_tx(&mut tx, email).await?.is_some(),
            None => false,
        };
        if taken {
            let what = "Unable to unlink identity due to email conflict";
            return Err(Error::new(ErrorCode::EmailConflictIdentityNotDeletable, what));
        }
        identity_owner_contacts_in_tx(&mut tx, user.id, email.as_deref(), phone.as_deref(), cx.now).await?;
    }
    users::user_providers_in_tx(&mut tx, user.id).await?;
    tx.commit().await?;
    response::empty_object()
}

/// The user's address and number when an identity is gone: the address stays if another identity has it too, or else is one
/// that another provider has verified.
fn contacts_without(user: &User, gone: &Identity) -> (Option<String>, Option<String>) {
    let rest = || user.identities.iter().filter(|identity| identity.id != gone.id);
    let verified = |identity: &Identity| {
        identity.identity_data.get("email_verified").and_then(serde_json::Value::as_bool).unwrap_or_default()
    };
    let phone = user.phone().filter(|_| gone.provider != PHONE).map(str::to_owned);
    let touches = gone.provider == EMAIL || gone.email.as_deref() == user.email();
    if !touches || user.email().is_none() {
        return (user.email().map(str::to_owned), phone);
    }
    let same = rest().any(|identity| identity.email.as_deref() == user.email() && verified(identity));
    let email = match same {
        true => user.email().map(str::to_owned),
        false => rest().filter(|identity| verified(identity)).find_map(|identity| identity.email.clone()),
    };
    (email, phone)
}
