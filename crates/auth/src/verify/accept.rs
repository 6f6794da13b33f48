//! What a token is for, done: an address confirmed, a change agreed to.

use serde_json::{Map, Value, json};

use super::Kind;
use crate::account;
use crate::audit::{self, Action};
use crate::cx::Cx;
use crate::error::Error;
use crate::identity::{self, email_data};
use crate::one_time_token::Purpose;
use crate::signup::confirm_email;
use crate::store::Tx;
use crate::store::identity::{identity_insert_in_tx, identity_update_in_tx};
use crate::store::one_time_token::{Taken, one_time_token_delete_in_tx};
use crate::store::user::{self as users, UserChange};
use crate::user::User;

/// What came of a token.
pub(crate) enum Accepted {
    /// The user, and what the token was for.
    User(Box<User>, Kind),
    /// A change of address needs the other one's consent too.
    FirstOfTwo,
}

pub(super) async fn accept(cx: &Cx, tx: &mut Tx, user: &User, kind: Kind, taken: &Taken) -> Result<Accepted, Error> {
    match taken.purpose {
        Purpose::Confirmation | Purpose::Recovery if !taken.relates_to.contains('@') => {
            phone(cx, tx, user).await?;
        }
        Purpose::Confirmation => confirmation(cx, tx, user).await?,
        Purpose::Recovery => recovery(cx, tx, user).await?,
        Purpose::EmailChangeNew | Purpose::EmailChangeCurrent => {
            let secure = cx.settings().mailer_secure_email_change_enabled && user.email().is_some();
            if secure && user.email_change_confirm_status.unwrap_or_default() == 0 {
                users::user_email_change_agreed_in_tx(tx, user.id, cx.now).await?;
                return Ok(Accepted::FirstOfTwo);
            }
            change_email(cx, tx, user, user.new_email().unwrap_or_default()).await?;
        }
        Purpose::PhoneChange => {
            change_phone(cx, tx, user, user.new_phone().unwrap_or_default()).await?;
        }
        Purpose::Reauthentication => {}
    }
    users::user_providers_in_tx(tx, user.id).await?;
    let kind = match (kind, taken.purpose) {
        (Kind::Email, Purpose::Recovery) => Kind::MagicLink,
        (Kind::Email, _) => Kind::Signup,
        (kind, _) => kind,
    };
    Ok(Accepted::User(Box::new(users::user_reload_in_tx(tx, user.id).await?), kind))
}

async fn confirmation(cx: &Cx, tx: &mut Tx, user: &User) -> Result<(), Error> {
    audit::of_user(cx, tx, user, Action::UserSignedUp, Some(json!({ "provider": identity::EMAIL }))).await?;
    confirm_email(cx, tx, user).await.map(drop)
}

async fn recovery(cx: &Cx, tx: &mut Tx, user: &User) -> Result<(), Error> {
    if user.is_email_confirmed() {
        return audit::of_user(cx, tx, user, Action::Login, None).await;
    }
    // Whoever chose the password, and whatever else there is, had not shown that the address is theirs; who reads its mail
    // has.
    // Who has shown a phone has shown who they are.
    if user.is_phone_confirmed() {
        one_time_token_delete_in_tx(tx, user.id, &[Purpose::Confirmation]).await?;
    } else {
        account::clear(cx, tx, user, identity::EMAIL).await?;
    }
    let user = &users::user_reload_in_tx(tx, user.id).await?;
    confirmation(cx, tx, user).await
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// The new address counts from now on, with an identity of its own if there was none.
pub(crate) async fn change_email(cx: &Cx, tx: &mut Tx, user: &User, email: &str) -> Result<(), Error> {
    audit::of_user(cx, tx, user, Action::UserModified, None).await?;
    if user.identity(identity::EMAIL).is_some() {
        let patch = object(json!({ "email": email, "email_verified": true }));
        identity_update_in_tx(tx, user.id, identity::EMAIL, &patch, cx.now).await?;
    } else {
        let data = email_data(user.id, email, true, &Map::new());
        identity_insert_in_tx(tx, user.id, identity::EMAIL, &user.id.to_string(), &data, cx.now).await?;
    }
    let verified = object(json!({ "email_verified": true }));
    let change = UserChange {
        email: Some(email),
        confirm_email: true,
        is_anonymous: Some(false),
        clear_email_change: true,
        user_metadata: Some(&verified),
        ..UserChange::default()
    };
    users::user_update_in_tx(tx, user.id, &change, cx.now).await?;
    // What was sent to the old address is for nobody any more.
    let stale = [Purpose::EmailChangeNew, Purpose::EmailChangeCurrent, Purpose::Recovery, Purpose::Reauthentication];
    one_time_token_delete_in_tx(tx, user.id, &stale).await?;
    users::user_providers_in_tx(tx, user.id).await
}

async fn phone(cx: &Cx, tx: &mut Tx, user: &User) -> Result<(), Error> {
    audit::of_user(cx, tx, user, Action::UserSignedUp, Some(json!({ "provider": identity::PHONE }))).await?;
    let change = UserChange { confirm_phone: true, is_anonymous: Some(false), ..UserChange::default() };
    users::user_update_in_tx(tx, user.id, &change, cx.now).await?;
    let patch = object(json!({ "phone_verified": true }));
    identity_update_in_tx(tx, user.id, identity::PHONE, &patch, cx.now).await
}

/// The new number counts from now on.
pub(crate) async fn change_phone(cx: &Cx, tx: &mut Tx, user: &User, phone: &str) -> Result<(), Error> {
    audit::of_user(cx, tx, user, Action::UserModified, None).await?;
    if user.identity(identity::PHONE).is_some() {
        let patch = object(json!({ "phone": phone, "phone_verified": true }));
        identity_update_in_tx(tx, user.id, identity::PHONE, &patch, cx.now).await?;
    } else {
        let data = identity::phone_data(user.id, phone, true, &Map::new());
        identity_insert_in_tx(tx, user.id, identity::PHONE, &user.id.to_string(), &data, cx.now).await?;
    }
    let change = UserChange {
        phone: Some(phone),
        confirm_phone: true,
        is_anonymous: Some(false),
        clear_phone_change: true,
        ..UserChange::default()
    };
    users::user_update_in_tx(tx, user.id, &change, cx.now).await?;
    users::user_providers_in_tx(tx, user.id).await
}
