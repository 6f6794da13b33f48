//! The platform API as the commands use it.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;

use crate::exit::{self, Exit, ResultExt as _};

/// Speaks to one server as one owner.
pub struct Client {
    agent: ureq::Agent,
    /// Without a slash at its end.
    url: String,
    token: Option<String>,
    /// For services that only processes of the installation may ask.
    internal_key: Option<String>,
}

/// An answer of the API: its text as it came, and read.
pub struct Answer {
    pub text: String,
    pub json: Value,
}

impl Client {
    /// A client for the server at `url`.
    pub fn new(url: &str, token: Option<String>) -> Result<Self, Exit> {
        let parsed = url::Url::parse(url)
            .with_context(|| format!("\"{url}\" is no URL: write it as https://db.example.org"))
            .exit(exit::USAGE)?;
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(Exit::message(exit::USAGE, format!("\"{url}\" is no http or https URL")));
        }
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(Duration::from_secs(10)))
            // Provisioning without a spare and SQL of the owner may take long; the server has limits of its own.
            .timeout_global(Some(Duration::from_secs(600)))
            .user_agent(concat!("launchdb/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Self { agent: config.into(), url: url.trim_end_matches('/').to_owned(), token, internal_key: None })
    }

    /// The same client with the installation's internal key.
    pub fn with_internal_key(self, key: String) -> Self {
        Self { internal_key: Some(key), ..self }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn get(&self, path: &str) -> Result<Answer, Exit> {
        self.call("GET", path, None)
    }

    pub fn post(&self, path: &str, body: &Value) -> Result<Answer, Exit> {
        self.call("POST", path, Some(body))
    }

    pub fn patch(&self, path: &str, body: &Value) -> Result<Answer, Exit> {
        self.call("PATCH", path, Some(body))
    }

    pub fn delete(&self, path: &str) -> Result<Answer, Exit> {
        self.call("DELETE", path, None)
    }

    /// One request; an answer of 400 or more becomes an error with the exit code that fits.
    pub fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Answer, Exit> {
        let (status, text) = self.send(method, path, body)?;
        let json = serde_json::from_str(&text).unwrap_or(Value::Null);
        if (200..300).contains(&status) {
            return Ok(Answer { text, json });
        }
        Err(refusal(status, &json, &text))
    }

    /// One request; the answer whatever its status.
    pub fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Result<(u16, String), Exit> {
        let url = format!("{}{path}", self.url);
        let mut request = http::Request::builder().method(method).uri(&url).header("accept", "application/json");
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Some(key) = &self.internal_key {
            request = request.header("x-internal-key", key);
        }
        let result = match body {
            Some(body) => request
                .header("content-type", "application/json")
                .body(body.to_string())
                .map_err(anyhow::Error::from)
                .map(|request| self.agent.run(request)),
            None => request.body(()).map_err(anyhow::Error::from).map(|request| self.agent.run(request)),
        };
        let mut response = result
            .with_context(|| format!("{url} is no address a request can be sent to"))
            .exit(exit::USAGE)?
            .map_err(anyhow::Error::from)
            .with_context(|| {
                format!("no server answers at {}: is it running? (launchdb status, launchdb doctor)", self.url)
            })
            .exit(exit::UNREACHABLE)?;
        let text = response
            .body_mut()
            .with_config()
            .limit(256 * 1024 * 1024)
            .read_to_string()
            .context("the server's answer broke off")
            .exit(exit::UNREACHABLE)?;
        Ok((response.status().as_u16(), text))
    }
}

/// The error for a refused request, in the server's words.
pub fn refusal(status: u16, json: &Value, text: &str) -> Exit {
    let error = &json["error"];
    let mut message = match error["message"].as_str() {
        Some(message) => message.to_owned(),
        None => format!("the server answered {status}: {}", text.chars().take(200).collect::<String>().trim()),
    };
    match &error["details"] {
        Value::Array(details) => {
            for detail in details {
                let line = match detail {
                    Value::String(line) => line.clone(),
                    Value::Object(object) => object.values().map(super::output::cell).collect::<Vec<_>>().join(": "),
                    other => other.to_string(),
                };
                message.push_str(&format!("\n  {line}"));
            }
        }
        Value::String(details) if !details.is_empty() => message.push_str(&format!("\n  {details}")),
        Value::Object(details) => {
            for (name, detail) in details.iter().filter(|(_, detail)| !detail.is_null()) {
                message.push_str(&format!("\n  {name}: {}", super::output::cell(detail)));
            }
        }
        _ => {}
    }
    let code = match status {
        401 | 403 => exit::NOT_ALLOWED,
        404 | 410 => exit::NOT_FOUND,
        400 | 409 | 413 | 415 | 422 => exit::REFUSED,
        _ => exit::FAILURE,
    };
    if status == 401 {
        message.push_str(
            "\n  mend: launchdb login --url URL EMAIL, pass an owner's token with --token or LAUNCHDB_TOKEN, or name the \
             data folder with --data",
        );
    }
    Exit::message(code, message)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn refusals_carry_the_servers_words_and_a_code() {
        let body =
            json!({"error": {"code": "invalid", "message": "bad settings", "details": ["max_rows: too big", "x"]}});
        let exit = refusal(400, &body, "");
        assert_eq!(exit.code, exit::REFUSED);
        assert_eq!(exit.error.to_string(), "bad settings\n  max_rows: too big\n  x");
        let sql = json!({"error": {"message": "no such table", "details": {"sqlstate": "42P01", "hint": null}}});
        assert_eq!(refusal(400, &sql, "").error.to_string(), "no such table\n  sqlstate: 42P01");
        for (status, code) in
            [(401, exit::NOT_ALLOWED), (404, exit::NOT_FOUND), (409, exit::REFUSED), (503, exit::FAILURE)]
        {
            assert_eq!(refusal(status, &Value::Null, "gone").code, code);
        }
        assert!(refusal(502, &Value::Null, "<html>").error.to_string().contains("502"));
    }

    #[test]
    fn nobody_at_home_is_unreachable() {
        let client = Client::new("http://127.0.0.1:9/", None).unwrap();
        assert_eq!(client.get("/api/health").err().unwrap().code, exit::UNREACHABLE);
        assert_eq!(Client::new("db.example.org", None).err().unwrap().code, exit::USAGE);
    }
}
