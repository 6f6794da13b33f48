//! Making and changing users.

use axum::response::Response;
use base::Secret;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::ban;
use crate::admin::{id_of, user_not_found};
use crate::audit::{self, Action};
use crate::contact;
use crate::cx::Cx;
use crate::error::Error;
use crate::identity;
use crate::password;
use crate::password_strength;
use crate::request;
use crate::response;
use crate::session;
use crate::signup::confirm_email;
use crate::store::Tx;
use crate::store::identity::{identity_insert_in_tx, identity_update_in_tx};
use crate::store::session::{Ending, session_delete_in_tx};
use crate::store::user::{self as store, NewUser, UserChange};
use crate::timestamp::Timestamp;
use crate::user::{AUDIENCE, User};

#[derive(Default, Deserialize)]
#[serde(default)]
struct UserParams {
    id: Option<String>,
    role: Option<String>,
    email: Option<String>,
    phone: Option<String>,
    password: Option<String>,
    password_hash: Option<String>,
    email_confirm: Option<bool>,
    phone_confirm: Option<bool>,
    user_metadata: Option<Map<String, Value>>,
    app_metadata: Option<Map<String, Value>>,
    ban_duration: Option<String>,
}

/// The parameters, checked.
struct Wanted<'a> {
    email: Option<String>,
    phone: Option<String>,
    role: Option<&'a str>,
    /// None inside ends a ban.
    banned_until: Option<Option<Timestamp>>,
}

impl UserParams {
    fn check(&self, cx: &Cx) -> Result<Wanted<'_>, Error> {
        let email = request::text("email", self.email.as_ref())?.map(|email| contact::email(Some(email)));
        let phone = request::text("phone", self.phone.as_ref())?.map(|phone| contact::phone(Some(phone)));
        let ban = request::text("ban_duration", self.ban_duration.as_ref())?.map(ban::seconds).transpose()?;
        Ok(Wanted {
            email: email.transpose()?,
            phone: phone.transpose()?,
            role: request::text("role", self.role.as_ref())?,
            banned_until: ban.map(|seconds| (seconds > 0).then(|| cx.now.plus_seconds(seconds))),
        })
    }

    /// The hash to store, of a password or as it was given.
    async fn hash(&self, cx: &Cx) -> Result<Option<String>, Error> {
        let given = request::text("password_hash", self.password_hash.as_ref())?;
        let password = self.password.as_deref().filter(|password| !password.is_empty());
        match (password, given) {
            (Some(_), Some(_)) => Err(Error::invalid("Only a password or a password hash should be provided")),
            (None, Some(hash)) if password::is_supported_hash(hash) => Ok(Some(hash.to_owned())),
            (None, Some(_)) => Err(Error::invalid("password_hash must be a bcrypt or Argon2 hash of a bounded cost")),
            (Some(password), None) => {
                password_strength::check(cx.settings(), password)?;
                cx.shared.passwords.hash(&cx.project.project_ref, Secret::new(password.to_owned())).await.map(Some)
            }
            (None, None) => Ok(None),
        }
    }
}

pub(crate) async fn create_user(cx: &Cx, body: &Bytes) -> Result<Response, Error> {
    let params: UserParams = request::params(body)?;
    let wanted = params.check(cx)?;
    let providers: Vec<&str> =
        [wanted.email.as_ref().map(|_| identity::EMAIL), wanted.phone.as_ref().map(|_| identity::PHONE)]
            .into_iter()
            .flatten()
            .collect();
    let Some(first) = providers.first() else {
        return Err(Error::invalid("Cannot create a user without either an email or phone"));
    };
    let id = match request::text("id", params.id.as_ref())? {
        None => session::new_id(),
        Some(text) => {
            let id = Uuid::parse_str(text).ok();
            let id = id.ok_or_else(|| Error::invalid("ID must conform to the uuid v4 format"))?;
            if id.is_nil() {
                return Err(Error::invalid("ID cannot be a nil uuid"));
            }
            id
        }
    };
    let hash = params.hash(cx).await?;
    let mut app_metadata = Map::new();
    app_metadata.insert("provider".to_owned(), json!(first));
    app_metadata.insert("providers".to_owned(), json!(providers));
    app_metadata.extend(params.app_metadata.clone().unwrap_or_default());
    let new = NewUser {
        id,
        email: wanted.email.as_deref(),
        phone: wanted.phone.as_deref(),
        password_hash: hash.as_deref(),
        role: wanted.role.unwrap_or(AUDIENCE),
        app_metadata,
        user_metadata: params.user_metadata.clone().unwrap_or_default(),
        phone_confirmed: params.phone_confirm == Some(true) && wanted.phone.is_some(),
        banned_until: wanted.banned_until.flatten(),
        ..NewUser::default()
    };
    let mut tx = Tx::begin(&cx.pool).await?;
    if !store::user_insert_in_tx(&mut tx, &new, cx.now).await? {
        // Its connection first: whoever holds one and waits for another may wait for ever.
        drop(tx);
        return Err(taken(cx, &new).await?);
    }
    if let Some(email) = new.email {
        let data = identity::email_data(id, email, false, &Map::new());
        identity_insert_in_tx(&mut tx, id, identity::EMAIL, &id.to_string(), &data, cx.now).await?;
    }
    if let Some(phone) = new.phone {
        let data = identity::phone_data(id, phone, new.phone_confirmed, &Map::new());
        identity_insert_in_tx(&mut tx, id, identity::PHONE, &id.to_string(), &data, cx.now).await?;
    }
    let mut user = store::user_reload_in_tx(&mut tx, id).await?;
    if params.email_confirm == Some(true) && new.email.is_some() {
        user = confirm_email(cx, &mut tx, &user).await?;
    }
    let mut traits = audit::about(&user);
    traits["provider"] = json!(first);
    audit::of_admin(cx, &mut tx, Action::UserSignedUp, traits).await?;
    tx.commit().await?;
    response::ok(&user)
}

