//! Bad input at each endpoint: GoTrue's codes, in both shapes.

use super::*;

#[tokio::test]
async fn every_endpoint_says_what_is_wrong() {
    let server = Server::start().await;
    server.user(ANN, PASSWORD).await;
    let long = "x".repeat(300);
    let password = "/token?grant_type=password";
    let refresh = "/token?grant_type=refresh_token";
    check(
        &server,
        &[
            ("POST", "/signup", json!({}), 422, "anonymous_provider_disabled"),
            ("POST", "/signup", json!({ "email": "x", "password": PASSWORD }), 400, "validation_failed"),
            ("POST", "/signup", json!({ "email": format!("{long}@x.org"), "password": PASSWORD }), 400, "validation_failed"),
            ("POST", "/signup", json!({ "email": "b@x.org" }), 400, "validation_failed"),
            ("POST", "/signup", json!({ "email": "b@x.org", "password": "" }), 400, "validation_failed"),
            ("POST", "/signup", json!({ "email": "b@x.org", "password": "short" }), 422, "weak_password"),
            ("POST", "/signup", json!({ "email": "b@x.org", "password": long }), 400, "validation_failed"),
            ("POST", "/signup", json!({ "email": 1, "password": PASSWORD }), 400, "bad_json"),
            ("POST", "/signup", json!({ "email": "b@x.org", "password": PASSWORD, "data": [] }), 400, "bad_json"),
            ("POST", "/signup", json!({ "email": "b@x.org", "phone": "4915112345", "password": PASSWORD }), 400, "validation_failed"),
            ("POST", "/signup", json!({ "phone": "4915112345", "password": PASSWORD }), 400, "phone_provider_disabled"),
            ("POST", "/signup", json!({ "email": "b@x.org", "password": PASSWORD, "data": { "a": "\0" } }), 400, "validation_failed"),
            ("POST", "/signup", json!({ "email": "b@x.org", "password": PASSWORD, "code_challenge": "x" }), 400, "validation_failed"),
            ("POST", "/signup", json!({ "email": "b@x.org", "password": PASSWORD, "code_challenge": "x", "code_challenge_method": "s256" }), 400, "validation_failed"),
            ("POST", "/token", json!({}), 400, "invalid_credentials"),
            ("POST", "/token?grant_type=nonsense", json!({}), 400, "invalid_credentials"),
            ("POST", password, json!({}), 400, "validation_failed"),
            ("POST", password, json!({ "email": ANN, "phone": "1" }), 400, "validation_failed"),
            ("POST", password, json!({ "email": ANN }), 400, "invalid_credentials"),
            ("POST", password, json!({ "email": ANN, "password": null }), 400, "invalid_credentials"),
            ("POST", password, json!({ "email": ANN, "password": "x".repeat(10_000) }), 400, "invalid_credentials"),
            ("POST", password, json!({ "email": "' or 1=1 --", "password": "x" }), 400, "invalid_credentials"),
            ("POST", password, json!({ "email": "a\0b", "password": "x" }), 400, "validation_failed"),
            ("POST", password, json!({ "phone": "4915112345", "password": "x" }), 422, "phone_provider_disabled"),
            ("POST", refresh, json!({}), 400, "validation_failed"),
            ("POST", refresh, json!({ "refresh_token": "abcdefghijkl" }), 400, "refresh_token_not_found"),
            ("POST", refresh, json!({ "refresh_token": "short" }), 400, "validation_failed"),
            ("POST", refresh, json!({ "refresh_token": ["x"] }), 400, "bad_json"),
            ("POST", "/token?grant_type=pkce", json!({}), 400, "validation_failed"),
            ("POST", "/token?grant_type=pkce", json!({ "auth_code": "x", "code_verifier": "y" }), 404, "flow_state_not_found"),
            ("POST", "/recover", json!({}), 400, "validation_failed"),
            ("POST", "/recover", json!({ "email": "x" }), 400, "validation_failed"),
            ("POST", "/recover", json!({ "email": "a@b.cd\r\nBcc: x@y.zz" }), 400, "validation_failed"),
            ("POST", "/otp", json!({}), 400, "validation_failed"),
            ("POST", "/otp", json!({ "email": ANN, "phone": "1" }), 400, "validation_failed"),
            ("POST", "/otp", json!({ "email": ANN, "channel": "sms" }), 400, "validation_failed"),
            ("POST", "/otp", json!({ "phone": "4915112345" }), 400, "phone_provider_disabled"),
            ("POST", "/magiclink", json!({}), 400, "validation_failed"),
            ("POST", "/resend", json!({}), 400, "validation_failed"),
            ("POST", "/resend", json!({ "type": "signup" }), 400, "validation_failed"),
            ("POST", "/resend", json!({ "type": "x", "email": ANN }), 400, "validation_failed"),
            ("POST", "/verify", json!({}), 400, "validation_failed"),
            ("POST", "/verify", json!({ "type": "x", "token_hash": "y" }), 400, "validation_failed"),
            ("POST", "/verify", json!({ "type": "email" }), 400, "validation_failed"),
            ("POST", "/verify", json!({ "type": "email", "token": "1", "token_hash": "2" }), 400, "validation_failed"),
            ("POST", "/verify", json!({ "type": "email", "token_hash": "y", "email": ANN }), 400, "validation_failed"),
            ("POST", "/verify", json!({ "type": "email", "token": "123456" }), 400, "validation_failed"),
            ("POST", "/verify", json!({ "type": "sms", "token": "123456", "email": ANN }), 400, "validation_failed"),
            ("POST", "/verify", json!({ "type": "email", "token": "123456", "email": ANN }), 403, "otp_expired"),
            ("POST", "/verify", json!({ "type": "email", "token_hash": "nonsense" }), 403, "otp_expired"),
            ("GET", "/verify", Value::Null, 400, "validation_failed"),
            ("GET", "/verify?type=signup", Value::Null, 400, "validation_failed"),
            ("GET", "/user", Value::Null, 403, "bad_jwt"),
            ("PUT", "/user", json!({}), 403, "bad_jwt"),
            ("POST", "/logout", Value::Null, 403, "bad_jwt"),
            ("GET", "/reauthenticate", Value::Null, 403, "bad_jwt"),
            ("GET", "/nonsense", Value::Null, 404, "not_found"),
            ("DELETE", "/user", Value::Null, 405, "method_not_allowed"),
            ("GET", "/token", Value::Null, 405, "method_not_allowed"),
        ],
    )
    .await;
    assert_eq!(server.count("select count(*) from auth.users").await, 1);
}

