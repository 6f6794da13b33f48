//! Attacks on accounts that are in use: taking them over, guessing their codes, and telling that they are there.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::*;
use crate::mfa::code_at;

const EVIL: &str = "the attacker's password";

async fn sign_up(server: &Server, email: &str, password: &str) -> Answer {
    server.call("POST", "/signup", Key::Anon, json!({ "email": email, "password": password })).await
}

#[tokio::test]
async fn a_sign_up_takes_no_account_that_somebody_is_in() {
    // Whoever has shown a phone is somebody, whatever became of their address.
    let server = Server::with(|settings| settings.external_phone_enabled = true).await;
    let body = json!({
        "email": ANN, "phone": "4915100", "password": PASSWORD, "phone_confirm": true, "user_metadata": { "name": "Ann" },
        "app_metadata": { "plan": "pro" },
    });
    let user = server.call("POST", "/admin/users", Key::Secret, body).await.expect(200);
    let answer = sign_up(&server, ANN, EVIL).await.expect(200);
    assert_ne!(answer.text("id"), user.text("id"));
    assert!(!answer.body.to_string().contains("4915100") && answer.body["app_metadata"].get("plan").is_none());
    let by_phone = async |password: &str| {
        let body = json!({ "phone": "4915100", "password": password });
        server.call("POST", "/token?grant_type=password", Key::Anon, body).await
    };
    assert_eq!(by_phone(EVIL).await.expect(400).code(), "invalid_credentials");
    let session = by_phone(PASSWORD).await.expect(200);
    assert_eq!(session.body["user"]["user_metadata"]["name"], "Ann");

    // Where nobody has to confirm, everybody is somebody.
    let server = Server::with(|settings| settings.mailer_allow_unverified_email_sign_ins = true).await;
    sign_up(&server, ANN, PASSWORD).await.expect(200);
    sign_up(&server, ANN, EVIL).await.expect(200);
    assert_eq!(server.sign_in(ANN, EVIL).await.expect(400).code(), "invalid_credentials");
    server.sign_in(ANN, PASSWORD).await.expect(200);

    // Nor is what an administrator has made anybody's to change.
    let server = Server::start().await;
    let body = json!({ "email": ANN, "password": PASSWORD, "user_metadata": { "name": "Ann" } });
    let user = server.call("POST", "/admin/users", Key::Secret, body).await.expect(200);
    for _ in 0..2 {
        sign_up(&server, ANN, EVIL).await.expect(200);
        server.call("POST", "/otp", Key::Anon, json!({ "email": ANN })).await.expect(200);
    }
    let path = format!("/admin/users/{}", user.text("id"));
    let body = json!({ "email_confirm": true });
    let confirmed = server.call("PUT", &path, Key::Secret, body).await.expect(200);
    assert_eq!(confirmed.body["user_metadata"]["name"], "Ann");
    server.sign_in(ANN, PASSWORD).await.expect(200);
}

#[tokio::test]
async fn asking_again_tells_nothing_of_an_address() {
    let server = Server::with(|settings| settings.smtp_max_frequency = 60).await;
    server.user(ANN, PASSWORD).await;
    let mut seen = Vec::new();
    for email in [ANN, "new@example.org"] {
        let first = sign_up(&server, email, EVIL).await;
        let body = json!({ "email": email });
        let second = server.call("POST", "/otp", Key::Anon, body.clone()).await;
        let third = server.call("POST", "/otp", Key::Anon, body).await;
        let fourth = sign_up(&server, email, EVIL).await;
        seen.push([first, second, third, fourth].map(|answer| (answer.status, answer.code().to_owned())));
    }
    assert_eq!(seen[0], seen[1]);
    // What waits for its owner is as it was: nobody takes a password away with a mail that does not come.
    let mail = server.mails().await.into_iter().find(|mail| mail.kind == "confirmation").unwrap();
    let body = json!({ "type": "signup", "email": "new@example.org", "token": mail.code() });
    server.call("POST", "/verify", Key::Anon, body).await.expect(200);
    server.sign_in("new@example.org", EVIL).await.expect(200);
}