/// Which of the new user's names somebody else has.
async fn taken(cx: &Cx, new: &NewUser<'_>) -> Result<Error, Error> {
    if let Some(email) = new.email
        && store::user_by_email(&cx.pool, email).await?.is_some()
    {
        return Ok(store::email_exists());
    }
    if let Some(phone) = new.phone
        && store::user_by_phone(&cx.pool, phone).await?.is_some()
    {
        return Ok(Error::new(crate::error::ErrorCode::PhoneExists, "Phone number already registered by another user"));
    }
    Ok(Error::new(crate::error::ErrorCode::Conflict, "A user with this ID already exists"))
}

pub(crate) async fn update_user(cx: &Cx, id: &str, body: &Bytes) -> Result<Response, Error> {
    let id = id_of("user_id", id)?;
    let params: UserParams = request::params(body)?;
    let wanted = params.check(cx)?;
    let hash = params.hash(cx).await?;
    let mut tx = Tx::begin(&cx.pool).await?;
    let user = store::user_lock_in_tx(&mut tx, id).await?.ok_or_else(user_not_found)?;
    let change = UserChange {
        email: wanted.email.as_deref(),
        phone: wanted.phone.as_deref(),
        password_hash: hash.as_deref(),
        role: wanted.role,
        app_metadata: params.app_metadata.as_ref(),
        user_metadata: params.user_metadata.as_ref(),
        confirm_phone: params.phone_confirm == Some(true),
        banned_until: wanted.banned_until,
        is_anonymous: becomes_permanent(&params, &wanted).then_some(false),
        ..UserChange::default()
    };
    store::user_update_in_tx(&mut tx, id, &change, cx.now).await?;
    if hash.is_some() {
        session_delete_in_tx(&mut tx, id, Ending::All).await?;
    }
    put_identities(cx, &mut tx, &user, &params, &wanted).await?;
    let mut user = store::user_reload_in_tx(&mut tx, id).await?;
    if params.email_confirm == Some(true) && user.email().is_some() {
        user = confirm_email(cx, &mut tx, &user).await?;
    }
    audit::of_admin(cx, &mut tx, Action::UserModified, audit::about(&user)).await?;
    tx.commit().await?;
    response::ok(&user)
}

fn becomes_permanent(params: &UserParams, wanted: &Wanted<'_>) -> bool {
    wanted.email.is_some() && params.email_confirm == Some(true)
        || wanted.phone.is_some() && params.phone_confirm == Some(true)
}

/// A new address or number is what the user's identity of that kind has, too.
async fn put_identities(
    cx: &Cx,
    tx: &mut Tx,
    user: &User,
    params: &UserParams,
    wanted: &Wanted<'_>,
) -> Result<(), Error> {
    let id = user.id.to_string();
    if let Some(email) = &wanted.email {
        let verified = params.email_confirm == Some(true);
        let data = identity::email_data(user.id, email, verified, &Map::new());
        put(cx, tx, user, identity::EMAIL, &id, &data).await?;
    }
    if let Some(phone) = &wanted.phone {
        let verified = params.phone_confirm == Some(true);
        let data = identity::phone_data(user.id, phone, verified, &Map::new());
        put(cx, tx, user, identity::PHONE, &id, &data).await?;
    }
    store::user_providers_in_tx(tx, user.id).await
}

async fn put(
    cx: &Cx,
    tx: &mut Tx,
    user: &User,
    provider: &str,
    id: &str,
    data: &Map<String, Value>,
) -> Result<(), Error> {
    if user.identity(provider).is_some() {
        return identity_update_in_tx(tx, user.id, provider, data, cx.now).await;
    }
    identity_insert_in_tx(tx, user.id, provider, id, data, cx.now).await.map(drop)
}
