use super::*;

#[tokio::test]
async fn keys_are_shown_once_and_revoked_at_once() {
    let server = Server::start().await;
    let id = server.project().await;
    let at = |rest: &str| format!("/api/projects/{id}{rest}");
    let made = server.ok("POST", &at("/keys"), json!({ "name": "backend", "kind": "secret" })).await;
    let key = made["key"].as_str().unwrap();
    assert_eq!(made["role"], "service_role");
    let hash = base::api_key::hash(key);
    assert!(server.snapshot(&id).unwrap().find_api_key(&hash).is_some());

    let listed = server.ok("GET", &at("/keys"), Value::Null).await;
    assert!(!listed.to_string().contains(key));
    assert!(listed["keys"].as_array().unwrap().iter().any(|k| k["name"] == "backend"));
    assert!(!server.dump().await.contains(key));
    check(
        &server,
        &[
            ("POST", &at("/keys"), json!({ "name": "backend", "kind": "secret" }), 409, "key_name_taken"),
            ("POST", &at("/keys"), json!({ "name": " x", "kind": "golden" }), 400, "validation_failed"),
            ("DELETE", &at("/keys/999999999"), Value::Null, 404, "key_not_found"),
            ("DELETE", &at("/keys/abc"), Value::Null, 404, "key_not_found"),
        ],
    )
    .await;

    server.platform.record_api_key_uses(&[(made["id"].as_i64().unwrap(), 1_700_000_000)]).await.unwrap();
    let revoked = server.ok("DELETE", &at(&format!("/keys/{}", made["id"])), Value::Null).await;
    assert!(revoked["revoked_at"].is_string());
    assert_eq!(revoked["last_used_at"], "2023-11-14T22:13:20.000Z");
    assert!(server.snapshot(&id).unwrap().find_api_key(&hash).is_none());
    check(&server, &[("DELETE", &at(&format!("/keys/{}", made["id"])), Value::Null, 409, "key_revoked")]).await;
    // The name is free again.
    server.ok("POST", &at("/keys"), json!({ "name": "backend", "kind": "secret" })).await;
}

#[tokio::test]
async fn a_revoked_default_key_is_not_shown_and_the_next_takes_its_place() {
    let server = Server::start().await;
    let id = server.project().await;
    let at = |rest: &str| format!("/api/projects/{id}{rest}");
    let keys = server.ok("GET", &at("/keys"), Value::Null).await;
    let default = keys["keys"].as_array().unwrap().iter().find(|key| key["kind"] == "publishable").unwrap().clone();
    server.ok("DELETE", &at(&format!("/keys/{}", default["id"])), Value::Null).await;
    let connection = server.ok("GET", &at("/connection"), Value::Null).await;
    assert_eq!(connection["publishable_key"], Value::Null);
    let made = server.ok("POST", &at("/keys"), json!({ "name": "web", "kind": "publishable" })).await;
    let connection = server.ok("GET", &at("/connection"), Value::Null).await;
    assert_eq!(connection["publishable_key"], made["key"]);
}

#[tokio::test]
async fn a_rotated_jwt_secret_ends_the_old_keys() {
    let server = Server::start().await;
    let id = server.project().await;
    let at = |rest: &str| format!("/api/projects/{id}{rest}");
    let before = server.ok("GET", &at("/connection"), Value::Null).await;
    let verifies = |connection: &Value, key: &str| {
        let keys = server.snapshot(&id).unwrap().jwt_keys.clone();
        keys.verify_signature(connection[key].as_str().unwrap()).is_ok()
    };
    // Nobody is logged out unless that is asked for.
    let rotated = server.ok("POST", &at("/keys/rotate-jwt-secret"), json!({})).await;
    let after = server.ok("GET", &at("/connection"), Value::Null).await;
    assert_eq!(after["anon_key"], rotated["anon_key"]);
    assert_ne!(after["anon_key"], before["anon_key"]);
    assert!(verifies(&before, "anon_key") && verifies(&after, "service_role_key"));
    assert_eq!(server.call("DELETE", &at("/keys/previous-jwt-secrets"), Value::Null).await.status, 204);
    assert!(!verifies(&before, "anon_key") && verifies(&after, "service_role_key"));

    server.ok("POST", &at("/keys/rotate-jwt-secret"), json!({ "end_old_tokens": true })).await;
    let last = server.ok("GET", &at("/connection"), Value::Null).await;
    assert!(!verifies(&after, "anon_key") && verifies(&last, "anon_key"));
    for _ in 0..4 {
        server.ok("POST", &at("/keys/rotate-jwt-secret"), Value::Null).await;
    }
    let full = server.call("POST", &at("/keys/rotate-jwt-secret"), Value::Null).await;
    assert_eq!(full.code(), "limit_reached");
    assert!(verifies(&last, "anon_key"));
}