#[tokio::test]
async fn mails_that_are_not_sent_count_as_mails() {
    for known in [true, false] {
        let server = Server::with(|settings| settings.rate_limit_email_sent = 2).await;
        let first = if known { ANN } else { "nobody@example.org" };
        server.user(ANN, PASSWORD).await;
        let ask =
            async |email: &str| server.call("POST", "/recover", Key::Anon, json!({ "email": email })).await.status;
        assert_eq!((ask(first).await, ask("no1@example.org").await, ask("no2@example.org").await), (200, 200, 429));
    }
}

#[tokio::test]
async fn numbers_do_not_tell_who_has_an_account() {
    let mut server = Server::with(|settings| {
        settings.external_phone_enabled = true;
        settings.rate_limit_sms_sent = 1_000;
        settings.sms_max_frequency = 60;
        settings.hooks.insert("send_sms".to_owned(), server::hook("send_sms"));
    })
    .await;
    server
        .database
        .execute(
            "create function public.send_sms(event jsonb) returns jsonb language sql as 'select ''{}''::jsonb';
             grant execute on function public.send_sms to supabase_auth_admin",
        )
        .await;
    let body = json!({ "phone": "4915100", "password": PASSWORD, "phone_confirm": true });
    server.call("POST", "/admin/users", Key::Secret, body).await.expect(200);
    server.set(|settings| settings.sms_autoconfirm = false);
    for (path, more) in
        [("/signup", json!({ "password": PASSWORD })), ("/resend", json!({ "type": "sms" })), ("/otp", json!({}))]
    {
        let mut seen = Vec::new();
        for phone in ["4915100", "4915199"] {
            let mut body = more.clone();
            body["phone"] = json!(phone);
            let first = server.call("POST", path, Key::Anon, body.clone()).await;
            let second = server.call("POST", path, Key::Anon, body).await;
            seen.push([first, second].map(|answer| (answer.status, answer.code().to_owned())));
        }
        assert_eq!(seen[0], seen[1], "{path}");
        assert_eq!(seen[0][0].0, 200, "{path} {seen:?}");
    }
}

#[tokio::test]
async fn guessing_a_code_ends_soon_and_its_link_goes_on_working() {
    let server = Server::start().await;
    server.user(ANN, PASSWORD).await;
    let guess = async |code: &str| {
        let body = json!({ "type": "recovery", "email": ANN, "token": code });
        server.call("POST", "/verify", Key::Anon, body).await
    };
    // Who is right uses up nothing.
    for _ in 0..15 {
        server.call("POST", "/recover", Key::Anon, json!({ "email": ANN })).await.expect(200);
        guess(server.last_mail().await.code()).await.expect(200);
    }
    server.call("POST", "/recover", Key::Anon, json!({ "email": ANN })).await.expect(200);
    let mail = server.last_mail().await;
    let wrong = if mail.code() == "000000" { "000001" } else { "000000" };
    let mut refused = 0;
    for _ in 0..20 {
        refused += usize::from(guess(wrong).await.code() == "over_request_rate_limit");
    }
    assert_eq!(refused, 10);
    // A few minutes bring one more try, not a new set.
    server.clock.advance(400);
    let codes = [guess(wrong).await.code().to_owned(), guess(wrong).await.code().to_owned()];
    assert_eq!(codes, ["otp_expired", "over_request_rate_limit"]);
    let followed = server.call("GET", mail.link(), Key::Nothing, Value::Null).await.expect(303);
    assert!(followed.location().contains("access_token="), "{}", followed.location());
}

#[tokio::test]
async fn guessing_a_password_ends_soon_whoever_guesses() {
    let server = Server::start().await;
    server.user(ANN, PASSWORD).await;
    for email in [ANN, "nobody@example.org"] {
        let all = (0..25).map(|_| server.sign_in(email, "wrong password"));
        let answers = futures_util::future::join_all(all).await;
        let of = |code: &str| answers.iter().filter(|answer| answer.code() == code).count();
        assert_eq!((of("invalid_credentials"), of("over_request_rate_limit")), (20, 5), "{email}");
    }
    // A minute brings one more try, and who is right uses up none.
    server.clock.advance(61);
    for _ in 0..25 {
        server.sign_in(ANN, PASSWORD).await.expect(200);
    }
    let all = (0..10).map(|_| server.sign_in("nobody@example.org", "wrong password"));
    let answers = futures_util::future::join_all(all).await;
    let wrong = answers.iter().filter(|answer| answer.code() == "invalid_credentials").count();
    // And what a slow test gets back.
    assert!((1..=3).contains(&wrong), "{wrong}");
}

