//! `PUT /user`: what users change of their own. The app metadata is not among it.

use base::Secret;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::User;
use crate::audit::{self, Action};
use crate::authenticate::SignedIn;
use crate::contact;
use crate::cx::Cx;
use crate::error::{Error, ErrorCode};
use crate::identity;
use crate::mail;
use crate::one_time_token::Purpose;
use crate::password::Verdict;
use crate::password_strength;
use crate::pkce::Challenge;
use crate::reauthenticate::check_nonce;
use crate::request;
use crate::response;
use crate::session::method;
use crate::sms;
use crate::store::Tx;
use crate::store::session::{Ending, Session, session_delete_in_tx};
use crate::store::user::{self as store, UserChange};
use crate::verify::change_email;

/// A session younger than this needs no nonce to change a password, in seconds.
const RECENT: i64 = 24 * 3600;

#[derive(Default, Deserialize)]
#[serde(default)]
struct UpdateParams {
    email: Option<String>,
    phone: Option<String>,
    password: Option<String>,
    nonce: Option<String>,
    data: Option<Map<String, Value>>,
    app_metadata: Option<Value>,
    code_challenge: Option<String>,
    code_challenge_method: Option<String>,
}

/// What the parameters ask for, checked as far as one can without the database.
struct Wanted<'a> {
    /// Only if it is another one.
    email: Option<String>,
    phone: Option<String>,
    password: Option<&'a str>,
    nonce: Option<&'a str>,
    data: Option<&'a Map<String, Value>>,
    challenge: Option<Challenge<'a>>,
}

pub(crate) async fn update_user(cx: &Cx, body: &Bytes) -> Result<axum::response::Response, Error> {
    let params: UpdateParams = request::params(body)?;
    let signed_in = SignedIn::of(cx).await?;
    let (user, session) = (&signed_in.user, &signed_in.session);
    let wanted = check(cx, &params, user, session.as_ref())?;
    let hash = match wanted.password {
        Some(password) => Some(new_password(cx, user, password).await?),
        None => None,
    };
    if let Some(email) = &wanted.email {
        let other = store::user_by_email(&cx.pool, email).await?;
        if other.is_some_and(|other| other.id != user.id) {
            return Err(store::email_exists());
        }
    }
    let mut tx = Tx::begin(&cx.pool).await?;
    let user = signed_in.lock(&mut tx).await?;
    if let Some(hash) = &hash {
        require_recent(cx, &mut tx, &user, session.as_ref(), wanted.nonce).await?;
        let change = UserChange { password_hash: Some(hash), ..UserChange::default() };
        store::user_update_in_tx(&mut tx, user.id, &change, cx.now).await?;
        // Whoever else is signed in knew the old one.
        let ending = session.as_ref().map_or(Ending::All, |session| Ending::AllBut(session.id));
        session_delete_in_tx(&mut tx, user.id, ending).await?;
        audit::of_user(cx, &mut tx, &user, Action::UserUpdatedPassword, None).await?;
    }
    if let Some(data) = wanted.data {
        let change = UserChange { user_metadata: Some(data), ..UserChange::default() };
        store::user_update_in_tx(&mut tx, user.id, &change, cx.now).await?;
    }
    if let Some(email) = &wanted.email {
        new_email(cx, &mut tx, &user, email, wanted.challenge).await?;
    }
    if let Some(phone) = &wanted.phone {
        new_phone(cx, &mut tx, &user, phone).await?;
    }
    audit::of_user(cx, &mut tx, &user, Action::UserModified, None).await?;
    let user = store::user_reload_in_tx(&mut tx, user.id).await?;
    tx.commit().await?;
    response::ok(&user)
}

