//! Passkeys, with an authenticator in software.

use super::*;
use crate::webauthn::soft_authenticator::SoftAuthenticator;

/// Somebody is there (1), and it is its owner (4).
const VERIFIED: u8 = 1 | 4;

async fn server() -> Server {
    let server = Server::with(|settings| settings.passkey_enabled = true).await;
    server.user(ANN, PASSWORD).await;
    server
}

fn authenticator() -> SoftAuthenticator {
    let mut key = SoftAuthenticator::new("https://app.example.org");
    key.flags = VERIFIED;
    key
}

async fn token(server: &Server, email: &str) -> String {
    server.sign_in(email, PASSWORD).await.expect(200).text("access_token").to_owned()
}

async fn options(server: &Server, what: &str, key: Key<'_>) -> (String, Value) {
    let asked = server.clock.unix_seconds();
    let answer = server.call("POST", &format!("/passkeys/{what}/options"), key, json!({})).await.expect(200);
    let expires_at = answer.body["expires_at"].as_i64().unwrap();
    assert!((asked + 300..=server.clock.unix_seconds() + 300).contains(&expires_at), "{expires_at}");
    (answer.text("challenge_id").to_owned(), json!({ "publicKey": answer.body["options"] }))
}

async fn verify(server: &Server, what: &str, key: Key<'_>, challenge: &str, credential: &Value) -> Answer {
    let body = json!({ "challenge_id": challenge, "credential": credential });
    server.call("POST", &format!("/passkeys/{what}/verify"), key, body).await
}

async fn register(server: &Server, token: &str, key: &mut SoftAuthenticator) -> Answer {
    let (challenge, options) = options(server, "registration", Key::User(token)).await;
    verify(server, "registration", Key::User(token), &challenge, &key.create(&options)).await
}

async fn sign_in(server: &Server, key: &mut SoftAuthenticator) -> Answer {
    let (challenge, options) = options(server, "authentication", Key::Anon).await;
    verify(server, "authentication", Key::Anon, &challenge, &key.get(&options)).await
}

#[tokio::test]
async fn a_passkey_is_registered_used_named_and_removed() {
    let server = server().await;
    let token = token(&server, ANN).await;
    let mut key = authenticator();
    let (challenge, asked) = options(&server, "registration", Key::User(&token)).await;
    let public = &asked["publicKey"];
    assert_eq!(public["rp"], json!({ "id": "app.example.org", "name": "app.example.org" }));
    assert_eq!(public["user"]["name"], ANN);
    assert_eq!(
        (&public["authenticatorSelection"]["residentKey"], &public["excludeCredentials"]),
        (&json!("required"), &json!([]))
    );
    let made = key.create(&asked);
    let passkey = verify(&server, "registration", Key::User(&token), &challenge, &made).await.expect(200);
    assert_eq!(passkey.text("friendly_name"), "Passkey");
    assert!(passkey.body["created_at"].is_string() && passkey.body.get("last_used_at").is_none(), "{}", passkey.body);
    // Once more: the challenge is used up, and the same credential is not taken twice.
    let again = verify(&server, "registration", Key::User(&token), &challenge, &made).await.expect(400);
    assert_eq!(again.code(), "webauthn_challenge_not_found");
    assert_eq!(register(&server, &token, &mut key).await.expect(422).code(), "webauthn_credential_exists");

    let (challenge, asked) = options(&server, "authentication", Key::Anon).await;
    assert_eq!(
        (&asked["publicKey"]["rpId"], &asked["publicKey"]["allowCredentials"]),
        (&json!("app.example.org"), &json!([]))
    );
    let proof = key.get(&asked);
    let session = verify(&server, "authentication", Key::Anon, &challenge, &proof).await.expect(200);
    assert_eq!(session.body["user"]["email"], ANN);
    let claims = server.claims(session.text("access_token"));
    assert_eq!((&claims["aal"], &claims["amr"][0]["method"]), (&json!("aal1"), &json!("passkey")));
    server.refresh(session.text("refresh_token")).await.expect(200);
    let replayed = verify(&server, "authentication", Key::Anon, &challenge, &proof).await.expect(400);
    assert_eq!(replayed.code(), "webauthn_challenge_not_found");

    let path = format!("/passkeys/{}", passkey.text("id"));
    let renamed =
        server.call("PATCH", &path, Key::User(&token), json!({ "friendly_name": "Laptop" })).await.expect(200);
    assert_eq!(renamed.text("friendly_name"), "Laptop");
    let listed = server.call("GET", "/passkeys", Key::User(&token), Value::Null).await.expect(200).body;
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["friendly_name"]), (1, &json!("Laptop")));
    assert!(listed[0]["last_used_at"].is_string() && listed[0].get("public_key").is_none(), "{listed}");
    server.call("DELETE", &path, Key::User(&token), Value::Null).await.expect(204);
    assert_eq!(sign_in(&server, &mut key).await.expect(400).code(), "webauthn_verification_failed");
    let actions = "select count(*) from auth.audit_log_entries where payload->>'action' like 'passkey_%'";
    assert_eq!(server.count(actions).await, 3);
}

