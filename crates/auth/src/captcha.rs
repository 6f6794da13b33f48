//! Captchas of projects that ask for them.

use bytes::Bytes;

use crate::cx::Cx;
use crate::error::{Error, ErrorCode};

/// Refuses a request without a captcha that was solved, where the project asks for one.
pub(crate) async fn check(cx: &Cx, _body: &Bytes) -> Result<(), Error> {
    if !cx.settings().security_captcha_enabled || cx.is_admin() {
        return Ok(());
    }
    Err(Error::new(ErrorCode::CaptchaFailed, "captcha protection: captchas cannot be verified by this version"))
}
