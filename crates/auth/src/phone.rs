//! Accounts with a number: signing up with a password, and codes to sign in with.

use axum::response::Response;
use serde_json::{Map, Value, json};

use crate::audit::{self, Action};
use crate::cx::Cx;
use crate::error::{Error, ErrorCode};
use crate::identity::{self, phone_data};
use crate::one_time_token::Purpose;
use crate::response;
use crate::session::{self, method};
use crate::signup::{after_user_created, before_user_created, provider_metadata};
use crate::sms;
use crate::store::Tx;
use crate::store::identity::{identity_insert_in_tx, identity_update_in_tx};
use crate::store::user::{self as users, NewUser, UserChange};
use crate::user::{AUDIENCE, User};

pub(crate) fn require_enabled(cx: &Cx, what: &'static str) -> Result<(), Error> {
    if cx.settings().external_phone_enabled {
        return Ok(());
    }
    Err(Error::new(ErrorCode::PhoneProviderDisabled, what).with_status(http::StatusCode::BAD_REQUEST))
}

/// Makes an account with a number, or takes the one over that nobody has confirmed; none when somebody has it.
async fn request_account(
    cx: &Cx,
    tx: &mut Tx,
    phone: &str,
    password_hash: Option<&str>,
    data: &Map<String, Value>,
) -> Result<Option<(User, bool)>, Error> {
    let new = NewUser {
        id: session::new_id(),
        phone: Some(phone),
        password_hash,
        role: AUDIENCE,
        app_metadata: provider_metadata(identity::PHONE),
        user_metadata: data.clone(),
        ..NewUser::default()
    };
    before_user_created(cx, tx, &new).await?;
    if users::user_insert_in_tx(tx, &new, cx.now).await? {
        let own = phone_data(new.id, phone, false, data);
        identity_insert_in_tx(tx, new.id, identity::PHONE, &new.id.to_string(), &own, cx.now).await?;
        return Ok(Some((users::user_reload_in_tx(tx, new.id).await?, true)));
    }
    let user = users::user_lock_by_phone_in_tx(tx, phone).await?;
    match user.filter(|user| is_unclaimed(user) && !sms::waits(cx, user.confirmation_sent_at)) {
        Some(user) => {
            // Nothing stays of what somebody chose for a number that they have not shown to be theirs.
            let mut fresh = data.clone();
            for key in user.raw_user_meta_data.iter().flat_map(Map::keys) {
                fresh.entry(key.clone()).or_insert(Value::Null);
            }
            let hash = Some(password_hash.unwrap_or_default());
            let change = UserChange { password_hash: hash, user_metadata: Some(&fresh), ..UserChange::default() };
            users::user_update_in_tx(tx, user.id, &change, cx.now).await?;
            Ok(Some((users::user_reload_in_tx(tx, user.id).await?, false)))
        }
        None => Ok(None),
    }
}

/// As with addresses: nobody has ever been in the account, and nothing else is known of it.
fn is_unclaimed(user: &User) -> bool {
    !user.is_phone_confirmed()
        && user.deleted_at.is_none()
        && user.email().is_none()
        && user.last_sign_in_at.is_none()
        && user.factors.is_empty()
        && user.identities.iter().all(|identity| identity.provider == identity::PHONE)
}

/// `POST /signup` with a number.
pub(crate) async fn sign_up(
    cx: &Cx,
    phone: &str,
    password_hash: &str,
    data: Map<String, Value>,
) -> Result<Response, Error> {
    let autoconfirms = cx.settings().sms_autoconfirm;
    if !autoconfirms {
        sms::admit(cx, "confirmation", phone)?;
    }
    let mut tx = Tx::begin(&cx.pool).await?;
    let Some((user, created)) = request_account(cx, &mut tx, phone, Some(password_hash), &data).await? else {
        if autoconfirms {
            return Err(Error::new(ErrorCode::UserAlreadyExists, "User already registered"));
        }
        drop(tx);
        sms::decoy(cx).await?;
        return response::ok(&lookalike(cx, phone, data));
    };
    let traits = Some(json!({ "provider": identity::PHONE }));
    if !autoconfirms {
        audit::of_user(cx, &mut tx, &user, Action::UserConfirmationRequested, traits).await?;
        sms::send_code(cx, &mut tx, &user, phone, Purpose::Confirmation).await?;
        let user = users::user_reload_in_tx(&mut tx, user.id).await?;
        tx.commit().await?;
        if created {
            after_user_created(cx, &user).await?;
        }
        return response::ok(&user);
    }
    audit::of_user(cx, &mut tx, &user, Action::UserSignedUp, traits).await?;
    let user = confirm(cx, &mut tx, &user).await?;
    let view = session::begin(cx, &mut tx, &user, method::PASSWORD).await?;
    tx.commit().await?;
    if created {
        after_user_created(cx, &view.user).await?;
    }
    response::ok(&view)
}

