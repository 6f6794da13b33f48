//! What mails carry: recovery, magic links, invitations, nonces; and what is stored of it.

use super::*;

#[tokio::test]
async fn recovery_by_link_and_by_code() {
    let server = Server::start().await;
    server.user(ANN, PASSWORD).await;
    for by_code in [false, true] {
        server.call("POST", "/recover", Key::Anon, json!({ "email": ANN })).await.expect(200);
        let mail = server.last_mail().await;
        assert_eq!(mail.kind, "recovery");
        let token = if by_code {
            let body = json!({ "type": "recovery", "email": ANN, "token": mail.code() });
            server.call("POST", "/verify", Key::Anon, body).await.expect(200).text("access_token").to_owned()
        } else {
            let followed = server.call("GET", mail.link(), Key::Nothing, Value::Null).await.expect(303);
            let fragment = followed.location().split_once('#').unwrap().1.to_owned();
            assert!(fragment.contains("type=recovery"), "{fragment}");
            fragment.split('&').find_map(|part| part.strip_prefix("access_token=")).unwrap().to_owned()
        };
        let password = format!("a new password {by_code}");
        server.call("PUT", "/user", Key::User(&token), json!({ "password": password })).await.expect(200);
        server.sign_in(ANN, &password).await.expect(200);
    }
}

#[tokio::test]
async fn a_mail_signs_known_and_new_users_in() {
    let server = Server::start().await;
    server.user(ANN, PASSWORD).await;
    for (email, kind) in [(ANN, "magic_link"), ("new@example.org", "confirmation")] {
        server.call("POST", "/otp", Key::Anon, json!({ "email": email, "data": { "x": 1 } })).await.expect(200);
        let mail = server.last_mail().await;
        assert_eq!((mail.kind.as_str(), mail.recipient.as_str()), (kind, email));
        let body = json!({ "type": "email", "email": email, "token": mail.code() });
        let session = server.call("POST", "/verify", Key::Anon, body).await.expect(200);
        assert_eq!(session.body["user"]["email"], email);
        assert!(session.body["user"]["email_confirmed_at"].is_string());
    }
    let none = json!({ "email": "nobody@example.org", "create_user": false });
    let refused = server.call("POST", "/otp", Key::Anon, none).await;
    assert_eq!((refused.status, refused.code()), (422, "otp_disabled"));
    // The token of an application's own link.
    server.call("POST", "/magiclink", Key::Anon, json!({ "email": ANN })).await.expect(200);
    let hash = server.last_mail().await.token().to_owned();
    let body = json!({ "type": "email", "token_hash": hash });
    server.call("POST", "/verify", Key::Anon, body).await.expect(200);
}

#[tokio::test]
async fn resending_replaces_the_code() {
    let server = Server::start().await;
    server.call("POST", "/signup", Key::Anon, credentials()).await.expect(200);
    let first = server.last_mail().await;
    server.call("POST", "/resend", Key::Anon, json!({ "type": "signup", "email": ANN })).await.expect(200);
    let second = server.last_mail().await;
    assert_eq!(server.mails().await.len(), 2);
    let verify = async |token: &str| {
        let body = json!({ "type": "signup", "token_hash": token });
        server.call("POST", "/verify", Key::Anon, body).await
    };
    assert_eq!(verify(first.token()).await.code(), "otp_expired");
    verify(second.token()).await.expect(200);
    // Confirmed, or unknown: nothing is sent, and nothing is told.
    for email in [ANN, "nobody@example.org"] {
        let answer = server.call("POST", "/resend", Key::Anon, json!({ "type": "signup", "email": email })).await;
        assert_eq!((answer.status, answer.body), (200, json!({})));
    }
    assert_eq!(server.mails().await.len(), 2);
}

#[tokio::test]
async fn invitations_are_accepted() {
    let server = Server::start().await;
    let body = json!({ "email": ANN, "data": { "team": 7 } });
    let invited = server.call("POST", "/invite", Key::Secret, body.clone()).await.expect(200);
    assert!(invited.body["invited_at"].is_string());
    // A stranger who signs up with the address learns nothing of it, and changes nothing.
    let stranger = server.call("POST", "/signup", Key::Anon, credentials()).await.expect(200);
    assert_ne!(stranger.body["id"], invited.body["id"]);
    assert_eq!(stranger.body["identities"], json!([]));
    server.call("POST", "/invite", Key::Secret, body.clone()).await.expect(200);
    let mail = server.last_mail().await;
    assert_eq!(mail.kind, "invite");
    let verify = json!({ "type": "invite", "email": ANN, "token": mail.code() });
    let session = server.call("POST", "/verify", Key::Anon, verify).await.expect(200);
    assert_eq!(session.body["user"]["user_metadata"]["team"], 7);
    let again = server.call("POST", "/invite", Key::Secret, body).await;
    assert_eq!((again.status, again.code()), (422, "email_exists"));
    let refused = server.call("POST", "/invite", Key::Anon, json!({ "email": ANN })).await;
    assert_eq!((refused.status, refused.code()), (403, "not_admin"));
}

