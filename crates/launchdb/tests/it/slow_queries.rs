//! Slow requests in their owner's list, and the ids of requests in PostgreSQL.

use std::time::Duration;

use serde_json::{Value, json};
use test_support::ScratchDir;

use crate::crash::block_on;
use crate::server::Server;

const SCHEMA: &str = "
    create table notes (id int primary key, text text);
    insert into notes values (1, 'a'), (2, 'a secret value'), (3, 'c');
    create function slow_notes(seconds float8) returns setof notes stable language sql
        as 'select n.* from notes n, pg_sleep(seconds)';
    grant select on notes to anon;
    create table traces (service text, request_id text);
    create function note_trace() returns trigger language plpgsql security definer set search_path = '' as $$ begin
        insert into public.traces values (tg_table_schema, current_setting('application_name'));
        return new;
    end $$;
    create trigger trace after insert on auth.users for each row execute function note_trace();
    create trigger trace after insert on storage.objects for each row execute function note_trace();
    grant select on traces to service_role;
    insert into storage.buckets (id, name) values ('files', 'files');
";

#[test]
fn slow_requests_are_listed_and_can_be_found_in_postgresql() {
    let home = ScratchDir::new();
    let mut server = Server::start(home.path(), &[]);
    server.cli(&["project", "create", "shop"]);
    server.cli(&["project", "create", "other"]);
    server.cli(&["project", "sql", "shop", SCHEMA]);
    let connection = server.cli_json(&["project", "connection", "shop"]);
    let text = |name: &str| connection[name].as_str().expect("a text").to_owned();
    let (id, key, api) = (text("project_id"), text("anon_key"), text("api_url"));
    let rest = format!("{api}/rest/v1");
    let get = |path: &str, request_id: &str| {
        let headers = [("apikey", key.as_str()), ("x-request-id", request_id)];
        server.ask("GET", &format!("{rest}/{path}"), &headers, "")
    };
    let traced = |request_id: &str| {
        let sql = "select pid from pg_stat_activity where application_name = $1 and datname = $2";
        block_on(async {
            let admin = test_support::connect(&server.superuser_url("postgres")).await;
            let found = admin.query_opt(sql, &[&request_id, &id]).await.expect("the list of sessions");
            found.map(|row| row.get::<_, i32>(0))
        })
    };

    // By default half a second is slow, and requests leave no trace.
    assert_eq!(
        get("rpc/slow_notes?seconds=0.6&text=eq.a%20secret%20value&select=id", "slow-1").body,
        json!([{"id": 2}])
    );
    assert_eq!(get("notes?select=id", "quick-1").status, 200);
    let settings = r#"{"data_api": {"slow_query_ms": 100, "trace_requests": true}}"#;
    server.cli(&["project", "settings", "shop", "--set", settings]);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| get("rpc/slow_notes?seconds=1.5", "trace-me-1"));
        for _ in 0..200 {
            if traced("trace-me-1").is_some() || asking.is_finished() {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(traced("trace-me-1").is_some(), "the session shows whose statement it runs");
        assert_eq!(asking.join().expect("an answer").status, 200);
    });
    assert_eq!(traced("trace-me-1"), None, "and forgets it");
    // Auth and storage leave the same trace.
    let service_key = text("service_role_key");
    let ask = |path: &str, request_id: &str, body: &str| {
        let headers = [("apikey", service_key.as_str()), ("authorization", &format!("Bearer {service_key}"))];
        let more = [("content-type", "application/json"), ("x-request-id", request_id)];
        let answer = server.ask("POST", &format!("{api}/{path}"), &[headers, more].concat(), body);
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    };
    ask("auth/v1/admin/users", "trace-auth", r#"{"email": "ada@example.org", "email_confirm": true}"#);
    ask("storage/v1/object/files/note.json", "trace-storage", "{}");
    let headers = [("apikey", service_key.as_str())];
    let traces = server.ask("GET", &format!("{rest}/traces?order=service"), &headers, "");
    let noted = |service: &str, request_id: &str| json!({"service": service, "request_id": request_id});
    assert_eq!(traces.body, json!([noted("auth", "trace-auth"), noted("storage", "trace-storage")]));

    // What PostgreSQL's own log says of a session, it says with the id.
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| get("rpc/slow_notes?seconds=3", "trace-me-2"));
        let pid = (0..400).find_map(|_| {
            std::thread::sleep(Duration::from_millis(5));
            traced("trace-me-2")
        });
        let pid = pid.expect("the session");
        block_on(async {
            let admin = test_support::connect(&server.superuser_url("postgres")).await;
            admin.execute("select pg_terminate_backend($1)", &[&pid]).await.expect("it is ended");
        });
        assert!(asking.join().expect("an answer").status >= 500);
    });
    let log = server.data().join("postgres/postgresql.log");
    server.until("PostgreSQL's log names the request", |_| {
        std::fs::read_to_string(&log).ok()?.contains("trace-me-2").then_some(())
    });

    let listed = server.until("the list is written", |server| {
        let listed = server.cli_json(&["project", "slow", "shop"]);
        let queries = listed["slow_queries"].as_array().expect("a list").clone();
        (queries.len() >= 3).then_some((listed["threshold_ms"].clone(), queries))
    });
    assert_eq!(listed.0, 100);
    let of = |request_id: &str| -> Value {
        let found = listed.1.iter().find(|query| query["request_id"] == request_id);
        found.unwrap_or_else(|| panic!("{request_id} is not among {:?}", listed.1)).clone()
    };
    let slow = of("slow-1");
    let statement = slow["statement"].as_str().expect("a statement");
    assert!(
        statement.contains("slow_notes") && statement.contains('$') && !statement.contains("secret"),
        "{statement}"
    );
    assert_eq!((&slow["role"], &slow["method"], &slow["rows"]), (&json!("anon"), &json!("GET"), &json!(1)));
    assert!(slow["path"].as_str().is_some_and(|path| path.ends_with("/slow_notes")), "{slow}");
    assert!(slow["duration_ms"].as_i64().is_some_and(|ms| (600..30_000).contains(&ms)), "{slow}");
    assert_eq!(of("trace-me-1")["error_code"], Value::Null);
    assert!(of("trace-me-2")["error_code"].is_string(), "{}", of("trace-me-2"));
    assert!(listed.1.iter().all(|query| query["request_id"] != "quick-1"));
    assert_eq!(server.cli_json(&["project", "slow", "other"])["slow_queries"], json!([]));
    assert!(server.cli(&["project", "slow", "shop"]).contains("trace-me-1"));
    let metrics = server.admin_metrics();
    assert!(metrics.contains(&format!("launchdb_slow_queries_total{{project=\"{id}\"}} 3")), "{metrics}");
}
