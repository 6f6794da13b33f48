use super::*;

#[tokio::test]
async fn a_project_is_made_named_suspended_deleted_and_restored() {
    let server = Server::start().await;
    let made = server.ok("POST", "/api/projects", json!({ "name": "  shop " })).await;
    let id = made["id"].as_str().unwrap();
    assert_eq!((made["name"].as_str(), made["status"].as_str()), (Some("shop"), Some("active")), "{made}");
    assert_eq!(made["api_url"], format!("http://localhost:8000/p/{id}"));
    let at = |rest: &str| format!("/api/projects/{id}{rest}");
    assert_eq!(server.snapshot(id).unwrap().status, base::ProjectStatus::Active);

    check(&server, &[("POST", "/api/projects", json!({ "name": "shop" }), 409, "name_taken")]).await;
    let renamed = server.ok("PATCH", &at(""), json!({ "name": "store" })).await;
    assert_eq!(renamed["name"], "store");
    let listed = server.ok("GET", "/api/projects", Value::Null).await;
    assert_eq!(listed["projects"][0]["id"], id);
    assert_eq!(listed["next_offset"], Value::Null);

    assert_eq!(server.ok("POST", &at("/suspend"), Value::Null).await["status"], "suspended");
    assert_eq!(server.snapshot(id).unwrap().status, base::ProjectStatus::Suspended);
    check(&server, &[("POST", &at("/sql"), json!({ "query": "select 1" }), 409, "wrong_status")]).await;
    assert_eq!(server.ok("POST", &at("/resume"), Value::Null).await["status"], "active");

    let deleted = server.ok("DELETE", &at(""), Value::Null).await;
    assert_eq!(deleted["status"], "deleted");
    assert!(deleted["purge_after"].is_string());
    assert!(server.snapshot(id).is_none());
    check(
        &server,
        &[
            ("GET", &at("/connection"), Value::Null, 409, "wrong_status"),
            ("PATCH", &at(""), json!({ "name": "x" }), 409, "wrong_status"),
            ("PATCH", &at("/settings"), json!({}), 409, "wrong_status"),
        ],
    )
    .await;
    assert_eq!(server.ok("GET", "/api/projects", Value::Null).await["projects"], json!([]));
    let all = server.ok("GET", "/api/projects?include_deleted=true", Value::Null).await;
    assert_eq!(all["projects"][0]["status"], "deleted");
    assert_eq!(server.ok("POST", &at("/restore"), Value::Null).await["status"], "active");
    assert!(server.snapshot(id).is_some());

    let audit = server.ok("GET", &at("/audit?limit=2"), Value::Null).await;
    let actions: Vec<_> = audit["entries"].as_array().unwrap().iter().map(|e| e["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["project.restore", "project.delete"]);
    assert_eq!(audit["entries"][0]["client_ip"], "192.0.2.1");
    let next = audit["next_before"].as_i64().unwrap();
    let rest = server.ok("GET", &at(&format!("/audit?before={next}")), Value::Null).await;
    let actions: Vec<_> = rest["entries"].as_array().unwrap().iter().map(|e| e["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["project.resume", "project.suspend", "project.update", "project.create"]);
}

#[tokio::test]
async fn the_connection_is_real_and_whole() {
    let server = Server::start().await;
    let id = server.project().await;
    let connection = server.ok("GET", &format!("/api/projects/{id}/connection"), Value::Null).await;
    let text = |name: &str| connection[name].as_str().unwrap_or_else(|| panic!("{name}: {connection}")).to_owned();
    assert_eq!(text("project_id"), id);
    assert_eq!(text("api_url"), format!("http://localhost:8000/p/{id}"));
    assert_eq!(text("postgrest_url"), format!("http://localhost:8000/p/{id}/rest/v1"));
    assert_eq!(text("auth_url"), format!("http://localhost:8000/p/{id}/auth/v1"));
    assert_eq!(text("storage_url"), format!("http://localhost:8000/p/{id}/storage/v1"));
    assert!(text("publishable_key").starts_with("sb_publishable_"));
    assert!(text("secret_key").starts_with("sb_secret_"));
    assert_eq!(connection["db_uri_pooler"], Value::Null);
    assert!(connection["notes"]["db_uri_pooler"].is_string());

    let client = test_support::connect(&text("db_uri")).await;
    let user: String = client.query_one("select session_user::text", &[]).await.unwrap().get(0);
    assert_eq!(user, id);

    let project = server.snapshot(&id).unwrap();
    for (name, role) in [("anon_key", "anon"), ("service_role_key", "service_role")] {
        let claims = project.jwt_keys.verify_signature(&text(name)).unwrap();
        assert_eq!(claims.text("role"), Some(role));
    }
    for name in ["publishable_key", "secret_key"] {
        assert!(project.find_api_key(&base::api_key::hash(&text(name))).is_some(), "{name}");
    }
    let dump = server.dump().await;
    let password = text("db_uri").split([':', '@']).nth(2).unwrap().to_owned();
    for secret in [text("anon_key"), text("service_role_key"), text("secret_key"), password] {
        assert!(!dump.contains(&secret));
    }
    let list = server.ok("GET", "/api/projects", Value::Null).await.to_string();
    assert!(!list.contains("postgresql://"));
}

#[tokio::test]
async fn another_process_follows_every_change() {
    let server = Server::start().await;
    let elsewhere = Arc::new(ProjectTable::new());
    let tasks = tokio_util::task::TaskTracker::new();
    let shutdown = tokio_util::sync::CancellationToken::new();
    crate::Directory::start(server.platform.config(), elsewhere.clone(), &tasks, shutdown.clone()).await.unwrap();
    let id = server.project().await;
    let project_ref = ProjectRef::parse(&id).unwrap();
    until("the new project is known", async || {
        elsewhere.get(&project_ref).is_some_and(|project| project.status == base::ProjectStatus::Active)
    })
    .await;
    server.ok("PATCH", &format!("/api/projects/{id}/settings"), json!({ "data_api": { "max_rows": 7 } })).await;
    until("the setting is known", async || {
        elsewhere.get(&project_ref).is_some_and(|project| project.data_api.max_rows == Some(7))
    })
    .await;
    // A lost connection is made again, and nothing of the time between is missed.
    let admin = server.cluster.connect("postgres").await;
    let end = "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1";
    admin.query(end, &[&server.platform.config().database.database]).await.unwrap();
    until("the control plane is back", async || {
        server.call("GET", &format!("/api/projects/{id}"), Value::Null).await.status == 200
    })
    .await;
    server.ok("DELETE", &format!("/api/projects/{id}"), Value::Null).await;
    until("the project is gone", async || elsewhere.get(&project_ref).is_none()).await;
    shutdown.cancel();
    tasks.close();
    tasks.wait().await;
    server.platform.shutdown().await;
}
