//! The admin API.

use super::*;

const ZERO: &str = "00000000-0000-4000-8000-000000000000";

#[tokio::test]
async fn no_token_of_a_user_opens_the_admin_routes() {
    let server = Server::start().await;
    server.user(ANN, PASSWORD).await;
    let session = server.sign_in(ANN, PASSWORD).await.expect(200);
    let routes = [
        ("GET", "/admin/users"),
        ("POST", "/admin/users"),
        ("GET", "/admin/users/x"),
        ("PUT", "/admin/users/x"),
        ("DELETE", "/admin/users/x"),
        ("POST", "/admin/users/x/logout"),
        ("GET", "/admin/users/x/factors"),
        ("PUT", "/admin/users/x/factors/y"),
        ("DELETE", "/admin/users/x/factors/y"),
        ("GET", "/admin/users/x/passkeys"),
        ("DELETE", "/admin/users/x/passkeys/y"),
        ("POST", "/admin/generate_link"),
        ("POST", "/admin/mail/preview"),
        ("POST", "/admin/mail/test"),
        ("GET", "/admin/audit"),
        ("GET", "/admin/sso/providers"),
        ("GET", "/admin/oauth/clients"),
        ("GET", "/admin/custom-providers"),
        ("GET", "/admin/anything"),
        ("POST", "/invite"),
    ];
    for (method, path) in routes {
        for key in [Key::Anon, Key::User(session.text("access_token")), Key::Nothing] {
            let answer = server.call(method, path, key, json!({ "email": ANN })).await;
            assert_eq!((answer.status, answer.code()), (403, "not_admin"), "{method} {path} {key:?}");
        }
    }
}

#[tokio::test]
async fn users_are_made_changed_and_removed() {
    let server = Server::start().await;
    let admin = async |method: &str, path: &str, body: Value| server.call(method, path, Key::Secret, body).await;
    let body = json!({
        "email": "Bob@example.org", "phone": "+49 151 1234", "password": PASSWORD, "email_confirm": true,
        "user_metadata": { "name": "Bob" }, "app_metadata": { "plan": "pro" }, "id": ZERO,
    });
    let user = admin("POST", "/admin/users", body).await.expect(200);
    assert_eq!((user.text("id"), user.text("email"), user.text("phone")), (ZERO, "bob@example.org", "491511234"));
    assert_eq!(
        user.body["app_metadata"],
        json!({ "provider": "email", "providers": ["email", "phone"], "plan": "pro" })
    );
    assert!(user.body["email_confirmed_at"].is_string() && user.body["phone_confirmed_at"].is_null());
    assert_eq!(user.body["identities"].as_array().unwrap().len(), 2);
    let path = format!("/admin/users/{ZERO}");
    let body = json!({ "app_metadata": { "plan": null, "roles": ["a"] }, "role": "authenticated", "email": "b@x.org" });
    let user = admin("PUT", &path, body).await.expect(200);
    assert_eq!(
        user.body["app_metadata"],
        json!({ "provider": "email", "providers": ["email", "phone"], "roles": ["a"] })
    );
    assert_eq!(user.text("email"), "b@x.org");
    let identities = user.body["identities"].as_array().unwrap();
    assert!(identities.iter().any(|identity| identity["email"] == "b@x.org"), "{identities:?}");
    let session = server.sign_in("b@x.org", PASSWORD).await.expect(200);
    assert_eq!(server.claims(session.text("access_token"))["app_metadata"]["roles"], json!(["a"]));
    admin("POST", &format!("{path}/logout"), Value::Null).await.expect(204);
    assert_eq!(server.refresh(session.text("refresh_token")).await.code(), "refresh_token_not_found");
    assert_eq!(admin("GET", &path, Value::Null).await.expect(200).text("id"), ZERO);
    assert_eq!(admin("GET", &format!("{path}/factors"), Value::Null).await.expect(200).body, json!([]));
    admin("DELETE", &path, Value::Null).await.expect(200);
    for (method, path, status, code) in [
        ("GET", path.as_str(), 404, "user_not_found"),
        ("DELETE", path.as_str(), 404, "user_not_found"),
        ("GET", "/admin/users/nonsense", 404, "validation_failed"),
    ] {
        let answer = admin(method, path, Value::Null).await;
        assert_eq!((answer.status, answer.code()), (status, code), "{method} {path}");
    }
    assert_eq!(server.count("select count(*) from auth.identities").await, 0);
}

