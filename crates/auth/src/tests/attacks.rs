//! Attacks on accounts, links and answers, each a test of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::*;

#[tokio::test]
async fn users_do_not_edit_their_app_metadata() {
    let server = Server::start().await;
    server.user(ANN, PASSWORD).await;
    let session = server.sign_in(ANN, PASSWORD).await.expect(200);
    let token = session.text("access_token");
    let refused = server.call("PUT", "/user", Key::User(token), json!({ "app_metadata": { "role": "admin" } })).await;
    assert_eq!((refused.status, refused.code()), (403, "not_admin"));
    for body in [
        json!({ "raw_app_meta_data": { "x": 1 }, "role": "service_role", "aud": "x", "id": "x" }),
        json!({ "data": { "app_metadata": { "x": 1 }, "role": "service_role" } }),
    ] {
        let user = server.call("PUT", "/user", Key::User(token), body).await.expect(200);
        assert_eq!(user.body["app_metadata"], json!({ "provider": "email", "providers": ["email"] }));
        assert_eq!(user.text("role"), "authenticated");
    }
    // Nor do they bring some along.
    let body = json!({
        "email": "b@x.org", "password": PASSWORD, "app_metadata": { "x": 1 }, "role": "service_role", "is_super_admin": true,
    });
    let user = server.call("POST", "/signup", Key::Anon, body).await.expect(200);
    assert_eq!((user.text("role"), user.body["app_metadata"].get("x")), ("authenticated", None));
}

/// Whoever copied a refresh token is found out when both have used it, and nobody goes on.
#[tokio::test]
async fn a_stolen_refresh_token_ends_the_session_of_both() {
    for thief_first in [true, false] {
        let server = Server::start().await;
        server.user(ANN, PASSWORD).await;
        let elsewhere = server.sign_in(ANN, PASSWORD).await.expect(200);
        let stolen = server.sign_in(ANN, PASSWORD).await.expect(200).text("refresh_token").to_owned();
        let first = server.refresh(&stolen).await.expect(200).text("refresh_token").to_owned();
        let first =
            if thief_first { first } else { server.refresh(&first).await.expect(200).text("refresh_token").to_owned() };
        server.clock.advance(11);
        assert_eq!(server.refresh(&stolen).await.expect(400).code(), "refresh_token_already_used");
        assert_eq!(server.refresh(&first).await.expect(400).code(), "refresh_token_already_used");
        // Other sessions of the user are not the thief's to end.
        server.refresh(elsewhere.text("refresh_token")).await.expect(200);
    }
}

#[tokio::test]
async fn a_code_of_a_flow_is_exchanged_once() {
    let server = Server::start().await;
    server.user(ANN, PASSWORD).await;
    let verifier = "v".repeat(50);
    let body = json!({ "email": ANN, "code_challenge": verifier, "code_challenge_method": "plain" });
    server.call("POST", "/magiclink", Key::Anon, body).await.expect(200);
    let link = server.last_mail().await.link().to_owned();
    let followed = server.call("GET", &link, Key::Nothing, Value::Null).await.expect(303);
    let code = followed.location().split_once("code=").unwrap().1.to_owned();
    let exchange = async || {
        let body = json!({ "auth_code": code, "code_verifier": verifier });
        server.call("POST", "/token?grant_type=pkce", Key::Anon, body).await
    };
    exchange().await.expect(200);
    assert_eq!(exchange().await.expect(404).code(), "flow_state_not_found");
    // Nor does the link give another one.
    let again = server.call("GET", &link, Key::Nothing, Value::Null).await.expect(303);
    assert!(again.location().contains("error_code=otp_expired"), "{}", again.location());
    assert_eq!(server.count("select count(*) from auth.sessions").await, 1);
}

