//! `POST /otp`: a code by mail or message.

use bytes::Bytes;
use serde::Deserialize;

use crate::cx::Cx;
use crate::error::{Error, ErrorCode};
use crate::magic_link;
use crate::request;

#[derive(Default, Deserialize)]
#[serde(default)]
struct OtpParams {
    email: Option<String>,
    phone: Option<String>,
    channel: Option<String>,
}

pub(crate) async fn send_otp(cx: &Cx, body: &Bytes) -> Result<axum::response::Response, Error> {
    let params: OtpParams = request::params(body)?;
    let email = request::text("email", params.email.as_ref())?;
    let phone = request::text("phone", params.phone.as_ref())?;
    let channel = request::text("channel", params.channel.as_ref())?;
    match (email, phone) {
        (Some(_), Some(_)) => Err(Error::invalid("Only an email address or phone number should be provided")),
        (Some(_), None) if channel.is_some() => Err(Error::invalid("Channel should only be specified with Phone OTP")),
        (Some(_), None) => magic_link::send_magic_link(cx, body).await,
        (None, Some(_)) if !cx.settings().external_phone_enabled => {
            let error = Error::new(ErrorCode::PhoneProviderDisabled, "Unsupported phone provider");
            Err(error.with_status(http::StatusCode::BAD_REQUEST))
        }
        (None, Some(_)) => Err(Error::new(ErrorCode::SmsSendFailed, "Messages cannot be sent by this version")),
        (None, None) => Err(Error::invalid("One of email or phone must be set")),
    }
}
