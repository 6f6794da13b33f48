//! `POST /signup`: new users with an address and a password, and anonymous ones.

mod anonymous;

use base::Secret;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::audit::{self, Action};
use crate::contact;
use crate::cx::Cx;
use crate::error::{Error, ErrorCode};
use crate::even_time::even;
use crate::hook;
use crate::identity::{self, email_data};
use crate::mail;
use crate::password_strength;
use crate::phone;
use crate::pkce::Challenge;
use crate::request;
use crate::response;
use crate::session::{self, method};
use crate::store::Tx;
use crate::store::identity::{identity_insert_in_tx, identity_update_in_tx};
use crate::store::user::{self as store, NewUser, UserChange};
use crate::user::{AUDIENCE, User};

#[derive(Default, Deserialize)]
#[serde(default)]
struct SignupParams {
    email: Option<String>,
    phone: Option<String>,
    password: Option<String>,
    data: Option<Map<String, Value>>,
    code_challenge: Option<String>,
    code_challenge_method: Option<String>,
}

pub(crate) async fn sign_up(cx: &Cx, body: &Bytes) -> Result<axum::response::Response, Error> {
    let params: SignupParams = request::params(body)?;
    let settings = cx.settings();
    let email = request::text("email", params.email.as_ref())?;
    let phone = request::text("phone", params.phone.as_ref())?;
    if email.is_none() && phone.is_none() {
        return anonymous::sign_up(cx, params.data.unwrap_or_default()).await;
    }
    if settings.disable_signup {
        return Err(Error::new(ErrorCode::SignupDisabled, "Signups not allowed for this instance"));
    }
    let password = params.password.clone().filter(|password| !password.is_empty());
    let password = password.ok_or_else(|| Error::invalid("Signup requires a valid password"))?;
    password_strength::check(settings, &password)?;
    let challenge = Challenge::read(params.code_challenge.as_ref(), params.code_challenge_method.as_ref())?;
    let email = match (email, phone) {
        (Some(_), Some(_)) => {
            return Err(Error::invalid("Only an email address or phone number should be provided on signup."));
        }
        (None, _) if challenge.is_some() => return Err(Error::invalid("PKCE not supported for phone signups")),
        (None, number) => return phone_sign_up(cx, number, password, params.data.unwrap_or_default()).await,
        (email, None) => email,
    };
    if !settings.external_email_enabled {
        let error = Error::new(ErrorCode::EmailProviderDisabled, "Email signups are disabled");
        return Err(error.with_status(http::StatusCode::BAD_REQUEST));
    }
    let email = contact::email(email)?;
    if !settings.mailer_autoconfirm {
        mail::admit(cx, "confirmation", &email)?;
    }
    // Before anything is looked up: an address that is known takes as long as one that is not.
    let hash = cx.shared.passwords.hash(&cx.project.project_ref, Secret::new(password)).await?;
    let data = params.data.unwrap_or_default();
    let wanted = Wanted { email: &email, password_hash: Some(&hash), data: &data, challenge };
    let account = async {
        let outcome = request_account(cx, &wanted).await?;
        if let Outcome::Waits(user, true) = &outcome {
            after_user_created(cx, user).await?;
        }
        Ok::<_, Error>(outcome)
    };
    // Where users confirm, nothing tells whether the address is known; elsewhere the answer says so.
    let outcome = if settings.mailer_autoconfirm { account.await? } else { even(account).await? };
    match outcome {
        Outcome::Exists if settings.mailer_autoconfirm => {
            Err(Error::new(ErrorCode::UserAlreadyExists, "User already registered"))
        }
        Outcome::Exists => response::ok(&lookalike(cx, &email, data)),
        Outcome::Confirmed(mut tx, user) => {
            audit::of_user(cx, &mut tx, &user, Action::Login, Some(json!({ "provider": identity::EMAIL }))).await?;
            let view = session::begin(cx, &mut tx, &user, method::PASSWORD).await?;
            tx.commit().await?;
            after_user_created(cx, &view.user).await?;
            response::ok(&view)
        }
        // What an invitation says is for who has its mail.
        Outcome::Waits(user, _) if user.invited_at.is_some() => response::ok(&lookalike(cx, &email, data)),
        Outcome::Waits(mut user, created) => {
            if !created {
                // What an administrator has noted is not for whoever knows the address.
                user.raw_app_meta_data = Some(provider_metadata(identity::EMAIL));
            }
            response::ok(&user)
        }
    }
}

