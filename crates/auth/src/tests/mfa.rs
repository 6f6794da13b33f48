//! Second factors.

use serde_json::{Value, json};

use super::server::{Answer, Key, Server, hook};
use super::{ANN, PASSWORD};
use crate::mfa::code_at;

async fn server() -> (Server, String) {
    let server = Server::with(|settings| {
        settings.mfa_phone_enroll_enabled = true;
        settings.mfa_phone_verify_enabled = true;
        settings.mfa_phone_max_frequency = 0;
        settings.sms_max_frequency = 0;
        settings.rate_limit_sms_sent = 1_000;
        settings.hooks.insert("send_sms".to_owned(), hook("send_sms"));
    })
    .await;
    server
        .database
        .execute(
            "create table public.sent (event jsonb); grant all on public.sent to supabase_auth_admin;
             create function public.send_sms(event jsonb) returns jsonb language sql
                as 'insert into public.sent values (event); select ''{}''::jsonb';
             grant execute on function public.send_sms to supabase_auth_admin",
        )
        .await;
    server.user(ANN, PASSWORD).await;
    let token = server.sign_in(ANN, PASSWORD).await.expect(200).text("access_token").to_owned();
    (server, token)
}

async fn enroll(server: &Server, token: &str, name: &str) -> (String, String) {
    let body = json!({"factor_type": "totp", "friendly_name": name});
    let answer = server.call("POST", "/factors", Key::User(token), body).await.expect(200);
    let totp = &answer.body["totp"];
    assert!(totp["qr_code"].as_str().unwrap().starts_with("<svg"), "{totp}");
    assert!(totp["uri"].as_str().unwrap().starts_with("otpauth://totp/app.example.org:ann%40example.org?"), "{totp}");
    (answer.text("id").to_owned(), totp["secret"].as_str().unwrap().to_owned())
}

async fn challenge(server: &Server, token: &str, factor: &str) -> String {
    let path = format!("/factors/{factor}/challenge");
    let answer = server.call("POST", &path, Key::User(token), json!({})).await.expect(200);
    assert!(answer.body["expires_at"].as_i64().unwrap() > server.clock.unix_seconds());
    answer.text("id").to_owned()
}

async fn verify(server: &Server, token: &str, factor: &str, challenge: &str, code: &str) -> Answer {
    let body = json!({"challenge_id": challenge, "code": code});
    server.call("POST", &format!("/factors/{factor}/verify"), Key::User(token), body).await
}

#[tokio::test]
async fn a_code_raises_the_session_and_ends_the_plain_ones() {
    let (server, token) = server().await;
    let elsewhere = server.sign_in(ANN, PASSWORD).await.expect(200);
    let (factor, secret) = enroll(&server, &token, "phone").await;
    let asked = challenge(&server, &token, &factor).await;
    assert_eq!(verify(&server, &token, &factor, &asked, "000000").await.expect(422).code(), "mfa_verification_failed");
    let code = code_at(&secret, server.clock.unix_seconds());
    let raised = verify(&server, &token, &factor, &asked, &code).await.expect(200);
    let claims = server.claims(raised.text("access_token"));
    assert_eq!(claims["aal"], "aal2");
    let methods: Vec<&str> = claims["amr"].as_array().unwrap().iter().map(|m| m["method"].as_str().unwrap()).collect();
    assert!(methods.contains(&"totp") && methods.contains(&"password"), "{methods:?}");
    assert_eq!(claims["session_id"], server.claims(&token)["session_id"]);
    assert_eq!(raised.body["user"]["factors"][0]["status"], "verified");
    // The session of assurance level 1 elsewhere has ended; this one goes on at its level.
    assert_eq!(server.refresh(elsewhere.text("refresh_token")).await.status, 400);
    let refreshed = server.refresh(raised.text("refresh_token")).await.expect(200);
    assert_eq!(server.claims(refreshed.text("access_token"))["aal"], "aal2");
    // A new session begins at level 1, and may neither enroll nor unenroll.
    let plain = server.sign_in(ANN, PASSWORD).await.expect(200).text("access_token").to_owned();
    assert_eq!(server.claims(&plain)["aal"], "aal1");
    let body = json!({"factor_type": "totp"});
    assert_eq!(server.call("POST", "/factors", Key::User(&plain), body).await.expect(403).code(), "insufficient_aal");
    let path = format!("/factors/{factor}");
    let answer = server.call("DELETE", &path, Key::User(&plain), Value::Null).await;
    assert_eq!(answer.expect(422).code(), "insufficient_aal");
    let raised = refreshed.text("access_token");
    assert_eq!(server.call("DELETE", &path, Key::User(raised), Value::Null).await.expect(200).text("id"), factor);
    let user = server.call("GET", "/user", Key::User(raised), Value::Null).await.expect(200);
    assert!(user.body.get("factors").is_none(), "{}", user.body);
}

