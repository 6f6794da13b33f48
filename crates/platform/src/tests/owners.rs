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
    // Whoever guesses locks out nobody but those beside them.
    let body = json!({ "email": OWNER, "password": PASSWORD });
    let elsewhere = server.call_from([198, 51, 100, 7], "", "POST", "/api/owners/login", body).await;
    assert_eq!(elsewhere.status, 200, "{}", elsewhere.body);
    server.clock.advance(301);
    assert_eq!(login(&server, OWNER, PASSWORD).await.status, 200);
}

#[tokio::test]
async fn a_new_password_ends_the_other_sessions() {
    let server = Server::start().await;
    let tokens = [login(&server, OWNER, PASSWORD).await, login(&server, OWNER, PASSWORD).await]
        .map(|answer| answer.body["token"].as_str().unwrap().to_owned());
    let status = async |token: &str| server.call_as(token, "GET", "/api/owners/me", Value::Null).await.status.as_u16();
    let change = async |old: &str, new: &str| {
        let body = json!({ "old_password": old, "password": new });
        let answer = server.call_as(&tokens[0], "PATCH", "/api/owners/me", body).await;
        (answer.status.as_u16(), answer.code().to_owned())
    };
    assert_eq!(change("a guess", "quite another one").await, (400, "validation_failed".to_owned()));
    assert_eq!(change(PASSWORD, "short").await, (400, "validation_failed".to_owned()));
    assert_eq!(status(&tokens[1]).await, 200);
    assert_eq!(change(PASSWORD, "quite another one").await, (200, String::new()));
    assert_eq!((status(&tokens[0]).await, status(&tokens[1]).await), (200, 401));
    // The command line on the server's machine was opened by no password.
    assert_eq!(status(&server.token).await, 200);
    assert_eq!(login(&server, OWNER, PASSWORD).await.status, 401);
    assert_eq!(login(&server, OWNER, "quite another one").await.status, 200);

    // An administrator needs no old one, and sees one that was made.
    let stranger = server.other_owner().await;
    let me = server.call_as(&stranger, "GET", "/api/owners/me", Value::Null).await.body;
    let set = server.ok("POST", "/api/owners/set-password", json!({ "email": me["email"] })).await;
    assert_eq!(status(&stranger).await, 401);
    let email = me["email"].as_str().unwrap();
    let opened = login(&server, email, set["password"].as_str().unwrap()).await;
    assert_eq!(opened.status, 200);
    let token = opened.body["token"].as_str().unwrap();
    let refused = server.call_as(token, "POST", "/api/owners/set-password", json!({ "email": OWNER })).await;
    assert_eq!(refused.code(), "admin_required");
    let nobody = json!({ "email": "nobody@example.org" });
    check(&server, &[("POST", "/api/owners/set-password", nobody, 404, "owner_not_found")]).await;
}

#[tokio::test]
async fn the_first_owners_password_is_kept_until_it_was_shown() {
    let cluster = TestCluster::shared();
    let config = config(&cluster);
    let start = async || Platform::start(config.clone(), Arc::new(ProjectTable::new())).await.unwrap();
    let killed = start().await;
    let made = killed.ensure_first_owner(OWNER, None).await.unwrap().unwrap();
    // It was killed before it could say anything.
    let again = start().await;
    let told = again.ensure_first_owner(OWNER, None).await.unwrap().unwrap();
    assert_eq!(told.id, made.id);
    assert_eq!(told.password.unwrap().expose(), made.password.unwrap().expose());
    again.first_owner_shown().await.unwrap();
    assert!(start().await.ensure_first_owner(OWNER, None).await.unwrap().is_none());
}

#[tokio::test]
async fn another_master_key_or_a_role_without_rights_is_named() {
    let server = Server::start().await;
    server.project().await;
    let mut other = server.platform.config().clone();
    other.master_key = Arc::new(MasterKey::from_base64(&MasterKey::generate_base64(), 1).unwrap());
    let refused = Platform::start(other.clone(), Arc::new(ProjectTable::new())).await.err().unwrap();
    assert!(matches!(refused, crate::StartError::MasterKey), "{refused:?}");
    let (tasks, shutdown) = (tokio_util::task::TaskTracker::new(), tokio_util::sync::CancellationToken::new());
    let refused = crate::Directory::start(&other, Arc::new(ProjectTable::new()), &tasks, shutdown).await.err().unwrap();
    assert!(matches!(refused, crate::StartError::MasterKey), "{refused:?}");

    let mut weak = server.platform.config().clone();
    weak.admin = weak.database.clone();
    let refused = Platform::start(weak.clone(), Arc::new(ProjectTable::new())).await.err().unwrap();
    let text = refused.to_string();
    assert!(text.contains(&weak.admin.user) && text.contains("LAUNCHDB_ADMIN_DATABASE_URL"), "{text}");
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