async fn phone_sign_up(
    cx: &Cx,
    number: Option<&str>,
    password: String,
    data: Map<String, Value>,
) -> Result<axum::response::Response, Error> {
    phone::require_enabled(cx, "Phone signups are disabled")?;
    let number = contact::phone(number)?;
    let hash = cx.shared.passwords.hash(&cx.project.project_ref, Secret::new(password)).await?;
    even(phone::sign_up(cx, &number, &hash, data)).await
}

/// Whoever asks for an account with an address.
pub(crate) struct Wanted<'a> {
    pub(crate) email: &'a str,
    /// None for who wants to sign in by mail only.
    pub(crate) password_hash: Option<&'a str>,
    pub(crate) data: &'a Map<String, Value>,
    pub(crate) challenge: Option<Challenge<'a>>,
}

/// What became of such a wish.
pub(crate) enum Outcome {
    /// Somebody has the address and has shown so. Nothing was changed.
    Exists,
    /// The address counts as the user's; the transaction is still open.
    Confirmed(Tx, User),
    /// A mail has been sent to the address; true when the user is new.
    Waits(User, bool),
}

/// Makes the account, or takes the one over that nobody has confirmed yet, and sends the mail that confirms it.
pub(crate) async fn request_account(cx: &Cx, wanted: &Wanted<'_>) -> Result<Outcome, Error> {
    let mut tx = Tx::begin(&cx.pool).await?;
    let new = new_email_user(wanted);
    before_user_created(cx, &mut tx, &new).await?;
    let created = store::user_insert_in_tx(&mut tx, &new, cx.now).await?;
    let user = if created {
        add_email_identity(cx, &mut tx, new.id, wanted).await?;
        store::user_reload_in_tx(&mut tx, new.id).await?
    } else {
        let user = store::user_lock_by_email_in_tx(&mut tx, wanted.email).await?;
        // Without a mail nobody shows that an account that waits is theirs.
        let confirms = !cx.settings().mailer_autoconfirm;
        match user
            .filter(|user| confirms && is_unclaimed(cx, user) && mail::wait(cx, user.confirmation_sent_at).is_none())
        {
            Some(user) => take_over(cx, &mut tx, &user, wanted).await?,
            None => {
                repeated(cx, tx, wanted.email).await?;
                return Ok(Outcome::Exists);
            }
        }
    };
    let traits = Some(json!({ "provider": identity::EMAIL }));
    if cx.settings().mailer_autoconfirm {
        audit::of_user(cx, &mut tx, &user, Action::UserSignedUp, traits).await?;
        let user = confirm_email(cx, &mut tx, &user).await?;
        return Ok(Outcome::Confirmed(tx, user));
    }
    audit::of_user(cx, &mut tx, &user, Action::UserConfirmationRequested, traits).await?;
    if let Some(challenge) = wanted.challenge {
        challenge.begin(cx, &mut tx, user.id, identity::EMAIL, method::EMAIL_SIGNUP).await?;
    }
    mail::send(cx, &mut tx, &user, mail::Kind::Confirmation, wanted.challenge.is_some()).await?;
    let user = store::user_reload_in_tx(&mut tx, user.id).await?;
    tx.commit().await?;
    Ok(Outcome::Waits(user, created))
}

fn new_email_user<'a>(wanted: &Wanted<'a>) -> NewUser<'a> {
    NewUser {
        id: session::new_id(),
        email: Some(wanted.email),
        password_hash: wanted.password_hash,
        role: AUDIENCE,
        app_metadata: provider_metadata(identity::EMAIL),
        user_metadata: wanted.data.clone(),
        ..NewUser::default()
    }
}

