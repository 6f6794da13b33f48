use super::*;

#[tokio::test]
async fn access_keys_are_shown_once_and_end_at_once() {
    let server = Server::start().await;
    let id = server.project().await;
    let at = |rest: &str| format!("/api/projects/{id}/s3-keys{rest}");
    let made = server.ok("POST", &at(""), json!({ "name": "backup" })).await;
    let (access_key, secret) = (made["access_key_id"].as_str().unwrap(), made["secret_access_key"].as_str().unwrap());
    assert!(made["endpoint"].as_str().unwrap().ends_with(&format!("/p/{id}/storage/v1/s3")));
    let snapshot = server.snapshot(&id).unwrap();
    let [key] = &snapshot.s3.access_keys[..] else { panic!("one key: {:?}", snapshot.s3) };
    assert_eq!((key.access_key_id.as_str(), key.secret.expose().as_str()), (access_key, secret));
    let connection = server.ok("GET", &format!("/api/projects/{id}/connection"), Value::Null).await;
    assert_eq!(snapshot.s3.anon_key.as_ref().unwrap().expose(), connection["anon_key"].as_str().unwrap());

    let listed = server.ok("GET", &at(""), Value::Null).await;
    assert_eq!(listed["keys"][0]["access_key_id"], access_key);
    assert!(!listed.to_string().contains(secret));
    assert!(!server.dump().await.contains(secret));
    check(
        &server,
        &[
            ("POST", &at(""), json!({ "name": "backup" }), 409, "key_name_taken"),
            ("POST", &at(""), json!({ "name": " x" }), 400, "validation_failed"),
            ("POST", &at(""), json!({}), 400, "validation_failed"),
            ("DELETE", &at("/999999999"), Value::Null, 404, "key_not_found"),
            ("DELETE", &at("/abc"), Value::Null, 404, "key_not_found"),
        ],
    )
    .await;
    server.ok("DELETE", &at(&format!("/{}", made["id"])), Value::Null).await;
    assert!(server.snapshot(&id).unwrap().s3.access_keys.is_empty());
    check(&server, &[("DELETE", &at(&format!("/{}", made["id"])), Value::Null, 404, "key_not_found")]).await;
}