#[tokio::test]
async fn nobody_keeps_the_owner_of_an_account_out_by_guessing() {
    let mut server = Server::start().await;
    server.user(ANN, PASSWORD).await;
    for (home, near, elsewhere) in
        [("192.0.2.7", "192.0.2.7", "198.51.100.9"), ("2001:db8:1:2::7", "2001:db8:1:2:a::8", "2001:db8:1:3::7")]
    {
        server.clock.advance(1300);
        server.ip = home.parse().unwrap();
        server.sign_in(ANN, PASSWORD).await.expect(200);
        server.ip = elsewhere.parse().unwrap();
        let all = (0..21).map(|_| server.sign_in(ANN, "wrong password"));
        futures_util::future::join_all(all).await;
        assert_eq!(server.sign_in(ANN, PASSWORD).await.code(), "over_request_rate_limit");
        // Where Ann is signed in she may try, if not for ever.
        server.ip = near.parse().unwrap();
        server.sign_in(ANN, PASSWORD).await.expect(200);
        let all = (0..25).map(|_| server.sign_in(ANN, "wrong password"));
        let answers = futures_util::future::join_all(all).await;
        let wrong = answers.iter().filter(|answer| answer.code() == "invalid_credentials").count();
        assert_eq!(wrong, 20, "{home}");
    }
}

/// Rows of an import, or of an owner who wants the server to compute for ever.
#[tokio::test]
async fn a_stored_hash_does_not_decide_what_it_costs() {
    let server = Server::start().await;
    server.user(ANN, PASSWORD).await;
    for hash in [
        "$argon2id$v=19$m=19456,t=4294967295,p=1$YjJkNTk4ZGE1OGI2NDkxYw$5W2mCq0cXkzY0oQz1m2yq0o3k1l9x8vN7c6b5a4Z3Y0",
        "$argon2id$v=19$m=19456,t=2,p=1,t=4294967295$YjJkNTk4ZGE1OGI2NDkxYw$5W2mCq0cXkzY0oQz1m2yq0o3k1l9x8vN7c6b5a4Z3Y0",
        "$2b$31$SXEz2HeT8PUIGQXo9yeUIem8KzNxgG0d7o/.eGj2rj8KbRgAuRVlq",
    ] {
        let sql = format!("update auth.users set encrypted_password = '{hash}'");
        server.database.execute(&sql).await;
        let answer = tokio::time::timeout(Duration::from_secs(20), server.sign_in(ANN, PASSWORD)).await;
        assert_eq!(answer.expect(hash).code(), "invalid_credentials", "{hash}");
    }
}

#[tokio::test]
async fn one_client_makes_no_accounts_without_end() {
    let server = Server::with(|settings| {
        settings.rate_limit_otp = 3;
        settings.mailer_autoconfirm = true;
    })
    .await;
    let mut statuses = Vec::new();
    for n in 0..4 {
        statuses.push(sign_up(&server, &format!("user{n}@example.org"), PASSWORD).await.status);
    }
    assert_eq!(statuses, [200, 200, 200, 429]);
}

/// What changes the password in between is a hook here; it is as good as any other request.
#[tokio::test]
async fn a_password_that_was_changed_meanwhile_lets_nobody_in() {
    let server = Server::with(|settings| {
        settings.hooks.insert("password_verification_attempt".to_owned(), server::hook("meanwhile"));
    })
    .await;
    server.user(ANN, PASSWORD).await;
    server
        .database
        .execute(
            "create function public.meanwhile(event jsonb) returns jsonb language plpgsql as $$ begin
                update auth.users set encrypted_password = encrypted_password || 'changed';
                return '{}';
             end $$;
             grant execute on function public.meanwhile to supabase_auth_admin",
        )
        .await;
    assert_eq!(server.sign_in(ANN, PASSWORD).await.expect(400).code(), "invalid_credentials");
    assert_eq!(server.count("select count(*) from auth.sessions").await, 0);
}