#[tokio::test]
async fn answers_that_prove_nothing_sign_nobody_in() {
    let server = server().await;
    let token = token(&server, ANN).await;
    let mut key = authenticator();
    register(&server, &token, &mut key).await.expect(200);
    let other = server.user("bob@example.org", PASSWORD).await;
    let refused = async |key: &mut SoftAuthenticator, what: &str| {
        let answer = sign_in(&server, key).await;
        assert_eq!((answer.status, answer.code()), (400, "webauthn_verification_failed"), "{what}: {}", answer.body);
        // In the same words whatever is wrong.
        assert_eq!(answer.text("msg"), "Credential verification failed", "{what}");
    };
    let mut stranger = authenticator();
    stranger.user_handle = key.user_handle.clone();
    refused(&mut stranger, "an authenticator that nobody knows").await;
    let handle = key.user_handle.clone();
    for wrong in [Value::Null, json!("AAAA"), {
        use base64::Engine as _;
        json!(base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(other["id"].as_str().unwrap()))
    }] {
        key.user_handle = wrong;
        refused(&mut key, "another user's name").await;
    }
    key.user_handle = handle;
    for (flags, what) in [
        (0, "nobody there"),
        (1, "its owner not verified"),
        (4, "verified, and not there"),
        (VERIFIED | 16, "backed up"),
    ] {
        key.flags = flags;
        refused(&mut key, what).await;
    }
    key.flags = VERIFIED;
    key.origin = "https://evil.example".to_owned();
    refused(&mut key, "another site").await;
    key.origin = "https://app.example.org".to_owned();
    sign_in(&server, &mut key).await.expect(200);
    key.count = 1;
    refused(&mut key, "a copy").await;
    key.count = 100;
    // An answer to one ceremony is none to another, and a registration's is none to a sign-in.
    let (_, asked) = options(&server, "authentication", Key::Anon).await;
    let proof = key.get(&asked);
    let (another, _) = options(&server, "authentication", Key::Anon).await;
    let answer = verify(&server, "authentication", Key::Anon, &another, &proof).await;
    assert_eq!(answer.expect(400).code(), "webauthn_verification_failed");
    let (registration, _) = options(&server, "registration", Key::User(&token)).await;
    let answer = verify(&server, "authentication", Key::Anon, &registration, &proof).await;
    assert_eq!(answer.expect(400).code(), "webauthn_challenge_not_found");
    // Too late.
    let (challenge, asked) = options(&server, "authentication", Key::Anon).await;
    server.clock.advance(301);
    let answer = verify(&server, "authentication", Key::Anon, &challenge, &key.get(&asked)).await;
    assert_eq!(answer.expect(400).code(), "webauthn_challenge_expired");
}

#[tokio::test]
async fn one_ceremony_answered_by_twenty_is_one_session() {
    let server = server().await;
    let token = token(&server, ANN).await;
    let mut key = authenticator();
    register(&server, &token, &mut key).await.expect(200);
    let (challenge, asked) = options(&server, "authentication", Key::Anon).await;
    let proof = key.get(&asked);
    let all = (0..20).map(|_| verify(&server, "authentication", Key::Anon, &challenge, &proof));
    let answers = futures_util::future::join_all(all).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1);
    assert_eq!(server.count("select count(*) from auth.sessions").await, 2);
}

