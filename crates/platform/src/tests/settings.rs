use super::*;

#[tokio::test]
async fn settings_are_checked_stored_and_effective_at_once() {
    let server = Server::start().await;
    let id = server.project().await;
    let path = format!("/api/projects/{id}/settings");
    let defaults = server.ok("GET", &path, Value::Null).await;
    assert_eq!(defaults["data_api"]["max_rows"], 1000);
    assert_eq!(defaults["auth"]["mailer_autoconfirm"], false);
    assert_eq!(defaults["auth"]["smtp_pass"], Value::Null);

    let bad = json!({ "data_api": { "max_rows": "many", "no_such": 1 }, "auth": { "site_url": "x" }, "nope": {} });
    let refused = server.call("PATCH", &path, bad).await;
    assert_eq!((refused.status.as_u16(), refused.code()), (400, "validation_failed"));
    assert_eq!(refused.body["error"]["details"].as_array().unwrap().len(), 4, "{}", refused.body);
    assert_eq!(server.ok("GET", &path, Value::Null).await, defaults);

    let too_much = json!({ "limits": { "max_body_bytes": 1 << 30 }, "data_api": { "db_pool": 100 } });
    let refused = server.call("PATCH", &path, too_much).await;
    assert_eq!((refused.status.as_u16(), refused.code()), (400, "validation_failed"));
    assert!(refused.body.to_string().contains("52428800, the operator's ceiling"), "{}", refused.body);

    let revision = server.snapshot(&id).unwrap().revision;
    let patch = json!({
        "data_api": { "max_rows": 5, "db_schema": "public,api" },
        "limits": { "requests_per_second": 9 },
        "auth": { "smtp_host": "mail.example.org", "smtp_pass": "hush hush" },
        "general": { "legacy_keys_enabled": false },
    });
    let changed = server.ok("PATCH", &path, patch).await;
    assert_eq!(changed["auth"]["smtp_pass"], "********");
    assert_eq!(changed["data_api"]["db_schema"], json!(["public", "api"]));
    let project = server.snapshot(&id).unwrap();
    assert_eq!(project.data_api.max_rows, Some(5));
    assert_eq!(project.limits.requests_per_second, 9);
    assert!(!project.legacy_keys_enabled);
    assert!(project.revision > revision);
    assert!(!server.dump().await.contains("hush hush"));

    // Null puts the default back; what is not named stays.
    let again = server.ok("PATCH", &path, json!({ "limits": { "requests_per_second": null } })).await;
    assert_eq!(again["limits"]["requests_per_second"], 0);
    assert_eq!(again["data_api"]["max_rows"], 5);
}

#[tokio::test]
async fn patches_at_once_do_not_undo_each_other() {
    let server = Server::start().await;
    let id = server.project().await;
    let path = format!("/api/projects/{id}/settings");
    let names = ["mailer_autoconfirm", "disable_signup", "saml_enabled", "sms_autoconfirm", "external_phone_enabled"];
    let patches = names.map(|name| server.ok("PATCH", &path, json!({ "auth": { name: true } })));
    futures_util::future::join_all(patches).await;
    let settings = server.ok("GET", &path, Value::Null).await;
    for name in names {
        assert_eq!(settings["auth"][name], true, "{name}");
    }
}

/// A lock that an owner keeps in their own project is their own trouble.
#[tokio::test]
async fn an_owners_lock_stops_nobody_else() {
    let server = Server::start().await;
    let id = server.project().await;
    let connection = server.ok("GET", &format!("/api/projects/{id}/connection"), Value::Null).await;
    let owner = test_support::connect(connection["db_uri"].as_str().unwrap()).await;
    let held = "begin; alter default privileges in schema public grant select on tables to anon";
    owner.batch_execute(held).await.unwrap();
    let path = format!("/api/projects/{id}/settings");
    let patches =
        (0..12).map(|_| server.call("PATCH", &path, json!({ "general": { "legacy_default_privileges": true } })));
    let others = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        server.call("GET", "/api/projects", Value::Null).await
    };
    let (patched, listed) = tokio::join!(futures_util::future::join_all(patches), others);
    assert_eq!(listed.status, 200, "{}", listed.body);
    let codes: Vec<_> = patched.iter().map(|answer| (answer.status.as_u16(), answer.code())).collect();
    assert_eq!(codes, [(409, "project_busy"); 12]);
    owner.batch_execute("rollback").await.unwrap();
    server.ok("PATCH", &path, json!({ "general": { "legacy_default_privileges": true } })).await;
    assert_eq!(server.ok("GET", &path, Value::Null).await["general"]["legacy_default_privileges"], true);
}

#[tokio::test]
async fn legacy_default_privileges_open_new_tables() {
    let server = Server::start().await;
    let id = server.project().await;
    let granted = async |table: &str| {
        let query = format!(
            "create table public.{table} (id int); select has_table_privilege('anon', 'public.{table}', 'select') as ok"
        );
        server.ok("POST", &format!("/api/projects/{id}/sql"), json!({ "query": query })).await["rows"][0]["ok"].clone()
    };
    assert_eq!(granted("before").await, false);
    let path = format!("/api/projects/{id}/settings");
    server.ok("PATCH", &path, json!({ "general": { "legacy_default_privileges": true } })).await;
    assert_eq!(granted("during").await, true);
    server.ok("PATCH", &path, json!({ "general": { "legacy_default_privileges": false } })).await;
    assert_eq!(granted("after").await, false);
}

#[tokio::test]
async fn settings_of_storage_reach_the_snapshot() {
    let server = Server::start().await;
    let id = server.project().await;
    let features = |server: &Server| server.snapshot(&id).unwrap().storage.features;
    assert!(features(&server).s3_protocol_enabled() && features(&server).image_transformation_enabled());
    let patch = json!({ "storage": { "fileSizeLimit": 1000, "features": { "s3Protocol": { "enabled": false } } } });
    server.ok("PATCH", &format!("/api/projects/{id}/settings"), patch).await;
    assert!(!features(&server).s3_protocol_enabled() && features(&server).image_transformation_enabled());
    assert_eq!(server.snapshot(&id).unwrap().storage.file_size_limit, 1000);
}
