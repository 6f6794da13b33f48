//! Mails to users: each carries a link and a code, and is written to the queue in the transaction that it is about, so that
//! no crash loses one. A worker renders and sends them.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use crate::cx::Cx;
use crate::error::{Error, ErrorCode};
use crate::hook;
use crate::one_time_token::{OneTimeToken, Purpose};
use crate::rate_limit::{Limit, too_soon};
use crate::redirect;
use crate::store::Tx;
use crate::store::mail::{self as store, NewMail};
use crate::store::one_time_token::one_time_token_put_in_tx;
use crate::store::user::{Sent, user_reload_in_tx, user_sent_in_tx};
use crate::timestamp::Timestamp;
use crate::user::User;

/// Kinds of mail: names of templates, and the `type` of their links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Confirmation,
    Invite,
    MagicLink,
    Recovery,
}

impl Kind {
    /// The template's name (`mailer_templates_<name>_content`).
    pub(crate) fn template(self) -> &'static str {
        match self {
            Self::Confirmation => "confirmation",
            Self::Invite => "invite",
            Self::MagicLink => "magic_link",
            Self::Recovery => "recovery",
        }
    }

    /// The `type` that verifies it.
    pub(crate) fn verification(self) -> &'static str {
        match self {
            Self::Confirmation => "signup",
            Self::Invite => "invite",
            Self::MagicLink => "magiclink",
            Self::Recovery => "recovery",
        }
    }

    pub(crate) fn purpose(self) -> Purpose {
        match self {
            Self::Confirmation | Self::Invite => Purpose::Confirmation,
            Self::MagicLink | Self::Recovery => Purpose::Recovery,
        }
    }

    fn sent(self) -> Sent<'static> {
        match self {
            Self::Confirmation => Sent::Confirmation,
            Self::Invite => Sent::Invite,
            Self::MagicLink | Self::Recovery => Sent::Recovery,
        }
    }
}

/// What stands in a mail.
struct Letter<'a> {
    template: &'a str,
    verification: &'a str,
    recipient: &'a str,
    token: &'a OneTimeToken,
    new_email: Option<&'a str>,
}

/// Whether a mail of this kind may be asked for now, whoever has the address: counts the request. The answer is the same
/// for an address that nobody has.
pub(crate) fn admit(cx: &Cx, kind: &str, email: &str) -> Result<(), Error> {
    cx.would_exceed(Limit::EmailSent, "")?;
    cx.limit_subject(Limit::MailAddress, &format!("{kind} {email}"))
}

/// Seconds until the next mail may go out, when one was sent at `sent`.
pub(crate) fn wait(cx: &Cx, sent: Option<Timestamp>) -> Option<i64> {
    // A request that waited for the user's row may be older than the mail.
    let wait = cx.settings().smtp_max_frequency - cx.now.seconds_since(sent?).max(0);
    (wait > 0).then_some(wait)
}

/// Refuses a mail so soon after the one before; for those who are known to have the address.
pub(crate) fn check_frequency(cx: &Cx, sent: Option<Timestamp>) -> Result<(), Error> {
    match wait(cx, sent) {
        Some(wait) => Err(too_soon(ErrorCode::OverEmailSendRateLimit, u64::try_from(wait).unwrap_or(1))),
        None => Ok(()),
    }
}

/// The link of a mail.
pub(crate) fn action_link(cx: &Cx, token: &str, verification: &str, redirect_to: &str) -> String {
    let params = [("token", token), ("type", verification), ("redirect_to", redirect_to)];
    redirect::with_query(&format!("{}/verify", cx.auth_url()), &params)
}

/// Sends a mail with a fresh token to a locked user's address.
pub(crate) async fn send(cx: &Cx, tx: &mut Tx, user: &User, kind: Kind, pkce: bool) -> Result<(), Error> {
    let Some(email) = user.email() else {
        return Err(Error::invalid("The user has no email address"));
    };
    cx.limit_subject(Limit::EmailSent, "")?;
    let token = OneTimeToken::generate(cx, email, cx.settings().mailer_otp_length, pkce);
    one_time_token_put_in_tx(tx, user.id, kind.purpose(), &token.stored, email, cx.now).await?;
    user_sent_in_tx(tx, user.id, kind.sent(), cx.now).await?;
    let letter = Letter {
        template: kind.template(),
        verification: kind.verification(),
        recipient: email,
        token: &token,
        new_email: None,
    };
    enqueue(cx, tx, user, &letter).await
}

