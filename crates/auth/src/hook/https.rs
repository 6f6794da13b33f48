//! Hooks that are addresses on the web: signed POSTs in the format of Standard Webhooks.

use std::time::Duration;

use base::Clock;
use base::auth_settings::HookSettings;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as B64;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use outbound::{Client, ConfiguredBy, Request};
use ring::hmac;
use serde_json::Value;
use url::Url;

use crate::error::{Error, ErrorCode};
use crate::session;

/// How long a hook may take, tries and pauses together, and how large its answer may be (GoTrue's).
const TIMEOUT: Duration = Duration::from_secs(5);
const LARGEST: usize = 200 * 1024;
const TRIES: usize = 3;
const PAUSE: Duration = Duration::from_millis(500);

/// What a secret begins with; behind it is base64.
const SECRET_PREFIX: &str = "v1,whsec_";

/// Calls a hook of a project and returns what it answered; null for an empty answer.
pub(crate) async fn call(
    client: &Client,
    clock: &Clock,
    project: &str,
    name: &str,
    hook: &HookSettings,
    event: &Value,
) -> Result<Value, Error> {
    let failed = |what: String| Error::new(ErrorCode::UnexpectedFailure, what);
    let url = Url::parse(&hook.uri).map_err(|_| failed(format!("The {name} hook has no usable address")))?;
    let id = format!("msg_{}", session::new_id().simple());
    let body = event.to_string();
    let headers = signed_headers(hook, &id, clock.unix_seconds(), &body)
        .ok_or_else(|| failed(format!("The {name} hook has no usable secret to sign with")))?;
    let tries = async {
        for _ in 1..TRIES {
            let answer = once(client, project, name, &url, &headers, &body).await?;
            // Whoever is busy and wants to be asked again says so.
            let again = matches!(answer.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
                && answer.headers.contains_key(header::RETRY_AFTER);
            if !again {
                return understood(name, &answer);
            }
            tokio::time::sleep(PAUSE).await;
        }
        let answer = once(client, project, name, &url, &headers, &body).await?;
        understood(name, &answer)
    };
    match tokio::time::timeout(TIMEOUT, tries).await {
        Ok(result) => result,
        Err(_) => Err(timed_out(name)),
    }
}

fn timed_out(name: &str) -> Error {
    Error::new(ErrorCode::HookTimeout, format!("Failed to reach the {name} hook within maximum time"))
}

async fn once(
    client: &Client,
    project: &str,
    name: &str,
    url: &Url,
    headers: &HeaderMap,
    body: &str,
) -> Result<outbound::Response, Error> {
    let mut request = Request::post(url.clone(), "application/json", body.to_owned());
    request.headers.extend(headers.clone());
    request.timeout = TIMEOUT;
    request.most_bytes = LARGEST;
    client.send(ConfiguredBy::Project, project, request).await.map_err(|error| match error {
        outbound::Error::Timeout => timed_out(name),
        outbound::Error::TooLarge => {
            Error::new(ErrorCode::HookPayloadOverSizeLimit, format!("The answer of the {name} hook is too large"))
        }
        // Whoever signs in need not know what the project has set up where.
        error => Error::new(ErrorCode::UnexpectedFailure, format!("The {name} hook cannot be called")).because(error),
    })
}

fn understood(name: &str, answer: &outbound::Response) -> Result<Value, Error> {
    let failed = |what: String| Err(Error::new(ErrorCode::UnexpectedFailure, what));
    match answer.status {
        StatusCode::OK | StatusCode::ACCEPTED | StatusCode::NO_CONTENT if answer.body.is_empty() => Ok(Value::Null),
        StatusCode::OK | StatusCode::ACCEPTED => {
            let kind =
                answer.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
            let kind = kind.split(';').next().unwrap_or_default().trim();
            if !kind.eq_ignore_ascii_case("application/json") {
                let what =
                    format!("Invalid JSON response from the {name} hook: its content type is not application/json");
                return Err(Error::new(ErrorCode::HookPayloadInvalidContentType, what));
            }
            serde_json::from_slice(&answer.body)
                .or_else(|_| failed(format!("The answer of the {name} hook is no JSON")))
        }
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            let what = format!("Service currently unavailable due to the {name} hook");
            Err(Error::new(ErrorCode::HookTimeoutAfterRetry, what))
        }
        StatusCode::BAD_REQUEST => failed(format!("Invalid payload sent to the {name} hook")),
        StatusCode::UNAUTHORIZED => failed(format!("The {name} hook requires another authorization")),
        status => failed(format!("Unexpected status code returned from the {name} hook: {}", status.as_u16())),
    }
}

/// The headers of Standard Webhooks, with a signature for each secret: secrets follow each other with overlap.
fn signed_headers(hook: &HookSettings, id: &str, timestamp: i64, body: &str) -> Option<HeaderMap> {
    let secrets = hook.secrets.as_ref().map(|secrets| secrets.expose().as_str()).unwrap_or_default();
    let message = format!("{id}.{timestamp}.{body}");
    let signatures: Vec<String> = secrets
        .split('|')
        .filter_map(|secret| B64.decode(secret.trim().strip_prefix(SECRET_PREFIX)?).ok())
        .filter(|key| !key.is_empty())
        .map(|key| {
            format!("v1,{}", B64.encode(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), message.as_bytes())))
        })
        .collect();
    if signatures.is_empty() {
        return None;
    }
    let mut headers = HeaderMap::new();
    headers.insert("webhook-id", HeaderValue::try_from(id).ok()?);
    headers.insert("webhook-timestamp", HeaderValue::from(timestamp));
    headers.insert("webhook-signature", HeaderValue::try_from(signatures.join(" ")).ok()?);
    Some(headers)
}

#[cfg(test)]
mod tests {
    use base::Secret;

    use super::*;

    #[test]
    fn signatures_are_those_of_standard_webhooks() {
        let hook = |secrets: &str| HookSettings { uri: String::new(), secrets: Some(Secret::new(secrets.to_owned())) };
        // The example of the specification's reference libraries.
        let own = hook("v1,whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let headers =
            signed_headers(&own, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#).unwrap();
        assert_eq!(headers["webhook-signature"], "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert_eq!(headers["webhook-timestamp"], "1614265330");
        let two = signed_headers(&hook("v1,whsec_YWFh|v1,whsec_YmJi"), "msg_1", 0, "{}").unwrap();
        assert_eq!(two["webhook-signature"].to_str().unwrap().split(' ').count(), 2);
        for bad in ["", "whsec_YWFh", "v1,whsec_", "v1,whsec_%%%"] {
            assert!(signed_headers(&hook(bad), "msg_1", 0, "{}").is_none(), "{bad}");
        }
    }
}
