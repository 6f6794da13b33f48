//! `POST /admin/generate_link`: the link and code of a mail, for who sends it themselves.

use axum::response::Response;
use base::Secret;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::user_not_found;
use crate::audit::{self, Action};
use crate::contact;
use crate::cx::Cx;
use crate::error::Error;
use crate::identity;
use crate::invite::invited;
use crate::mail::action_link;
use crate::one_time_token::{OneTimeToken, Purpose};
use crate::password_strength;
use crate::redirect;
use crate::request;
use crate::response;
use crate::session;
use crate::signup::{after_user_created, before_user_created, provider_metadata};
use crate::store::Tx;
use crate::store::identity::identity_insert_in_tx;
use crate::store::one_time_token::one_time_token_put_in_tx;
use crate::store::user::{self as store, NewUser, Sent, UserChange};
use crate::user::{AUDIENCE, User};

#[derive(Default, Deserialize)]
#[serde(default)]
struct LinkParams {
    #[serde(rename = "type")]
    kind: Option<String>,
    email: Option<String>,
    new_email: Option<String>,
    password: Option<String>,
    data: Option<Map<String, Value>>,
    redirect_to: Option<String>,
}

/// A link to make: its user, what it is for, and where it is to be sent.
struct Target {
    user: User,
    created: bool,
    purpose: Purpose,
    address: String,
    /// The `type` in the answer.
    verification: &'static str,
}

pub(super) async fn generate_link(cx: &Cx, body: &Bytes) -> Result<Response, Error> {
    let params: LinkParams = request::params(body)?;
    let email = contact::email(params.email.as_deref())?;
    let redirect_to = match params.redirect_to.as_deref() {
        Some(asked) if redirect::is_allowed(cx.settings(), asked) => asked.to_owned(),
        _ => cx.redirect_to(),
    };
    let kind = params.kind.as_deref().unwrap_or_default();
    // Nothing slow, and no second connection, while a row is locked.
    let hash = match kind {
        "signup" => signup_password(cx, store::user_by_email(&cx.pool, &email).await?.as_ref(), &params).await?,
        _ => None,
    };
    let mut tx = Tx::begin(&cx.pool).await?;
    let user = store::user_lock_by_email_in_tx(&mut tx, &email).await?;
    let target = match (kind, user) {
        ("magiclink", Some(user)) => recovery(cx, &mut tx, user, &email, "magiclink").await?,
        ("recovery", Some(user)) => recovery(cx, &mut tx, user, &email, "recovery").await?,
        ("magiclink", None) => signup(cx, &mut tx, None, &email, None, &params).await?,
        ("signup", user) => signup(cx, &mut tx, user, &email, hash, &params).await?,
        ("invite", _) => {
            let (user, created) = invited(cx, &mut tx, &email, params.data.clone().unwrap_or_default()).await?;
            store::user_sent_in_tx(&mut tx, user.id, Sent::Invite, cx.now).await?;
            Target { user, created, purpose: Purpose::Confirmation, address: email.clone(), verification: "invite" }
        }
        ("email_change_current" | "email_change_new", Some(user)) => {
            email_change(cx, &mut tx, user, kind, &params).await?
        }
        ("recovery" | "email_change_current" | "email_change_new", None) => {
            return Err(user_not_found().with_message("User with this email not found"));
        }
        _ => {
            let what = format!("Invalid email action link type requested: {kind}");
            return Err(Error::invalid(what));
        }
    };
    let token = OneTimeToken::generate(cx, &target.address, cx.settings().mailer_otp_length, false);
    one_time_token_put_in_tx(&mut tx, target.user.id, target.purpose, &token.stored, &target.address, cx.now).await?;
    let user = store::user_reload_in_tx(&mut tx, target.user.id).await?;
    tx.commit().await?;
    if target.created {
        after_user_created(cx, &user).await?;
    }
    let verification = target.verification;
    let link_type = if verification.starts_with("email_change") { "email_change" } else { verification };
    let mut view = serde_json::to_value(&user).map_err(|error| Error::internal("Error encoding the user", error))?;
    let link = json!({
        "action_link": action_link(cx, &token.token, link_type, &redirect_to),
        "email_otp": token.code,
        "hashed_token": token.token,
        "verification_type": verification,
        "redirect_to": redirect_to,
    });
    if let (Value::Object(view), Value::Object(link)) = (&mut view, link) {
        view.extend(link);
    }
    response::ok(&view)
}