fn check<'a>(cx: &Cx, params: &'a UpdateParams, user: &User, session: Option<&Session>) -> Result<Wanted<'a>, Error> {
    if params.app_metadata.as_ref().is_some_and(|value| !value.is_null()) {
        return Err(Error::new(ErrorCode::NotAdmin, "Updating app_metadata requires admin privileges"));
    }
    let email = request::text("email", params.email.as_ref())?.map(|email| contact::email(Some(email))).transpose()?;
    let phone = request::text("phone", params.phone.as_ref())?.map(|phone| contact::phone(Some(phone))).transpose()?;
    let (email, phone) =
        (email.filter(|email| user.email() != Some(email)), phone.filter(|phone| user.phone() != Some(phone)));
    // An empty password is not a wish for none.
    let password = params.password.as_deref().filter(|password| !password.is_empty());
    if let Some(password) = params.password.as_deref() {
        password_strength::check(cx.settings(), password)?;
    }
    let sensitive = password.is_some() || email.is_some() || phone.is_some();
    if sensitive && user.has_mfa() && !session.is_some_and(Session::is_aal2) {
        let what = "AAL2 session is required to update email or password when MFA is enabled.";
        return Err(Error::new(ErrorCode::InsufficientAal, what));
    }
    if user.is_anonymous && password.is_some() && email.is_none() && phone.is_none() {
        let what = "Updating password of an anonymous user without an email or phone is not allowed";
        return Err(Error::invalid(what).with_status(http::StatusCode::UNPROCESSABLE_ENTITY));
    }
    if user.is_sso_user && (sensitive || params.nonce.as_deref().is_some_and(|nonce| !nonce.is_empty())) {
        let what = "Updating email, phone, password of a SSO account only possible via SSO";
        return Err(Error::new(ErrorCode::UserSsoManaged, what));
    }
    Ok(Wanted {
        email,
        phone,
        password,
        nonce: request::text("nonce", params.nonce.as_ref())?,
        data: params.data.as_ref(),
        challenge: Challenge::read(params.code_challenge.as_ref(), params.code_challenge_method.as_ref())?,
    })
}

/// The hash of a new password, which must not be the old one.
async fn new_password(cx: &Cx, user: &User, password: &str) -> Result<String, Error> {
    let secret = || Secret::new(password.to_owned());
    if user.has_password() {
        let verdict =
            cx.shared.passwords.verify(&cx.project.project_ref, secret(), user.encrypted_password.clone()).await?;
        if verdict != Verdict::Wrong {
            let what = "New password should be different from the old password.";
            return Err(Error::new(ErrorCode::SamePassword, what));
        }
    }
    cx.shared.passwords.hash(&cx.project.project_ref, secret()).await
}

async fn require_recent(
    cx: &Cx,
    tx: &mut Tx,
    user: &User,
    session: Option<&Session>,
    nonce: Option<&str>,
) -> Result<(), Error> {
    if !cx.settings().security_update_password_require_reauthentication {
        return Ok(());
    }
    let began = session.and_then(|session| session.created_at);
    if began.is_some_and(|began| cx.now.seconds_since(began) <= RECENT) {
        return Ok(());
    }
    let Some(nonce) = nonce else {
        let what = "Password update requires reauthentication";
        return Err(Error::new(ErrorCode::ReauthenticationNeeded, what));
    };
    check_nonce(cx, tx, user, nonce).await
}

async fn new_email(
    cx: &Cx,
    tx: &mut Tx,
    user: &User,
    email: &str,
    challenge: Option<Challenge<'_>>,
) -> Result<(), Error> {
    // Like a sign-up: permanent users always confirm a change.
    if user.is_anonymous && cx.settings().mailer_autoconfirm {
        return change_email(cx, tx, user, email).await;
    }
    mail::check_frequency(cx, user.email_change_sent_at)?;
    if let Some(challenge) = challenge {
        challenge.begin(cx, tx, user.id, identity::EMAIL, method::EMAIL_CHANGE).await?;
    }
    mail::send_email_change(cx, tx, user, email, challenge.is_some()).await
}

async fn new_phone(cx: &Cx, tx: &mut Tx, user: &User, phone: &str) -> Result<(), Error> {
    crate::phone::require_enabled(cx, "Phone logins are disabled")?;
    if cx.settings().sms_autoconfirm {
        return crate::verify::change_phone(cx, tx, user, phone).await;
    }
    sms::send_code(cx, tx, user, phone, Purpose::PhoneChange).await
}
