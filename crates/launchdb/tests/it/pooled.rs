//! Services behind PgBouncer as a service: the platform's database and the projects' through it, and no session of theirs in
//! PostgreSQL that is not PgBouncer's.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use serde_json::{Value, json};
use test_support::{ScratchDir, free_port};

use crate::alone::Alone;
use crate::server::Server;

const SCRIPT: &str = "create table items (id int primary key, note text);
    insert into items select i, 'note ' || i from generate_series(1, 100) i;
    grant select, insert on items to anon;
    create schema second; grant usage on schema second to anon;
    create table second.items (id int primary key); insert into second.items values (7); grant select on second.items to anon;
    create function slow() returns text language sql as $$ select pg_sleep(5)::text $$; grant execute on function slow() to anon;
    create function leave() returns text language sql volatile as
        $$ select set_config('search_path', 'second', false) || set_config('statement_timeout', '1', false) $$;
    grant execute on function leave() to anon;";

/// PgBouncer and what may be asked of it on its machine.
struct Pooler {
    process: Alone,
    port: u16,
    folder: PathBuf,
}

impl Pooler {
    fn start(server: &mut Server, folder: &Path) -> Self {
        let port = free_port();
        let (dir, log) = (folder.join("pooler"), folder.join("log"));
        std::fs::create_dir(&log).expect("a folder");
        let settings = [
            ("LAUNCHDB_POOLER_PORT", port.to_string()),
            ("LAUNCHDB_POOLER_DIR", dir.display().to_string()),
            ("LAUNCHDB_POOLER_LOG_DIR", log.display().to_string()),
        ];
        let settings: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let process = Alone::start(server, "pgbouncer", folder, &settings);
        let pooler = Self { process, port, folder: folder.to_owned() };
        server.until("the pooler lets its operator in", |_| pooler.ask("platform", "select 1"));
        pooler
    }

    /// As the operator, whose password is on this machine.
    fn ask(&self, database: &str, sql: &str) -> Option<String> {
        self.psql("-At", database, sql)
    }

