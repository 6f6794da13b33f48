//! SMS services that send for projects without a hook, each over its own HTTP interface: Twilio, MessageBird, Vonage and
//! Textlocal. A service is a row of data: where it is, what is asked of it, and where its answer says that it will do so.

use std::time::Duration;

use base::AuthSettings;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as B64;
use http::{HeaderValue, header};
use outbound::{ConfiguredBy, Request, Response};
use serde_json::Value;
use url::{Url, form_urlencoded};

use crate::cx::Cx;
use crate::error::{Error, ErrorCode};

/// As long as a hook on the web may take.
const TIMEOUT: Duration = Duration::from_secs(5);
const LARGEST: usize = 64 * 1024;

/// One message: the number without a plus sign, and the words.
struct Message<'a> {
    phone: &'a str,
    text: &'a str,
}

type Form = Vec<(&'static str, String)>;

/// Path, form and `Authorization`.
type Call = (String, Form, Option<String>);

/// How a service is asked, and how its answer is read.
struct Service {
    name: &'static str,
    host: &'static str,
    /// An error is the name of a setting that is missing.
    ask: fn(&AuthSettings, &Message<'_>) -> Result<Call, &'static str>,
    /// What is wrong, as a code of the service's, where it does not send.
    refusal: fn(&Response, &Value) -> Option<String>,
}

const SERVICES: [Service; 4] = [
    Service { name: "twilio", host: "https://api.twilio.com", ask: ask_twilio, refusal: refusal_of_twilio },
    Service {
        name: "messagebird",
        host: "https://rest.messagebird.com",
        ask: ask_messagebird,
        refusal: refusal_of_messagebird,
    },
    Service { name: "vonage", host: "https://rest.nexmo.com", ask: ask_vonage, refusal: refusal_of_vonage },
    Service { name: "textlocal", host: "https://api.textlocal.in", ask: ask_textlocal, refusal: refusal_of_textlocal },
];

fn setting(settings: &AuthSettings, name: &'static str) -> Result<String, &'static str> {
    let text = settings.all.get(name).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty());
    text.map(str::to_owned).ok_or(name)
}

fn secret(settings: &AuthSettings, name: &'static str) -> Result<String, &'static str> {
    let text = settings.secrets.get(name).map(|secret| secret.expose().trim()).filter(|text| !text.is_empty());
    text.map(str::to_owned).ok_or(name)
}

fn code(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.chars().filter(|c| c.is_ascii_alphanumeric()).take(20).collect(),
        other => other.to_string().chars().take(20).collect(),
    }
}

fn ask_twilio(settings: &AuthSettings, message: &Message<'_>) -> Result<Call, &'static str> {
    let sid = setting(settings, "sms_twilio_account_sid")?;
    let token = secret(settings, "sms_twilio_auth_token")?;
    let sender = setting(settings, "sms_twilio_message_service_sid")?;
    // A service of theirs that chooses the sender, or a sender.
    let from = if sender.starts_with("MG") { "MessagingServiceSid" } else { "From" };
    let form = vec![("To", format!("+{}", message.phone)), (from, sender), ("Body", message.text.to_owned())];
    let account: String = form_urlencoded::byte_serialize(sid.as_bytes()).collect();
    let basic = format!("Basic {}", B64.encode(format!("{sid}:{token}")));
    Ok((format!("/2010-04-01/Accounts/{account}/Messages.json"), form, Some(basic)))
}

fn refusal_of_twilio(answer: &Response, body: &Value) -> Option<String> {
    if !answer.status.is_success() {
        return Some(code(&body["code"]));
    }
    let failed = matches!(body["status"].as_str(), None | Some("failed" | "undelivered"));
    failed.then(|| code(&body["error_code"]))
}

fn ask_messagebird(settings: &AuthSettings, message: &Message<'_>) -> Result<Call, &'static str> {
    let key = secret(settings, "sms_messagebird_access_key")?;
    let form = vec![
        ("originator", setting(settings, "sms_messagebird_originator")?),
        ("body", message.text.to_owned()),
        ("recipients", message.phone.to_owned()),
        ("type", "sms".to_owned()),
        ("datacoding", "unicode".to_owned()),
    ];
    Ok(("/messages".to_owned(), form, Some(format!("AccessKey {key}"))))
}

fn refusal_of_messagebird(_: &Response, body: &Value) -> Option<String> {
    let sent = body["recipients"]["totalSentCount"].as_u64().unwrap_or_default();
    (sent == 0).then(|| code(&body["errors"][0]["code"]))
}

fn ask_vonage(settings: &AuthSettings, message: &Message<'_>) -> Result<Call, &'static str> {
    let mut form = vec![
        ("from", setting(settings, "sms_vonage_from")?),
        ("to", message.phone.to_owned()),
        ("text", message.text.to_owned()),
        ("api_key", setting(settings, "sms_vonage_api_key")?),
        ("api_secret", secret(settings, "sms_vonage_api_secret")?),
    ];
    if !message.text.is_ascii() {
        form.push(("type", "unicode".to_owned()));
    }
    Ok(("/sms/json".to_owned(), form, None))
}

/// Every part of a long message has a status of its own.
fn refusal_of_vonage(_: &Response, body: &Value) -> Option<String> {
    let parts = body["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    if parts.is_empty() {
        return Some(code(&Value::Null));
    }
    parts.iter().find(|part| part["status"] != "0").map(|part| code(&part["status"]))
}

fn ask_textlocal(settings: &AuthSettings, message: &Message<'_>) -> Result<Call, &'static str> {
    let form = vec![
        ("sender", setting(settings, "sms_textlocal_sender")?),
        ("apikey", secret(settings, "sms_textlocal_api_key")?),
        ("message", message.text.to_owned()),
        ("numbers", message.phone.to_owned()),
    ];
    Ok(("/send".to_owned(), form, None))
}

fn refusal_of_textlocal(_: &Response, body: &Value) -> Option<String> {
    let sent = body["status"] == "success" && body["errors"].as_array().is_none_or(Vec::is_empty);
    (!sent).then(|| code(&body["errors"][0]["code"]))
}

/// Sends a message through the service that the project has set up; what is missing or refused is an error.
pub(super) async fn send(cx: &Cx, phone: &str, text: &str) -> Result<(), Error> {
    let failed = |what: String| Error::new(ErrorCode::SmsSendFailed, what);
    let settings = cx.settings();
    let name = settings.sms_provider.as_deref().filter(|name| !name.is_empty()).ok_or_else(|| {
        failed("Messages cannot be sent: the project has neither a hook that sends them (hook_send_sms_uri) nor an sms_provider".to_owned())
    })?;
    let service = SERVICES.iter().find(|service| service.name == name);
    let service = service.ok_or_else(|| {
        failed(format!("Messages cannot be sent: this server does not speak to {name}; the hook send_sms may"))
    })?;
    let message = Message { phone, text };
    let (path, form, authorization) = (service.ask)(settings, &message)
        .map_err(|missing| failed(format!("Messages cannot be sent: the setting {missing} is missing")))?;
    let host = cx.shared.config.sms_service.as_deref().unwrap_or(service.host);
    let unusable = || failed(format!("Messages cannot be sent: {name} is not set up well"));
    let url = Url::parse(&format!("{host}{path}")).map_err(|error| unusable().because(error))?;
    let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    let mut request = Request::post(url, "application/x-www-form-urlencoded", form);
    (request.timeout, request.most_bytes) = (TIMEOUT, LARGEST);
    request.headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    if let Some(authorization) = authorization {
        let mut value = HeaderValue::try_from(authorization).map_err(|error| unusable().because(error))?;
        value.set_sensitive(true);
        request.headers.insert(header::AUTHORIZATION, value);
    }
    let project = cx.project.project_ref.as_str();
    // The address is ours, not the project's.
    let answer = cx.shared.config.outbound.send(ConfiguredBy::Operator, project, request).await;
    let answer =
        answer.map_err(|error| failed(format!("Error sending the message: {name} did not answer")).because(error))?;
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    match (service.refusal)(&answer, &body) {
        None => Ok(()),
        Some(code) => {
            let status = answer.status.as_u16();
            let what = format!("Error sending the message: {name} refused it (status {status}, code {code})");
            let words: String = String::from_utf8_lossy(&answer.body).chars().take(300).collect();
            Err(failed(what).because(words))
        }
    }
}