#[tokio::test]
async fn redirects_stay_where_the_project_wants_them() {
    let server = Server::start().await;
    server.user(ANN, PASSWORD).await;
    for evil in [
        "https://evil.example",
        "https://app.example.org@evil.example",
        "https://app.example.org.evil.example",
        "//evil.example",
        "https:evil.example",
        "javascript:alert(1)",
        "https://app.example.org%5C@evil.example",
        "https://evil.example%0d%0aset-cookie:a=b",
    ] {
        let path = format!("/verify?type=recovery&token=x&redirect_to={evil}");
        let answer = server.call("GET", &path, Key::Nothing, Value::Null).await.expect(303);
        assert!(answer.location().starts_with("https://app.example.org#error="), "{evil}: {}", answer.location());
        let headers =
            [("referer", "https://evil.example/"), ("host", "evil.example"), ("x-forwarded-host", "evil.example")];
        let path = format!("/recover?redirect_to={evil}");
        server.call_with("POST", &path, Key::Anon, &headers, json!({ "email": ANN })).await.expect(200);
        let mail = server.last_mail().await;
        assert_eq!(mail.data["email_data"]["redirect_to"], "https://app.example.org", "{evil}");
        assert!(!mail.data.to_string().contains("evil.example"), "{evil}");
    }
    let answer = server
        .call(
            "GET",
            "/verify?type=recovery&token=x&redirect_to=https://app.example.org/in?a=b",
            Key::Nothing,
            Value::Null,
        )
        .await;
    assert!(
        answer.location().starts_with("https://app.example.org/in?a=b#error=access_denied"),
        "{}",
        answer.location()
    );
}

#[tokio::test]
async fn nobody_lays_out_a_password_for_somebody_elses_address() {
    let server = Server::start().await;
    let sign_up = async |password: &str, name: &str| {
        let body = json!({ "email": ANN, "password": password, "data": { "name": name } });
        server.call("POST", "/signup", Key::Anon, body).await.expect(200)
    };
    // The owner signs up after the attacker: what they chose counts.
    sign_up("the attacker's password", "Mallory").await;
    let user = sign_up(PASSWORD, "Ann").await;
    assert_eq!(user.body["user_metadata"], json!({ "name": "Ann" }));
    let body = json!({ "type": "signup", "email": ANN, "token": server.last_mail().await.code() });
    server.call("POST", "/verify", Key::Anon, body).await.expect(200);
    server.sign_in(ANN, PASSWORD).await.expect(200);
    assert_eq!(server.sign_in(ANN, "the attacker's password").await.code(), "invalid_credentials");
}

#[tokio::test]
async fn a_password_laid_out_does_not_survive_recovery_or_a_code() {
    for path in ["/recover", "/otp"] {
        let server = Server::start().await;
        let body = json!({ "email": ANN, "password": "the attacker's password" });
        server.call("POST", "/signup", Key::Anon, body).await.expect(200);
        server.call("POST", path, Key::Anon, json!({ "email": ANN })).await.expect(200);
        let mail = server.last_mail().await;
        let followed = server.call("GET", mail.link(), Key::Nothing, Value::Null).await.expect(303);
        assert!(followed.location().contains("access_token="), "{path}: {}", followed.location());
        let attacker = server.sign_in(ANN, "the attacker's password").await;
        assert_eq!(attacker.code(), "invalid_credentials", "{path}");
    }
}

#[tokio::test]
async fn a_link_with_a_verifier_is_not_downgraded() {
    let server = Server::start().await;
    server.user(ANN, PASSWORD).await;
    let body = json!({ "email": ANN, "code_challenge": "c".repeat(43), "code_challenge_method": "s256" });
    server.call("POST", "/magiclink", Key::Anon, body).await.expect(200);
    let mail = server.last_mail().await;
    let stripped = mail.token().strip_prefix("pkce_").unwrap();
    let path = format!("/verify?type=magiclink&token={stripped}");
    let answer = server.call("GET", &path, Key::Nothing, Value::Null).await.expect(303);
    assert!(answer.location().contains("error_code=otp_expired"), "{}", answer.location());
    // With the challenge as the verifier, as if it were "plain".
    let followed = server.call("GET", mail.link(), Key::Nothing, Value::Null).await.expect(303);
    let code = followed.location().split_once("code=").unwrap().1.to_owned();
    let body = json!({ "auth_code": code, "code_verifier": "c".repeat(43) });
    let refused = server.call("POST", "/token?grant_type=pkce", Key::Anon, body).await;
    assert_eq!(refused.code(), "bad_code_verifier");
}

#[tokio::test]
async fn what_is_stored_opens_nothing() {
    let server = Server::start().await;
    server.user(ANN, PASSWORD).await;
    server.call("POST", "/recover", Key::Anon, json!({ "email": ANN })).await.expect(200);
    let client = server.database.connect().await;
    let stored: String = client.query_one("select token_hash from auth.one_time_tokens", &[]).await.unwrap().get(0);
    for body in [
        json!({ "type": "recovery", "token_hash": stored }),
        json!({ "type": "recovery", "email": ANN, "token": stored }),
    ] {
        assert_eq!(server.call("POST", "/verify", Key::Anon, body).await.code(), "otp_expired");
    }
}

