//! Codes to a phone as second factor.

use base::random;
use ring::hmac;
use subtle::ConstantTimeEq as _;
use uuid::Uuid;

use crate::cx::Cx;
use crate::error::{Error, ErrorCode};
use crate::one_time_token::digits;
use crate::rate_limit::too_soon;
use crate::sms;
use crate::store::Tx;
use crate::user::{Factor, User};

/// What is stored of a code: it belongs to one challenge, and without the project's key it cannot be tried out.
fn stored(cx: &Cx, challenge: Uuid, code: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &cx.project.signing.derive("codes of phone factors"));
    random::to_hex(hmac::sign(&key, format!("{challenge} {code}").as_bytes()).as_ref())
}

/// Sends a code for a challenge; returns what is stored of it.
pub(super) async fn send_code(
    cx: &Cx,
    tx: &mut Tx,
    user: &User,
    factor: &Factor,
    challenge: Uuid,
) -> Result<String, Error> {
    let settings = cx.settings();
    let phone = factor.phone.as_deref().unwrap_or_default();
    let waited = factor.last_challenged_at.map(|last| cx.now.seconds_since(last));
    if let Some(wait) = waited.map(|waited| settings.mfa_phone_max_frequency - waited).filter(|wait| *wait > 0) {
        return Err(too_soon(ErrorCode::OverSmsSendRateLimit, u64::try_from(wait).unwrap_or(1)));
    }
    let code = sms::test_code(cx, phone);
    let sent_for_real = code.is_none();
    let code = code.unwrap_or_else(|| digits(settings.mfa_phone_otp_length));
    if sent_for_real {
        sms::send(cx, tx, user, phone, &code, &settings.mfa_phone_template).await?;
    }
    Ok(stored(cx, challenge, &code))
}

/// Whether `code` was sent for this challenge.
pub(super) fn is_code(cx: &Cx, challenge: Uuid, code: &str, hash: Option<&str>) -> bool {
    let own = stored(cx, challenge, code);
    hash.is_some_and(|hash| bool::from(own.as_bytes().ct_eq(hash.as_bytes())))
}