#[tokio::test]
async fn the_spelling_of_a_factor_gives_no_more_tries() {
    let server = Server::start().await;
    server.user(ANN, PASSWORD).await;
    let token = server.sign_in(ANN, PASSWORD).await.expect(200).text("access_token").to_owned();
    let body = json!({ "factor_type": "totp" });
    let factor = server.call("POST", "/factors", Key::User(&token), body).await.expect(200).text("id").to_owned();
    let path = format!("/factors/{factor}/challenge");
    let challenge = server.call("POST", &path, Key::User(&token), json!({})).await.expect(200).text("id").to_owned();
    let spellings = [
        factor.clone(),
        factor.to_uppercase(),
        factor.replace('-', ""),
        format!("urn:uuid:{factor}"),
        factor.replacen('a', "A", 1),
        factor.replacen('b', "B", 1),
    ];
    let body = json!({ "challenge_id": challenge, "code": "000000" });
    let mut tried = 0;
    for n in 0..60 {
        let path = format!("/factors/{}/verify", spellings[n % spellings.len()]);
        let answer = server.call("POST", &path, Key::User(&token), body.clone()).await;
        tried += usize::from(answer.status != 429);
    }
    // And what a slow test gets back.
    assert!((15..=18).contains(&tried), "{tried}");
    // Nor does patience: wrong ones count for longer.
    server.clock.advance(299);
    let path = format!("/factors/{factor}/challenge");
    let challenge = server.call("POST", &path, Key::User(&token), json!({})).await.expect(200).text("id").to_owned();
    let body = json!({ "challenge_id": challenge, "code": "000000" });
    let mut tried = 0;
    for _ in 0..20 {
        let path = format!("/factors/{factor}/verify");
        tried += usize::from(server.call("POST", &path, Key::User(&token), body.clone()).await.status != 429);
    }
    assert!(tried <= 8, "{tried}");
}

#[tokio::test]
async fn a_session_without_a_second_factor_finishes_no_other() {
    use crate::webauthn::soft_authenticator::SoftAuthenticator;
    let server = Server::with(|settings| {
        settings.mfa_web_authn_enroll_enabled = true;
        settings.mfa_web_authn_verify_enabled = true;
        settings.security_manual_linking_enabled = true;
    })
    .await;
    server.user(ANN, PASSWORD).await;
    let token = server.sign_in(ANN, PASSWORD).await.expect(200).text("access_token").to_owned();
    let enroll = async |token: &str, kind: &str| {
        let body = json!({ "factor_type": kind, "friendly_name": kind });
        server.call("POST", "/factors", Key::User(token), body).await.expect(200)
    };
    let totp = enroll(&token, "totp").await;
    let path = format!("/factors/{}/challenge", totp.text("id"));
    let asked = server.call("POST", &path, Key::User(&token), json!({})).await.expect(200).text("id").to_owned();
    let code = code_at(totp.body["totp"]["secret"].as_str().unwrap(), server.clock.unix_seconds());
    let path = format!("/factors/{}/verify", totp.text("id"));
    let body = json!({ "challenge_id": asked, "code": code });
    let raised = server.call("POST", &path, Key::User(&token), body).await.expect(200).text("access_token").to_owned();
    // The user begins with a security key; whoever has the password only goes on.
    let key = enroll(&raised, "webauthn").await.text("id").to_owned();
    let plain = server.sign_in(ANN, PASSWORD).await.expect(200).text("access_token").to_owned();
    let site = json!({ "webauthn": { "rpId": "example.org", "rpOrigins": ["https://app.example.org"] } });
    let path = format!("/factors/{key}/challenge");
    let answer = server.call("POST", &path, Key::User(&plain), site.clone()).await;
    assert_eq!((answer.status, answer.code()), (403, "insufficient_aal"));
    let asked = server.call("POST", &path, Key::User(&raised), site).await.expect(200);
    let made = SoftAuthenticator::new("https://app.example.org").create(&asked.body["webauthn"]["credential_options"]);
    let body =
        json!({ "challenge_id": asked.text("id"), "webauthn": { "type": "create", "credential_response": made } });
    let path = format!("/factors/{key}/verify");
    let answer = server.call("POST", &path, Key::User(&plain), body.clone()).await;
    assert_eq!((answer.status, answer.code()), (403, "insufficient_aal"));
    // Nor does it link or unlink who lets them in.
    let path = "/user/identities/authorize?provider=keycloak";
    let answer = server.call("GET", path, Key::User(&plain), Value::Null).await;
    assert_eq!(answer.code(), "insufficient_aal");
    let path = format!("/user/identities/{}", server.claims(&plain)["sub"].as_str().unwrap());
    let answer = server.call("DELETE", &path, Key::User(&plain), Value::Null).await;
    assert_eq!(answer.code(), "insufficient_aal");
    let path = format!("/factors/{key}/verify");
    server.call("POST", &path, Key::User(&raised), body).await.expect(200);
}