#[tokio::test]
async fn a_password_may_need_a_nonce() {
    let server = Server::with(|settings| settings.security_update_password_require_reauthentication = true).await;
    server.user(ANN, PASSWORD).await;
    let session = server.sign_in(ANN, PASSWORD).await.expect(200);
    server.clock.advance(25 * 3600);
    let session = server.refresh(session.text("refresh_token")).await.expect(200);
    let token = session.text("access_token");
    let put = async |body: Value| server.call("PUT", "/user", Key::User(token), body).await;
    let needed = put(json!({ "password": "a new password" })).await;
    assert_eq!((needed.status, needed.code()), (400, "reauthentication_needed"));
    server.call("GET", "/reauthenticate", Key::User(token), Value::Null).await.expect(200);
    let mail = server.last_mail().await;
    assert_eq!(mail.kind, "reauthentication");
    let wrong = put(json!({ "password": "a new password", "nonce": "000000" })).await;
    assert_eq!((wrong.status, wrong.code()), (422, "reauthentication_not_valid"));
    put(json!({ "password": "a new password", "nonce": mail.code() })).await.expect(200);
    let reused = put(json!({ "password": "a newer password", "nonce": mail.code() })).await;
    assert_eq!(reused.code(), "reauthentication_not_valid");
}

#[tokio::test]
async fn tokens_expire_and_are_stored_hashed() {
    let server = Server::start().await;
    server.user(ANN, PASSWORD).await;
    server.call("POST", "/recover", Key::Anon, json!({ "email": ANN })).await.expect(200);
    let mail = server.last_mail().await;
    let stored = "select count(*) from auth.one_time_tokens where length(token_hash) = 64";
    assert_eq!(server.count(stored).await, 1);
    let client = server.database.connect().await;
    let plain = "select count(*) from auth.one_time_tokens where token_hash = $1 or token_hash like '%' || $2 || '%'";
    let found: i64 = client.query_one(plain, &[&mail.token(), &mail.code()]).await.unwrap().get(0);
    assert_eq!(found, 0);
    server.clock.advance(3601);
    let body = json!({ "type": "recovery", "email": ANN, "token": mail.code() });
    let late = server.call("POST", "/verify", Key::Anon, body).await;
    assert_eq!((late.status, late.code()), (403, "otp_expired"));
    assert_eq!(late.text("msg"), "Token has expired or is invalid");
}

#[tokio::test]
async fn links_of_clients_with_a_verifier_bring_a_code() {
    let server = Server::start().await;
    let verifier = "v".repeat(64);
    let challenge = {
        use base64::Engine as _;
        base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(base::digest::sha256(verifier.as_bytes()))
    };
    let body = json!({
        "email": ANN, "password": PASSWORD, "code_challenge": challenge, "code_challenge_method": "s256",
    });
    let to = "/signup?redirect_to=https%3A%2F%2Fapp.example.org%2Fwelcome%3Fa%3D1";
    server.call("POST", to, Key::Anon, body).await.expect(200);
    let mail = server.last_mail().await;
    assert!(mail.token().starts_with("pkce_"), "{}", mail.token());
    let followed = server.call("GET", mail.link(), Key::Nothing, Value::Null).await.expect(303);
    let code = followed.location().strip_prefix("https://app.example.org/welcome?a=1&code=").unwrap().to_owned();
    let exchange = async |code: &str, verifier: &str| {
        let body = json!({ "auth_code": code, "code_verifier": verifier });
        server.call("POST", "/token?grant_type=pkce", Key::Anon, body).await
    };
    let wrong = exchange(&code, &"w".repeat(64)).await;
    assert_eq!((wrong.status, wrong.code()), (400, "bad_code_verifier"));
    let session = exchange(&code, &verifier).await.expect(200);
    assert_eq!(session.body["user"]["email"], ANN);
    let replayed = exchange(&code, &verifier).await;
    assert_eq!((replayed.status, replayed.code()), (404, "flow_state_not_found"));
}
