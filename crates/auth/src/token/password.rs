//! `grant_type=password`: signing in with an address or a number and a password.

use std::time::Duration;

use base::Secret;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;
use uuid::Uuid;

use crate::audit::{self, Action};
use crate::contact;
use crate::cx::Cx;
use crate::error::{Error, ErrorCode};
use crate::hook;
use crate::identity;
use crate::password::{LONGEST, Verdict};
use crate::password_strength;
use crate::rate_limit::{Limit, network};
use crate::request;
use crate::response;
use crate::session::{self, method};
use crate::store::Tx;
use crate::store::session::{Ending, session_delete_in_tx, session_in_network_exists};
use crate::store::user::{self as users, UserChange};
use crate::user::User;

#[derive(Default, Deserialize)]
#[serde(default)]
struct PasswordParams {
    email: Option<String>,
    phone: Option<String>,
    password: Option<String>,
}

fn refused() -> Error {
    Error::new(ErrorCode::InvalidCredentials, "Invalid login credentials")
}

/// What a refusal takes at least: more than the slowest hash that an import may have brought.
const REFUSAL: Duration = Duration::from_millis(250);

pub(super) async fn sign_in(cx: &Cx, body: &Bytes) -> Result<axum::response::Response, Error> {
    let began = Instant::now();
    let result = try_sign_in(cx, body).await;
    if result.as_ref().is_err_and(|error| error.code() == ErrorCode::InvalidCredentials) {
        // Whoever is known may have another kind of hash, or a hook that is asked: the time must not tell.
        tokio::time::sleep_until(began + REFUSAL).await;
    }
    result
}

async fn try_sign_in(cx: &Cx, body: &Bytes) -> Result<axum::response::Response, Error> {
    let params: PasswordParams = request::params(body)?;
    let settings = cx.settings();
    let email = request::text("email", params.email.as_ref())?;
    let phone = request::text("phone", params.phone.as_ref())?;
    let password = params.password.clone().unwrap_or_default();
    let account = match (email, phone) {
        (Some(email), _) => contact::email_key(email),
        (None, phone) => contact::phone_key(phone.unwrap_or_default()),
    };
    let passwords = &cx.shared.passwords;
    let reserved = passwords.reserve(&cx.project.project_ref).await?;
    let (provider, user) = match (email, phone) {
        (Some(_), Some(_)) => {
            return Err(Error::invalid("Only an email address or phone number should be provided on login."));
        }
        (None, None) => return Err(Error::invalid("missing email or phone")),
        (Some(email), None) if settings.external_email_enabled => {
            (identity::EMAIL, users::user_by_email(&cx.pool, &contact::email_key(email)).await?)
        }
        (None, Some(phone)) if settings.external_phone_enabled => {
            (identity::PHONE, users::user_by_phone(&cx.pool, &contact::phone_key(phone)).await?)
        }
        (Some(_), None) => return Err(Error::new(ErrorCode::EmailProviderDisabled, "Email logins are disabled")),
        (None, Some(_)) => return Err(Error::new(ErrorCode::PhoneProviderDisabled, "Phone logins are disabled")),
    };
    let user = user.filter(|user| user.deleted_at.is_none());
    let counted = count_try(cx, account, user.as_ref()).await?;
    // Only wrong ones count in the end.
    let give_back = || cx.give_back(Limit::WrongPassword, &counted);
    // However the answer turns out, it has taken the time of a hash.
    let hash = user.as_ref().and_then(|user| user.encrypted_password.clone());
    let too_long = password.len() > LONGEST;
    let tried = if too_long { String::new() } else { password.clone() };
    let verdict = passwords.verify_at(reserved, Secret::new(tried), hash).await;
    let verdict = verdict.inspect_err(|_| give_back())?;
    let verdict = if too_long { Verdict::Wrong } else { verdict };
    let Some(user) = user else { return Err(refused()) };
    ask_hook(cx, &user, verdict != Verdict::Wrong).await?;
    if verdict == Verdict::Wrong {
        return Err(refused());
    }
    give_back();
    if user.is_banned(cx.now) {
        return Err(Error::new(ErrorCode::UserBanned, "User is banned"));
    }
    if provider == identity::EMAIL && !user.is_email_confirmed() && !settings.mailer_allow_unverified_email_sign_ins {
        return Err(Error::new(ErrorCode::EmailNotConfirmed, "Email not confirmed"));
    }
    if provider == identity::PHONE && !user.is_phone_confirmed() {
        return Err(Error::new(ErrorCode::PhoneNotConfirmed, "Phone not confirmed"));
    }
    let rehashed = match verdict {
        Verdict::RightButOld => Some(passwords.hash(&cx.project.project_ref, Secret::new(password.clone())).await?),
        _ => None,
    };
    let mut tx = Tx::begin(&cx.pool).await?;
    // The password may have been changed while it waited for its turn: then it is the old one, and lets nobody in.
    let verified = user.encrypted_password;
    let user = users::user_lock_in_tx(&mut tx, user.id).await?;
    let user = user.filter(|user| user.deleted_at.is_none() && user.encrypted_password == verified);
    let user = user.ok_or_else(refused)?;
    let change = UserChange { password_hash: rehashed.as_deref(), ..UserChange::default() };
    if rehashed.is_some() {
        users::user_update_in_tx(&mut tx, user.id, &change, cx.now).await?;
    }
    audit::of_user(cx, &mut tx, &user, Action::Login, Some(json!({ "provider": provider }))).await?;
    let mut view = session::begin(cx, &mut tx, &user, method::PASSWORD).await?;
    tx.commit().await?;
    view.weak_password =
        password_strength::check(settings, &password).err().and_then(|error| error.weak_password_view());
    response::ok(&view)
}

/// Counts a try of an account's password, and returns as what it counts. Whoever has no account has a limit too. Where the
/// account's user is signed in tries count apart: nobody keeps the owner out by guessing.
async fn count_try(cx: &Cx, account: String, user: Option<&User>) -> Result<String, Error> {
    let Err(refusal) = cx.limit_subject(Limit::WrongPassword, &account) else { return Ok(account) };
    // Asked for nobody, too: the time tells nothing.
    let id = user.map_or(Uuid::nil(), |user| user.id);
    if !session_in_network_exists(&cx.pool, id, cx.client_ip, cx.now).await? {
        return Err(refusal);
    }
    let own = format!("{account} {}", network(cx.client_ip));
    cx.limit_subject(Limit::WrongPassword, &own)?;
    Ok(own)
}

/// The project may refuse a try, whatever came of it (GoTrue's password verification hook).
async fn ask_hook(cx: &Cx, user: &User, valid: bool) -> Result<(), Error> {
    let Some(asked) = cx.settings().hook("password_verification_attempt") else { return Ok(()) };
    let event = json!({ "user_id": user.id, "valid": valid });
    let mut tx = Tx::begin(&cx.pool).await?;
    let output = hook::run(cx, Some(&mut tx), "password_verification_attempt", asked, &event).await?;
    let rejected = output["decision"] == "reject";
    if rejected && output["should_logout_user"] == true {
        session_delete_in_tx(&mut tx, user.id, Ending::All).await?;
    }
    tx.commit().await?;
    if !rejected {
        return Ok(());
    }
    let message = output["message"].as_str().filter(|text| !text.is_empty());
    let message = message.unwrap_or("Further password verification attempts will be rejected.").to_owned();
    Err(Error::new(ErrorCode::InvalidCredentials, message))
}
