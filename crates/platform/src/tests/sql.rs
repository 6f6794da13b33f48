use super::*;

async fn run(server: &Server, id: &str, body: Value) -> Answer {
    server.call("POST", &format!("/api/projects/{id}/sql"), body).await
}

#[tokio::test]
async fn sql_runs_as_the_projects_owner_and_answers_in_json() {
    let server = Server::start().await;
    let id = server.project().await;
    let query = "select session_user::text as who, 1::int8 as n, null::text as nothing, array[1,2] as list, \
                 '{\"a\": [1]}'::jsonb as doc, 1.50::numeric(5,2) as price, true as yes, 1 as n";
    let answer = run(&server, &id, json!({ "query": query })).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let expected = json!([{
        "who": id, "n": 1, "nothing": null, "list": [1, 2], "doc": { "a": [1] }, "price": 1.50, "yes": true, "n_2": 1,
    }]);
    assert_eq!(answer.body["rows"], expected);
    let types: Vec<_> =
        answer.body["columns"].as_array().unwrap().iter().map(|c| c["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["text", "bigint", "text", "integer[]", "jsonb", "numeric(5,2)", "boolean", "integer"]);
    assert_eq!((answer.body["command"].as_str(), answer.body["row_count"].as_i64()), (Some("SELECT 1"), Some(1)));

    let several = "create table public.t (id int primary key, v text); insert into public.t values (1, 'a'), (2, 'b'); \
                   do $$ begin raise notice 'hello'; end $$; select id from public.t order by id";
    let answer = run(&server, &id, json!({ "query": several })).await;
    assert_eq!(answer.body["rows"], json!([{ "id": 1 }, { "id": 2 }]), "{}", answer.body);
    assert_eq!(answer.body["results"].as_array().unwrap().len(), 4);
    assert_eq!(answer.body["results"][1]["row_count"], 2);
    assert_eq!(answer.body["notices"][0]["message"], "hello");

    let with_params = json!({ "query": "select v from public.t where id = $1 or v = $2", "params": [1, "b"] });
    assert_eq!(run(&server, &id, with_params).await.body["row_count"], 2);
    // Nothing gets back to a stronger role.
    let answer = run(
        &server,
        &id,
        json!({ "query": "reset role; reset session authorization; \
        select rolsuper from pg_roles where rolname = session_user" }),
    )
    .await;
    assert_eq!(answer.body["rows"], json!([{ "rolsuper": false }]), "{}", answer.body);
}

#[tokio::test]
async fn sql_errors_say_where() {
    let server = Server::start().await;
    let id = server.project().await;
    let answer = run(&server, &id, json!({ "query": "select 1; select nonsense" })).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (400, "sql_error"));
    let details = &answer.body["error"]["details"];
    assert_eq!((details["sqlstate"].as_str(), details["position"].as_i64()), (Some("42703"), Some(18)), "{details}");
    let state = async |body: Value| {
        let answer = run(&server, &id, body).await;
        answer.body["error"]["details"]["sqlstate"]
            .as_str()
            .map(str::to_owned)
            .unwrap_or_else(|| answer.body.to_string())
    };
    assert_eq!(state(json!({ "query": "select $1", "params": [] })).await, "08P01");
    assert_eq!(state(json!({ "query": "select 1; select 2", "params": [] })).await, "42601");
    assert_eq!(state(json!({ "query": "copy pg_class from stdin" })).await, "42501");
    for query in ["create table public.x ()", "commit; create table public.x ()", "set transaction read write"] {
        let answer = run(&server, &id, json!({ "query": query, "read_only": true })).await;
        assert!(query.starts_with("set") || answer.status == 400, "{query}: {}", answer.body);
    }
    assert_eq!(state(json!({ "query": "create table public.x ()", "read_only": true })).await, "25006");
    assert_eq!(state(json!({ "query": "select 1 from public.x" })).await, "42P01");
    check(
        &server,
        &[
            ("POST", &format!("/api/projects/{id}/sql"), json!({}), 400, "validation_failed"),
            ("POST", &format!("/api/projects/{id}/sql"), json!({ "query": "a\0b" }), 400, "validation_failed"),
            (
                "POST",
                &format!("/api/projects/{id}/sql"),
                json!({ "query": "", "timeout_ms": 0 }),
                400,
                "validation_failed",
            ),
            (
                "POST",
                &format!("/api/projects/{id}/sql"),
                json!({ "query": "", "params": {} }),
                400,
                "validation_failed",
            ),
        ],
    )
    .await;
    assert_eq!(run(&server, &id, json!({ "query": "-- nothing" })).await.status, 200);
}

#[tokio::test]
async fn sql_is_bounded_in_time_rows_and_bytes() {
    let server = Server::start().await;
    let id = server.project().await;
    for query in ["select pg_sleep(20)", "set statement_timeout = 0; select pg_sleep(20)"] {
        let started = std::time::Instant::now();
        let answer = run(&server, &id, json!({ "query": query, "timeout_ms": 200 })).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (504, "sql_timeout"), "{query}: {}", answer.body);
        assert!(started.elapsed() < Duration::from_secs(5));
    }
    let many = run(&server, &id, json!({ "query": "select generate_series(1, 20000) as n" })).await;
    assert_eq!(many.body["truncated"], true);
    assert_eq!(many.body["row_count"], 20_000);
    assert_eq!(many.body["rows"].as_array().unwrap().len(), 10_000);
    let long = run(&server, &id, json!({ "query": "select repeat('x', 60000000) as x; select 1 as n" })).await;
    assert_eq!(long.body["results"][0]["rows"], json!([]), "{}", long.status);
    assert_eq!(long.body["results"][0]["truncated"], true);
    assert_eq!(long.body["rows"], json!([{ "n": 1 }]));

    // Four at a time; the others are told to come back.
    let sleepers = (0..8).map(|_| run(&server, &id, json!({ "query": "select pg_sleep(1)" })));
    let answers = futures_util::future::join_all(sleepers).await;
    let busy: Vec<_> = answers.iter().filter(|answer| answer.status == 429).collect();
    assert_eq!(busy.len(), 4);
    assert!(busy.iter().all(|answer| answer.headers.contains_key("retry-after")));
}

