//! Migrations at the wire.

use serde_json::{Value, json};

use crate::tests::Server;

fn file(version: &str, sql: &str) -> Value {
    json!({ "version": version, "name": format!("file_{version}"), "sql": sql })
}

#[tokio::test(flavor = "multi_thread")]
async fn files_run_once_in_order_and_supabases_ledger_has_them() {
    let server = Server::start().await;
    let path = format!("/api/projects/{}/migrations", server.project().await);
    let sql_path = path.replace("/migrations", "/sql");
    assert_eq!(server.ok("GET", &path, Value::Null).await, json!({ "migrations": [] }));
    let first = file("20240101000000", "create table a (n int);\n\ncreate table b (n int); -- end");
    let second = file("20240102000000", "begin;\ninsert into a values (1);\nset search_path = '';\ncommit;");
    let answer = server.ok("POST", &path, json!({ "migrations": [second, first], "dry_run": true })).await;
    assert_eq!((answer["applied"].as_array().unwrap().len(), &answer["dry_run"]), (2, &json!(true)));
    assert_eq!(server.ok("GET", &path, Value::Null).await, json!({ "migrations": [] }));

    let answer = server.ok("POST", &path, json!({ "migrations": [second, first] })).await;
    let versions: Vec<&str> =
        answer["applied"].as_array().unwrap().iter().map(|row| row["version"].as_str().unwrap()).collect();
    assert_eq!(versions, ["20240101000000", "20240102000000"]);
    let again = server.ok("POST", &path, json!({ "migrations": [first, second] })).await;
    assert_eq!(again, json!({ "applied": [], "skipped": versions, "dry_run": false }));
    let query = "select version || ' ' || name || ' ' || array_to_string(statements, '|') as row
        from supabase_migrations.schema_migrations order by 1";
    let rows = server.ok("POST", &sql_path, json!({ "query": query })).await;
    let expected = json!([
        { "row": "20240101000000 file_20240101000000 create table a (n int)|create table b (n int)" },
        { "row": "20240102000000 file_20240102000000 insert into a values (1)|set search_path = ''" },
    ]);
    assert_eq!(rows["rows"], expected);

    // What another tool wrote down counts, and has no checksum.
    let foreign =
        "insert into supabase_migrations.schema_migrations (version, name) values ('20240103000000', 'theirs')";
    server.ok("POST", &sql_path, json!({ "query": foreign })).await;
    let theirs = file("20240103000000", "this is no SQL");
    assert_eq!(server.ok("POST", &path, json!({ "migrations": [theirs] })).await["skipped"], json!(["20240103000000"]));
    let listed = server.ok("GET", &path, Value::Null).await;
    assert_eq!(listed["migrations"][2]["checksum"], Value::Null);
    assert_eq!(listed["migrations"][0]["checksum"].as_str().map(str::len), Some(64));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_names_file_line_and_hint_and_leaves_nothing_of_its_file() {
    let server = Server::start().await;
    let path = format!("/api/projects/{}/migrations", server.project().await);
    let good = file("1", "create table kept (n int)");
    let bad = file("2", "create table gone (n int);\n\nselect n,\n  m\nfrom kept;");
    let answer = server.call("POST", &path, json!({ "migrations": [good, bad] })).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (400, "migration_failed"), "{}", answer.body);
    let details = &answer.body["error"]["details"];
    assert_eq!(
        (&details["version"], &details["line"], &details["sqlstate"]),
        (&json!("2"), &json!(4), &json!("42703"))
    );
    assert_eq!(details["applied"], json!(["1"]));
    assert!(details["statement"].as_str().unwrap().starts_with("select n"), "{details}");
    let tables = json!({ "query": "select to_regclass('kept') is not null and to_regclass('gone') is null as ok" });
    let rows = server.ok("POST", &path.replace("/migrations", "/sql"), tables).await;
    assert_eq!(rows["rows"][0]["ok"], true);
    let changed = file("1", "create table kept (n int, m int)");
    let answer = server.call("POST", &path, json!({ "migrations": [changed] })).await;
    assert!(answer.body["error"]["message"].as_str().unwrap().contains("changed after"), "{}", answer.body);

    for (body, status, code) in [
        (json!({ "migrations": [file("3", "select 1;\ncommit; select 2")] }), 400, "migration_failed"),
        (json!({ "migrations": [file("3", "alter role postgres superuser")] }), 400, "migration_failed"),
        (json!({ "migrations": [file("x", "select 1")] }), 400, "validation_failed"),
        (json!({ "migrations": "x" }), 400, "validation_failed"),
        (json!({ "migrations": [file("3", "a"), file("3", "b")] }), 400, "validation_failed"),
    ] {
        let answer = server.call("POST", &path, body.clone()).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (status, code), "{body}: {}", answer.body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_at_once_do_not_run_a_file_twice() {
    let server = Server::start().await;
    let path = format!("/api/projects/{}/migrations", server.project().await);
    let body = json!({ "migrations": [file("1", "create table once (n int); select pg_sleep(0.3)")] });
    let both =
        futures_util::future::join(server.call("POST", &path, body.clone()), server.call("POST", &path, body.clone()))
            .await;
    let mut statuses = [both.0.status.as_u16(), both.1.status.as_u16()];
    statuses.sort_unstable();
    // The other one came while it ran, or after it.
    assert!(matches!(statuses, [200, 409 | 200]), "{} {}", both.0.body, both.1.body);
    assert_eq!(server.ok("GET", &path, Value::Null).await["migrations"].as_array().unwrap().len(), 1);
}