    fn psql(&self, format: &str, database: &str, sql: &str) -> Option<String> {
        let output = Command::new("psql")
            .args([
                format,
                "-Pfooter=off",
                "-h",
                "127.0.0.1",
                "-p",
                &self.port.to_string(),
                "-U",
                "postgres",
                "-d",
                database,
                "-c",
                sql,
            ])
            .env("PGPASSFILE", self.folder.join("pooler/pgpass"))
            .env("PGCONNECT_TIMEOUT", "5")
            .output()
            .expect("psql runs");
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// What the console lists of the services' roles, each row by the names of its columns: versions add some.
    fn of_services(&self, command: &str) -> Vec<HashMap<String, String>> {
        let text = self.psql("-A", "pgbouncer", command).expect("the console answers");
        let mut lines = text.lines().map(|line| line.split('|').map(str::to_owned).collect::<Vec<_>>());
        let names = lines.next().unwrap_or_default();
        let rows = lines.map(|row| names.iter().cloned().zip(row).collect::<HashMap<_, _>>());
        rows.filter(|row| row["user"].ends_with("_authenticator")).collect()
    }
}

fn psql(uri: &str, sql: &str) -> Option<String> {
    let output = Command::new("psql").args(["-At", uri, "-c", sql]).env("PGCONNECT_TIMEOUT", "5").output();
    let output = output.expect("psql runs");
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[test]
fn services_reach_databases_through_the_pooler() {
    let (home, folder) = (ScratchDir::new(), ScratchDir::new());
    let mut server = Server::start_with(home.path(), &[], &[("LAUNCHDB_POOLER_PORT", "off")]);
    let pooler = Pooler::start(&mut server, folder.path());
    let secrets = std::fs::read_to_string(server.data().join("secrets.env")).expect("secrets were made");
    let password = secrets.lines().find_map(|line| line.strip_prefix("LAUNCHDB_PLATFORM_DB_PASSWORD="));
    let address = format!("127.0.0.1:{}", pooler.port);
    let platform = format!("postgresql://platform:{}@{address}/platform", password.expect("a password"));
    // Operator and role by turns: one must not spoil the other's way to PostgreSQL.
    for _ in 0..2 {
        assert_eq!(psql(&platform, "select current_user").as_deref(), Some("platform"));
        assert_eq!(pooler.ask("platform", "select current_user").as_deref(), Some("platform"));
    }
    let storage = server.data().join("storage").display().to_string();
    let settings = [
        ("DATABASE_URL", platform.as_str()),
        ("LAUNCHDB_POOLER_ADDRESS", address.as_str()),
        ("STORAGE_PATH", storage.as_str()),
    ];
    let [rest, auth, files] = ["rest", "auth", "storage"].map(|name| {
        let alone = Alone::start(&server, name, folder.path(), &settings);
        server.until("it is healthy", |_| {
            (ureq::get(format!("{}/health", alone.url)).call().ok()?.status() == 200).then_some(())
        });
        alone
    });

    // A project that the pooler has not heard of yet is served by the first request that its services know it by.
    server.cli(&["project", "create", "shop"]);
    let connection = server.cli_json(&["project", "connection", "shop"]);
    let text = |name: &str| connection[name].as_str().expect("a text").to_owned();
    let (id, key, service_key) = (text("project_id"), text("anon_key"), text("service_role_key"));
    server.cli(&["project", "sql", "shop", SCRIPT]);
    let items = format!("{}/db/{id}/items", rest.url);
    server.until("the project is known", |server| (server.get(&items, &key).0 == 200).then_some(()));
    the_data_api_is_whole(&mut server, &rest.url, &id, &key);

    let headers = [("apikey", service_key.as_str()), ("content-type", "application/json")];
    let ask = |server: &Server, url: String, body: Value| {
        let answer = server.ask("POST", &url, &headers, &body.to_string());
        assert_eq!(answer.status, 200, "{url}: {}", answer.body);
        answer.body
    };
    let user = json!({ "email": "ann@example.org", "password": "correct horse battery", "email_confirm": true });
    ask(&server, format!("{}/auth/{id}/admin/users", auth.url), user.clone());
    let session = ask(&server, format!("{}/auth/{id}/token?grant_type=password", auth.url), user);
    assert!(session["access_token"].is_string());
    ask(&server, format!("{}/p/{id}/storage/v1/bucket", files.url), json!({ "name": "b", "public": false }));
    let object = format!("{}/p/{id}/storage/v1/object/b/a", files.url);
    ask(&server, object.clone(), json!({ "kept": true }));
    assert_eq!(server.get(&object, &service_key).1, json!({ "kept": true }));

    // Many at once, on few sessions.
    thread::scope(|scope| {
        for reader in 0..16 {
            let (server, items, key) = (&server, &items, &key);
            scope.spawn(move || {
                for at in 0..20 {
                    let id = 1 + (reader * 20 + at) % 100;
                    let (status, body) = server.get(&format!("{items}?id=eq.{id}&select=note"), key);
                    assert_eq!((status, body), (200, json!([{ "note": format!("note {id}") }])));
                }
            });
        }
    });
    let sql = "select coalesce(string_agg(client_port::text, ' '), '') from pg_stat_activity
        where usename like '%\\_authenticator' and client_port <> -1";
    let sessions = psql(&server.superuser_url("postgres"), sql).expect("PostgreSQL answers");
    let servers = pooler.of_services("show servers");
    let own: Vec<&String> = servers.iter().map(|row| &row["local_port"]).collect();
    assert!(!sessions.is_empty() && sessions.split(' ').count() <= 7, "{sessions}");
    assert!(sessions.split(' ').all(|port| own.iter().any(|own| *own == port)), "{sessions} of {own:?}");
    let pools = pooler.of_services("show pools");
    assert!(pools.iter().any(|pool| pool["database"] == id && pool["pool_mode"] == "transaction"), "{pools:?}");

    // New passwords, which the pooler hears of a moment later.
    server.cli(&["project", "rotate-passwords", "shop"]);
    server.until("the new password is known", |server| (server.get(&items, &key).0 == 200).then_some(()));
    // Killed, PgBouncer comes again, and so do the services.
    let ini = folder.path().join("pooler/pgbouncer.ini").display().to_string();
    assert!(test_support::signal(test_support::process_with(&ini).expect("it runs"), "KILL"));
    server.until("it works again", |server| (server.get(&items, &key).0 == 200).then_some(()));
    let log = std::fs::read_to_string(folder.path().join("log/pgbouncer.log")).expect("a log");
    assert!(log.contains("process up"), "{log}");
    [rest, auth, files, pooler.process].into_iter().for_each(Alone::end);
}

/// What a session would have to remember is brought along by each request.
fn the_data_api_is_whole(server: &mut Server, url: &str, id: &str, key: &str) {
    let base = format!("{url}/db/{id}");
    let set = |server: &Server, patch: Value| {
        server.cli(&["project", "settings", id, "--set", &json!({ "data_api": patch }).to_string()]);
    };
    set(
        server,
        json!({ "db_schema": ["public", "second"], "db_tx_end": "commit-allow-override",
            "statement_timeout_ms": { "anon": 1_000, "authenticated": 2_000 } }),
    );
    let second = [("apikey", key), ("accept-profile", "second")];
    server.until("the setting counts", |server| {
        (server.ask("GET", &format!("{base}/items"), &second, "").status == 200).then_some(())
    });
    // Stored code that leaves something in the session, before each of the others.
    for _ in 0..4 {
        let answer = server.ask("POST", &format!("{base}/rpc/leave"), &[("apikey", key)], "{}");
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(server.ask("GET", &format!("{base}/items"), &second, "").body, json!([{ "id": 7 }]));
        let (status, rows) = server.get(&format!("{base}/items?limit=2&select=id"), key);
        assert_eq!((status, rows), (200, json!([{ "id": 1 }, { "id": 2 }])));
    }
    let json_type = [("apikey", key), ("content-type", "application/json")];
    let slow = server.ask("POST", &format!("{base}/rpc/slow"), &json_type, "{}");
    assert_eq!((slow.status, &slow.body["code"]), (500, &json!("57014")), "{}", slow.body);
    // Transactions that are decided when the result is known: undone, refused, kept.
    let with = |name, value| [json_type[0], json_type[1], (name, value)];
    let row = |id: u32| json!({ "id": id, "note": "new" }).to_string();
    let post = |server: &Server, headers: &[(&str, &str)], body: &str| {
        server.ask("POST", &format!("{base}/items"), headers, body).status
    };
    assert_eq!(post(server, &with("prefer", "tx=rollback"), &row(200)), 201);
    let two = json!([{ "id": 201, "note": "a" }, { "id": 202, "note": "b" }]).to_string();
    let single = [
        json_type[0],
        json_type[1],
        ("accept", "application/vnd.pgrst.object+json"),
        ("prefer", "return=representation"),
    ];
    assert_eq!(post(server, &single, &two), 406);
    assert_eq!(post(server, &json_type, &row(203)), 201);
    assert_eq!(post(server, &json_type, &row(203)), 409);
    assert_eq!(server.get(&format!("{base}/items?id=gt.150&select=id"), key).1, json!([{ "id": 203 }]));
}