#[tokio::test]
async fn nothing_is_written_while_the_disk_is_nearly_full() {
    let server = Server::start().await;
    let id = server.project().await;
    let made = "create table public.t (id int); insert into public.t values (1)";
    assert_eq!(run(&server, &id, json!({ "query": made })).await.status, 200);
    let gate = server.platform.provisioner().write_gate().clone();
    gate.set_open(false);
    let path = format!("/api/projects/{id}");
    for (method, path, body) in [
        ("POST", format!("{path}/sql"), json!({ "query": "insert into public.t values (2)" })),
        ("POST", "/api/projects".to_owned(), json!({ "name": "one more" })),
        ("PATCH", format!("{path}/settings"), json!({ "general": { "legacy_default_privileges": true } })),
    ] {
        let refused = server.call(method, &path, body).await;
        assert_eq!((refused.status.as_u16(), refused.code()), (503, "disk_nearly_full"), "{method} {path}");
        assert!(refused.body["error"]["message"].as_str().unwrap().contains("disk is nearly full"));
        assert!(refused.headers.contains_key("retry-after"));
    }
    let read = run(&server, &id, json!({ "query": "select id from public.t", "read_only": true })).await;
    assert_eq!(read.body["rows"], json!([{ "id": 1 }]), "{}", read.body);
    gate.set_open(true);
    assert_eq!(run(&server, &id, json!({ "query": "insert into public.t values (2)" })).await.status, 200);

    // Where the gate is another process's, the cluster's own default holds: a session of ours does not lift it.
    let admin = server.cluster.connect("postgres").await;
    admin.batch_execute(&format!("alter database {id} set default_transaction_read_only = on")).await.unwrap();
    let refused = run(&server, &id, json!({ "query": "insert into public.t values (3)" })).await;
    assert_eq!(refused.body["error"]["details"]["sqlstate"], "25006", "{}", refused.body);
}

#[tokio::test]
async fn an_owner_without_free_connections_is_told_to_come_back() {
    let server = Server::start().await;
    let id = server.project().await;
    let uri = server.ok("GET", &format!("/api/projects/{id}/connection"), Value::Null).await["db_uri"].clone();
    let mut sessions = Vec::new();
    while let Ok((client, connection)) = tokio_postgres::connect(uri.as_str().unwrap(), tokio_postgres::NoTls).await {
        sessions.push((client, tokio::spawn(connection)));
        assert!(sessions.len() < 100, "there is no limit");
    }
    let refused = run(&server, &id, json!({ "query": "select 1" })).await;
    assert_eq!((refused.status.as_u16(), refused.code()), (429, "rate_limited"), "{}", refused.body);
    assert!(refused.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn a_password_changed_from_sql_does_not_lock_sql_out() {
    let server = Server::start().await;
    let id = server.project().await;
    let changed =
        run(&server, &id, json!({ "query": format!("set role none; alter role {id} password 'mine'") })).await;
    assert_eq!(changed.status, 200, "{}", changed.body);
    let answer = run(&server, &id, json!({ "query": "select 1 as n" })).await;
    assert_eq!(answer.body["rows"], json!([{ "n": 1 }]), "{}", answer.body);
    let connection = server.ok("GET", &format!("/api/projects/{id}/connection"), Value::Null).await;
    test_support::connect(connection["db_uri"].as_str().unwrap()).await;
}

#[tokio::test]
async fn sql_for_an_owner_that_cannot_be_is_told_whom_to_name() {
    let server = Server::start().await;
    let id = server.project().await;
    let hint =
        async |query: &str| run(&server, &id, json!({ "query": query })).await.body["error"]["details"]["hint"].clone();
    // What `OWNER TO postgres` of a dump meets where a superuser has that name.
    let owner = hint("create table public.t (); alter table public.t owner to supabase_admin").await;
    assert!(owner.as_str().is_some_and(|hint| hint.contains("\"postgres\"")), "{owner}");
    assert_eq!(hint("select pg_read_file('x')").await, Value::Null);
    let fine = "create table public.t (); alter table public.t owner to postgres";
    assert_eq!(run(&server, &id, json!({ "query": fine })).await.status, 200);
}

#[tokio::test]
async fn a_client_that_hangs_up_ends_its_sql() {
    let server = Server::start().await;
    let id = server.project().await;
    let running = run(&server, &id, json!({ "query": "select pg_sleep(60)" }));
    assert!(tokio::time::timeout(Duration::from_millis(700), running).await.is_err());
    let admin = server.cluster.connect("postgres").await;
    until("the statement is over", async || {
        let count: i64 = admin
            .query_one("select count(*) from pg_stat_activity where datname = $1 and state = 'active'", &[&id])
            .await
            .unwrap()
            .get(0);
        count == 0
    })
    .await;
    let usage = server.ok("GET", &format!("/api/projects/{id}/usage"), Value::Null).await;
    assert!(usage["database"]["size_bytes"].as_i64().unwrap() > 1_000_000, "{usage}");
}
