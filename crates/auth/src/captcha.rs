//! Captchas of projects that ask for them: hCaptcha and Turnstile.

use std::time::Duration;

use bytes::Bytes;
use outbound::{ConfiguredBy, Request};
use serde::Deserialize;
use url::{Url, form_urlencoded};

use crate::cx::Cx;
use crate::error::{Error, ErrorCode};

const TIMEOUT: Duration = Duration::from_secs(10);
const LARGEST: usize = 64 * 1024;

/// Where a captcha is checked.
fn verifier(provider: &str) -> Option<&'static str> {
    match provider {
        "hcaptcha" => Some("https://hcaptcha.com/siteverify"),
        "turnstile" => Some("https://challenges.cloudflare.com/turnstile/v0/siteverify"),
        _ => None,
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Params {
    gotrue_meta_security: Security,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Security {
    captcha_token: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Verdict {
    success: bool,
    #[serde(rename = "error-codes")]
    error_codes: Vec<String>,
}

/// Refuses a request without a captcha that was solved, where the project asks for one.
pub(crate) async fn check(cx: &Cx, body: &Bytes) -> Result<(), Error> {
    let settings = cx.settings();
    if !settings.security_captcha_enabled || cx.is_admin() {
        return Ok(());
    }
    let refused =
        |why: &str| Error::new(ErrorCode::CaptchaFailed, format!("captcha protection: request disallowed ({why})"));
    // A body that is no object of this shape has no token in it.
    let params: Params = serde_json::from_slice(body).unwrap_or_default();
    let token = params.gotrue_meta_security.captcha_token.filter(|token| !token.trim().is_empty());
    let token = token.ok_or_else(|| refused("no captcha_token found"))?;
    let unusable = || Error::new(ErrorCode::UnexpectedFailure, "The captcha protection of this project is not set up");
    let provider = settings.security_captcha_provider.as_deref().unwrap_or_default();
    let address = match &cx.shared.config.captcha_verifier {
        Some(address) => address.as_str(),
        None => verifier(provider).ok_or_else(unusable)?,
    };
    let url = Url::parse(address).map_err(|error| unusable().because(error))?;
    let secret = settings.security_captcha_secret.as_ref().ok_or_else(unusable)?;
    let form = form_urlencoded::Serializer::new(String::new())
        .append_pair("secret", secret.expose())
        .append_pair("response", token.trim())
        .append_pair("remoteip", &cx.client_ip.to_canonical().to_string())
        .finish();
    let mut request = Request::post(url, "application/x-www-form-urlencoded", form);
    (request.timeout, request.most_bytes) = (TIMEOUT, LARGEST);
    let project = cx.project.project_ref.as_str();
    // The address is ours, not the project's.
    let answer = cx.shared.config.outbound.send(ConfiguredBy::Operator, project, request).await;
    let failed = || Error::new(ErrorCode::UnexpectedFailure, "captcha verification process failed");
    let answer = answer.map_err(|error| failed().because(error))?;
    let verdict: Verdict = serde_json::from_slice(&answer.body).map_err(|error| failed().because(error))?;
    if verdict.success {
        return Ok(());
    }
    let why: String = verdict.error_codes.join(", ").chars().filter(|c| !c.is_control()).take(100).collect();
    Err(refused(if why.is_empty() { "captcha-not-verified" } else { &why }))
}
