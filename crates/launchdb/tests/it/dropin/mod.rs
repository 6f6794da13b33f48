//! `launchdb rest` in the place of `postgrest`: an existing configuration, signals, notifications, and a database that
//! goes and comes back.

mod postgres;
mod process;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use test_support::{ScratchDir, free_port, sign_jwt};

use postgres::Postgres;
use process::{Load, Postgrest, get, get_through, options, post, run};

const SECRET: &str = "reallyreallyreallyreallyverysafe";

const SCHEMA: &str = r#"
    create role authenticator login noinherit;
    create role anon;
    create role author;
    grant anon, author to authenticator;
    alter role anon set statement_timeout = '7s';
    alter role author set default_transaction_isolation = 'repeatable read';
    alter role author set log_min_duration_statement = '1min';
    grant set on parameter log_min_duration_statement to authenticator;
    create schema api;
    create table api.items (id int primary key, name text);
    insert into api.items select i, 'item ' || i from generate_series(1, 20) i;
    create function api.settings() returns json stable language sql as $$
        select json_build_object('timeout', current_setting('statement_timeout'),
                                 'isolation', current_setting('transaction_isolation'),
                                 'log', current_setting('log_min_duration_statement'),
                                 'greeting', current_setting('app.settings.greeting', true)) $$;
    create function api.strict_settings() returns json stable language sql
        set default_transaction_isolation = 'serializable' set statement_timeout = '3s' as 'select api.settings()';
    create function api.add(id int) returns void language sql
        set default_transaction_isolation = 'serializable' as 'insert into api.items values (add.id)';
    grant usage on schema api to anon, author;
    grant select on api.items to anon, author;
    grant insert on api.items to author;
    create schema other;
    create table other.things (id int);
    grant usage on schema other to anon;
    grant select on other.things to anon;
"#;

struct Home {
    dir: ScratchDir,
    postgres: Postgres,
    port: u16,
    admin: u16,
}

impl Home {
    fn new() -> Self {
        let dir = ScratchDir::new();
        let postgres = Postgres::start(dir.path());
        postgres.execute(SCHEMA);
        Self { dir, postgres, port: free_port(), admin: free_port() }
    }

    /// Writes a configuration as users of PostgREST have it, with these lines added.
    fn configure(&self, lines: &str) -> PathBuf {
        let file = self.dir.path().join("postgrest.conf");
        let text = format!(
            "# My API\ndb-uri = \"{}\"\ndb-schemas = \"api\"\ndb-anon-role = \"anon\"\njwt-secret = \"{SECRET}\"\n\
             server-host = \"127.0.0.1\"\nserver-port = {}\nadmin-server-port = {}\n{lines}\n",
            self.postgres.url("authenticator", "postgres"),
            self.port,
            self.admin
        );
        std::fs::write(&file, text).expect("the file is written");
        file
    }

    fn start(&self, lines: &str) -> Postgrest {
        let mut server = Postgrest::start(self.dir.path(), &self.configure(lines), self.port, true);
        let admin = self.admin;
        server.until("ready", |_| get(admin, "/ready", "").filter(|answer| answer.status == 200));
        server
    }
}

