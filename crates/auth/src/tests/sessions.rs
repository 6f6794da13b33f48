//! How long sessions last, and what refresh tokens are good for.

use super::*;

#[tokio::test]
async fn a_refresh_token_is_good_once_and_a_little_longer() {
    let server = Server::start().await;
    server.user(ANN, PASSWORD).await;
    let first = server.sign_in(ANN, PASSWORD).await.expect(200).text("refresh_token").to_owned();
    let second = server.refresh(&first).await.expect(200).text("refresh_token").to_owned();
    assert_ne!(first, second);
    // A client that lost the answer asks again.
    assert_eq!(server.refresh(&first).await.expect(200).text("refresh_token"), second);
    let third = server.refresh(&second).await.expect(200).text("refresh_token").to_owned();
    assert_eq!(server.refresh(&first).await.expect(200).text("refresh_token"), third);
    let stored = "select count(*) from auth.refresh_tokens where length(token) = 64";
    assert_eq!(server.count(stored).await, 3);

    server.clock.advance(60);
    let reused = server.refresh(&first).await;
    assert_eq!((reused.status, reused.code()), (400, "refresh_token_already_used"));
    // Whoever has the newest one is out, too.
    let newest = server.refresh(&third).await;
    assert_eq!((newest.status, newest.code()), (400, "refresh_token_already_used"));
}

/// A client that slept through many rotations of another, within the reuse interval.
#[tokio::test]
async fn a_client_that_is_late_by_many_rotations_goes_on() {
    let server = Server::with(|settings| settings.security_refresh_token_reuse_interval = 3600).await;
    server.user(ANN, PASSWORD).await;
    let first = server.sign_in(ANN, PASSWORD).await.expect(200).text("refresh_token").to_owned();
    let mut newest = first.clone();
    for _ in 0..40 {
        newest = server.refresh(&newest).await.expect(200).text("refresh_token").to_owned();
    }
    assert_eq!(server.refresh(&first).await.expect(200).text("refresh_token"), newest);
}

#[tokio::test]
async fn sessions_end_by_age_idleness_and_a_newer_one() {
    let mut server = Server::with(|settings| settings.sessions_timebox = 3600).await;
    server.user(ANN, PASSWORD).await;
    let token =
        async |server: &Server| server.sign_in(ANN, PASSWORD).await.expect(200).text("refresh_token").to_owned();
    let old = token(&server).await;
    server.clock.advance(1800);
    let old = server.refresh(&old).await.expect(200).text("refresh_token").to_owned();
    server.clock.advance(1900);
    let late = server.refresh(&old).await;
    assert_eq!((late.status, late.code()), (400, "session_expired"));

    server.set(|settings| {
        settings.sessions_timebox = 0;
        settings.sessions_inactivity_timeout = 600;
    });
    let mut busy = token(&server).await;
    for _ in 0..3 {
        server.clock.advance(500);
        busy = server.refresh(&busy).await.expect(200).text("refresh_token").to_owned();
    }
    server.clock.advance(700);
    assert_eq!(server.refresh(&busy).await.code(), "session_expired");

    server.set(|settings| {
        settings.sessions_inactivity_timeout = 0;
        settings.sessions_single_per_user = true;
    });
    let first = token(&server).await;
    server.clock.advance(2);
    let second = token(&server).await;
    let late = server.refresh(&first).await;
    assert_eq!((late.status, late.code()), (400, "session_expired"));
    server.refresh(&second).await.expect(200);
}

#[tokio::test]
async fn with_tags_there_is_one_session_of_each() {
    let mut server = Server::with(|settings| {
        settings.sessions_single_per_user = true;
        settings.sessions_tags = Some("web, mobile".to_owned());
    })
    .await;
    server.user(ANN, PASSWORD).await;
    // As an application gives them, by what its clients call themselves.
    let trigger = "create function public.tag_session() returns trigger language plpgsql as
            $$ begin new.tag := new.user_agent; return new; end $$;
         grant execute on function public.tag_session to supabase_auth_admin;
         create trigger tag_session before insert on auth.sessions for each row execute function public.tag_session()";
    server.database.execute(trigger).await;
    let sign_in = async |server: &Server, agent: &str| {
        server.clock.advance(1);
        let headers = [("user-agent", agent)];
        let path = "/token?grant_type=password";
        let answer = server.call_with("POST", path, Key::Anon, &headers, credentials()).await.expect(200);
        answer.text("refresh_token").to_owned()
    };
    let mobile = sign_in(&server, "mobile").await;
    let web = sign_in(&server, "web").await;
    let mobile = server.refresh(&mobile).await.expect(200).text("refresh_token").to_owned();
    // A tag that the project does not know is its first one.
    sign_in(&server, "toaster").await;
    assert_eq!(server.refresh(&web).await.expect(400).code(), "session_expired");
    let mobile = server.refresh(&mobile).await.expect(200).text("refresh_token").to_owned();
    sign_in(&server, "mobile").await;
    assert_eq!(server.refresh(&mobile).await.expect(400).code(), "session_expired");
    // Without tags all are of one kind. One that has ended by itself does not count.
    server.set(|settings| settings.sessions_tags = None);
    let first = sign_in(&server, "web").await;
    sign_in(&server, "mobile").await;
    server
        .database
        .execute("update auth.sessions set not_after = now() - interval '1 hour' where tag = 'mobile'")
        .await;
    let first = server.refresh(&first).await.expect(200).text("refresh_token").to_owned();
    sign_in(&server, "mobile").await;
    assert_eq!(server.refresh(&first).await.expect(400).code(), "session_expired");
}

