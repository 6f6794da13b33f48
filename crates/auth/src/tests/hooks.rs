//! Hooks as functions of the project's database.

use super::server::hook;
use super::*;

async fn define(server: &Server, name: &str, body: &str) {
    let sql = format!(
        "create function public.{name}(event jsonb) returns jsonb language plpgsql as $$ begin {body} end $$;
         grant execute on function public.{name} to supabase_auth_admin; grant usage on schema public to supabase_auth_admin"
    );
    server.database.execute(&sql).await;
}

fn with_hook(name: &'static str) -> impl FnOnce(&mut base::AuthSettings) {
    move |settings| drop(settings.hooks.insert(name.to_owned(), hook("my_hook")))
}

#[tokio::test]
async fn the_access_token_can_have_more_claims_but_no_other_user() {
    let server = Server::with(with_hook("custom_access_token")).await;
    let body = "return jsonb_build_object('claims', event -> 'claims' || jsonb_build_object('plan', 'pro',
        'method', event ->> 'authentication_method', 'sub', '00000000-0000-0000-0000-000000000000', 'project_id', 'x'));";
    define(&server, "my_hook", body).await;
    let user = server.user(ANN, PASSWORD).await;
    let session = server.sign_in(ANN, PASSWORD).await.expect(200);
    let claims = server.claims(session.text("access_token"));
    assert_eq!((&claims["plan"], &claims["method"]), (&json!("pro"), &json!("password")));
    assert_eq!((&claims["sub"], &claims["project_id"]), (&user["id"], &json!("proj_authtest")));
    let refreshed = server.refresh(session.text("refresh_token")).await.expect(200);
    assert_eq!(server.claims(refreshed.text("access_token"))["method"], "token_refresh");
}

#[tokio::test]
async fn a_hook_refuses_or_fails_and_nothing_is_half_made() {
    for (body, status, message) in [
        ("return '{\"error\": {\"http_code\": 403, \"message\": \"not you\"}}';", 403, "not you"),
        ("raise exception 'secret detail';", 500, "Error running the custom_access_token hook"),
        ("return jsonb_build_object('x', repeat('y', 300000));", 422, "The answer of the hook is too large"),
        ("return '{}';", 500, "output claims field is missing"),
        ("return '{\"claims\": {}}';", 500, "output claims do not conform to the expected schema: aud is required"),
    ] {
        let server = Server::with(with_hook("custom_access_token")).await;
        define(&server, "my_hook", body).await;
        server.user(ANN, PASSWORD).await;
        let refused = server.sign_in(ANN, PASSWORD).await;
        assert_eq!((refused.status, refused.text("msg")), (status, message));
        assert_eq!(server.count("select count(*) from auth.sessions").await, 0);
    }
    // One that is not there, or not a function.
    let mut server = Server::with(with_hook("custom_access_token")).await;
    server.user(ANN, PASSWORD).await;
    assert_eq!(server.sign_in(ANN, PASSWORD).await.code(), "unexpected_failure");
    server.set(|settings| {
        let uri = "ftp://example.org".to_owned();
        settings
            .hooks
            .insert("custom_access_token".to_owned(), base::auth_settings::HookSettings { uri, secrets: None });
    });
    assert_eq!(server.sign_in(ANN, PASSWORD).await.code(), "unexpected_failure");
}

#[tokio::test]
async fn a_user_can_be_refused_before_there_is_one() {
    let server = Server::with(with_hook("before_user_created")).await;
    let body = "if event -> 'user' ->> 'email' like '%@blocked.example' then
        return '{\"error\": {\"http_code\": 400, \"message\": \"not from there\"}}'; end if; return '{}';";
    define(&server, "my_hook", body).await;
    let sign_up = async |email: &str| {
        server.call("POST", "/signup", Key::Anon, json!({ "email": email, "password": PASSWORD })).await
    };
    let refused = sign_up("x@blocked.example").await;
    assert_eq!((refused.status, refused.text("msg")), (400, "not from there"));
    sign_up(ANN).await.expect(200);
    assert_eq!(server.count("select count(*) from auth.users").await, 1);
}

#[tokio::test]
async fn tries_of_a_password_can_be_counted_and_refused() {
    let server = Server::with(with_hook("password_verification_attempt")).await;
    server
        .database
        .execute("create table public.tries (valid bool); grant all on public.tries to supabase_auth_admin")
        .await;
    let body = "insert into public.tries values ((event ->> 'valid')::bool);
        if (select count(*) from public.tries where not valid) > 1 then
            return '{\"decision\": \"reject\", \"message\": \"locked\", \"should_logout_user\": true}'; end if;
        return '{\"decision\": \"continue\"}';";
    define(&server, "my_hook", body).await;
    server.user(ANN, PASSWORD).await;
    server.sign_in(ANN, PASSWORD).await.expect(200);
    assert_eq!(server.sign_in(ANN, "wrong").await.text("msg"), "Invalid login credentials");
    assert_eq!(server.sign_in(ANN, "wrong").await.text("msg"), "locked");
    assert_eq!(server.sign_in(ANN, PASSWORD).await.text("msg"), "locked");
    assert_eq!(server.count("select count(*) from auth.sessions").await, 0);
}

#[tokio::test]
async fn mails_can_be_sent_by_the_project_itself() {
    let server = Server::with(with_hook("send_email")).await;
    server
        .database
        .execute("create table public.sent (event jsonb); grant all on public.sent to supabase_auth_admin")
        .await;
    define(&server, "my_hook", "insert into public.sent values (event); return '{}';").await;
    server.call("POST", "/signup", Key::Anon, credentials()).await.expect(200);
    assert!(server.mails().await.is_empty());
    let sent = "select count(*) from public.sent where event -> 'user' ->> 'email' = 'ann@example.org'
        and event -> 'email_data' ->> 'email_action_type' = 'signup'";
    assert_eq!(server.count(sent).await, 1);
}
