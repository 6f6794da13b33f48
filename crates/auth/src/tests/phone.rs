//! Codes to phones, through a hook.

use serde_json::{Value, json};

use super::server::{Key, Server, hook};

const PHONE: &str = "49151123";

async fn server() -> Server {
    let server = Server::with(|settings| {
        settings.external_phone_enabled = true;
        settings.sms_max_frequency = 0;
        settings.rate_limit_sms_sent = 1_000;
        settings.sms_test_otp = Some("4915999=424242".to_owned());
        settings.hooks.insert("send_sms".to_owned(), hook("send_sms"));
    })
    .await;
    server
        .database
        .execute(
            "create table public.sent (id serial, event jsonb);
             grant all on public.sent, public.sent_id_seq to supabase_auth_admin;
             create function public.send_sms(event jsonb) returns jsonb language sql
                as 'insert into public.sent (event) values (event); select ''{}''::jsonb';
             grant execute on function public.send_sms to supabase_auth_admin",
        )
        .await;
    server
}

async fn last_code(server: &Server) -> String {
    let sql = "select event->'sms'->>'otp' from public.sent order by id desc limit 1";
    server.database.connect().await.query_one(sql, &[]).await.unwrap().get(0)
}

async fn verify(server: &Server, kind: &str, phone: &str, code: &str) -> super::server::Answer {
    server.call("POST", "/verify", Key::Anon, json!({"type": kind, "phone": phone, "token": code})).await
}

#[tokio::test]
async fn a_code_signs_in_and_up() {
    let server = server().await;
    server.call("POST", "/otp", Key::Anon, json!({"phone": "+49 151 123"})).await.expect(200);
    let code = last_code(&server).await;
    assert_eq!(verify(&server, "sms", PHONE, "000000").await.expect(403).code(), "otp_expired");
    let session = verify(&server, "sms", PHONE, &code).await.expect(200);
    assert_eq!(
        (&session.body["user"]["phone"], &session.body["user"]["app_metadata"]["provider"]),
        (&json!(PHONE), &json!("phone"))
    );
    assert_eq!(verify(&server, "sms", PHONE, &code).await.expect(403).code(), "otp_expired");
    // Again, as somebody who is known; and late.
    server.call("POST", "/otp", Key::Anon, json!({"phone": PHONE, "create_user": false})).await.expect(200);
    let code = last_code(&server).await;
    server.clock.advance(61);
    assert_eq!(verify(&server, "sms", PHONE, &code).await.expect(403).code(), "otp_expired");
    let answer = server.call("POST", "/otp", Key::Anon, json!({"phone": "4915100", "create_user": false})).await;
    assert_eq!(answer.expect(422).code(), "otp_disabled");
    let text: String = server
        .database
        .connect()
        .await
        .query_one("select event->'sms'->>'message' from public.sent order by id desc limit 1", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(text, format!("Your code is {code}"));
}

#[tokio::test]
async fn a_code_that_is_laid_down_is_not_sent() {
    let mut server = server().await;
    server.call("POST", "/otp", Key::Anon, json!({"phone": "4915999"})).await.expect(200);
    assert_eq!(server.count("select count(*) from public.sent").await, 0);
    verify(&server, "sms", "4915999", "424242").await.expect(200);
    server.set(|settings| settings.sms_test_otp_valid_until = Some("2020-01-01T00:00:00Z".to_owned()));
    server.call("POST", "/otp", Key::Anon, json!({"phone": "4915999"})).await.expect(200);
    assert_eq!(server.count("select count(*) from public.sent").await, 1);
    assert_eq!(verify(&server, "sms", "4915999", "424242").await.expect(403).code(), "otp_expired");
}

#[tokio::test]
async fn nothing_stays_of_what_an_attacker_chose_for_a_number() {
    let server = server().await;
    let evil = json!({"phone": PHONE, "password": "the attacker's password", "data": {"role": "evil"}});
    server.call("POST", "/signup", Key::Anon, evil.clone()).await.expect(200);
    server.call("POST", "/otp", Key::Anon, json!({"phone": PHONE})).await.expect(200);
    let session = verify(&server, "sms", PHONE, &last_code(&server).await).await.expect(200);
    assert!(session.body["user"]["user_metadata"].get("role").is_none(), "{}", session.body);
    let body = json!({"phone": PHONE, "password": "the attacker's password"});
    let answer = server.call("POST", "/token?grant_type=password", Key::Anon, body).await;
    assert_eq!(answer.expect(400).code(), "invalid_credentials");
    // Whoever signs up now gets an answer like for a new one, and nothing happens.
    let sent = server.count("select count(*) from public.sent").await;
    let answer = server.call("POST", "/signup", Key::Anon, evil).await.expect(200);
    assert_eq!(answer.body["identities"], json!([]));
    assert_eq!(server.count("select count(*) from public.sent").await, sent);
}

#[tokio::test]
async fn a_number_is_changed_with_a_code_to_the_new_one() {
    let server = server().await;
    server.user("ann@example.org", "a password of hers").await;
    let token =
        server.sign_in("ann@example.org", "a password of hers").await.expect(200).text("access_token").to_owned();
    let answer = server.call("PUT", "/user", Key::User(&token), json!({"phone": PHONE})).await.expect(200);
    assert_eq!((answer.text("new_phone"), answer.text("phone")), (PHONE, ""));
    let session = verify(&server, "phone_change", PHONE, &last_code(&server).await).await.expect(200);
    assert_eq!(session.body["user"]["phone"], PHONE);
}

#[tokio::test]
async fn without_a_sender_the_error_is_clear_and_nothing_is_left() {
    let mut server = server().await;
    server.set(|settings| settings.hooks.clear());
    let answer = server.call("POST", "/otp", Key::Anon, json!({"phone": PHONE})).await;
    assert_eq!(answer.expect(422).code(), "sms_send_failed");
    assert_eq!(server.count("select count(*) from auth.users").await, 0);
    server.set(|settings| settings.external_phone_enabled = false);
    for (path, body) in [
        ("/otp", json!({"phone": PHONE})),
        ("/signup", json!({"phone": PHONE, "password": "a long password"})),
        ("/resend", json!({"type": "sms", "phone": PHONE})),
    ] {
        let answer = server.call("POST", path, Key::Anon, body).await;
        assert_eq!(answer.expect(400).code(), "phone_provider_disabled", "{path}");
    }
    let _ = Value::Null;
}
