//! Hooks that are addresses on the web, and captchas: real servers on loopback.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use base::Secret;
use base::auth_settings::HookSettings;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as B64;
use http::StatusCode;
use ring::hmac;
use serde_json::{Value, json};

use super::server::{Key, Server};
use super::{ANN, PASSWORD};

const SECRET: &str = "v1,whsec_bXkgc2VjcmV0IG9mIHRoZSBob29r";

type Heard = Arc<Mutex<Vec<(http::HeaderMap, Value)>>>;

/// A server that answers every POST with the same, and remembers what it heard.
pub(super) async fn listener(answer: impl Fn() -> Response + Clone + Send + Sync + 'static) -> (String, Heard) {
    let heard: Heard = Arc::default();
    let remembers = heard.clone();
    let router = Router::new().fallback(move |request: Request| {
        let (heard, answer) = (remembers.clone(), answer.clone());
        async move {
            let (parts, body) = request.into_parts();
            let bytes = axum::body::to_bytes(body, 1 << 20).await.unwrap();
            let text = Value::from(String::from_utf8_lossy(&bytes).into_owned());
            heard.lock().unwrap().push((parts.headers, text));
            answer()
        }
    });
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", socket.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(socket, router).await.unwrap() });
    (url, heard)
}

async fn server(name: &str, uri: &str) -> Server {
    let hook = HookSettings { uri: uri.to_owned(), secrets: Some(Secret::new(SECRET.to_owned())) };
    Server::with(|settings| drop(settings.hooks.insert(name.to_owned(), hook))).await
}

#[tokio::test]
async fn an_access_token_hook_on_the_web_is_signed_and_heard() {
    let (url, heard) = listener(|| {
        let claims = json!({
            "aud": "authenticated", "exp": 9_999_999_999u64, "iat": 1, "sub": "changed", "email": "", "phone": "", "role": "authenticated",
            "aal": "aal1", "session_id": "", "is_anonymous": false, "plan": "gold",
        });
        axum::Json(json!({ "claims": claims })).into_response()
    })
    .await;
    let server = server("custom_access_token", &url).await;
    let user = server.user(ANN, PASSWORD).await;
    let session = server.sign_in(ANN, PASSWORD).await.expect(200);
    let claims = server.claims(session.text("access_token"));
    assert_eq!((&claims["plan"], &claims["sub"]), (&json!("gold"), &user["id"]));
    let (headers, body) = heard.lock().unwrap()[0].clone();
    let text = |name: &str| headers[name].to_str().unwrap().to_owned();
    let body = body.as_str().unwrap();
    let message = format!("{}.{}.{body}", text("webhook-id"), text("webhook-timestamp"));
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"my secret of the hook");
    let expected = format!("v1,{}", B64.encode(hmac::sign(&key, message.as_bytes())));
    assert_eq!(text("webhook-signature"), expected);
    assert_eq!(serde_json::from_str::<Value>(body).unwrap()["user_id"], user["id"]);
}

#[tokio::test]
async fn what_a_hook_answers_decides() {
    type Case = (fn() -> Response, u16, &'static str);
    let cases: Vec<Case> = vec![
        (|| axum::Json(json!({})).into_response(), 200, ""),
        (|| StatusCode::NO_CONTENT.into_response(), 200, ""),
        (
            || axum::Json(json!({"error": {"http_code": 403, "message": "not you"}})).into_response(),
            403,
            "unexpected_failure",
        ),
        (|| StatusCode::INTERNAL_SERVER_ERROR.into_response(), 500, "unexpected_failure"),
        (|| "text".into_response(), 400, "hook_payload_invalid_content_type"),
        (|| axum::Json("x".repeat(300_000)).into_response(), 422, "hook_payload_over_size_limit"),
        (|| (StatusCode::FOUND, [("location", "http://127.0.0.1:1/")]).into_response(), 500, "unexpected_failure"),
        (
            || (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "true")]).into_response(),
            422,
            "hook_timeout_after_retry",
        ),
    ];
    for (i, (answer, status, code)) in cases.into_iter().enumerate() {
        let (url, heard) = listener(answer).await;
        let server = server("before_user_created", &url).await;
        let answer = server.call("POST", "/signup", Key::Anon, super::credentials()).await;
        assert_eq!((answer.status, answer.code()), (status, code), "case {i}: {}", answer.body);
        let users = server.count("select count(*) from auth.users").await;
        assert_eq!(users, i64::from(status == 200), "case {i}");
        assert_eq!(heard.lock().unwrap().len(), if code == "hook_timeout_after_retry" { 3 } else { 1 });
    }
}

#[tokio::test]
async fn a_hook_without_a_secret_or_at_a_private_address_is_not_called() {
    let (url, heard) = listener(|| axum::Json(json!({})).into_response()).await;
    let mut server = server("before_user_created", &url).await;
    let closed = server.closed().await;
    let answer = closed.call("POST", "/signup", Key::Anon, super::credentials()).await;
    // Whoever signs up does not learn where the project has its hooks.
    assert!(!answer.body.to_string().contains("127.0.0.1"), "{}", answer.body);
    assert_eq!(answer.expect(500).code(), "unexpected_failure");
    server.set(|settings| settings.hooks.get_mut("before_user_created").unwrap().secrets = None);
    server.call("POST", "/signup", Key::Anon, super::credentials()).await.expect(500);
    assert!(heard.lock().unwrap().is_empty());
}
