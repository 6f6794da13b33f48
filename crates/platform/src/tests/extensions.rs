use super::*;

/// What the list says of an extension.
async fn listed(server: &Server, path: &str, name: &str) -> Option<Value> {
    let list = server.ok("GET", path, Value::Null).await;
    list["extensions"].as_array().unwrap().iter().find(|extension| extension["name"] == name).cloned()
}

#[tokio::test]
async fn an_extension_that_owners_may_not_install_is_installed_for_them() {
    let server = Server::start().await;
    let id = server.project().await;
    let path = format!("/api/projects/{id}/extensions");
    let sql = format!("/api/projects/{id}/sql");
    let before = listed(&server, &path, "bloom").await.unwrap();
    assert_eq!((&before["install"], &before["installed_version"]), (&json!("api"), &Value::Null));
    assert_eq!(listed(&server, &path, "hstore").await.unwrap()["install"], "sql");
    assert!(listed(&server, &path, "dblink").await.is_none(), "it is offered to nobody");

    let refused = server.call("POST", &sql, json!({ "query": "create extension bloom" })).await;
    assert_eq!(refused.status.as_u16(), 400, "{}", refused.body);
    // Again is as good as once, and so is what an application's own migration says.
    for _ in 0..2 {
        let made = server.ok("POST", &path, json!({ "name": "bloom" })).await;
        assert_eq!((&made["schema"], &made["installed_version"]), (&json!("extensions"), &before["version"]));
    }
    let uses = "create extension if not exists bloom with schema extensions; create table t (a int);
        create index t_a on t using bloom (a)";
    server.ok("POST", &sql, json!({ "query": uses })).await;
    let one = format!("{path}/bloom");
    check(&server, &[("DELETE", &one, Value::Null, 422, "unsupported")]).await;
    server.ok("POST", &sql, json!({ "query": "drop table t" })).await;
    let gone = server.call("DELETE", &one, Value::Null).await;
    assert_eq!(gone.status.as_u16(), 204, "{}", gone.body);
    assert_eq!(listed(&server, &path, "bloom").await.unwrap()["installed_version"], Value::Null);
    let actions = server.ok("GET", &format!("/api/projects/{id}/audit"), Value::Null).await.to_string();
    assert!(actions.contains("extension.install") && actions.contains("extension.remove"), "{actions}");
}

#[tokio::test]
async fn what_is_not_offered_or_not_there_is_refused() {
    let server = Server::start().await;
    let id = server.project().await;
    let path = format!("/api/projects/{id}/extensions");
    for name in ["dblink", "file_fdw", "adminpack", "plpython3u", "pg_stat_statements", "bloom\"; drop schema x", ""] {
        check(&server, &[("POST", &path, json!({ "name": name }), 400, "validation_failed")]).await;
    }
    check(&server, &[("DELETE", &format!("{path}/dblink"), Value::Null, 404, "extension_not_found")]).await;
    // Few servers have this one; where it is not, the answer says so.
    if listed(&server, &path, "jsquery").await.is_none() {
        let refused = server.call("POST", &path, json!({ "name": "jsquery" })).await;
        assert_eq!((refused.status.as_u16(), refused.code()), (422, "unsupported"), "{}", refused.body);
        assert!(refused.body.to_string().contains("jsquery"), "{}", refused.body);
    }
    let stranger = server.other_owner().await;
    let foreign = server.call_as(&stranger, "POST", &path, json!({ "name": "bloom" })).await;
    assert_eq!(foreign.code(), "project_not_found");
}

#[tokio::test]
async fn a_script_meets_nothing_of_the_owners() {
    let server = Server::start().await;
    let id = server.project().await;
    let sql = format!("/api/projects/{id}/sql");
    // With its schema on the path, a script that calls blhandler would call this one as superuser.
    let trap = "create function extensions.blhandler(internal) returns index_am_handler language sql as 'select null::index_am_handler';
        create function extensions.trap() returns text language plpgsql as 'begin return current_user; end'";
    let made = server.call("POST", &sql, json!({ "query": trap })).await;
    assert_eq!(made.status.as_u16(), 400, "owners make no handlers: {}", made.body);
    let trap = "create schema pg_launchdb_extension";
    let made = server.call("POST", &sql, json!({ "query": trap })).await;
    assert_eq!(made.status.as_u16(), 400, "owners make no schema of that name: {}", made.body);
    // What is in the way of the move is an error, and leaves nothing behind.
    let in_the_way = "create function extensions.blhandler(int) returns int language sql as 'select 1'";
    server.ok("POST", &sql, json!({ "query": in_the_way })).await;
    let path = format!("/api/projects/{id}/extensions");
    let made = server.call("POST", &path, json!({ "name": "bloom" })).await;
    assert_eq!(made.status.as_u16(), 201, "another signature is in nobody's way: {}", made.body);
    let schemas = "select count(*) from pg_namespace where nspname = 'pg_launchdb_extension'";
    let left = server.ok("POST", &sql, json!({ "query": schemas })).await;
    assert!(left["rows"].to_string().contains('0'), "{left}");
}