fn author() -> String {
    sign_jwt(SECRET.as_bytes(), r#"{"role": "author"}"#)
}

#[test]
fn an_existing_configuration_is_served() {
    let home = Home::new();
    let mut server = home.start("log-level = \"warn\"\napp.settings.greeting = \"hello\"");
    let items = server.get("/items?id=eq.3", "");
    assert_eq!((items.status, items.body.as_str()), (200, r#"[{"id":3,"name":"item 3"}]"#));

    roles_and_functions_bring_their_settings(&home);
    the_admin_server_tells_how_it_stands(&home);

    assert_eq!(server.get("/nothing", &author()).status, 404);
    let wanted = " - author [";
    let line = server.until("the access log", |server| {
        server.output().lines().find(|line| line.contains("/nothing")).map(str::to_owned)
    });
    assert!(line.starts_with("127.0.0.1 - ") && line.contains(wanted), "{line}");
    assert!(line.contains("\"GET /nothing HTTP/1.1\" 404 "), "{line}");
    assert!(!server.output().contains("/items"), "what went well is not logged at this level");

    let ready = run(home.dir.path(), &["--ready", "postgrest.conf"], &[]);
    assert!(ready.status.success(), "{ready:?}");
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
    let away = run(home.dir.path(), &["--ready", "postgrest.conf"], &[]);
    assert_eq!(away.status.code(), Some(1), "{away:?}");

    // The same as a command of ours, behind a unix socket.
    let socket = home.dir.path().join("api.sock");
    let file =
        home.configure(&format!("server-unix-socket = \"{}\"\nserver-unix-socket-mode = \"600\"", socket.display()));
    let mut server = Postgrest::start(home.dir.path(), &file, home.port, false);
    server.until("an answer", |_| get_through(&socket, "/items").filter(|status| status == "HTTP/1.1 200 OK"));
    assert_eq!(get(home.admin, "/live", "").expect("an answer").status, 200);
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&socket).expect("a socket").permissions());
    assert_eq!(mode & 0o777, 0o600);
}

fn roles_and_functions_bring_their_settings(home: &Home) {
    let check = |token: &str, function: &str, expected: [&str; 3]| {
        let answer = get(home.port, function, token).expect("an answer");
        let settings: Value = serde_json::from_str(&answer.body).unwrap_or_else(|_| panic!("{answer:?}"));
        assert_eq!(
            ["timeout", "isolation", "log"].map(|name| settings[name].as_str().unwrap_or("")),
            expected,
            "{function}"
        );
        assert_eq!(settings["greeting"], "hello");
    };
    check("", "/rpc/settings", ["7s", "read committed", "-1"]);
    // A setting of superusers that the connecting role may make, the role itself may not.
    check(&author(), "/rpc/settings", ["0", "repeatable read", "1min"]);
    check("", "/rpc/strict_settings", ["3s", "serializable", "-1"]);
    // An isolation level means an explicit transaction, which has to end.
    for (body, status) in [(r#"{"id": 100}"#, 204), (r#"{"id": 100}"#, 409), (r#"{"id": 101}"#, 204)] {
        let answer = post(home.port, "/rpc/add", &author(), body).expect("an answer");
        assert_eq!(answer.status, status, "{body}: {answer:?}");
    }
    let added = get(home.port, "/items?id=gte.100&select=id", "").expect("an answer");
    assert_eq!(serde_json::from_str::<Value>(&added.body).ok(), Some(serde_json::json!([{"id": 100}, {"id": 101}])));
}

fn the_admin_server_tells_how_it_stands(home: &Home) {
    for (path, status) in [("/live", 200), ("/ready", 200), ("/metrics", 200), ("/config", 404), ("/", 404)] {
        assert_eq!(get(home.admin, path, "").expect("an answer").status, status, "{path}");
    }
    let cache = get(home.admin, "/schema_cache", "").expect("an answer").body;
    let cache: Value = serde_json::from_str(&cache).expect("JSON");
    let tables = cache["dbTables"].as_array().expect("an array");
    assert!(tables.iter().any(|table| table[0]["qiName"] == "items"), "{tables:?}");
    let metrics = get(home.admin, "/metrics", "").expect("an answer").body;
    for wanted in [
        "pgrst_schema_cache_loads_total{status=\"SUCCESS\"} ",
        "pgrst_schema_cache_query_time_seconds ",
        "pgrst_db_pool_available ",
        "pgrst_db_pool_waiting 0.0",
        "pgrst_db_pool_max 10.0",
        "pgrst_db_pool_timeouts_total 0.0",
        "pgrst_jwt_cache_requests_total ",
        "pgrst_jwt_cache_hits_total ",
        "pgrst_jwt_cache_evictions_total 0.0",
    ] {
        assert!(metrics.lines().any(|line| line.starts_with(wanted)), "{wanted}:\n{metrics}");
    }
}

/// What is changed, and how the server is asked to see it.
type Way<'a> = (&'a str, &'a dyn Fn(&Postgrest));

#[test]
fn reloads_drop_no_request() {
    let home = Home::new();
    let mut server = home.start("");
    let load = Load::start(home.port, "/items?limit=1", 4);
    let rows = |server: &Postgrest| {
        let answer = server.get("/items", "");
        serde_json::from_str::<Value>(&answer.body).ok().and_then(|rows| rows.as_array().map(Vec::len))
    };

    // The configuration, by each way to ask for it.
    let ways: [Way<'_>; 3] = [
        ("db-max-rows = 5", &|server| server.signal("USR2")),
        ("db-max-rows = 6\ndb-prepared-statements = false", &|server| server.signal("HUP")),
        ("db-max-rows = 7", &|_| home.postgres.execute("notify pgrst, 'reload config'")),
    ];
    for (i, (lines, ask)) in ways.iter().enumerate() {
        home.configure(lines);
        ask(&server);
        server.until(lines, |server| rows(server).filter(|rows| *rows == 5 + i));
    }

    // The schema cache.
    let ways: [Way<'_>; 4] = [
        ("one", &|server| server.signal("USR1")),
        ("two", &|server| server.signal("HUP")),
        ("three", &|_| home.postgres.execute("notify pgrst, 'reload schema'")),
        ("four", &|_| home.postgres.execute("notify pgrst")),
    ];
    for (table, ask) in ways {
        home.postgres.execute(&format!("create table api.{table} (id int); grant select on api.{table} to anon"));
        assert_eq!(server.get(&format!("/{table}"), "").status, 404, "PostgREST has to be told");
        ask(&server);
        server.until_status(&format!("/{table}"), 200);
    }

    // Other schemas come with their schema cache.
    home.configure("db-max-rows = 7\ndb-schemas = \"api, other\"");
    server.signal("USR2");
    let (port, path) = (home.port, "/things");
    let ask = |profile: &str| {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let answer = agent.get(format!("http://127.0.0.1:{port}{path}")).header("accept-profile", profile).call();
        answer.expect("an answer").status().as_u16()
    };
    server.until("the other schema", |_| (ask("other") == 200).then_some(()));

    // What is wrong changes nothing.
    for lines in ["db-tx-end = \"never\"", "jwt-secret = \"short\"", "server-host = \"open"] {
        let before = server.output().matches("stays as it was").count();
        home.configure(lines);
        server.signal("USR2");
        server
            .until("the refusal", |server| (server.output().matches("stays as it was").count() > before).then_some(()));
        assert_eq!((rows(&server), ask("other")), (Some(7), 200), "{lines}");
    }

    // What the database says wins, and its roles' settings follow.
    home.configure("db-max-rows = 7");
    home.postgres.execute(
        "alter role authenticator set pgrst.db_max_rows = '2';
         alter role authenticator in database postgres set pgrst.db_max_rows = '3';
         alter role anon set statement_timeout = '5s'; notify pgrst, 'reload config'",
    );
    server.until("the database's setting", |server| rows(server).filter(|rows| *rows == 3));
    assert!(server.get("/rpc/settings", "").body.contains("\"5s\""));

    let answers = load.end();
    let dropped: Vec<_> = answers.iter().filter(|answer| answer.as_ref().is_none_or(|a| a.status != 200)).collect();
    assert!(answers.len() > 100 && dropped.is_empty(), "{} of {}: {:?}", dropped.len(), answers.len(), dropped.first());
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn the_database_may_go_and_come_back() {
    let mut home = Home::new();
    home.postgres.stop();
    // It starts without one.
    let file = home.configure("db-pool-acquisition-timeout = 1\ndb-pool = 2\nlog-level = \"crit\"");
    let mut server = Postgrest::start(home.dir.path(), &file, home.port, true);
    server.until_status("/items", 503);
    let answer = server.get("/items", "");
    assert!(answer.body.contains("\"PGRST002\"") && answer.retry_after.is_some(), "{answer:?}");
    assert_eq!(get(home.admin, "/ready", "").expect("an answer").status, 503);
    assert_eq!(get(home.admin, "/live", "").expect("an answer").status, 200);
    home.postgres.resume();
    server.until_status("/items", 200);
    let admin = home.admin;
    let ready = |_: &Postgrest| get(admin, "/ready", "").filter(|answer| answer.status == 200);
    server.until("ready", ready);

    // It goes under load.
    let load = Load::start(home.port, "/items?limit=1", 4);
    std::thread::sleep(Duration::from_millis(300));
    home.postgres.stop();
    server.until_status("/items", 503);
    server.until("not ready", |_| get(admin, "/ready", "").filter(|answer| answer.status == 503));
    std::thread::sleep(Duration::from_secs(3));
    let answer = server.get("/items", "");
    assert!(answer.status == 503 && answer.body.contains("\"PGRST00") && answer.retry_after.is_some(), "{answer:?}");
    home.postgres.execute_after_resume("create table api.later (id int); grant select on api.later to anon");
    server.until_status("/items", 200);
    server.until("ready again", ready);
    // What changed while nobody listened is seen.
    server.until_status("/later", 200);
    std::thread::sleep(Duration::from_millis(300));
    let answers = load.end();
    let count = |status: u16| answers.iter().flatten().filter(|answer| answer.status == status).count();
    assert!(count(200) > 10 && count(503) > 10, "{} and {}", count(200), count(503));
    assert_eq!(count(200) + count(503), answers.len(), "every request has one of two answers");
    let last = &answers[answers.len() - 10..];
    assert!(last.iter().flatten().all(|answer| answer.status == 200), "{last:?}");
    assert!(!server.output().contains("\"GET "), "nothing is logged of requests at this level");

    // A pool that is spent.
    home.postgres.execute("create function api.slow() returns void language sql as 'select pg_sleep(3)'; notify pgrst");
    let port = home.port;
    // A function that is not known yet answers 404.
    server.until("the function", |_| options(port, "/rpc/slow"));
    let slow: Vec<_> = (0..4).map(|_| std::thread::spawn(move || post(port, "/rpc/slow", "", "{}"))).collect();
    let answers: Vec<_> = slow.into_iter().map(|one| one.join().ok().flatten().expect("an answer")).collect();
    let late = |answer: &&process::Answer| answer.status == 504 && answer.body.contains("\"PGRST003\"");
    assert!(answers.iter().filter(late).count() >= 2, "{answers:?}");
    server.until("ready once more", ready);

    // Without recovery, the end of the database is the end of the server.
    home.configure("db-pool-automatic-recovery = false\ndb-max-rows = 3");
    server.signal("USR2");
    server.until("the configuration", |server| {
        let rows: Value = serde_json::from_str(&server.get("/items", "").body).ok()?;
        (rows.as_array()?.len() == 3).then_some(())
    });
    home.postgres.stop();
    assert_eq!(server.wait().code(), Some(1));
}

#[test]
fn settings_are_dumped_as_postgrest_dumps_them() {
    let home = Home::new();
    let dir = home.dir.path();
    let port = home.postgres.port.to_string();
    home.postgres.execute(
        "create role configured login noinherit; create role tenant login noinherit;
         alter role configured set pgrst.db_schemas = 'a, b';
         alter role configured set pgrst.jwt_secret = 'REALLY=REALLY=REALLY=REALLY=VERY=SAFE';
         alter role configured set pgrst.server_port = '1';
         alter role configured set pgrst.not_existing = 'ignored';
         alter role configured in database postgres set pgrst.db_schemas = 'c';
         create schema postgrest; grant usage on schema postgrest to tenant;
         create function postgrest.pre_config() returns void language sql as
             $$ select set_config('pgrst.db_anon_role', current_user || '_anon', true),
                       set_config('pgrst.db_max_rows', '9', true) $$;
         alter role tenant set pgrst.db_max_rows = '8'",
    );
    let no_database: &[(&str, &str)] = &[("PGRST_DB_CONFIG", "false")];
    let database = |user: &'static str| {
        [("PGHOST", "127.0.0.1"), ("PGPORT", port.as_str()), ("PGUSER", user), ("PGDATABASE", "postgres")]
    };
    let check = |file: &str, env: &[(&str, &str)], expected: &[&str]| {
        let path = dir.join("dumped.conf");
        std::fs::write(&path, file).expect("the file is written");
        let output = run(dir, &["--dump-config", "dumped.conf"], env);
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        for line in expected {
            assert!(text.lines().any(|own| own == *line), "{line} is missing in\n{text}");
        }
        // What was dumped has the same effect.
        std::fs::write(&path, &text).expect("the file is written");
        let again = run(dir, &["--dump-config", "--config", "dumped.conf"], env);
        assert_eq!(String::from_utf8(again.stdout).expect("UTF-8"), text);
    };
    check("", no_database, &DEFAULTS.lines().collect::<Vec<_>>());
    check(
        "db-schema = \"x,   y\"\nmax-rows = 7\nrole-claim-key = \".a[0].\\\"b-c\\\"\"\ndb-pool-timeout = 5\nnot-existing = 1\n",
        &[("PGRST_DB_CONFIG", "0"), ("PGRST_DB_POOL", "3"), ("PGRST_APP_SETTINGS_x", "y")],
        &[
            "db-config = false",
            "db-schemas = \"x,y\"",
            "db-max-rows = 7",
            "jwt-role-claim-key = \".\\\"a\\\"[0].\\\"b-c\\\"\"",
            "db-pool = 3",
            "db-pool-max-idletime = 5",
            "app.settings.x = \"y\"",
        ],
    );
    std::fs::write(dir.join("secret"), format!("{SECRET}\n")).expect("the file is written");
    check(
        "jwt-secret = \"@secret\"\ndb-config = false\napp.settings.home = \"$(WHERE)\"\n",
        &[("WHERE", "here")],
        &[&format!("jwt-secret = \"{SECRET}\""), "app.settings.home = \"here\""],
    );
    check(
        "db-schemas = \"file\"\nserver-port = 3005\n",
        &[&database("configured")[..], &[("PGRST_DB_SCHEMAS", "variable")]].concat(),
        &["db-schemas = \"c\"", "jwt-secret = \"REALLY=REALLY=REALLY=REALLY=VERY=SAFE\"", "server-port = 3005"],
    );
    check(
        "db-pre-config = \"postgrest.pre_config\"\n",
        &database("tenant"),
        &["db-anon-role = \"tenant_anon\"", "db-max-rows = 8", "db-pre-config = \"postgrest.pre_config\""],
    );

    refused_settings_have_their_reason(dir);
    let output = run(dir, &["--dump-schema"], &[&database("postgres")[..], &[("PGRST_DB_SCHEMAS", "api")]].concat());
    let cache: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    for (part, least) in [("dbTables", 1), ("dbRoutines", 3), ("dbMediaHandlers", 4), ("dbTimezones", 100)] {
        assert!(cache[part].as_array().is_some_and(|all| all.len() >= least), "{part}: {}", cache[part]);
    }
}

fn refused_settings_have_their_reason(dir: &Path) {
    for (args, env, code, reason) in [
        (&["--dump-config"][..], ("PGRST_DB_TX_END", "never"), 10, "Invalid transaction termination"),
        (&["--dump-config"], ("PGRST_JWT_ROLE_CLAIM_KEY", "role"), 10, "failed to parse role-claim-key value (role)"),
        (&["--dump-config"], ("PGRST_ADMIN_SERVER_PORT", "3000"), 10, "same as server-port"),
        (&["--dump-config"], ("PGRST_JWT_SECRET", "@nothing"), 10, "nothing"),
        (&["--dump-config", "missing.conf"], ("A", "B"), 10, "missing.conf"),
        (&["--no-such-option"], ("A", "B"), 2, "--no-such-option"),
        (&["a", "b"], ("A", "B"), 2, "one configuration file"),
        (&["--ready"], ("A", "B"), 1, "admin-server-port"),
        (&["--ready"], ("PGRST_ADMIN_SERVER_PORT", "3001"), 1, "!4"),
    ] {
        let output = run(dir, args, &[env]);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(code) && text.contains(reason), "{args:?}: {output:?}");
    }
    for (args, wanted) in [(["--version"], "PostgREST 14"), (["--help"], "--dump-config"), (["-e"], "db-uri = ")] {
        let output = run(dir, &args, &[]);
        assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).contains(wanted), "{output:?}");
    }
    // The example is a configuration itself.
    std::fs::write(dir.join("example.conf"), run(dir, &["-e"], &[]).stdout).expect("the file is written");
    let output = run(dir, &["--dump-config", "example.conf"], &[("PGRST_DB_CONFIG", "false")]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), DEFAULTS);
}

