//! Many requests at once (acceptance 3).

use std::sync::Arc;

use tokio::task::JoinSet;

use super::*;

async fn at_once(server: &Arc<Server>, count: usize, path: &'static str, body: &Value) -> Vec<Answer> {
    let mut all = JoinSet::new();
    for _ in 0..count {
        let (server, body) = (server.clone(), body.clone());
        all.spawn(async move { server.call("POST", path, Key::Anon, body).await });
    }
    all.join_all().await
}

#[tokio::test]
async fn one_refresh_token_used_by_fifty_is_one_rotation() {
    let server = Arc::new(Server::start().await);
    server.user(ANN, PASSWORD).await;
    let token = server.sign_in(ANN, PASSWORD).await.expect(200).text("refresh_token").to_owned();
    let body = json!({ "refresh_token": token });
    let answers = at_once(&server, 50, "/token?grant_type=refresh_token", &body).await;
    let mut tokens: Vec<String> =
        answers.into_iter().map(|answer| answer.expect(200).text("refresh_token").to_owned()).collect();
    tokens.sort();
    tokens.dedup();
    assert_eq!(tokens.len(), 1);
    assert_eq!(server.count("select count(*) from auth.refresh_tokens").await, 2);
    assert_eq!(server.count("select count(*) from auth.refresh_tokens where not revoked").await, 1);
    assert_eq!(server.count("select count(*) from auth.sessions").await, 1);
    server.refresh(&tokens[0]).await.expect(200);
}

#[tokio::test]
async fn one_code_verified_by_fifty_succeeds_once() {
    let server = Arc::new(Server::start().await);
    server.user(ANN, PASSWORD).await;
    for by_code in [true, false] {
        server.call("POST", "/recover", Key::Anon, json!({ "email": ANN })).await.expect(200);
        let mail = server.last_mail().await;
        let body = if by_code {
            json!({ "type": "recovery", "email": ANN, "token": mail.code() })
        } else {
            json!({ "type": "recovery", "token_hash": mail.token() })
        };
        let answers = at_once(&server, 50, "/verify", &body).await;
        let good = answers.iter().filter(|answer| answer.status == 200).count();
        assert_eq!(good, 1, "{by_code}");
        for answer in answers.iter().filter(|answer| answer.status != 200) {
            assert!(["otp_expired", "over_request_rate_limit"].contains(&answer.code()), "{}", answer.body);
        }
    }
    assert_eq!(server.count("select count(*) from auth.sessions").await, 2);
}

#[tokio::test]
async fn two_hundred_sign_ups_of_one_address_are_one_user() {
    let server = Arc::new(Server::start().await);
    let answers = at_once(&server, 200, "/signup", &credentials()).await;
    for answer in &answers {
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
    assert_eq!(server.count("select count(*) from auth.users").await, 1);
    assert_eq!(server.count("select count(*) from auth.identities").await, 1);
    // Only the last mail's code is good.
    let mail = server.last_mail().await;
    let body = json!({ "type": "signup", "token_hash": mail.token() });
    server.call("POST", "/verify", Key::Anon, body).await.expect(200);
}

#[tokio::test]
async fn one_code_exchanged_by_twenty_is_one_session() {
    let server = Arc::new(Server::start().await);
    server.user(ANN, PASSWORD).await;
    let verifier = "v".repeat(50);
    let body = json!({ "email": ANN, "code_challenge": verifier, "code_challenge_method": "plain" });
    server.call("POST", "/magiclink", Key::Anon, body).await.expect(200);
    let link = server.last_mail().await.link().to_owned();
    let followed = server.call("GET", &link, Key::Nothing, Value::Null).await.expect(303);
    let code = followed.location().split_once("code=").unwrap().1.to_owned();
    let body = json!({ "auth_code": code, "code_verifier": verifier });
    let answers = at_once(&server, 20, "/token?grant_type=pkce", &body).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1);
    assert_eq!(server.count("select count(*) from auth.sessions").await, 1);
}

#[tokio::test]
async fn signing_out_while_refreshing_leaves_no_session() {
    let server = Arc::new(Server::start().await);
    server.user(ANN, PASSWORD).await;
    let session = server.sign_in(ANN, PASSWORD).await.expect(200);
    let (token, refresh) = (session.text("access_token").to_owned(), session.text("refresh_token").to_owned());
    let mut all = JoinSet::new();
    for n in 0..20 {
        let (server, token, refresh) = (server.clone(), token.clone(), refresh.clone());
        all.spawn(async move {
            match n {
                10 => server.call("POST", "/logout", Key::User(&token), Value::Null).await.status,
                _ => server.refresh(&refresh).await.status,
            }
        });
    }
    let statuses = all.join_all().await;
    assert!(statuses.iter().all(|status| [200, 204, 400].contains(status)), "{statuses:?}");
    assert_eq!(server.count("select count(*) from auth.sessions").await, 0);
    assert_eq!(server.count("select count(*) from auth.refresh_tokens").await, 0);
}
