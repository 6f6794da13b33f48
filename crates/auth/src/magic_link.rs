//! `POST /magiclink`, and `POST /otp` with an address: a mail to sign in with, for new users too.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::audit::{self, Action};
use crate::contact;
use crate::cx::Cx;
use crate::error::{Error, ErrorCode};
use crate::identity;
use crate::mail::{self, Kind};
use crate::pkce::Challenge;
use crate::request;
use crate::response;
use crate::session::method;
use crate::signup::{self, Outcome, Wanted, after_user_created};
use crate::store::Tx;
use crate::store::user as users;

#[derive(Default, Deserialize)]
#[serde(default)]
struct MagicLinkParams {
    email: Option<String>,
    data: Option<Map<String, Value>>,
    create_user: Option<bool>,
    code_challenge: Option<String>,
    code_challenge_method: Option<String>,
}

pub(crate) async fn send_magic_link(cx: &Cx, body: &Bytes) -> Result<axum::response::Response, Error> {
    let params: MagicLinkParams = request::params(body)?;
    if !cx.settings().external_email_enabled {
        return Err(Error::new(ErrorCode::EmailProviderDisabled, "Email logins are disabled"));
    }
    let email = contact::email(params.email.as_deref())?;
    let challenge = Challenge::read(params.code_challenge.as_ref(), params.code_challenge_method.as_ref())?;
    mail::admit(cx, "recovery", &email)?;
    let data = params.data.clone().unwrap_or_default();
    let known = users::user_by_email(&cx.pool, &email).await?;
    let is_known = known.as_ref().is_some_and(|user| user.deleted_at.is_none());
    match known.filter(users_is_confirmed) {
        Some(_) => {}
        // Who is known and has not confirmed gets the mail too, which confirms.
        None if params.create_user == Some(false) && is_known => {}
        None if params.create_user == Some(false) => {
            return Err(Error::new(ErrorCode::OtpDisabled, "Signups not allowed for otp"));
        }
        None if cx.settings().disable_signup => {
            return Err(Error::new(ErrorCode::SignupDisabled, "Signups not allowed for this instance"));
        }
        None => {
            let wanted = Wanted { email: &email, password_hash: None, data: &data, challenge };
            match signup::request_account(cx, &wanted).await? {
                Outcome::Waits(user, created) => {
                    if created {
                        after_user_created(cx, &user).await?;
                    }
                    return response::empty_object();
                }
                Outcome::Confirmed(tx, user) => {
                    tx.commit().await?;
                    after_user_created(cx, &user).await?;
                }
                // Confirmed a moment ago.
                Outcome::Exists => {}
            }
        }
    }
    let mut tx = Tx::begin(&cx.pool).await?;
    let user = users::user_lock_by_email_in_tx(&mut tx, &email).await?;
    match user.filter(|user| mail::wait(cx, user.recovery_sent_at).is_none()) {
        Some(user) => {
            audit::of_user(cx, &mut tx, &user, Action::UserRecoveryRequested, None).await?;
            if let Some(challenge) = challenge {
                challenge.begin(cx, &mut tx, user.id, identity::EMAIL, method::MAGIC_LINK).await?;
            }
            mail::send(cx, &mut tx, &user, Kind::MagicLink, challenge.is_some()).await?;
        }
        None => mail::decoy(cx, &mut tx, Kind::MagicLink).await?,
    }
    tx.commit().await?;
    response::empty_object()
}

fn users_is_confirmed(user: &crate::user::User) -> bool {
    user.is_email_confirmed() && user.deleted_at.is_none()
}
