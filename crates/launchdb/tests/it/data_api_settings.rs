//! Every setting of the data API, set by the command line, is what the very next request is served by; and errors name
//! nothing that the caller's role may not see.

use serde_json::{Value, json};
use test_support::ScratchDir;

use crate::server::{Answer, Server};

const PREPARE: &str = "
    create table items (id int primary key);
    insert into items select generate_series(1, 20);
    create table notes (id int primary key);
    create schema api2;
    create table api2.things (id int primary key);
    create schema extra;
    create function extra.seven() returns int language sql stable as 'select 7';
    create function calls_seven() returns int language plpgsql stable as 'begin return seven(); end';
    create function guard() returns void language plpgsql as $$ begin raise sqlstate 'PT418'; end $$;
    create function slow() returns int language sql stable as 'select 1 from pg_sleep(0.7)';
    create function role_timeout() returns text language sql stable as $$ select current_setting('statement_timeout') $$;
    -- Nothing in this body looks like a reader of settings.
    create function hidden_reader() returns text language plpgsql stable as $$
        begin
            return coalesce(U&\"curr\\0065nt_setting\"(U&'requ\\0065st.method', true), '');
        end $$;
    create function busy() returns bigint language sql volatile as $$
        select count(*) from pg_sleep(0.3), pg_stat_get_activity(null) a
        where a.usesysid = (select oid from pg_roles where rolname = session_user) $$;
    grant usage on schema api2, extra to anon, authenticated, service_role;
    grant select on all tables in schema public, api2 to anon, authenticated, service_role;
    grant insert on notes to service_role;
    grant execute on all functions in schema public, extra to anon, authenticated, service_role;
";

struct Project<'a> {
    server: &'a Server,
    url: String,
    anon: String,
    service: String,
}

