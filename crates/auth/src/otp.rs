//! `POST /otp`: a code by mail or message.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::contact;
use crate::cx::Cx;
use crate::error::Error;
use crate::magic_link;
use crate::phone;
use crate::request;

#[derive(Default, Deserialize)]
#[serde(default)]
struct OtpParams {
    email: Option<String>,
    phone: Option<String>,
    channel: Option<String>,
    create_user: Option<bool>,
    data: Option<Map<String, Value>>,
}

pub(crate) async fn send_otp(cx: &Cx, body: &Bytes) -> Result<axum::response::Response, Error> {
    let params: OtpParams = request::params(body)?;
    let email = request::text("email", params.email.as_ref())?;
    let number = request::text("phone", params.phone.as_ref())?;
    let channel = request::text("channel", params.channel.as_ref())?;
    match (email, number) {
        (Some(_), Some(_)) => Err(Error::invalid("Only an email address or phone number should be provided")),
        (Some(_), None) if channel.is_some() => Err(Error::invalid("Channel should only be specified with Phone OTP")),
        (Some(_), None) => magic_link::send_magic_link(cx, body).await,
        (None, Some(number)) => {
            phone::require_enabled(cx, "Unsupported phone provider")?;
            let number = contact::phone(Some(number))?;
            let data = params.data.clone().unwrap_or_default();
            phone::send_otp(cx, &number, params.create_user != Some(false), &data).await
        }
        (None, None) => Err(Error::invalid("One of email or phone must be set")),
    }
}