#[tokio::test]
async fn passkeys_are_their_owners() {
    let server = server().await;
    let ann = token(&server, ANN).await;
    server.user("bob@example.org", PASSWORD).await;
    let bob = token(&server, "bob@example.org").await;
    let mut key = authenticator();
    let passkey = register(&server, &ann, &mut key).await.expect(200).text("id").to_owned();
    let path = format!("/passkeys/{passkey}");
    for (method, body) in [("PATCH", json!({ "friendly_name": "mine" })), ("DELETE", Value::Null)] {
        let answer = server.call(method, &path, Key::User(&bob), body).await;
        assert_eq!((answer.status, answer.code()), (404, "validation_failed"), "{method}");
    }
    // A ceremony that Ann began is no way to give Bob a key.
    let (challenge, asked) = options(&server, "registration", Key::User(&ann)).await;
    let answer = verify(&server, "registration", Key::User(&bob), &challenge, &authenticator().create(&asked)).await;
    assert_eq!(answer.expect(400).code(), "webauthn_challenge_not_found");
    assert_eq!(server.call("GET", "/passkeys", Key::User(&bob), Value::Null).await.expect(200).body, json!([]));
    for (method, path) in
        [("GET", "/passkeys"), ("POST", "/passkeys/registration/options"), ("POST", "/passkeys/registration/verify")]
    {
        let answer = server.call(method, path, Key::Anon, json!({})).await;
        assert_eq!((answer.status, answer.code()), (403, "bad_jwt"), "{path}");
    }
    let user = server.claims(&ann)["sub"].as_str().unwrap().to_owned();
    let path = format!("/admin/users/{user}/passkeys");
    let listed = server.call("GET", &path, Key::Secret, Value::Null).await.expect(200);
    assert_eq!(listed.body[0]["id"], passkey.as_str());
    let one = format!("{path}/{passkey}");
    server.call("DELETE", &one, Key::Secret, Value::Null).await.expect(204);
    server.call("DELETE", &one, Key::Secret, Value::Null).await.expect(404);
    assert_eq!(sign_in(&server, &mut key).await.status, 400);
}

#[tokio::test]
async fn who_may_not_sign_in_does_not_with_a_passkey_either() {
    let server = server().await;
    let ann = token(&server, ANN).await;
    let mut key = authenticator();
    register(&server, &ann, &mut key).await.expect(200);
    let user = format!("/admin/users/{}", server.claims(&ann)["sub"].as_str().unwrap());
    server.call("PUT", &user, Key::Secret, json!({ "ban_duration": "24h" })).await.expect(200);
    assert_eq!(sign_in(&server, &mut key).await.expect(403).code(), "user_banned");
    server.call("PUT", &user, Key::Secret, json!({ "ban_duration": "none" })).await.expect(200);
    server.database.execute("update auth.users set email_confirmed_at = null").await;
    assert_eq!(sign_in(&server, &mut key).await.expect(403).code(), "email_not_confirmed");
    let answer = server.call("POST", "/passkeys/registration/options", Key::User(&ann), json!({})).await;
    assert_eq!(answer.expect(403).code(), "email_not_confirmed");
    server.database.execute("update auth.users set email_confirmed_at = now()").await;
    sign_in(&server, &mut key).await.expect(200);
    server.call("DELETE", &user, Key::Secret, json!({ "should_soft_delete": true })).await.expect(200);
    assert_eq!(sign_in(&server, &mut key).await.expect(400).code(), "webauthn_verification_failed");
}