#[tokio::test]
async fn a_code_of_one_address_is_none_of_another() {
    let server = Server::start().await;
    server.user(ANN, PASSWORD).await;
    server.user("bob@example.org", PASSWORD).await;
    server.call("POST", "/recover", Key::Anon, json!({ "email": ANN })).await.expect(200);
    let code = server.last_mail().await.code().to_owned();
    for (kind, email) in [("recovery", "bob@example.org"), ("signup", ANN), ("email_change", ANN), ("invite", ANN)] {
        let body = json!({ "type": kind, "email": email, "token": code });
        assert_eq!(server.call("POST", "/verify", Key::Anon, body).await.code(), "otp_expired", "{kind} {email}");
    }
}

#[tokio::test]
async fn an_old_address_confirms_no_new_one() {
    let server = Server::start().await;
    let user = server.call("POST", "/signup", Key::Anon, credentials()).await.expect(200);
    let mail = server.last_mail().await;
    let path = format!("/admin/users/{}", user.text("id"));
    server.call("PUT", &path, Key::Secret, json!({ "email": "bob@example.org" })).await.expect(200);
    let body = json!({ "type": "signup", "token_hash": mail.token() });
    assert_eq!(server.call("POST", "/verify", Key::Anon, body).await.code(), "otp_expired");
}

/// The texts and statuses of answers are the same for addresses that have an account and those that have none.
#[tokio::test]
async fn answers_do_not_tell_who_has_an_account() {
    let server = Server::start().await;
    server.user(ANN, PASSWORD).await;
    let nobody = "nob@example.org";
    for (path, body) in [
        ("/token?grant_type=password", json!({ "password": "wrong password" })),
        ("/recover", json!({})),
        ("/resend", json!({ "type": "signup" })),
        ("/resend", json!({ "type": "email_change" })),
        ("/verify", json!({ "type": "recovery", "token": "123456" })),
        ("/otp", json!({})),
    ] {
        let ask = async |email: &str| {
            let mut body = body.clone();
            body["email"] = json!(email);
            let answer = server.call("POST", path, Key::Anon, body).await;
            (answer.status, answer.body.to_string().replace(email, "EMAIL"), answer.headers)
        };
        let (known, unknown) = (ask(ANN).await, ask(nobody).await);
        assert_eq!(known, unknown, "{path}");
    }
    // A sign-up tells as much of a known address as of a new one: the same fields, and no identity.
    let fields = async |email: &str| {
        let body = json!({ "email": email, "password": PASSWORD, "data": { "x": 1 } });
        let answer = server.call("POST", "/signup", Key::Anon, body).await.expect(200);
        let mut names: Vec<String> = answer.body.as_object().unwrap().keys().cloned().collect();
        names.sort();
        (names, answer.body["user_metadata"].clone(), answer.body["app_metadata"].clone())
    };
    assert_eq!(fields(ANN).await, fields("new@example.org").await);
}

/// How long tries with addresses that have an account took, and with others.
#[derive(Default)]
struct Times([Vec<Duration>; 2]);

impl Times {
    fn add(&mut self, known: bool, time: Duration) {
        self.0[usize::from(known)].push(time);
    }

    /// The means are as far apart as chance makes them: four standard errors, which one in ten thousand passes, and what the
    /// test's own work may take. A machine that others use takes turns in larger steps, which makes the errors larger.
    fn differ_by_less_than_noise(self, what: &str) {
        let [unknown, known] = self.0.map(|times| {
            let count = f64::from(u32::try_from(times.len()).unwrap());
            let mean = times.iter().map(Duration::as_secs_f64).sum::<f64>() / count;
            let variance = times.iter().map(|time| (time.as_secs_f64() - mean).powi(2)).sum::<f64>() / (count - 1.0);
            (mean, variance / count)
        });
        let (apart, error) = ((known.0 - unknown.0).abs(), (known.1 + unknown.1).sqrt());
        assert!(
            apart < 4.0 * error + 0.003,
            "{what}: known {known:?}, unknown {unknown:?}, {apart} s apart, error {error} s"
        );
    }
}