/// Asks both addresses, or only the new one, whether a locked user's address may change.
pub(crate) async fn send_email_change(
    cx: &Cx,
    tx: &mut Tx,
    user: &User,
    new_email: &str,
    pkce: bool,
) -> Result<(), Error> {
    let length = cx.settings().mailer_otp_length;
    user_sent_in_tx(tx, user.id, Sent::EmailChange(new_email), cx.now).await?;
    // Hooks and templates see the change that begins.
    let user = &user_reload_in_tx(tx, user.id).await?;
    let current = user.email().filter(|_| cx.settings().mailer_secure_email_change_enabled);
    for (address, purpose) in [(Some(new_email), Purpose::EmailChangeNew), (current, Purpose::EmailChangeCurrent)] {
        let Some(address) = address else { continue };
        cx.limit_subject(Limit::EmailSent, "")?;
        let token = OneTimeToken::generate(cx, address, length, pkce);
        one_time_token_put_in_tx(tx, user.id, purpose, &token.stored, address, cx.now).await?;
        let letter = Letter {
            template: "email_change",
            verification: "email_change",
            recipient: address,
            token: &token,
            new_email: Some(new_email),
        };
        enqueue(cx, tx, user, &letter).await?;
    }
    Ok(())
}

/// Sends a code that shows that whoever has the session also has the address.
pub(crate) async fn send_reauthentication(cx: &Cx, tx: &mut Tx, user: &User, email: &str) -> Result<(), Error> {
    cx.limit_subject(Limit::EmailSent, "")?;
    let token = OneTimeToken::generate(cx, email, cx.settings().mailer_otp_length, false);
    one_time_token_put_in_tx(tx, user.id, Purpose::Reauthentication, &token.stored, email, cx.now).await?;
    user_sent_in_tx(tx, user.id, Sent::Reauthentication, cx.now).await?;
    let letter = Letter {
        template: "reauthentication",
        verification: "reauthentication",
        recipient: email,
        token: &token,
        new_email: None,
    };
    enqueue(cx, tx, user, &letter).await
}

/// Takes the time and room of a mail without one, and counts as one: what is left must not tell which it was.
pub(crate) async fn decoy(cx: &Cx, tx: &mut Tx, kind: Kind) -> Result<(), Error> {
    cx.limit_subject(Limit::EmailSent, "")?;
    store::mail_decoy_in_tx(tx, kind.template(), cx.now).await
}

async fn enqueue(cx: &Cx, tx: &mut Tx, user: &User, letter: &Letter<'_>) -> Result<(), Error> {
    let redirect_to = cx.redirect_to();
    let link = action_link(cx, &letter.token.token, letter.verification, &redirect_to);
    let data = json!({
        "user": user,
        "email_data": {
            "token": letter.token.code,
            "token_hash": letter.token.token,
            "redirect_to": redirect_to,
            "email_action_type": letter.verification,
            "site_url": cx.settings().site_url,
            "token_new": "",
            "token_hash_new": "",
        },
        "confirmation_url": link,
        "new_email": letter.new_email,
    });
    if let Some(own) = cx.settings().hook("send_email").filter(|own| own.uri.starts_with("pg-functions:")) {
        let event: Value = json!({ "user": data["user"], "email_data": data["email_data"] });
        return hook::run(cx, Some(tx), "send_email", own, &event).await.map(drop);
    }
    let new = NewMail { user_id: Some(user.id), kind: letter.template, recipient: letter.recipient, data: &data };
    cx.mail_waits.store(true, Ordering::Relaxed);
    store::mail_insert_in_tx(tx, &new, cx.now).await
}
