//! Whose account a sign-in at a provider leads to.
//!
//! An identity that is known leads to its user. A new one leads to the user who has its address only when the provider says
//! that the address is verified: whoever can make a provider name somebody else's address must not get into their account.
//! If that user has not shown yet that the address is theirs, nothing stays of what somebody set up under it before.

use serde_json::{Map, Value, json};
use url::Url;
use uuid::Uuid;

use crate::audit::{self, Action};
use crate::cx::Cx;
use crate::error::{Error, ErrorCode};
use crate::identity::{self, Identity};
use crate::one_time_token::Purpose;
use crate::provider::{Profile, Provider};
use crate::session;
use crate::signup::{before_user_created, provider_metadata};
use crate::store::Tx;
use crate::store::factor::factor_delete_all_in_tx;
use crate::store::identity::{
    identity_delete_others_in_tx, identity_find_in_tx, identity_insert_in_tx, identity_signed_in_in_tx,
};
use crate::store::one_time_token::one_time_token_delete_in_tx;
use crate::store::passkey::passkey_delete_all_in_tx;
use crate::store::session::{Ending, session_delete_in_tx};
use crate::store::user::{self as users, NewUser, UserChange};
use crate::user::{AUDIENCE, User};

/// Who came, and whether they are new.
pub(crate) struct Arrival {
    pub(crate) user: User,
    pub(crate) created: bool,
}

/// The user to whom a profile belongs, made if there is none.
pub(crate) async fn sign_in(
    cx: &Cx,
    tx: &mut Tx,
    provider: &Provider,
    profile: &Profile,
    email_optional: bool,
) -> Result<Arrival, Error> {
    if let Some(identity) = identity_find_in_tx(tx, provider.name, &profile.id).await? {
        let user = users::user_lock_in_tx(tx, identity.user_id).await?.filter(|user| user.deleted_at.is_none());
        let user = user.ok_or_else(|| Error::new(ErrorCode::UserNotFound, "User not found"))?;
        refuse_banned(cx, &user)?;
        check_issuer(provider, &identity, profile)?;
        identity_signed_in_in_tx(tx, provider.name, &profile.id, &profile.data, cx.now).await?;
        return arrived(cx, tx, &user, profile, false).await;
    }
    let owner = match (&profile.email, profile.email_verified) {
        (Some(email), true) => users::user_lock_by_email_in_tx(tx, email).await?,
        _ => None,
    };
    match owner.filter(|user| user.deleted_at.is_none()) {
        Some(user) => {
            refuse_banned(cx, &user)?;
            if !user.is_email_confirmed() {
                clear(cx, tx, &user, "").await?;
            }
            add_identity(cx, tx, user.id, provider, profile).await?;
            arrived(cx, tx, &user, profile, false).await
        }
        None => create(cx, tx, provider, profile, email_optional).await,
    }
}

/// A server of the project's own may be replaced by another, whose subjects are not those of the one before.
fn check_issuer(provider: &Provider, identity: &Identity, profile: &Profile) -> Result<(), Error> {
    let issuer = |data: &Map<String, Value>| {
        let iss = data.get("iss")?.as_str()?.trim_end_matches('/');
        match provider.name {
            // Imports name the API, which is at the same host.
            "github" | "gitlab" => Url::parse(iss).ok()?.host_str().map(str::to_owned),
            _ => Some(iss.to_owned()),
        }
    };
    let (before, now) = (issuer(&identity.identity_data), issuer(&profile.data));
    let own_server = matches!(provider.name, "keycloak" | "oidc" | "github" | "gitlab");
    if own_server && before.is_some() && before != now {
        let what = format!("The identity belongs to another issuer of {}", provider.name);
        return Err(Error::new(ErrorCode::BadOauthCallback, what));
    }
    Ok(())
}

fn refuse_banned(cx: &Cx, user: &User) -> Result<(), Error> {
    if user.is_banned(cx.now) {
        return Err(Error::new(ErrorCode::UserBanned, "User is banned").with_status(http::StatusCode::FORBIDDEN));
    }
    Ok(())
}

async fn add_identity(
    cx: &Cx,
    tx: &mut Tx,
    user_id: Uuid,
    provider: &Provider,
    profile: &Profile,
) -> Result<(), Error> {
    if identity_insert_in_tx(tx, user_id, provider.name, &profile.id, &profile.data, cx.now).await? {
        return Ok(());
    }
    Err(Error::new(ErrorCode::IdentityAlreadyExists, "Identity is already linked to another user"))
}

/// Removes what somebody set up under an address that they have not shown to be theirs; `keep` is the identity of the address
/// itself, where that is what shows it.
pub(crate) async fn clear(cx: &Cx, tx: &mut Tx, user: &User, keep: &str) -> Result<(), Error> {
    // What an administrator has noted of somebody whom they know is not the stranger's.
    let made_here = user.identities.iter().all(|identity| identity.provider == identity::EMAIL);
    let administrators = user.invited_at.is_some() || user.confirmation_sent_at.is_none() && made_here;
    let keys = user.raw_user_meta_data.iter().filter(|_| !administrators).flat_map(Map::keys);
    let forgotten: Map<String, Value> = keys.map(|key| (key.clone(), Value::Null)).collect();
    let change = UserChange { password_hash: Some(""), user_metadata: Some(&forgotten), ..UserChange::default() };
    users::user_update_in_tx(tx, user.id, &change, cx.now).await?;
    identity_delete_others_in_tx(tx, user.id, keep).await?;
    factor_delete_all_in_tx(tx, user.id).await?;
    passkey_delete_all_in_tx(tx, user.id).await?;
    session_delete_in_tx(tx, user.id, Ending::All).await?;
    let purposes = [
        Purpose::Confirmation,
        Purpose::Recovery,
        Purpose::Reauthentication,
        Purpose::EmailChangeNew,
        Purpose::EmailChangeCurrent,
        Purpose::PhoneChange,
    ];
    one_time_token_delete_in_tx(tx, user.id, &purposes).await
}