async fn confirm(cx: &Cx, tx: &mut Tx, user: &User) -> Result<User, Error> {
    let change = UserChange { confirm_phone: true, ..UserChange::default() };
    users::user_update_in_tx(tx, user.id, &change, cx.now).await?;
    if let Value::Object(patch) = json!({ "phone_verified": true }) {
        identity_update_in_tx(tx, user.id, identity::PHONE, &patch, cx.now).await?;
    }
    users::user_reload_in_tx(tx, user.id).await
}

/// What a new user would look like, for a number that somebody has already.
fn lookalike(cx: &Cx, phone: &str, data: Map<String, Value>) -> Value {
    json!({
        "id": session::new_id(),
        "aud": AUDIENCE,
        "role": "",
        "email": "",
        "phone": phone,
        "confirmation_sent_at": cx.now,
        "app_metadata": provider_metadata(identity::PHONE),
        "user_metadata": data,
        "identities": [],
        "created_at": cx.now,
        "updated_at": cx.now,
        "is_anonymous": false,
    })
}

/// `POST /otp` with a number: a code to sign in with, for new users too.
pub(crate) async fn send_otp(
    cx: &Cx,
    phone: &str,
    creates: bool,
    data: &Map<String, Value>,
) -> Result<Response, Error> {
    sms::admit(cx, "otp", phone)?;
    let mut tx = Tx::begin(&cx.pool).await?;
    let known = users::user_lock_by_phone_in_tx(&mut tx, phone).await?;
    let known = known.filter(|user| user.deleted_at.is_none());
    let (user, created) = match known.filter(|user| user.is_phone_confirmed() || user.is_email_confirmed()) {
        Some(user) => (user, false),
        None if !creates => return Err(Error::new(ErrorCode::OtpDisabled, "Signups not allowed for otp")),
        None if cx.settings().disable_signup => {
            return Err(Error::new(ErrorCode::SignupDisabled, "Signups not allowed for this instance"));
        }
        None => {
            let made = request_account(cx, &mut tx, phone, None, data).await?;
            // Taken a moment ago, or asked for by another way: there is a message under way.
            let Some(made) = made else { return nothing_sent(cx, tx).await };
            made
        }
    };
    if sms::waits(cx, user.confirmation_sent_at) && !created {
        return nothing_sent(cx, tx).await;
    }
    audit::of_user(cx, &mut tx, &user, Action::UserRecoveryRequested, Some(json!({ "channel": "sms" }))).await?;
    sms::send_code(cx, &mut tx, &user, phone, Purpose::Confirmation).await?;
    let user = users::user_reload_in_tx(&mut tx, user.id).await?;
    tx.commit().await?;
    if created {
        after_user_created(cx, &user).await?;
    }
    response::empty_object()
}

/// `POST /resend` with a number: the answer does not tell whether somebody has it.
pub(crate) async fn resend(cx: &Cx, kind: &str, phone: &str) -> Result<Response, Error> {
    sms::admit(cx, "resend", phone)?;
    let mut tx = Tx::begin(&cx.pool).await?;
    let user = users::user_lock_by_phone_in_tx(&mut tx, phone).await?.filter(|user| user.deleted_at.is_none());
    match (kind, user) {
        ("sms", Some(user)) if !user.is_phone_confirmed() && !sms::waits(cx, user.confirmation_sent_at) => {
            audit::of_user(cx, &mut tx, &user, Action::UserConfirmationRequested, None).await?;
            sms::send_code(cx, &mut tx, &user, phone, Purpose::Confirmation).await?;
        }
        ("phone_change", Some(user)) if user.new_phone().is_some() && !sms::waits(cx, user.phone_change_sent_at) => {
            let new = user.new_phone().unwrap_or_default().to_owned();
            sms::send_code(cx, &mut tx, &user, &new, Purpose::PhoneChange).await?;
        }
        _ => return nothing_sent(cx, tx).await,
    }
    tx.commit().await?;
    response::empty_object()
}

/// The answer where there was no message to send, which does not tell so. Nobody waits for the connection meanwhile.
async fn nothing_sent(cx: &Cx, tx: Tx) -> Result<Response, Error> {
    drop(tx);
    sms::decoy(cx).await?;
    response::empty_object()
}