#[tokio::test]
async fn errors_have_the_shape_that_was_asked_for() {
    let server = Server::start().await;
    let body = json!({ "email": "b@x.org", "password": "short" });
    let old = server.call("POST", "/signup", Key::Anon, body.clone()).await;
    let text = "Password should be at least 6 characters.";
    assert_eq!(
        old.body,
        json!({ "code": 422, "error_code": "weak_password", "msg": text, "weak_password": { "reasons": ["length"] } })
    );
    let version = [("x-supabase-api-version", "2024-01-01")];
    let new = server.call_with("POST", "/signup", Key::Anon, &version, body).await;
    assert_eq!(
        new.body,
        json!({ "code": "weak_password", "message": text, "weak_password": { "reasons": ["length"] } })
    );
    assert_eq!(new.headers["x-supabase-api-version"], "2024-01-01");
}

#[tokio::test]
async fn bodies_are_json_of_a_bounded_size() {
    let server = Server::start().await;
    let call = async |body: String| server.raw("POST", "/signup", Key::Anon, &[], body).await;
    for body in ["", "{", "[]", "null", "\"x\"", "{\"email\":\"a@b.cd\"", "\u{0}"] {
        let answer = call(body.to_owned()).await;
        assert_eq!((answer.status, answer.code()), (400, "bad_json"), "{body:?}");
    }
    let large = json!({ "email": "b@x.org", "password": PASSWORD, "data": { "x": "y".repeat(2 << 20) } });
    let answer = call(large.to_string()).await;
    assert_eq!((answer.status, answer.code()), (413, "request_entity_too_large"));
    let deep = format!("{{\"data\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
    assert_eq!(call(deep).await.code(), "bad_json");
}

#[tokio::test]
async fn what_is_switched_off_is_refused() {
    let server = Server::with(|settings| {
        settings.disable_signup = true;
        settings.external_anonymous_users_enabled = true;
    })
    .await;
    check(
        &server,
        &[
            ("POST", "/signup", credentials(), 422, "signup_disabled"),
            ("POST", "/signup", json!({}), 422, "signup_disabled"),
            ("POST", "/otp", json!({ "email": ANN }), 422, "signup_disabled"),
        ],
    )
    .await;
    let server = Server::with(|settings| settings.external_email_enabled = false).await;
    check(
        &server,
        &[
            ("POST", "/signup", credentials(), 400, "email_provider_disabled"),
            ("POST", "/token?grant_type=password", credentials(), 422, "email_provider_disabled"),
            ("POST", "/recover", json!({ "email": ANN }), 422, "email_provider_disabled"),
            ("POST", "/otp", json!({ "email": ANN }), 422, "email_provider_disabled"),
        ],
    )
    .await;
    let server = Server::with(|settings| settings.security_captcha_enabled = true).await;
    check(&server, &[("POST", "/signup", credentials(), 400, "captcha_failed")]).await;
}

#[tokio::test]
async fn limits_hold_for_clients_and_addresses() {
    let server = Server::with(|settings| {
        settings.smtp_max_frequency = 60;
        settings.rate_limit_verify = 3;
        settings.rate_limit_email_sent = 4;
    })
    .await;
    server.user(ANN, PASSWORD).await;
    // Known or not, the answers are the same.
    for email in [ANN, "nobody@example.org"] {
        let body = json!({ "email": email });
        server.call("POST", "/recover", Key::Anon, body.clone()).await.expect(200);
        let soon = server.call("POST", "/recover", Key::Anon, body).await;
        assert_eq!((soon.status, soon.code()), (429, "over_email_send_rate_limit"), "{email}");
        assert!(soon.text("msg").starts_with("For security purposes, you can only request this after"));
        assert!(soon.headers.contains_key("retry-after"));
    }
    server.clock.advance(61);
    server.call("POST", "/recover", Key::Anon, json!({ "email": ANN })).await.expect(200);
    for n in 0..2 {
        server.clock.advance(61);
        let answer = server.call("POST", "/recover", Key::Anon, json!({ "email": ANN })).await;
        assert_eq!(answer.code(), ["", "over_email_send_rate_limit"][n], "{n}");
    }
    let body = json!({ "type": "recovery", "token_hash": "x" });
    for n in 0..4 {
        let answer = server.call("POST", "/verify", Key::Anon, body.clone()).await;
        assert_eq!(answer.code(), if n < 3 { "otp_expired" } else { "over_request_rate_limit" }, "{n}");
    }
}