#[tokio::test]
async fn bad_users_are_refused() {
    let server = Server::start().await;
    server.user(ANN, PASSWORD).await;
    for (body, status, code) in [
        (json!({}), 400, "validation_failed"),
        (json!({ "email": "x" }), 400, "validation_failed"),
        (json!({ "email": ANN }), 422, "email_exists"),
        (json!({ "phone": "abc" }), 400, "validation_failed"),
        (json!({ "email": "b@x.org", "id": "x" }), 400, "validation_failed"),
        (json!({ "email": "b@x.org", "password": "short" }), 422, "weak_password"),
        (json!({ "email": "b@x.org", "password": "x".repeat(73) }), 400, "validation_failed"),
        (json!({ "email": "b@x.org", "ban_duration": "forever" }), 400, "validation_failed"),
        (json!({ "email": "b@x.org", "password_hash": "md5" }), 400, "validation_failed"),
        (
            json!({ "email": "b@x.org", "password_hash": "$2y$31$SXEz2HeT8PUIGQXo9yeUIem8KzNxgG0d7o/.eGj2rj8KbRgAuRVlq" }),
            400,
            "validation_failed",
        ),
        (json!({ "email": 7 }), 400, "bad_json"),
        (json!({ "email": "b@x.org", "app_metadata": "x" }), 400, "bad_json"),
    ] {
        let answer = server.call("POST", "/admin/users", Key::Secret, body.clone()).await;
        assert_eq!((answer.status, answer.code()), (status, code), "{body}: {}", answer.body);
    }
    let body =
        json!({ "email": "b@x.org", "email_confirm": true, "password_hash": bcrypt::hash(PASSWORD, 4).unwrap() });
    server.call("POST", "/admin/users", Key::Secret, body).await.expect(200);
    server.sign_in("b@x.org", PASSWORD).await.expect(200);
}

#[tokio::test]
async fn lists_come_in_pages() {
    let server = Server::start().await;
    let insert = "insert into auth.users (id, aud, role, email, created_at, updated_at)
        select gen_random_uuid(), 'authenticated', 'authenticated', 'user' || n || '@example.org',
            now() + n * interval '1 s', now() from generate_series(1, 7) as n";
    server.database.execute(insert).await;
    let list = async |query: &str| server.call("GET", &format!("/admin/users{query}"), Key::Secret, Value::Null).await;
    let page = list("?page=2&per_page=3").await.expect(200);
    let emails: Vec<&str> =
        page.body["users"].as_array().unwrap().iter().map(|user| user["email"].as_str().unwrap()).collect();
    assert_eq!(emails, ["user4@example.org", "user3@example.org", "user2@example.org"]);
    assert_eq!(page.headers["x-total-count"], "7");
    let base = "https://base.example/p/proj_authtest/auth/v1/admin/users";
    let links = format!("<{base}?page=3&per_page=3>; rel=\"next\", <{base}?page=3&per_page=3>; rel=\"last\"");
    assert_eq!(page.headers["link"].to_str().unwrap(), links);
    let filtered = list("?filter=USER7").await.expect(200);
    assert_eq!(filtered.body["users"].as_array().unwrap().len(), 1);
    assert_eq!(list("?filter=%25").await.expect(200).body["users"], json!([]));
    assert_eq!(list("").await.expect(200).body["users"].as_array().unwrap().len(), 7);
    for bad in ["?page=0", "?page=x", "?per_page=-1", "?sort=email", "?page=99999999999999999999"] {
        assert_eq!(list(bad).await.code(), "validation_failed", "{bad}");
    }
}