#[tokio::test]
async fn a_code_is_good_once_whatever_the_challenge() {
    let (server, token) = server().await;
    let (factor, secret) = enroll(&server, &token, "").await;
    let asked = challenge(&server, &token, &factor).await;
    let now = server.clock.unix_seconds();
    let code = code_at(&secret, now);
    // Of fifty at once one gets through.
    let all = (0..12).map(|_| verify(&server, &token, &factor, &asked, &code));
    let answers = futures_util::future::join_all(all).await;
    let raised: Vec<&Answer> = answers.iter().filter(|answer| answer.status == 200).collect();
    assert_eq!(raised.len(), 1, "{answers:?}");
    let token = raised[0].text("access_token").to_owned();
    let again = challenge(&server, &token, &factor).await;
    for stale in [code.clone(), code_at(&secret, now - 30)] {
        let answer = verify(&server, &token, &factor, &again, &stale).await;
        assert_eq!(answer.expect(422).code(), "mfa_verification_failed");
    }
    server.clock.advance(60);
    let fresh = code_at(&secret, server.clock.unix_seconds());
    verify(&server, &token, &factor, &again, &fresh).await.expect(200);
}

#[tokio::test]
async fn challenges_expire_and_belong_to_one_factor() {
    let (server, token) = server().await;
    let (one, one_secret) = enroll(&server, &token, "one").await;
    let (two, _) = enroll(&server, &token, "two").await;
    let asked = challenge(&server, &token, &one).await;
    let code = code_at(&one_secret, server.clock.unix_seconds());
    let check = async |factor: &str, challenge: &str, code: &str, status: u16, expected: &str| {
        let answer = verify(&server, &token, factor, challenge, code).await;
        assert_eq!((answer.status, answer.code()), (status, expected), "{}", answer.body);
    };
    check(&two, &asked, &code, 404, "mfa_factor_not_found").await;
    check(&one, "00000000-0000-4000-8000-000000000000", &code, 404, "mfa_factor_not_found").await;
    check(&one, "x", &code, 404, "mfa_factor_not_found").await;
    check(&one, &asked, "", 400, "validation_failed").await;
    check("x", &asked, &code, 404, "validation_failed").await;
    server.clock.advance(301);
    let late = code_at(&one_secret, server.clock.unix_seconds());
    check(&one, &asked, &late, 422, "mfa_challenge_expired").await;
}

#[tokio::test]
async fn factors_are_counted_named_and_switched_off() {
    let (mut server, token) = server().await;
    server.set(|settings| settings.mfa_max_enrolled_factors = 2);
    enroll(&server, &token, "a").await;
    let post = async |server: &Server, body: Value| server.call("POST", "/factors", Key::User(&token), body).await;
    let answer = post(&server, json!({"factor_type": "totp", "friendly_name": "a"})).await;
    assert_eq!(answer.expect(422).code(), "mfa_factor_name_conflict");
    enroll(&server, &token, "b").await;
    let answer = post(&server, json!({"factor_type": "totp", "friendly_name": "c"})).await;
    assert_eq!(answer.expect(422).code(), "too_many_enrolled_mfa_factors");
    // What nobody proved is forgotten after a while.
    server.clock.advance(301);
    enroll(&server, &token, "a").await;
    server.set(|settings| settings.mfa_totp_enroll_enabled = false);
    for (body, status, code) in [
        (json!({"factor_type": "totp"}), 422, "mfa_totp_enroll_not_enabled"),
        (json!({"factor_type": "webauthn"}), 422, "mfa_webauthn_enroll_not_enabled"),
        (json!({"factor_type": "phone", "phone": "x"}), 400, "validation_failed"),
        (json!({"factor_type": "fingerprint"}), 400, "validation_failed"),
        (json!({}), 400, "validation_failed"),
        (json!({"factor_type": 7}), 400, "bad_json"),
    ] {
        let answer = post(&server, body.clone()).await;
        assert_eq!((answer.status, answer.code()), (status, code), "{body}: {}", answer.body);
    }
    assert_eq!(server.call("POST", "/factors", Key::Anon, json!({})).await.status, 403);
}

#[tokio::test]
async fn tries_are_limited_whatever_the_session() {
    let (server, token) = server().await;
    let (factor, _) = enroll(&server, &token, "").await;
    let mut refused = 0;
    for _ in 0..40 {
        let asked = server.call("POST", &format!("/factors/{factor}/challenge"), Key::User(&token), json!({})).await;
        let asked = asked.body["id"].as_str().unwrap_or_default().to_owned();
        let answer = verify(&server, &token, &factor, &asked, "000000").await;
        refused += usize::from(answer.status == 429);
    }
    assert!(refused >= 20, "{refused}");
}