#[tokio::test]
async fn another_tab_does_not_end_a_session_that_was_raised() {
    let server = Server::start().await;
    server.user(ANN, PASSWORD).await;
    let session = server.sign_in(ANN, PASSWORD).await.expect(200);
    let token = session.text("access_token").to_owned();
    let body = json!({ "factor_type": "totp" });
    let totp = server.call("POST", "/factors", Key::User(&token), body).await.expect(200);
    let path = format!("/factors/{}/challenge", totp.text("id"));
    let asked = server.call("POST", &path, Key::User(&token), json!({})).await.expect(200).text("id").to_owned();
    let code = code_at(totp.body["totp"]["secret"].as_str().unwrap(), server.clock.unix_seconds());
    let path = format!("/factors/{}/verify", totp.text("id"));
    let body = json!({ "challenge_id": asked, "code": code });
    let raised = server.call("POST", &path, Key::User(&token), body).await.expect(200);
    let late = server.refresh(session.text("refresh_token")).await.expect(400);
    assert_eq!(late.code(), "refresh_token_already_used");
    let newest = server.refresh(raised.text("refresh_token")).await.expect(200);
    // Much later it is theft.
    server.clock.advance(60);
    server.refresh(session.text("refresh_token")).await.expect(400);
    assert_eq!(server.refresh(newest.text("refresh_token")).await.expect(400).code(), "refresh_token_already_used");
}

#[tokio::test]
async fn users_that_are_there_are_refused_however_many_ask() {
    let server = Arc::new(Server::start().await);
    server.user(ANN, PASSWORD).await;
    let mut all = JoinSet::new();
    for n in 0..24 {
        let server = server.clone();
        all.spawn(async move {
            let (path, body) = match n % 2 {
                0 => ("/admin/users", json!({ "email": ANN, "email_confirm": true })),
                _ => ("/admin/generate_link", json!({ "type": "signup", "email": ANN, "password": PASSWORD })),
            };
            server.call("POST", path, Key::Secret, body).await
        });
    }
    for answer in all.join_all().await {
        assert_eq!((answer.status, answer.code()), (422, "email_exists"), "{}", answer.body);
    }
}

/// What a request has read of its session before it waits is not what counts.
#[tokio::test]
async fn a_session_that_ended_meanwhile_changes_nothing() {
    for (ends, code) in
        [("delete from auth.sessions", "session_not_found"), ("delete from auth.users", "user_not_found")]
    {
        let server = Arc::new(Server::start().await);
        server.user(ANN, PASSWORD).await;
        let token = server.sign_in(ANN, PASSWORD).await.expect(200).text("access_token").to_owned();
        let mut client = server.database.connect().await;
        let other = client.transaction().await.unwrap();
        other.batch_execute(&format!("select from auth.users for update; {ends}")).await.unwrap();
        let own = server.clone();
        let waiting =
            tokio::spawn(
                async move { own.call("PUT", "/user", Key::User(&token), json!({ "data": { "x": 1 } })).await },
            );
        let waits =
            "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
        test_support::eventually("it waits", async || (server.count(waits).await > 0).then_some(())).await;
        other.commit().await.unwrap();
        let answer = waiting.await.unwrap();
        assert_eq!((answer.status, answer.code()), (403, code), "{ends}: {}", answer.body);
    }
}
