use super::*;

#[tokio::test]
async fn signing_keys_are_published_before_they_sign_and_verify_after() {
    let server = Server::start().await;
    let id = server.project().await;
    let at = |rest: &str| format!("/api/projects/{id}/signing-keys{rest}");
    let sign = || server.snapshot(&id).unwrap().signing.sign(&json!({ "role": "authenticated" })).unwrap();
    let verifies = |token: &str| server.snapshot(&id).unwrap().jwt_keys.verify_signature(token).is_ok();
    assert_eq!(server.snapshot(&id).unwrap().signing.algorithm(), "HS256");
    let with_secret = sign();
    check(&server, &[("POST", &at("/rotate"), Value::Null, 409, "limit_reached")]).await;

    let made = server.ok("POST", &at(""), Value::Null).await;
    assert_eq!(made["keys"][0]["status"], "standby");
    let project = server.snapshot(&id).unwrap();
    assert_eq!((project.signing.algorithm(), project.signing.public_jwks().len()), ("HS256", 1));
    check(&server, &[("POST", &at(""), Value::Null, 409, "limit_reached")]).await;
    server.ok("POST", &at("/rotate"), Value::Null).await;
    assert_eq!(server.snapshot(&id).unwrap().signing.algorithm(), "ES256");
    let with_first = sign();
    server.ok("POST", &at(""), Value::Null).await;
    let rotated = server.ok("POST", &at("/rotate"), Value::Null).await;
    let statuses: Vec<&str> =
        rotated["keys"].as_array().unwrap().iter().map(|key| key["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["previously_used", "in_use"]);
    let with_second = sign();
    for token in [&with_secret, &with_first, &with_second] {
        assert!(verifies(token), "{token}");
    }
    let first = rotated["keys"][0]["id"].as_str().unwrap();
    let left = server.ok("DELETE", &at(&format!("/{first}")), Value::Null).await;
    assert_eq!(left["keys"].as_array().unwrap().len(), 1);
    assert!(!verifies(&with_first) && verifies(&with_second));
    check(&server, &[("DELETE", &at(&format!("/{first}")), Value::Null, 404, "key_not_found")]).await;
    // Private halves are stored sealed, and shown to nobody.
    assert!(!left.to_string().contains("private") && !server.dump().await.contains("pkcs8"));
}

#[tokio::test]
async fn secret_settings_of_auth_reach_the_snapshot_and_nothing_else() {
    let server = Server::start().await;
    let id = server.project().await;
    let secret = "a password of a mail server";
    let patch = json!({ "auth": {
        "smtp_host": "mail.example.org", "smtp_pass": secret, "external_github_enabled": true,
        "external_github_client_id": "id", "external_github_secret": "provider secret",
    } });
    let shown = server.ok("PATCH", &format!("/api/projects/{id}/settings"), patch).await;
    assert!(!shown.to_string().contains(secret) && !server.dump().await.contains(secret));
    let project = server.snapshot(&id).unwrap();
    assert_eq!(project.auth.smtp_pass.as_ref().map(|pass| pass.expose().as_str()), Some(secret));
    let github = &project.auth.providers["github"];
    assert!(github.enabled);
    assert_eq!(github.secret.as_ref().map(|secret| secret.expose().as_str()), Some("provider secret"));
    assert!(!format!("{:?}", project.auth).contains(secret));
}
