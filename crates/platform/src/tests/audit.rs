use super::*;

fn actions(page: &Value) -> Vec<&str> {
    page["entries"].as_array().unwrap().iter().map(|entry| entry["action"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn nothing_changes_without_its_entry() {
    let server = Server::start().await;
    let id = server.project().await;
    let keys = server.ok("GET", &format!("/api/projects/{id}/keys"), Value::Null).await;
    let key = keys["keys"][0]["id"].clone();
    server.ok("POST", &format!("/api/projects/{id}/domains"), json!({ "domain": "kept.example.org" })).await;
    let state = async || {
        let client = server.cluster.connect(&server.platform.config().database.database).await;
        let mut state = Vec::new();
        let tables =
            ["owners", "owner_sessions", "projects", "secrets", "api_keys", "project_settings", "project_domains"];
        for table in tables {
            // Uses of sessions are written down without a change.
            let sql = format!("select (to_jsonb(t) - 'last_used_at')::text from platform.{table} t order by 1");
            state.extend(client.query(&sql, &[]).await.unwrap().iter().map(|row| row.get::<_, String>(0)));
        }
        state
    };
    let admin = server.cluster.connect(&server.platform.config().database.database).await;
    admin.batch_execute("alter table platform.audit_log add constraint full_up check (false) not valid").await.unwrap();
    let before = state().await;
    let at = |rest: &str| format!("/api/projects/{id}{rest}");
    let login = json!({ "email": OWNER, "password": PASSWORD });
    for (method, path, body) in [
        ("POST", "/api/projects".to_owned(), json!({ "name": "another" })),
        ("PATCH", at(""), json!({ "name": "renamed" })),
        ("POST", at("/suspend"), Value::Null),
        ("DELETE", at(""), Value::Null),
        ("POST", at("/keys"), json!({ "name": "k", "kind": "secret" })),
        ("DELETE", at(&format!("/keys/{key}")), Value::Null),
        ("POST", at("/keys/rotate-jwt-secret"), Value::Null),
        ("PATCH", at("/settings"), json!({ "data_api": { "max_rows": 7 } })),
        ("POST", at("/domains"), json!({ "domain": "api.example.org" })),
        ("DELETE", at("/domains/kept.example.org"), Value::Null),
        ("POST", at("/sql"), json!({ "query": "create table public.unseen ()" })),
        ("POST", "/api/owners".to_owned(), json!({ "email": "other@example.org" })),
        ("POST", "/api/owners/login".to_owned(), login),
        ("POST", "/api/owners/set-password".to_owned(), json!({ "email": OWNER })),
        ("PATCH", "/api/owners/me".to_owned(), json!({ "old_password": PASSWORD, "password": "quite another one" })),
        ("POST", "/api/owners/logout".to_owned(), Value::Null),
    ] {
        let answer = server.call(method, &path, body).await;
        assert!(answer.status.is_server_error(), "{method} {path}: {} {}", answer.status, answer.body);
        assert_eq!(state().await, before, "{method} {path}");
    }
    admin.batch_execute("alter table platform.audit_log drop constraint full_up").await.unwrap();
    let seen = server.ok("POST", &at("/sql"), json!({ "query": "select to_regclass('public.unseen') as t" })).await;
    assert_eq!(seen["rows"][0]["t"], Value::Null);
}

#[tokio::test]
async fn sql_is_written_down_before_it_runs() {
    let server = Server::start().await;
    let id = server.project().await;
    let query = json!({ "query": "create table public.hidden (); commit; select pg_sleep(60)" });
    let path = format!("/api/projects/{id}/sql");
    let running = server.call("POST", &path, query);
    // The client hangs up while it runs.
    assert!(tokio::time::timeout(Duration::from_millis(700), running).await.is_err());
    let newest = async || {
        server.ok("GET", &format!("/api/projects/{id}/audit?limit=1"), Value::Null).await["entries"][0].clone()
    };
    assert_eq!(newest().await["action"], "sql.run");
    until("the outcome is known", async || newest().await["detail"]["outcome"] == "sql_timeout").await;
    for (query, outcome, sqlstate) in
        [("select 1", json!("ok"), Value::Null), ("select x", json!("sql_error"), json!("42703"))]
    {
        server.call("POST", &format!("/api/projects/{id}/sql"), json!({ "query": query })).await;
        let detail = newest().await["detail"].clone();
        assert_eq!((&detail["outcome"], &detail["sqlstate"]), (&outcome, &sqlstate), "{query}: {detail}");
    }
}

#[tokio::test]
async fn administrators_see_logins_owners_and_purges() {
    let server = Server::start().await;
    let id = server.project().await;
    let stranger = server.other_owner().await;
    for (email, password) in [(OWNER, "wrong"), ("nobody@example.org", "x"), ("my secret password", "x")] {
        let body = json!({ "email": email, "password": password });
        assert_eq!(server.call_as("", "POST", "/api/owners/login", body).await.status, 401);
    }
    server.ok("DELETE", &format!("/api/projects/{id}"), Value::Null).await;
    server.platform.provisioner().purge(&ProjectRef::parse(&id).unwrap()).await.unwrap();
    let page = server.ok("GET", "/api/audit?limit=5", Value::Null).await;
    assert_eq!(
        actions(&page),
        ["project.purge", "owner.login_failed", "owner.login_failed", "owner.login_failed", "owner.login"]
    );
    let entries = &page["entries"];
    assert_eq!((&entries[0]["project_id"], &entries[0]["detail"]["status"]), (&json!(id), &json!("deleted")));
    assert_eq!(entries[1]["detail"]["email"], Value::Null, "what is no address may be a password");
    assert_eq!(entries[2]["detail"]["email"], "nobody@example.org");
    assert!(entries[3]["owner_id"].is_string() && entries[3]["client_ip"] == "192.0.2.1", "{entries}");
    let rest = server.ok("GET", &format!("/api/audit?before={}", page["next_before"]), Value::Null).await;
    assert_eq!(actions(&rest), ["owner.create", "owner.create"]);
    let refused = server.call_as(&stranger, "GET", "/api/audit", Value::Null).await;
    assert_eq!((refused.status.as_u16(), refused.code()), (403, "admin_required"));
}