/// Two hundred tries, half of them with addresses that have an account, ten at a time.
async fn tries(server: &Arc<Server>, path: &'static str, code: &'static str, kinds: usize) -> Times {
    let mut times = Times::default();
    for round in 0..20 {
        let mut tries = JoinSet::new();
        for n in 0..10 {
            // Whoever is asked first has a shorter line before them.
            let known = (n + round) % 2 == 0;
            let name = if known { format!("known{}", n / 2 % kinds) } else { format!("no{round}x{n}") };
            let body = json!({ "email": format!("{name}@example.org"), "password": "a wrong password" });
            let server = server.clone();
            tries.spawn(async move {
                let start = Instant::now();
                let answer = server.call("POST", path, Key::Anon, body).await;
                assert_eq!(answer.code(), code, "{path}: {}", answer.body);
                (known, start.elapsed())
            });
        }
        for (known, time) in tries.join_all().await {
            times.add(known, time);
        }
        server.clock.advance(61);
    }
    times
}

#[tokio::test]
async fn the_time_of_a_sign_in_does_not_tell_who_has_an_account() {
    let server = Arc::new(Server::start().await);
    for n in 0..5 {
        server.user(&format!("known{n}@example.org"), PASSWORD).await;
    }
    let sign_in = "/token?grant_type=password";
    tries(&server, sign_in, "invalid_credentials", 5).await.differ_by_less_than_noise("sign-in");
    tries(&server, "/signup", "", 5).await.differ_by_less_than_noise("sign-up");
    // Those of an import have slower hashes.
    let hash = "$2a$04$7EqJtq98hPqEX7fNZaFWoOe0Zi0OIVG8w7gyt2NIJsDVz8lFJCvmG";
    server.database.execute(&format!("update auth.users set encrypted_password = '{hash}'")).await;
    tries(&server, sign_in, "invalid_credentials", 5).await.differ_by_less_than_noise("sign-in with an imported hash");
}

#[tokio::test]
async fn the_time_of_a_mail_does_not_tell_who_has_an_account() {
    let server = Arc::new(Server::start().await);
    for n in 0..5 {
        server.user(&format!("known{n}@example.org"), PASSWORD).await;
    }
    for (path, rounds, more) in
        [("/recover", 40, json!({})), ("/resend", 40, json!({ "type": "signup" })), ("/otp", 20, json!({}))]
    {
        let mut times = Times::default();
        for round in 0..rounds {
            let mut tries = JoinSet::new();
            for n in 0..10 {
                let known = (n + round) % 2 == 0;
                let email =
                    if known { format!("known{}@example.org", n / 2) } else { format!("no{round}x{n}@example.org") };
                let mut body = more.clone();
                body["email"] = json!(email);
                let server = server.clone();
                tries.spawn(async move {
                    let start = Instant::now();
                    let answer = server.call("POST", path, Key::Anon, body).await;
                    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
                    (known, start.elapsed())
                });
            }
            for (known, time) in tries.join_all().await {
                times.add(known, time);
            }
        }
        times.differ_by_less_than_noise(path);
    }
}

#[tokio::test]
async fn what_is_sent_becomes_no_sql_and_no_header() {
    let server = Server::start().await;
    let strange = "x'; drop table auth.users; --\r\nBcc: evil@example.org\u{202e}";
    let body = json!({ "email": ANN, "password": PASSWORD, "data": { strange: strange } });
    let user = server.call("POST", "/signup", Key::Anon, body).await.expect(200);
    assert_eq!(user.body["user_metadata"][strange], strange);
    let filter = "/admin/users?filter=%27%3B+drop+table+auth.users%3B+--&page=1";
    server.call("GET", filter, Key::Secret, Value::Null).await.expect(200);
    let query = "/admin/audit?query=action:%27%3B+drop+table+auth.users%3B+--";
    server.call("GET", query, Key::Secret, Value::Null).await.expect(200);
    for email in ["a@b.cd\nBcc: x@y.zz", "a@b.cd%0aBcc:x@y.zz", "\"a b\"@b.cd", "a@b.cd>,<x@y.zz"] {
        let answer = server.call("POST", "/otp", Key::Anon, json!({ "email": email })).await;
        assert_eq!(answer.code(), "validation_failed", "{email}");
    }
    assert_eq!(server.count("select count(*) from auth.users").await, 1);
}
