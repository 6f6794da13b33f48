//! Captchas of projects that ask for them.

use axum::response::IntoResponse as _;
use base::Secret;
use serde_json::{Value, json};

use super::https_hooks::listener;
use super::server::{Key, Server, Services};
use super::{ANN, PASSWORD};

async fn server(address: &str) -> Server {
    let services = Services { captcha_verifier: Some(address), ..Services::default() };
    Server::with_services(services, |settings| {
        settings.security_captcha_enabled = true;
        settings.security_captcha_provider = Some("hcaptcha".to_owned());
        settings.security_captcha_secret = Some(Secret::new("a secret & more".to_owned()));
    })
    .await
}

fn with_token(mut body: Value, token: &str) -> Value {
    body["gotrue_meta_security"] = json!({ "captcha_token": token });
    body
}

#[tokio::test]
async fn strangers_solve_one_and_administrators_do_not() {
    let (url, heard) = listener(|| axum::Json(json!({"success": true})).into_response()).await;
    let server = server(&url).await;
    server.user(ANN, PASSWORD).await;
    let body = json!({"email": ANN, "password": PASSWORD});
    let sign_in = "/token?grant_type=password";
    for without in [body.clone(), with_token(body.clone(), " ")] {
        let answer = server.call("POST", sign_in, Key::Anon, without).await;
        assert_eq!(answer.expect(400).code(), "captcha_failed");
    }
    assert!(heard.lock().unwrap().is_empty());
    let session = server.call("POST", sign_in, Key::Anon, with_token(body, "solved")).await.expect(200);
    let form = heard.lock().unwrap()[0].1.as_str().unwrap().to_owned();
    assert_eq!(form, "secret=a+secret+%26+more&response=solved&remoteip=192.0.2.7");
    // What refreshes a session has been behind one.
    server.refresh(session.text("refresh_token")).await.expect(200);
    for path in ["/signup", "/otp", "/recover", "/magiclink"] {
        let answer = server.call("POST", path, Key::Anon, json!({"email": ANN, "password": PASSWORD})).await;
        assert_eq!(answer.expect(400).code(), "captcha_failed", "{path}");
    }
}

#[tokio::test]
async fn one_that_is_not_solved_is_refused_and_a_service_that_fails_too() {
    let (url, _) =
        listener(|| axum::Json(json!({"success": false, "error-codes": ["timeout-or-duplicate"]})).into_response())
            .await;
    let answer = server(&url).await.call("POST", "/recover", Key::Anon, with_token(json!({"email": ANN}), "x")).await;
    assert_eq!(answer.code(), "captcha_failed");
    assert!(answer.text("msg").contains("timeout-or-duplicate"));
    let (url, _) = listener(|| "no JSON".into_response()).await;
    let answer = server(&url).await.call("POST", "/recover", Key::Anon, with_token(json!({"email": ANN}), "x")).await;
    assert_eq!(answer.expect(500).code(), "unexpected_failure");
}