#[tokio::test]
async fn refreshes_are_written_down() {
    let server = Server::start().await;
    let user = server.user(ANN, PASSWORD).await;
    let first = server.sign_in(ANN, PASSWORD).await.expect(200).text("refresh_token").to_owned();
    let logged = async |server: &Server| {
        let entries = server.call("GET", "/admin/audit?per_page=100", Key::Secret, Value::Null).await.expect(200).body;
        let of = |action: &str| {
            let all = entries.as_array().unwrap().iter().filter(|entry| entry["payload"]["action"] == action);
            all.inspect(|entry| assert_eq!(entry["payload"]["actor_id"], user["id"])).count()
        };
        assert!(entries.as_array().unwrap().iter().all(|entry| entry["ip_address"] == "192.0.2.7"), "{entries}");
        (of("token_refreshed"), of("token_revoked"))
    };
    assert_eq!(logged(&server).await, (0, 0));
    server.refresh(&first).await.expect(200);
    assert_eq!(logged(&server).await, (1, 1));
    // The same token once more is a refresh, and revokes nothing.
    server.refresh(&first).await.expect(200);
    assert_eq!(logged(&server).await, (2, 1));
    server.clock.advance(60);
    server.refresh(&first).await.expect(400);
    assert_eq!(logged(&server).await, (2, 2));
}

#[tokio::test]
async fn tokens_of_an_import_are_refreshed() {
    let server = Server::start().await;
    let user = server.user(ANN, PASSWORD).await;
    let id = user["id"].as_str().unwrap();
    let sql = format!(
        "insert into auth.sessions (id, user_id, created_at, updated_at, aal)
            values ('11111111-2222-4333-8444-555555555555', '{id}', now(), now(), 'aal1');
         insert into auth.refresh_tokens (token, user_id, session_id, revoked, created_at, updated_at)
            values ('abcdef123456', '{id}', '11111111-2222-4333-8444-555555555555', false, now(), now())"
    );
    server.database.execute(&sql).await;
    let next = server.refresh("abcdef123456").await.expect(200).text("refresh_token").to_owned();
    assert!(next.len() > 20);
    server.refresh(&next).await.expect(200);
    // What is stored is of no use as a token.
    let client = server.database.connect().await;
    let stored: String =
        client.query_one("select token from auth.refresh_tokens where not revoked", &[]).await.unwrap().get(0);
    assert_eq!(server.refresh(&stored).await.code(), "refresh_token_not_found");
}

#[tokio::test]
async fn banned_and_deleted_users_do_not_go_on() {
    let server = Server::start().await;
    let user = server.user(ANN, PASSWORD).await;
    let path = format!("/admin/users/{}", user["id"].as_str().unwrap());
    let session = server.sign_in(ANN, PASSWORD).await.expect(200);
    server.call("PUT", &path, Key::Secret, json!({ "ban_duration": "24h" })).await.expect(200);
    assert_eq!(server.sign_in(ANN, PASSWORD).await.code(), "user_banned");
    assert_eq!(server.sign_in(ANN, "wrong").await.code(), "invalid_credentials");
    assert_eq!(server.refresh(session.text("refresh_token")).await.code(), "user_banned");
    let read = server.call("GET", "/user", Key::User(session.text("access_token")), Value::Null).await;
    assert_eq!((read.status, read.code()), (403, "user_banned"));
    server.call("PUT", &path, Key::Secret, json!({ "ban_duration": "none" })).await.expect(200);
    server.refresh(session.text("refresh_token")).await.expect(200);

    server.call("DELETE", &path, Key::Secret, json!({ "should_soft_delete": true })).await.expect(200);
    let read = server.call("GET", "/user", Key::User(session.text("access_token")), Value::Null).await;
    assert_eq!((read.status, read.code()), (403, "user_not_found"));
    // The address is free again.
    server.user(ANN, PASSWORD).await;
    server.sign_in(ANN, PASSWORD).await.expect(200);
}