/// The app metadata of a user who has one identity.
pub(crate) fn provider_metadata(provider: &str) -> Map<String, Value> {
    match json!({ "provider": provider, "providers": [provider] }) {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

async fn add_email_identity(cx: &Cx, tx: &mut Tx, user_id: Uuid, wanted: &Wanted<'_>) -> Result<(), Error> {
    let data = email_data(user_id, wanted.email, false, wanted.data);
    let id = user_id.to_string();
    identity_insert_in_tx(tx, user_id, identity::EMAIL, &id, &data, cx.now).await.map(drop)
}

/// Whether an account is nothing but somebody's wish for one, by mail: nobody has ever been in it, and nothing is known of it
/// that its maker has not said. Any other is left as it is, whoever asks.
fn is_unclaimed(cx: &Cx, user: &User) -> bool {
    let by_mail_only = user.identities.iter().all(|identity| identity.provider == identity::EMAIL);
    !user.is_email_confirmed()
        && !cx.settings().mailer_allow_unverified_email_sign_ins
        && user.confirmation_sent_at.is_some()
        && user.last_sign_in_at.is_none()
        && user.phone().is_none()
        && user.factors.is_empty()
        && user.deleted_at.is_none()
        && by_mail_only
}

/// An account that nobody has confirmed belongs to whoever asked last: with the mail that is sent now nothing stays of what
/// an earlier one chose, so that nobody can lay out a password for somebody else's address.
async fn take_over(cx: &Cx, tx: &mut Tx, user: &User, wanted: &Wanted<'_>) -> Result<User, Error> {
    let invited = user.invited_at.is_some();
    let mut data = if invited { Map::new() } else { wanted.data.clone() };
    for key in user.raw_user_meta_data.iter().filter(|_| !invited).flat_map(Map::keys) {
        data.entry(key.clone()).or_insert(Value::Null);
    }
    let change = UserChange {
        password_hash: Some(wanted.password_hash.unwrap_or_default()),
        user_metadata: Some(&data),
        ..UserChange::default()
    };
    store::user_update_in_tx(tx, user.id, &change, cx.now).await?;
    add_email_identity(cx, tx, user.id, wanted).await?;
    store::user_reload_in_tx(tx, user.id).await
}

/// Writes down that somebody tried again; in all what a new user costs.
async fn repeated(cx: &Cx, mut tx: Tx, email: &str) -> Result<(), Error> {
    if let Some(user) = store::user_lock_by_email_in_tx(&mut tx, email).await? {
        let traits = Some(json!({ "provider": identity::EMAIL }));
        audit::of_user(cx, &mut tx, &user, Action::UserRepeatedSignup, traits).await?;
    }
    mail::decoy(cx, &mut tx, mail::Kind::Confirmation).await?;
    tx.commit().await
}

/// The address counts as the user's from now on.
pub(crate) async fn confirm_email(cx: &Cx, tx: &mut Tx, user: &User) -> Result<User, Error> {
    let verified = match json!({ "email_verified": true }) {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    let change = UserChange { confirm_email: true, user_metadata: Some(&verified), ..UserChange::default() };
    store::user_update_in_tx(tx, user.id, &change, cx.now).await?;
    let same = user.identity(identity::EMAIL).is_some_and(|identity| identity.email.as_deref() == user.email());
    if same {
        identity_update_in_tx(tx, user.id, identity::EMAIL, &verified, cx.now).await?;
    }
    store::user_reload_in_tx(tx, user.id).await
}

/// What a new user would look like, for an address that somebody has already: made up, without identities.
fn lookalike(cx: &Cx, email: &str, data: Map<String, Value>) -> Value {
    json!({
        "id": session::new_id(),
        "aud": AUDIENCE,
        "role": "",
        "email": email,
        "phone": "",
        "confirmation_sent_at": cx.now,
        "app_metadata": provider_metadata(identity::EMAIL),
        "user_metadata": data,
        "identities": [],
        "created_at": cx.now,
        "updated_at": cx.now,
        "is_anonymous": false,
    })
}

/// The project may refuse a user before there is one.
pub(crate) async fn before_user_created(cx: &Cx, tx: &mut Tx, new: &NewUser<'_>) -> Result<(), Error> {
    let Some(own) = cx.settings().hook("before_user_created") else { return Ok(()) };
    let event = json!({
        "metadata": metadata(cx, "before-user-created"),
        "user": {
            "id": new.id, "aud": AUDIENCE, "role": new.role, "email": new.email.unwrap_or_default(),
            "phone": new.phone.unwrap_or_default(), "app_metadata": new.app_metadata,
            "user_metadata": new.user_metadata, "identities": [], "created_at": cx.now, "updated_at": cx.now,
            "is_anonymous": new.is_anonymous,
        },
    });
    hook::run(cx, Some(tx), "before_user_created", own, &event).await.map(drop)
}

/// The project is told of a user who is there.
pub(crate) async fn after_user_created(cx: &Cx, user: &User) -> Result<(), Error> {
    let Some(own) = cx.settings().hook("after_user_created") else { return Ok(()) };
    let event = json!({ "metadata": metadata(cx, "after-user-created"), "user": user });
    hook::run(cx, None, "after_user_created", own, &event).await.map(drop)
}

fn metadata(cx: &Cx, name: &str) -> Value {
    json!({ "uuid": session::new_id(), "time": cx.now, "ip_address": cx.client_ip.to_string(), "name": name })
}
