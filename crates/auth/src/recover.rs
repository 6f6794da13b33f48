//! `POST /recover`: a mail for who forgot their password. Whether somebody has the address does not show.

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
struct RecoverParams {
    email: Option<String>,
    code_challenge: Option<String>,
    code_challenge_method: Option<String>,
}

pub(crate) async fn recover(cx: &Cx, body: &Bytes) -> Result<axum::response::Response, Error> {
    let params: RecoverParams = request::params(body)?;
    if !cx.settings().external_email_enabled {
        return Err(Error::new(ErrorCode::EmailProviderDisabled, "Email logins are disabled"));
    }
    if params.email.as_deref().is_none_or(str::is_empty) {
        return Err(Error::invalid("Password recovery requires an email"));
    }
    let email = contact::email(params.email.as_deref())?;
    let challenge = Challenge::read(params.code_challenge.as_ref(), params.code_challenge_method.as_ref())?;
    mail::admit(cx, "recovery", &email)?;
    let mut tx = Tx::begin(&cx.pool).await?;
    let user = users::user_lock_by_email_in_tx(&mut tx, &email).await?;
    match user.filter(|user| user.deleted_at.is_none() && mail::wait(cx, user.recovery_sent_at).is_none()) {
        Some(user) => {
            audit::of_user(cx, &mut tx, &user, Action::UserRecoveryRequested, None).await?;
            if let Some(challenge) = challenge {
                challenge.begin(cx, &mut tx, user.id, identity::EMAIL, method::RECOVERY).await?;
            }
            mail::send(cx, &mut tx, &user, Kind::Recovery, challenge.is_some()).await?;
        }
        None => mail::decoy(cx, &mut tx, Kind::Recovery).await?,
    }
    tx.commit().await?;
    response::empty_object()
}