/// The user as they are after a sign-in: with what the provider says of them, and with the address confirmed if it is the
/// one that the provider has verified.
async fn arrived(cx: &Cx, tx: &mut Tx, user: &User, profile: &Profile, created: bool) -> Result<Arrival, Error> {
    let confirms = profile.email_verified && profile.email.as_deref() == user.email();
    let data = metadata(profile, profile.email.as_deref() == user.email());
    let change = UserChange { user_metadata: Some(&data), confirm_email: confirms, ..UserChange::default() };
    users::user_update_in_tx(tx, user.id, &change, cx.now).await?;
    users::user_providers_in_tx(tx, user.id).await?;
    let user = users::user_reload_in_tx(tx, user.id).await?;
    let settled = user.is_email_confirmed() || user.email().is_none();
    if !settled && !cx.settings().mailer_allow_unverified_email_sign_ins && !user.is_phone_confirmed() {
        return Err(Error::new(ErrorCode::EmailNotConfirmed, "Email not confirmed"));
    }
    Ok(Arrival { user, created })
}

async fn create(
    cx: &Cx,
    tx: &mut Tx,
    provider: &Provider,
    profile: &Profile,
    email_optional: bool,
) -> Result<Arrival, Error> {
    let settings = cx.settings();
    if settings.disable_signup {
        return Err(Error::new(ErrorCode::SignupDisabled, "Signups not allowed for this instance"));
    }
    let name = provider.name;
    let trusted = profile.email_verified || settings.mailer_autoconfirm;
    let email = match profile.email.as_deref() {
        None if email_optional => None,
        None => {
            let what = format!("Error getting user email from external provider {name}");
            return Err(Error::invalid(what));
        }
        Some(email) if trusted || settings.mailer_allow_unverified_email_sign_ins => Some(email),
        // The account needs no address, and this one is nobody's until it is verified.
        Some(_) if email_optional => None,
        Some(_) => return Err(unverified(name)),
    };
    let new = NewUser {
        id: session::new_id(),
        email,
        role: AUDIENCE,
        app_metadata: provider_metadata(name),
        user_metadata: metadata(profile, email.is_some()),
        email_confirmed: email.is_some() && trusted,
        ..NewUser::default()
    };
    before_user_created(cx, tx, &new).await?;
    if !users::user_insert_in_tx(tx, &new, cx.now).await? {
        // Somebody has the address, which this provider has not verified, or took it this very moment.
        return Err(unverified(name));
    }
    add_identity(cx, tx, new.id, provider, profile).await?;
    let user = users::user_reload_in_tx(tx, new.id).await?;
    audit::of_user(cx, tx, &user, Action::UserSignedUp, Some(json!({ "provider": name }))).await?;
    arrived(cx, tx, &user, profile, true).await
}

/// What applications read of a user; an address that is neither verified nor the user's has no place in it.
fn metadata(profile: &Profile, has_email: bool) -> Map<String, Value> {
    let mut data = profile.data.clone();
    if !profile.email_verified && !has_email {
        data.retain(|name, _| !matches!(name.as_str(), "email" | "email_verified"));
    }
    data
}

fn unverified(name: &str) -> Error {
    let what = format!("Unverified email with {name}. Verify the email with {name} in order to sign in");
    Error::new(ErrorCode::ProviderEmailNeedsVerification, what)
}

/// Gives a user who is signed in another way to sign in.
pub(crate) async fn link(
    cx: &Cx,
    tx: &mut Tx,
    target: Uuid,
    provider: &Provider,
    profile: &Profile,
) -> Result<Arrival, Error> {
    let user = users::user_lock_in_tx(tx, target).await?.filter(|user| user.deleted_at.is_none());
    let user = user.ok_or_else(|| Error::new(ErrorCode::UserNotFound, "User not found"))?;
    refuse_banned(cx, &user)?;
    if let Some(identity) = identity_find_in_tx(tx, provider.name, &profile.id).await? {
        let what = match identity.user_id == user.id {
            true => "Identity is already linked",
            false => "Identity is already linked to another user",
        };
        return Err(Error::new(ErrorCode::IdentityAlreadyExists, what));
    }
    add_identity(cx, tx, user.id, provider, profile).await?;
    // Who has no address gets the one that was verified, if nobody else has it.
    let email = match (user.email(), profile.email.as_deref().filter(|_| profile.email_verified)) {
        (None, Some(email)) if users::user_lock_by_email_in_tx(tx, email).await?.is_none() => Some(email),
        _ => None,
    };
    let data = metadata(profile, false);
    let change = UserChange {
        email,
        confirm_email: email.is_some(),
        is_anonymous: Some(false),
        user_metadata: Some(&data),
        ..UserChange::default()
    };
    users::user_update_in_tx(tx, user.id, &change, cx.now).await?;
    users::user_providers_in_tx(tx, user.id).await?;
    audit::of_user(cx, tx, &user, Action::IdentityLinked, Some(json!({ "provider": provider.name }))).await?;
    Ok(Arrival { user: users::user_reload_in_tx(tx, user.id).await?, created: false })
}