#[tokio::test]
async fn a_second_factor_guards_passkeys_and_their_number_is_bounded() {
    let server = server().await;
    let plain = token(&server, ANN).await;
    let first = register(&server, &plain, &mut authenticator()).await.expect(200).text("id").to_owned();
    for _ in 1..10 {
        register(&server, &plain, &mut authenticator()).await.expect(200);
    }
    let answer = server.call("POST", "/passkeys/registration/options", Key::User(&plain), json!({})).await;
    assert_eq!(answer.expect(422).code(), "too_many_passkeys");
    let user = server.claims(&plain)["sub"].as_str().unwrap().to_owned();
    let factor = format!(
        "insert into auth.mfa_factors (id, user_id, factor_type, status, secret, created_at, updated_at)
            values (gen_random_uuid(), '{user}', 'totp', 'verified', 'x', now(), now())"
    );
    server.database.execute(&factor).await;
    for (method, path) in [
        ("POST", "/passkeys/registration/options".to_owned()),
        ("POST", "/passkeys/registration/verify".to_owned()),
        ("DELETE", format!("/passkeys/{first}")),
    ] {
        let answer = server.call(method, &path, Key::User(&plain), json!({})).await;
        assert_eq!((answer.status, answer.code()), (403, "insufficient_aal"), "{method} {path}");
    }
}

#[tokio::test]
async fn bad_input_is_refused_by_name() {
    let mut server = server().await;
    let ann = token(&server, ANN).await;
    let zero = "00000000-0000-4000-8000-000000000000";
    for what in ["registration", "authentication"] {
        for (body, status, code) in [
            (json!({}), 400, "validation_failed"),
            (json!({ "challenge_id": zero }), 400, "validation_failed"),
            (json!({ "challenge_id": "x", "credential": {} }), 400, "validation_failed"),
            (json!({ "challenge_id": zero, "credential": {} }), 400, "webauthn_verification_failed"),
            (json!({ "challenge_id": zero, "credential": null }), 400, "validation_failed"),
            (json!({ "challenge_id": 7 }), 400, "bad_json"),
        ] {
            let answer = server.call("POST", &format!("/passkeys/{what}/verify"), Key::User(&ann), body.clone()).await;
            assert_eq!((answer.status, answer.code()), (status, code), "{what} {body}: {}", answer.body);
        }
    }
    for (path, body, status, code) in [
        (format!("/passkeys/{zero}"), json!({ "friendly_name": "x" }), 404, "validation_failed"),
        ("/passkeys/x".to_owned(), json!({ "friendly_name": "x" }), 404, "validation_failed"),
        (format!("/passkeys/{zero}"), json!({}), 400, "validation_failed"),
        (format!("/passkeys/{zero}"), json!({ "friendly_name": "x".repeat(121) }), 400, "validation_failed"),
        (format!("/passkeys/{zero}"), json!({ "friendly_name": "a\u{0}b" }), 400, "validation_failed"),
        (format!("/passkeys/{zero}"), json!([]), 400, "bad_json"),
    ] {
        let answer = server.call("PATCH", &path, Key::User(&ann), body.clone()).await;
        assert_eq!((answer.status, answer.code()), (status, code), "{path} {body}: {}", answer.body);
    }
    assert_eq!(server.call("PUT", "/passkeys", Key::User(&ann), json!({})).await.status, 404);
    // A site that does not fit together is the project's mistake, and said so.
    server.set(|settings| settings.webauthn_rp_id = Some("elsewhere.example".to_owned()));
    let answer = server.call("POST", "/passkeys/authentication/options", Key::Anon, json!({})).await;
    assert!(answer.text("msg").contains("webauthn_rp_id") && answer.status == 500, "{}", answer.body);
    server.set(|settings| {
        settings.webauthn_rp_id = Some("example.org".to_owned());
        settings.webauthn_rp_origins = Some("https://one.example.org, https://two.example.org/".to_owned());
    });
    let mut key = authenticator();
    key.origin = "https://two.example.org".to_owned();
    register(&server, &ann, &mut key).await.expect(200);
    sign_in(&server, &mut key).await.expect(200);
    // Without the setting there are none.
    server.set(|settings| settings.passkey_enabled = false);
    for (method, path, key) in [
        ("POST", "/passkeys/authentication/options", Key::Anon),
        ("POST", "/passkeys/authentication/verify", Key::Anon),
        ("GET", "/passkeys", Key::User(&ann)),
        ("GET", "/admin/users/00000000-0000-4000-8000-000000000000/passkeys", Key::Secret),
    ] {
        let answer = server.call(method, path, key, json!({})).await;
        assert_eq!((answer.status, answer.code()), (404, "passkey_disabled"), "{path}");
    }
}