impl Project<'_> {
    fn ask(&self, request: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let (method, path) = request.split_once(' ').expect("METHOD path");
        self.server.ask(
            method,
            &format!("{}/{path}", self.url),
            &[&[("apikey", self.service.as_str())], headers].concat(),
            body,
        )
    }

    /// Sets and asks at once; `expected` is the status and what `look` makes of the body.
    fn check(&self, settings: &str, request: &str, headers: &[(&str, &str)], expected: (u16, Value)) {
        self.server.cli(&["project", "settings", "tuned", "--set", &format!(r#"{{"data_api": {settings}}}"#)]);
        let answer = self.ask(request, headers, "");
        let seen = match &answer.body {
            Value::Array(rows) if request.starts_with("GET items?select=id") || request.starts_with("GET notes") => {
                json!(rows.len())
            }
            Value::Object(error) if answer.status >= 400 => error["code"].clone(),
            body => body.clone(),
        };
        assert_eq!((answer.status, seen), expected, "{request} after {settings}: {}", answer.body);
    }
}

#[test]
fn settings_count_for_the_next_request() {
    let home = ScratchDir::new();
    let server = Server::start(home.path(), &[]);
    server.cli(&["project", "create", "tuned"]);
    server.cli(&["project", "sql", "tuned", PREPARE]);
    let connection = server.cli_json(&["project", "connection", "tuned"]);
    let text = |name: &str| connection[name].as_str().expect("a text").to_owned();
    let project = Project {
        server: &server,
        url: format!("{}/rest/v1", text("api_url")),
        anon: text("anon_key"),
        service: text("service_role_key"),
    };
    let items = "GET items?select=id";
    let rows = |n: usize| (200, json!(n));

    project.check(r#"{"max_rows": 5}"#, items, &[], rows(5));
    project.check(r#"{"max_rows": 7}"#, items, &[], rows(7));
    project.check(r#"{"max_rows": null}"#, items, &[], rows(20));

    let api2 = &[("accept-profile", "api2")];
    project.check(r#"{"db_schema": ["public"]}"#, "GET things", api2, (406, json!("PGRST106")));
    project.check(r#"{"db_schema": ["public", "api2"]}"#, "GET things", api2, (200, json!([])));
    project.check(r#"{"db_schema": ["api2"]}"#, "GET things", &[], (200, json!([])));
    project.check(r#"{"db_schema": ["api2"]}"#, items, &[], (404, json!("PGRST205")));
    // One that is not there yet is ignored until it is.
    project.check(r#"{"db_schema": ["public", "later"]}"#, items, &[], rows(20));
    server.cli(&["project", "sql", "tuned", "create schema later; create table later.t (id int); grant usage on schema later to service_role; grant select on later.t to service_role"]);
    project.check("{}", "GET t", &[("accept-profile", "later")], (200, json!([])));

    project.check(r#"{"db_extra_search_path": ["public"]}"#, "GET rpc/calls_seven", &[], (404, json!("42883")));
    project.check(r#"{"db_extra_search_path": ["public", "extra"]}"#, "GET rpc/calls_seven", &[], (200, json!(7)));

    project.check(r#"{"db_pre_request": "public.guard"}"#, items, &[], (418, json!("PT418")));
    project.check(r#"{"db_pre_request": null}"#, items, &[], rows(20));

    let sum = "GET items?select=sum:id.sum()";
    project.check(r#"{"db_aggregates_enabled": false}"#, sum, &[], (400, json!("PGRST123")));
    project.check(r#"{"db_aggregates_enabled": true}"#, sum, &[], (200, json!([{"sum": 210}])));

    let plan = &[("accept", "application/vnd.pgrst.plan+json")];
    project.check(r#"{"db_plan_enabled": false}"#, "GET items?id=eq.1", plan, (406, json!("PGRST107")));
    server.cli(&["project", "settings", "tuned", "--set", r#"{"data_api": {"db_plan_enabled": true}}"#]);
    let answer = project.ask("GET items?id=eq.1", plan, "");
    assert!(answer.status == 200 && answer.body[0]["Plan"].is_object(), "{}", answer.body);

    timeouts(&project);

    project.check(r#"{"send_all_request_settings": false}"#, "GET rpc/hidden_reader", &[], (200, json!("")));
    project.check(r#"{"send_all_request_settings": true}"#, "GET rpc/hidden_reader", &[], (200, json!("GET")));

    for (end, prefer, kept) in [
        ("rollback", "tx=commit", 0),
        ("commit", "tx=rollback", 1),
        ("commit-allow-override", "tx=rollback", 1),
        ("commit-allow-override", "tx=commit", 2),
        ("rollback-allow-override", "count=exact", 2),
        ("rollback-allow-override", "tx=commit", 3),
    ] {
        server.cli(&["project", "settings", "tuned", "--set", &format!(r#"{{"data_api": {{"db_tx_end": "{end}"}}}}"#)]);
        let body = format!(r#"{{"id": {}}}"#, kept * 10 + prefer.len() + end.len());
        let answer = project.ask("POST notes", &[("prefer", prefer), ("content-type", "application/json")], &body);
        assert_eq!(answer.status, 201, "{end} {prefer}: {}", answer.body);
        project.check("{}", "GET notes", &[], rows(kept));
    }

    // The connections there are while several calls are under way; those of before go away soon.
    let most_connections = || {
        std::thread::scope(|scope| {
            let calls: Vec<_> = (0..4).map(|_| scope.spawn(|| project.ask("POST rpc/busy", &[], ""))).collect();
            let counts = calls.into_iter().map(|call| call.join().expect("a call").body.as_u64().expect("a number"));
            counts.max().expect("calls")
        })
    };
    for (pool, fits) in [(1, (|n| n == 1) as fn(u64) -> bool), (4, |n| n > 1 && n <= 4), (2, |n| n == 2)] {
        server.cli(&["project", "settings", "tuned", "--set", &format!(r#"{{"data_api": {{"db_pool": {pool}}}}}"#)]);
        assert!((0..20).any(|_| fits(most_connections())), "db_pool {pool}");
    }

    changes_fail_no_request(&project);
    errors_name_only_what_the_role_may_see(&project);
}

fn timeouts(project: &Project<'_>) {
    let set = |timeouts: Value| {
        let settings = json!({"data_api": {"statement_timeout_ms": timeouts}}).to_string();
        project.server.cli(&["project", "settings", "tuned", "--set", &settings]);
    };
    let timeout_of = |key: &str| {
        let answer = project.ask("GET rpc/role_timeout", &[("apikey", key)], "");
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body
    };
    set(json!({"anon": 2500, "authenticated": 4500, "service_role": 6500}));
    assert_eq!((timeout_of(&project.anon), timeout_of(&project.service)), (json!("2500ms"), json!("6500ms")));
    set(json!({"anon": 61000, "authenticated": 61000, "service_role": 100}));
    assert_eq!(timeout_of(&project.anon), json!("61s"));
    let answer = project.ask("GET rpc/slow", &[], "");
    assert_eq!((answer.status, answer.body["code"].as_str()), (500, Some("57014")), "{}", answer.body);
    set(json!({"anon": 3000, "authenticated": 8000, "service_role": 8000}));
    let answer = project.ask("GET rpc/slow", &[], "");
    assert_eq!(answer.status, 200, "{}", answer.body);
}

/// What is under way when connections change ends on the old ones.
fn changes_fail_no_request(project: &Project<'_>) {
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asking: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut asked = 0;
                    while !done.load(std::sync::atomic::Ordering::Relaxed) {
                        let answer = project.ask("GET items?select=id&limit=1", &[], "");
                        assert_eq!(answer.status, 200, "{}", answer.body);
                        asked += 1;
                    }
                    asked
                })
            })
            .collect();
        for (pool, authenticated) in [(1, 5000), (3, 6000), (2, 7000), (10, 8000)] {
            let api = json!({"db_pool": pool, "statement_timeout_ms": {"authenticated": authenticated}});
            project.server.cli(&["project", "settings", "tuned", "--set", &json!({"data_api": api}).to_string()]);
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(asking.into_iter().all(|thread| thread.join().expect("no request fails") > 0));
    });
}

const PARTLY_HIDDEN: &str = "
    create table public_board (id int primary key);
    create table secrets_vault (id int primary key, board int references public_board);
    create table reports_secret (id int);
    create table reports_secure (id int);
    create table partly (id int, hidden_column int);
    create table joined_in_secret (board int references public_board, item int references items, primary key (board, item));
    create table joined_in_public (board int references public_board, item int references items, primary key (board, item));
    create function secret_formula(a int) returns int language sql as 'select 1';
    create function two_ways(a int) returns int language sql as 'select 1';
    create function two_ways(a text) returns int language sql as 'select 1';
    revoke execute on function secret_formula(int), two_ways(text) from public, anon;
    grant select on public_board, reports_secure, joined_in_public to anon, service_role;
    grant select on secrets_vault, reports_secret, partly, joined_in_secret to service_role;
    grant select (id) on partly to anon;
    grant execute on function secret_formula(int), two_ways(text) to service_role;
    grant execute on function two_ways(int) to anon, service_role;
";

fn errors_name_only_what_the_role_may_see(project: &Project<'_>) {
    project.server.cli(&["project", "sql", "tuned", PARTLY_HIDDEN]);
    let table = |name: &str| format!("Perhaps you meant the table 'public.{name}'");
    let function = |name: &str| format!("Perhaps you meant to call the function public.{name}");
    let instead = |right: &str, wrong: &str| format!("Perhaps you meant '{right}' instead of '{wrong}'.");
    // What anon is told, and what the service role is told.
    let cases: [(&str, Option<String>, Option<String>); 8] = [
        ("GET public_boar", Some(table("public_board")), Some(table("public_board"))),
        ("GET secrets_vaul", None, Some(table("secrets_vault"))),
        // The next best, as if the best were not there.
        ("GET reports_secre", Some(table("reports_secure")), Some(table("reports_secret"))),
        ("GET rpc/secret_formul?a=1", None, Some(function("secret_formula"))),
        ("GET rpc/secret_formula?aa=1", None, Some(function("secret_formula(a)"))),
        ("GET public_board?select=secrets_vaul(*)", None, Some(instead("secrets_vault", "secrets_vaul"))),
        ("GET secrets_vaul?select=public_board(*)", None, Some(table("secrets_vault"))),
        (
            "GET partly?select=hidden_colum",
            None,
            Some(r#"Perhaps you meant to reference the column "partly.hidden_column"."#.to_owned()),
        ),
    ];
    for (request, anon, service) in cases {
        for (key, expected) in [(&project.anon, anon), (&project.service, service)] {
            let answer = project.ask(request, &[("apikey", key)], "");
            assert!((400..=404).contains(&answer.status), "{request}: {}", answer.body);
            assert_eq!(answer.body["hint"].as_str(), expected.as_deref(), "{request}: {}", answer.body);
        }
    }
    for (request, hidden, shown) in [
        ("GET public_board?select=items(id)", "joined_in_secret", "joined_in_public"),
        ("GET rpc/two_ways?a=1", "a => text", "a => integer"),
    ] {
        for (key, sees_all) in [(&project.anon, false), (&project.service, true)] {
            let answer = project.ask(request, &[("apikey", key)], "");
            let text = answer.body.to_string();
            assert_eq!(answer.status, 300, "{request}: {text}");
            assert!(text.contains(shown) && text.contains(hidden) == sees_all, "{request}: {text}");
        }
    }
}
