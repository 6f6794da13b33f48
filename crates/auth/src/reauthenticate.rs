//! `GET /reauthenticate`: a code (nonce) for what a session alone is not enough for.

use crate::audit::{self, Action};
use crate::authenticate::SignedIn;
use crate::cx::Cx;
use crate::error::{Error, ErrorCode};
use crate::mail;
use crate::one_time_token::{self, Purpose};
use crate::rate_limit::Limit;
use crate::response;
use crate::sms;
use crate::store::Tx;
use crate::store::one_time_token::one_time_token_take_in_tx;
use crate::user::User;

pub(crate) async fn reauthenticate(cx: &Cx) -> Result<axum::response::Response, Error> {
    let signed_in = SignedIn::of(cx).await?;
    let mut tx = Tx::begin(&cx.pool).await?;
    let user = signed_in.lock(&mut tx).await?;
    let Some(email) = user.email().map(str::to_owned) else {
        let phone = user
            .phone()
            .map(str::to_owned)
            .ok_or_else(|| Error::invalid("Reauthentication requires the user to have an email or a phone number"))?;
        if !user.is_phone_confirmed() {
            let error = Error::new(ErrorCode::PhoneNotConfirmed, "Please verify your phone first.");
            return Err(error.with_status(http::StatusCode::UNPROCESSABLE_ENTITY));
        }
        audit::of_user(cx, &mut tx, &user, Action::UserReauthenticateRequested, None).await?;
        sms::send_code(cx, &mut tx, &user, &phone, Purpose::Reauthentication).await?;
        tx.commit().await?;
        return response::empty_object();
    };
    if !user.is_email_confirmed() {
        let error = Error::new(ErrorCode::EmailNotConfirmed, "Please verify your email first.");
        return Err(error.with_status(http::StatusCode::UNPROCESSABLE_ENTITY));
    }
    mail::check_frequency(cx, user.reauthentication_sent_at)?;
    audit::of_user(cx, &mut tx, &user, Action::UserReauthenticateRequested, None).await?;
    mail::send_reauthentication(cx, &mut tx, &user, &email).await?;
    tx.commit().await?;
    response::empty_object()
}

/// Takes a nonce of a locked user.
pub(crate) async fn check_nonce(cx: &Cx, tx: &mut Tx, user: &User, nonce: &str) -> Result<(), Error> {
    let invalid = || Error::new(ErrorCode::ReauthenticationNotValid, "Nonce has expired or is invalid");
    let address = user.email().or(user.phone()).ok_or_else(invalid)?;
    cx.limit_subject(Limit::VerifyAddress, address)?;
    let [plain, pkce] = one_time_token::stored_of_code(cx, address, nonce);
    let taken = one_time_token_take_in_tx(tx, user.id, [&plain, &pkce], &[Purpose::Reauthentication], cx.now).await?;
    let fresh = taken.filter(|taken| taken.age <= cx.settings().mailer_otp_exp && taken.relates_to == address);
    fresh.ok_or_else(invalid)?;
    cx.give_back(Limit::VerifyAddress, address);
    Ok(())
}
