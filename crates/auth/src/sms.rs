//! Codes to phones. Who sends them is the project's to say: a hook, in the database or on the web, or a service.

mod service;
mod took;

pub(crate) use took::Took;

use serde_json::json;
use tokio::time::Instant;

use crate::cx::Cx;
use crate::error::{Error, ErrorCode};
use crate::hook;
use crate::one_time_token::{OneTimeToken, Purpose};
use crate::rate_limit::{Limit, too_soon};
use crate::store::Tx;
use crate::store::one_time_token::one_time_token_put_in_tx;
use crate::store::user::{Sent, user_sent_in_tx};
use crate::timestamp::Timestamp;
use crate::user::User;

/// The setting of projects that names who sends.
const HOOK: &str = "send_sms";

/// The code that the project has laid down for a number, for tests of applications and reviewers of app stores
/// (`sms_test_otp`: `number=code,number=code`).
pub(crate) fn test_code(cx: &Cx, phone: &str) -> Option<String> {
    let settings = cx.settings();
    if let Some(until) = settings.sms_test_otp_valid_until.as_deref().filter(|until| !until.is_empty()) {
        // What cannot be read has passed.
        let until = Timestamp::parse(until)?;
        if cx.now >= until {
            return None;
        }
    }
    let pairs = settings.sms_test_otp.as_deref().unwrap_or_default().split(',');
    let mut known = pairs.filter_map(|pair| pair.split_once('='));
    let (_, code) = known.find(|(number, _)| crate::contact::phone_key(number) == phone)?;
    Some(code.trim().to_owned()).filter(|code| !code.is_empty())
}

/// Whether a message may be asked for now, whoever has the number: counts the request. The answer is the same for a number that
/// nobody has.
pub(crate) fn admit(cx: &Cx, kind: &str, phone: &str) -> Result<(), Error> {
    cx.would_exceed(Limit::SmsSent, "")?;
    cx.limit_subject(Limit::SmsNumber, &format!("{kind} {phone}"))
}

/// Whether a message to a user went out so recently that there is none now.
pub(crate) fn waits(cx: &Cx, sent: Option<Timestamp>) -> bool {
    sent.is_some_and(|sent| cx.settings().sms_max_frequency > cx.now.seconds_since(sent).max(0))
}

/// Refuses a message so soon after the one before.
fn check_frequency(cx: &Cx, sent: Option<Timestamp>) -> Result<(), Error> {
    let Some(sent) = sent else { return Ok(()) };
    match cx.settings().sms_max_frequency - cx.now.seconds_since(sent).max(0) {
        wait if wait > 0 => Err(too_soon(ErrorCode::OverSmsSendRateLimit, u64::try_from(wait).unwrap_or(1))),
        _ => Ok(()),
    }
}

/// Sends a code to a locked user's number, and puts its hash where `/verify` looks for it.
pub(crate) async fn send_code(cx: &Cx, tx: &mut Tx, user: &User, phone: &str, purpose: Purpose) -> Result<(), Error> {
    let (sent_at, sent) = match purpose {
        Purpose::PhoneChange => (user.phone_change_sent_at, Sent::PhoneChange(phone)),
        Purpose::Reauthentication => (user.reauthentication_sent_at, Sent::Reauthentication),
        _ => (user.confirmation_sent_at, Sent::Confirmation),
    };
    check_frequency(cx, sent_at)?;
    let laid_down = test_code(cx, phone);
    let sends = laid_down.is_none();
    let token = match laid_down {
        Some(code) => OneTimeToken::of_code(cx, phone, code),
        None => OneTimeToken::generate(cx, phone, cx.settings().sms_otp_length, false),
    };
    one_time_token_put_in_tx(tx, user.id, purpose, &token.stored, phone, cx.now).await?;
    user_sent_in_tx(tx, user.id, sent, cx.now).await?;
    if sends {
        send(cx, tx, user, phone, &token.code, &cx.settings().sms_template).await?;
    }
    Ok(())
}

/// Sends `code` to `phone` in the words of `template`.
pub(crate) async fn send(
    cx: &Cx,
    tx: &mut Tx,
    user: &User,
    phone: &str,
    code: &str,
    template: &str,
) -> Result<(), Error> {
    cx.limit_subject(Limit::SmsNumber, phone)?;
    cx.limit_subject(Limit::SmsSent, "")?;
    let words = mailer::template::render(mailer::template::Kind::Text, template, &json!({ "Code": code }));
    let words = words.unwrap_or_else(|error| {
        tracing::warn!(project.ref = %cx.project.project_ref, %error, "the template of messages cannot be used");
        format!("Your code is {code}")
    });
    let began = Instant::now();
    let result = match cx.settings().hook(HOOK) {
        Some(sender) => {
            let event = json!({ "user": user, "sms": { "otp": code, "phone": phone, "message": words } });
            let result = hook::run(cx, Some(tx), HOOK, sender, &event).await;
            result.map(drop).map_err(|error| {
                let what = format!("Error sending the message: {}", error.message());
                error.with_code(ErrorCode::SmsSendFailed).with_message(what)
            })
        }
        None => service::send(cx, phone, &words).await,
    };
    cx.shared.took.note(&cx.project.project_ref, began.elapsed());
    result
}

/// In place of a message to a number that gets none: counts as one, and takes as long.
pub(crate) async fn decoy(cx: &Cx) -> Result<(), Error> {
    cx.limit_subject(Limit::SmsSent, "")?;
    tokio::time::sleep(cx.shared.took.any(&cx.project.project_ref)).await;
    Ok(())
}
