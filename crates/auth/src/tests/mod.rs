//! Tests of the service over its requests, each with a database of its own.

mod account_attacks;
mod admin;
mod attacks;
mod bad_input;
mod captcha;
mod concurrency;
mod email_change;
mod flows;
mod hooks;
mod https_hooks;
mod identity_attacks;
mod mails;
mod mfa;
mod one_time_tokens;
mod passkeys;
mod phone;
mod plain_providers;
mod provider_attacks;
mod providers;
mod server;
mod sessions;
mod sweep;
mod token_attacks;
mod tokens;

use serde_json::{Value, json};

use server::{Answer, Key, Server};

/// Requests one after the other, each with the status and the error code that it has to get; "" is none.
async fn check(server: &Server, cases: &[(&str, &str, Value, u16, &str)]) {
    for (method, path, body, status, code) in cases {
        let answer = server.call(method, path, Key::Anon, body.clone()).await;
        assert_eq!((answer.status, answer.code()), (*status, *code), "{method} {path} {body}: {}", answer.body);
    }
}

/// An address that no other test has; each has a database of its own, so any would do.
const ANN: &str = "ann@example.org";
const PASSWORD: &str = "correct horse battery";

fn credentials() -> Value {
    json!({ "email": ANN, "password": PASSWORD })
}
