//! `POST /resend`: the same mail again, with a new code.

use bytes::Bytes;
use serde::Deserialize;

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
use crate::store::Tx;
use crate::store::user as users;

#[derive(Default, Deserialize)]
#[serde(default)]
struct ResendParams {
    #[serde(rename = "type")]
    kind: Option<String>,
    email: Option<String>,
    phone: Option<String>,
    code_challenge: Option<String>,
    code_challenge_method: Option<String>,
}

pub(crate) async fn resend(cx: &Cx, body: &Bytes) -> Result<axum::response::Response, Error> {
    let params: ResendParams = request::params(body)?;
    let kind = params.kind.as_deref().unwrap_or_default();
    if !["signup", "email_change", "sms", "phone_change"].contains(&kind) {
        return Err(Error::invalid("Missing one of these types: signup, email_change, sms, phone_change"));
    }
    let challenge = Challenge::read(params.code_challenge.as_ref(), params.code_challenge_method.as_ref())?;
    let email = request::text("email", params.email.as_ref())?;
    let phone = request::text("phone", params.phone.as_ref())?;
    match (kind, email, phone) {
        ("signup", None, _) => return Err(Error::invalid("Type provided requires an email address")),
        ("sms", _, None) => return Err(Error::invalid("Type provided requires a phone number")),
        (_, Some(_), Some(_)) => {
            return Err(Error::invalid("Only an email address or phone number should be provided."));
        }
        (_, None, None) => return Err(Error::invalid("Missing email address or phone number")),
        (_, None, Some(_)) => return resend_message(cx),
        (_, Some(_), None) => {}
    }
    if !cx.settings().external_email_enabled {
        let error = Error::new(ErrorCode::EmailProviderDisabled, "Email logins are disabled");
        return Err(error.with_status(http::StatusCode::BAD_REQUEST));
    }
    let email = contact::email(email)?;
    mail::admit(cx, if kind == "signup" { "confirmation" } else { kind }, &email)?;
    let mut tx = Tx::begin(&cx.pool).await?;
    let user = users::user_lock_by_email_in_tx(&mut tx, &email).await?;
    let user = user.filter(|user| user.deleted_at.is_none());
    match (kind, user) {
        ("signup", Some(user)) if !user.is_email_confirmed() && mail::wait(cx, user.confirmation_sent_at).is_none() => {
            audit::of_user(cx, &mut tx, &user, Action::UserConfirmationRequested, None).await?;
            if let Some(challenge) = challenge {
                challenge.begin(cx, &mut tx, user.id, identity::EMAIL, method::EMAIL_SIGNUP).await?;
            }
            mail::send(cx, &mut tx, &user, Kind::Confirmation, challenge.is_some()).await?;
        }
        ("email_change", Some(user))
            if user.new_email().is_some() && mail::wait(cx, user.email_change_sent_at).is_none() =>
        {
            let new_email = user.new_email().unwrap_or_default().to_owned();
            if let Some(challenge) = challenge {
                challenge.begin(cx, &mut tx, user.id, identity::EMAIL, method::EMAIL_CHANGE).await?;
            }
            mail::send_email_change(cx, &mut tx, &user, &new_email, challenge.is_some()).await?;
        }
        _ => mail::decoy(cx, &mut tx, Kind::Confirmation).await?,
    }
    tx.commit().await?;
    response::empty_object()
}

fn resend_message(cx: &Cx) -> Result<axum::response::Response, Error> {
    if !cx.settings().external_phone_enabled {
        let error = Error::new(ErrorCode::PhoneProviderDisabled, "Phone logins are disabled");
        return Err(error.with_status(http::StatusCode::BAD_REQUEST));
    }
    Err(Error::new(ErrorCode::SmsSendFailed, "Messages cannot be sent by this version"))
}