#[tokio::test]
async fn links_are_made_for_who_sends_them_themselves() {
    let server = Server::start().await;
    server.user(ANN, PASSWORD).await;
    let make = async |body: Value| server.call("POST", "/admin/generate_link", Key::Secret, body).await;
    for (body, verification) in [
        (json!({ "type": "magiclink", "email": ANN }), "magiclink"),
        (json!({ "type": "recovery", "email": ANN }), "recovery"),
        (json!({ "type": "signup", "email": "s@x.org", "password": PASSWORD }), "signup"),
        (json!({ "type": "invite", "email": "i@x.org" }), "invite"),
        (json!({ "type": "magiclink", "email": "m@x.org" }), "signup"),
    ] {
        let link = make(body.clone()).await.expect(200);
        assert_eq!(link.text("verification_type"), verification, "{body}");
        assert_eq!(link.text("redirect_to"), "https://app.example.org");
        let email = body["email"].as_str().unwrap();
        assert_eq!((link.text("email"), link.text("email_otp").len()), (email, 6));
        let url = link.text("action_link");
        let path = url.strip_prefix("https://base.example/p/proj_authtest/auth/v1").unwrap();
        assert!(path.contains(link.text("hashed_token")), "{path}");
        let followed = server.call("GET", path, Key::Nothing, Value::Null).await.expect(303);
        assert!(followed.location().contains("access_token="), "{body}: {}", followed.location());
    }
    // Nothing was mailed.
    assert!(server.mails().await.is_empty());
    let change = json!({ "type": "email_change_current", "email": ANN, "new_email": "n@x.org" });
    let current = make(change.clone()).await.expect(200);
    let new = make(json!({ "type": "email_change_new", "email": ANN, "new_email": "n@x.org" })).await.expect(200);
    for (link, email) in [(&current, ANN), (&new, "n@x.org")] {
        let body = json!({ "type": "email_change", "email": email, "token": link.text("email_otp") });
        server.call("POST", "/verify", Key::Anon, body).await.expect(200);
    }
    server.sign_in("n@x.org", PASSWORD).await.expect(200);
    for (body, status, code) in [
        (json!({ "type": "recovery", "email": "none@x.org" }), 404, "user_not_found"),
        (json!({ "type": "signup", "email": "n@x.org", "password": PASSWORD }), 422, "email_exists"),
        (json!({ "type": "signup", "email": "q@x.org" }), 400, "validation_failed"),
        (json!({ "type": "invite", "email": "n@x.org" }), 422, "email_exists"),
        (json!({ "type": "x", "email": "n@x.org" }), 400, "validation_failed"),
        (json!({ "type": "recovery" }), 400, "validation_failed"),
    ] {
        let answer = make(body.clone()).await;
        assert_eq!((answer.status, answer.code()), (status, code), "{body}");
    }
}

#[tokio::test]
async fn what_happened_is_written_down() {
    let server = Server::start().await;
    server.user(ANN, PASSWORD).await;
    server.sign_in(ANN, PASSWORD).await.expect(200);
    let list = async |query: &str| server.call("GET", &format!("/admin/audit{query}"), Key::Secret, Value::Null).await;
    let all = list("").await.expect(200);
    let actions: Vec<&str> =
        all.body.as_array().unwrap().iter().map(|entry| entry["payload"]["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["login", "user_signedup"]);
    assert_eq!(all.body[0]["ip_address"], "192.0.2.7");
    assert_eq!(list("?query=action:login").await.expect(200).headers["x-total-count"], "1");
    assert_eq!(list("?query=author:ann").await.expect(200).body.as_array().unwrap().len(), 1);
    assert_eq!(list("?query=nonsense").await.code(), "validation_failed");
}
