use super::*;

async fn login(server: &Server, email: &str, password: &str) -> Answer {
    server.call_as("", "POST", "/api/owners/login", json!({ "email": email, "password": password })).await
}

#[tokio::test]
async fn a_token_lives_until_logout_or_expiry() {
    let server = Server::start().await;
    let first = login(&server, "  OWNER@example.org ", PASSWORD).await;
    assert_eq!(first.status, 200, "{}", first.body);
    let token = first.body["token"].as_str().unwrap();
    let me = server.call_as(token, "GET", "/api/owners/me", Value::Null).await;
    assert_eq!(me.body["email"], OWNER);
    assert_eq!(me.body["is_admin"], true);
    assert!(me.body["last_sign_in_at"].is_string());

    assert_eq!(server.call_as(token, "POST", "/api/owners/logout", Value::Null).await.status, 204);
    let after = server.call_as(token, "GET", "/api/owners/me", Value::Null).await;
    assert_eq!((after.status.as_u16(), after.code()), (401, "unauthorized"));
    assert_eq!(after.headers["www-authenticate"], "Bearer");

    let second = login(&server, OWNER, PASSWORD).await;
    let token = second.body["token"].as_str().unwrap();
    server.clock.advance(30 * 24 * 3600 + 1);
    assert_eq!(server.call_as(token, "GET", "/api/owners/me", Value::Null).await.status, 401);
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_address_look_the_same() {
    let server = Server::start().await;
    let wrong = login(&server, OWNER, "not the password").await;
    let unknown = login(&server, "nobody@example.org", PASSWORD).await;
    assert_eq!((wrong.status.as_u16(), wrong.code()), (401, "invalid_credentials"));
    assert_eq!(wrong.body, unknown.body);
    for token in ["", "ldb_nonsense", "' or 1=1 --"] {
        assert_eq!(server.call_as(token, "GET", "/api/owners/me", Value::Null).await.status, 401, "{token}");
    }
    let basic = Request::get("/api/owners/me").header("authorization", "Basic eDp5").body(Body::empty()).unwrap();
    assert_eq!(server.send(basic).await.status, 401);
}

#[tokio::test]
async fn guessing_passwords_is_slowed_down() {
    let server = Server::start().await;
    for _ in 0..10 {
        assert_eq!(login(&server, OWNER, "a guess").await.status, 401);
    }
    let refused = login(&server, OWNER, PASSWORD).await;
    assert_eq!((refused.status.as_u16(), refused.code()), (429, "rate_limited"));
    let seconds: u64 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=300).contains(&seconds), "{seconds}");
    server.clock.advance(301);
    assert_eq!(login(&server, OWNER, PASSWORD).await.status, 200);
}

#[tokio::test]
async fn sign_up_is_closed_unless_allowed() {
    let body = json!({ "email": "new@example.org", "password": "long enough" });
    let server = Server::start().await;
    let closed = server.call_as("", "POST", "/api/owners/signup", body.clone()).await;
    assert_eq!((closed.status.as_u16(), closed.code()), (403, "signup_closed"));

    let server = Server::start_with(|config| config.sign_up_allowed = true).await;
    let bad = json!({ "email": "nowhere", "password": "short" });
    let bad = server.call_as("", "POST", "/api/owners/signup", bad).await;
    assert_eq!(bad.body["error"]["details"].as_array().unwrap().len(), 2);
    let opened = server.call_as("", "POST", "/api/owners/signup", body.clone()).await;
    assert_eq!(opened.status, 201, "{}", opened.body);
    assert_eq!(opened.body["owner"]["is_admin"], false);
    let again = server.call_as("", "POST", "/api/owners/signup", body).await;
    assert_eq!((again.status.as_u16(), again.code()), (409, "email_taken"));
    // No administrator may neither make owners nor choose ids.
    let token = opened.body["token"].as_str().unwrap();
    let more = json!({ "email": "x@example.org" });
    assert_eq!(server.call_as(token, "POST", "/api/owners", more).await.code(), "admin_required");
    let named = json!({ "name": "x", "id": "proj_chosen" });
    assert_eq!(server.call_as(token, "POST", "/api/projects", named).await.code(), "admin_required");
}

#[tokio::test]
async fn the_first_owner_is_made_once_and_no_secret_is_stored() {
    let server = Server::start().await;
    assert!(server.platform.ensure_first_owner("second@example.org", None).await.unwrap().is_none());
    let made = server.ok("POST", "/api/owners", json!({ "email": "third@example.org" })).await;
    let password = made["password"].as_str().unwrap();
    let login = login(&server, "third@example.org", password).await;
    assert_eq!(login.status, 200);
    let dump = server.dump().await;
    for secret in [PASSWORD, password, &server.token, login.body["token"].as_str().unwrap()] {
        assert!(!dump.contains(secret));
    }
}

#[tokio::test]
async fn many_logins_at_once_are_answered_or_told_to_come_back() {
    let server = Server::start_with(|_| {}).await;
    let logins = (0..50).map(|n| {
        let server = &server;
        async move {
            let email = format!("somebody{n}@example.org");
            login(server, &email, PASSWORD).await.status.as_u16()
        }
    });
    let statuses = futures_util::future::join_all(logins).await;
    assert!(statuses.iter().all(|status| [401, 429].contains(status)), "{statuses:?}");
    assert!(statuses.contains(&429));
}

#[tokio::test]
async fn little_is_read_of_strangers() {
    let server = Server::start().await;
    let send = async |path: &str, token: &str, bytes: usize| {
        let request = Request::post(path).header("authorization", format!("Bearer {token}"));
        server.send(request.body(Body::from(vec![b' '; bytes])).unwrap()).await
    };
    let most = usize::try_from(crate::request::MOST_STRANGERS_BODY_BYTES).unwrap();
    for path in ["/api/owners/login", "/api/owners/signup"] {
        assert_eq!(send(path, "", most + 1).await.code(), "body_too_large", "{path}");
        assert_ne!(send(path, "", most).await.code(), "body_too_large", "{path}");
    }
    // Without a good token nothing is read at all.
    assert_eq!(send("/api/projects", "wrong", most * 1000).await.code(), "unauthorized");
    // And it is not read often.
    let credentials = || json!({ "email": format!("{}@example.org", random::hex::<4>()) });
    let mut refused = false;
    for _ in 0..130 {
        refused |= server.call_as("", "POST", "/api/owners/login", credentials()).await.status == 429;
    }
    assert!(refused);
}