#[tokio::test]
async fn a_phone_is_a_second_factor_too() {
    let (server, token) = server().await;
    let body = json!({"factor_type": "phone", "phone": "+49 151 123", "friendly_name": "mobile"});
    let enrolled = server.call("POST", "/factors", Key::User(&token), body.clone()).await.expect(200);
    assert_eq!((enrolled.text("phone"), enrolled.text("type")), ("49151123", "phone"));
    let factor = enrolled.text("id").to_owned();
    let asked = challenge(&server, &token, &factor).await;
    let client = server.database.connect().await;
    let row =
        client.query_one("select event->'sms'->>'otp', event->'sms'->>'phone' from public.sent", &[]).await.unwrap();
    let (code, phone): (String, String) = (row.get(0), row.get(1));
    assert_eq!((code.len(), phone.as_str()), (6, "49151123"));
    let dump: String =
        client.query_one("select string_agg(c::text, '') from auth.mfa_challenges c", &[]).await.unwrap().get(0);
    assert!(!dump.contains(&code), "{dump}");
    assert_eq!(verify(&server, &token, &factor, &asked, "1").await.expect(422).code(), "mfa_verification_failed");
    let raised = verify(&server, &token, &factor, &asked, &code).await.expect(200);
    assert_eq!(server.claims(raised.text("access_token"))["aal"], "aal2");
    let token = raised.text("access_token");
    assert_eq!(verify(&server, token, &factor, &asked, &code).await.expect(422).code(), "mfa_challenge_expired");
    let again = server.call("POST", "/factors", Key::User(token), body).await;
    assert_eq!(again.expect(422).code(), "mfa_verified_factor_exists");
}

#[tokio::test]
async fn a_hook_may_refuse_and_sign_out() {
    let (mut server, token) = server().await;
    server
        .database
        .execute(
            "create function public.never(event jsonb) returns jsonb language sql
                as 'select jsonb_build_object(''decision'', ''reject'', ''message'', ''too many'')';
             grant execute on function public.never to supabase_auth_admin",
        )
        .await;
    let (factor, secret) = enroll(&server, &token, "").await;
    let asked = challenge(&server, &token, &factor).await;
    server.set(|settings| drop(settings.hooks.insert("mfa_verification_attempt".to_owned(), hook("never"))));
    let code = code_at(&secret, server.clock.unix_seconds());
    let answer = verify(&server, &token, &factor, &asked, &code).await;
    assert_eq!(answer.expect(403).code(), "mfa_verification_rejected");
    let answer = server.call("GET", "/user", Key::User(&token), Value::Null).await;
    assert_eq!(answer.expect(403).code(), "session_not_found");
}

#[tokio::test]
async fn a_security_key_is_a_second_factor() {
    use crate::webauthn::soft_authenticator::SoftAuthenticator;
    let (mut server, token) = server().await;
    server.set(|settings| {
        settings.mfa_web_authn_enroll_enabled = true;
        settings.mfa_web_authn_verify_enabled = true;
    });
    let body = json!({"factor_type": "webauthn", "friendly_name": "key"});
    let factor = server.call("POST", "/factors", Key::User(&token), body).await.expect(200).text("id").to_owned();
    let challenge = async |server: &Server, token: &str, origin: &str| {
        let site = json!({"factorId": factor, "webauthn": {"rpId": "example.org", "rpOrigins": [origin]}});
        server.call("POST", &format!("/factors/{factor}/challenge"), Key::User(token), site).await
    };
    let verify = async |server: &Server, token: &str, asked: &Answer, kind: &str, answer: Value| {
        let body = json!({"challenge_id": asked.text("id"), "webauthn": {"type": kind, "credential_response": answer}});
        server.call("POST", &format!("/factors/{factor}/verify"), Key::User(token), body).await
    };
    let mut key = SoftAuthenticator::new("https://app.example.org");
    // Not a site of the project.
    challenge(&server, &token, "https://evil.example.org").await.expect(400);
    let asked = challenge(&server, &token, "https://app.example.org").await.expect(200);
    assert_eq!(asked.body["webauthn"]["type"], "create");
    let made = key.create(&asked.body["webauthn"]["credential_options"]);
    let raised = verify(&server, &token, &asked, "create", made.clone()).await.expect(200);
    let token = raised.text("access_token").to_owned();
    assert_eq!(server.claims(&token)["aal"], "aal2");
    let answer = verify(&server, &token, &asked, "create", made).await;
    assert_eq!(answer.expect(422).code(), "mfa_challenge_expired");
    // From now on the key is asked for.
    let plain = server.sign_in(ANN, PASSWORD).await.expect(200).text("access_token").to_owned();
    let asked = challenge(&server, &plain, "https://app.example.org").await.expect(200);
    assert_eq!(asked.body["webauthn"]["type"], "request");
    let options = asked.body["webauthn"]["credential_options"].clone();
    let stranger = SoftAuthenticator::new("https://app.example.org").get(&options);
    let answer = verify(&server, &plain, &asked, "request", stranger).await;
    assert_eq!(answer.expect(422).code(), "mfa_verification_failed");
    let raised = verify(&server, &plain, &asked, "request", key.get(&options)).await.expect(200);
    let claims = server.claims(raised.text("access_token"));
    assert_eq!((&claims["aal"], &claims["amr"][0]["method"]), (&json!("aal2"), &json!("mfa/webauthn")));
}