async fn recovery(cx: &Cx, tx: &mut Tx, user: User, email: &str, verification: &'static str) -> Result<Target, Error> {
    audit::of_user(cx, tx, &user, Action::UserRecoveryRequested, None).await?;
    store::user_sent_in_tx(tx, user.id, Sent::Recovery, cx.now).await?;
    Ok(Target { user, created: false, purpose: Purpose::Recovery, address: email.to_owned(), verification })
}

async fn signup_password(cx: &Cx, user: Option<&User>, params: &LinkParams) -> Result<Option<String>, Error> {
    if user.is_some() {
        return Ok(None);
    }
    let password = params.password.as_deref().filter(|password| !password.is_empty());
    let password = password.ok_or_else(|| Error::invalid("Signup requires a valid password"))?;
    password_strength::check(cx.settings(), password)?;
    cx.shared.passwords.hash(&cx.project.project_ref, Secret::new(password.to_owned())).await.map(Some)
}

async fn signup(
    cx: &Cx,
    tx: &mut Tx,
    user: Option<User>,
    email: &str,
    hash: Option<String>,
    params: &LinkParams,
) -> Result<Target, Error> {
    let data = params.data.clone().unwrap_or_default();
    let (user, created) = match user {
        Some(user) if user.is_email_confirmed() => return Err(store::email_exists()),
        Some(user) => {
            let change = UserChange { user_metadata: Some(&data), ..UserChange::default() };
            store::user_update_in_tx(tx, user.id, &change, cx.now).await?;
            (user, false)
        }
        None => {
            let new = NewUser {
                id: session::new_id(),
                email: Some(email),
                password_hash: hash.as_deref(),
                role: AUDIENCE,
                app_metadata: provider_metadata(identity::EMAIL),
                user_metadata: data,
                ..NewUser::default()
            };
            before_user_created(cx, tx, &new).await?;
            if !store::user_insert_in_tx(tx, &new, cx.now).await? {
                return Err(store::email_exists());
            }
            let data = identity::email_data(new.id, email, false, &Map::new());
            identity_insert_in_tx(tx, new.id, identity::EMAIL, &new.id.to_string(), &data, cx.now).await?;
            (store::user_reload_in_tx(tx, new.id).await?, true)
        }
    };
    store::user_sent_in_tx(tx, user.id, Sent::Confirmation, cx.now).await?;
    let address = email.to_owned();
    Ok(Target { user, created, purpose: Purpose::Confirmation, address, verification: "signup" })
}

async fn email_change(cx: &Cx, tx: &mut Tx, user: User, kind: &str, params: &LinkParams) -> Result<Target, Error> {
    let current = kind == "email_change_current";
    if current && !cx.settings().mailer_secure_email_change_enabled {
        return Err(Error::invalid("Enable secure email change to generate link for current email"));
    }
    let new_email = contact::email(params.new_email.as_deref())?;
    if store::user_lock_by_email_in_tx(tx, &new_email).await?.is_some_and(|other| other.id != user.id) {
        return Err(store::email_exists());
    }
    // The second link of a pair goes on with the change that the first began.
    if user.new_email() != Some(&new_email) {
        store::user_sent_in_tx(tx, user.id, Sent::EmailChange(&new_email), cx.now).await?;
    }
    let address = if current { user.email().unwrap_or_default().to_owned() } else { new_email };
    let (purpose, verification) = if current {
        (Purpose::EmailChangeCurrent, "email_change_current")
    } else {
        (Purpose::EmailChangeNew, "email_change_new")
    };
    Ok(Target { user, created: false, purpose, address, verification })
}
