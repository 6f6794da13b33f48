//! What has expired is removed, and nothing else.

use super::*;

/// Rows by table, of which the sweep may remove some.
const COUNTS: [(&str, &str); 8] = [
    ("sessions", "select count(*) from auth.sessions"),
    ("refresh tokens", "select count(*) from auth.refresh_tokens"),
    ("flows", "select count(*) from auth.flow_state"),
    ("challenges", "select count(*) from auth.mfa_challenges"),
    ("factors", "select count(*) from auth.mfa_factors"),
    ("codes", "select count(*) from auth.one_time_tokens"),
    ("ceremonies", "select count(*) from auth.webauthn_challenges"),
    ("users", "select count(*) from auth.users"),
];

async fn check(server: &Server, what: &str, expected: [i64; 8]) {
    server.sweep().await;
    for ((table, sql), expected) in COUNTS.iter().zip(expected) {
        assert_eq!(server.count(sql).await, expected, "{what}: {table}");
    }
}

async fn factor_with_challenge(server: &Server, token: &str, name: &str) -> String {
    let body = json!({ "factor_type": "totp", "friendly_name": name });
    let factor = server.call("POST", "/factors", Key::User(token), body).await.expect(200).text("id").to_owned();
    server.call("POST", &format!("/factors/{factor}/challenge"), Key::User(token), json!({})).await.expect(200);
    factor
}

#[tokio::test]
async fn what_has_expired_goes_and_what_has_not_stays() {
    let server = Server::start().await;
    server.user(ANN, PASSWORD).await;
    let session = server.sign_in(ANN, PASSWORD).await.expect(200);
    let token = session.text("access_token").to_owned();
    factor_with_challenge(&server, &token, "old").await;
    server.refresh(session.text("refresh_token")).await.expect(200);
    let body = json!({ "email": ANN, "code_challenge": "c".repeat(43), "code_challenge_method": "s256" });
    server.call("POST", "/magiclink", Key::Anon, body.clone()).await.expect(200);
    server
        .database
        .execute(
            "insert into auth.webauthn_challenges (challenge_type, session_data, expires_at)
        values ('authentication', '{}', now() + interval '5 minutes')",
        )
        .await;
    check(&server, "fresh", [1, 2, 1, 1, 1, 1, 1, 1]).await;
    server.clock.advance(3600);
    check(&server, "an hour later", [1, 2, 1, 1, 1, 1, 0, 1]).await;
    server.clock.advance(24 * 3600);
    // The revoked token, the flow, the challenge and the factor that nobody proved are of yesterday.
    check(&server, "a day later", [1, 1, 0, 0, 0, 1, 0, 1]).await;
    server.clock.advance(24 * 3600);
    check(&server, "two days later", [1, 1, 0, 0, 0, 0, 0, 1]).await;
    server.clock.advance(365 * 24 * 3600);
    check(&server, "a session without limits", [1, 1, 0, 0, 0, 0, 0, 1]).await;
}

#[tokio::test]
async fn sessions_past_their_limits_go_a_day_later() {
    for (timebox, idle) in [(3600, 0), (0, 3600)] {
        let mut server = Server::start().await;
        server.user(ANN, PASSWORD).await;
        server.sign_in(ANN, PASSWORD).await.expect(200);
        server.clock.advance(48 * 3600);
        server.sign_in(ANN, PASSWORD).await.expect(200);
        check(&server, "without limits", [2, 2, 0, 0, 0, 0, 0, 1]).await;
        server.set(|settings| (settings.sessions_timebox, settings.sessions_inactivity_timeout) = (timebox, idle));
        check(&server, "the old one", [1, 1, 0, 0, 0, 0, 0, 1]).await;
        server.clock.advance(24 * 3600);
        check(&server, "not yet", [1, 1, 0, 0, 0, 0, 0, 1]).await;
        server.clock.advance(3601);
        check(&server, "both", [0, 0, 0, 0, 0, 0, 0, 1]).await;
    }
    let server = Server::start().await;
    server.user(ANN, PASSWORD).await;
    server.sign_in(ANN, PASSWORD).await.expect(200);
    server.database.execute("update auth.sessions set not_after = now()").await;
    server.clock.advance(25 * 3600);
    check(&server, "an end of its own", [0, 0, 0, 0, 0, 0, 0, 1]).await;
}

#[tokio::test]
async fn anonymous_users_go_when_they_were_away_for_thirty_days() {
    const DAY: i64 = 24 * 3600;
    let mut server = Server::with(|settings| settings.external_anonymous_users_enabled = true).await;
    let anonymous = async |server: &Server| server.call("POST", "/signup", Key::Anon, json!({})).await.expect(200);
    server.user(ANN, PASSWORD).await;
    anonymous(&server).await;
    let kept = anonymous(&server).await;
    let busy = anonymous(&server).await;
    let user = kept.body["user"]["id"].as_str().unwrap();
    server
        .database
        .execute(&format!(
            "create table public.orders (buyer uuid references auth.users); insert into public.orders values ('{user}')"
        ))
        .await;
    server.clock.advance(20 * DAY);
    let busy = server.refresh(busy.text("refresh_token")).await.expect(200);
    server.clock.advance(11 * DAY);
    server.set(|settings| settings.external_anonymous_users_enabled = false);
    server.sweep().await;
    assert_eq!(server.count("select count(*) from auth.users").await, 4, "where there are none to come, none go");
    server.set(|settings| settings.external_anonymous_users_enabled = true);
    server.sweep().await;
    // Ann, the one that a table holds, and the one that was here.
    assert_eq!(server.count("select count(*) from auth.users").await, 3);
    server.refresh(busy.text("refresh_token")).await.expect(200);
    server.database.execute("drop table public.orders").await;
    server.sweep().await;
    assert_eq!(server.count("select count(*) from auth.users").await, 2);
}