/// PostgREST 14's defaults, in its order.
const DEFAULTS: &str = r#"db-aggregates-enabled = false
db-anon-role = ""
db-channel = "pgrst"
db-channel-enabled = true
db-extra-search-path = "public"
db-hoisted-tx-settings = "statement_timeout,plan_filter.statement_cost_limit,default_transaction_isolation"
db-max-rows = ""
db-plan-enabled = false
db-pool = 10
db-pool-acquisition-timeout = 10
db-pool-max-lifetime = 1800
db-pool-max-idletime = 30
db-pool-automatic-recovery = true
db-pre-request = ""
db-prepared-statements = true
db-root-spec = ""
db-schemas = "public"
db-config = false
db-pre-config = ""
db-tx-end = "commit"
db-uri = "postgresql://"
jwt-aud = ""
jwt-role-claim-key = ".\"role\""
jwt-secret = ""
jwt-secret-is-base64 = false
jwt-cache-max-entries = 1000
log-level = "error"
log-query = false
openapi-mode = "follow-privileges"
openapi-security-active = false
openapi-server-proxy-uri = ""
server-cors-allowed-origins = ""
server-host = "!4"
server-port = 3000
server-trace-header = ""
server-timing-enabled = false
server-unix-socket = ""
server-unix-socket-mode = "660"
admin-server-host = "!4"
admin-server-port = ""
"#;
