//! The real binary: started, used, killed and started again. Few tests, because each has a PostgreSQL of its own.

mod acme;
mod alone;
mod auth_alone;
mod auth_crash;
mod backups;
mod caddy;
mod clients;
mod crash;
mod crowd;
mod data_api_settings;
mod dropin;
mod files_crash;
mod instances;
mod migrations;
mod monitoring;
mod off_site;
mod own_network;
mod pooled;
mod pooler;
mod prepared_statements;
mod provider_sign_in;
mod refusals;
mod rotations;
mod s3_store;
mod schema_changes;
mod server;
mod slow_queries;
mod storage_alone;
mod tls;

use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::process::Stdio;
use std::time::Duration;

use server::{Server, run};
use test_support::ScratchDir;

/// One life of a data folder, from the first start over the command line to crashes.
#[test]
fn a_server_lives() {
    let home = ScratchDir::new();
    let mut server = Server::start(home.path(), &["--demo"]);
    first_start_prints_what_is_needed(&mut server);
    commands_make_and_change_projects(&server);
    status_page_is_plain_and_closed(&server);
    let row = a_terminated_server_drains_and_stops_postgres(&mut server);

    let mut server = Server::start(home.path(), &[]);
    assert!(!server.stdout().contains("password"), "the owner's password is printed once");
    assert_eq!(server.get(&format!("{}{}", server.url(), row.0), &row.1).0, 200);
    assert!(server.healthy_after < Duration::from_secs(10), "healthy after {:?}", server.healthy_after);

    killed_servers_lose_nothing(&mut server, home.path());
}

fn first_start_prints_what_is_needed(server: &mut Server) {
    server.until("the welcome", |server| server.stdout().contains("console.log").then_some(()));
    let text = server.stdout();
    for wanted in ["createClient(", "from('planets')", "password", "owner@localhost", &server.url()] {
        assert!(text.contains(wanted), "{wanted} is missing in:\n{text}");
    }
    let secrets = std::fs::read_to_string(server.data().join("secrets.env")).expect("secrets were made");
    for line in secrets.lines().filter(|line| !line.starts_with('#')) {
        let value = line.split_once('=').expect("KEY=value").1;
        assert!(!text.contains(value), "a secret was printed");
    }
    let demo = server.cli_json(&["project", "connection", "demo"]);
    let url = format!("{}/rest/v1/planets?select=name,moons(name)&id=eq.3", demo["api_url"].as_str().expect("a URL"));
    let (status, body) = server.get(&url, demo["anon_key"].as_str().expect("a key"));
    assert_eq!((status, body[0]["moons"][0]["name"].as_str()), (200, Some("Moon")), "{body}");
    let hidden = url.split("planets").next().expect("a URL").to_owned() + "observations";
    let (status, _) = server.get(&hidden, demo["anon_key"].as_str().expect("a key"));
    assert_eq!(status, 401, "what was not granted stays closed");
}

fn commands_make_and_change_projects(server: &Server) {
    let project = server.cli_json(&["project", "create", "shop"]);
    let id = project["id"].as_str().expect("an id");
    assert_eq!(project["status"], "active");
    let connection = server.cli_json(&["project", "connection", id]);
    for field in ["project_id", "api_url", "anon_key", "service_role_key", "db_uri"] {
        assert!(connection[field].as_str().is_some_and(|text| !text.is_empty()), "{field}: {connection}");
    }
    assert_eq!(server.cli_json(&["project", "show", "shop"])["id"], id);
    assert!(server.cli(&["project", "list"]).contains(id));

    server.cli(&[
        "project",
        "sql",
        "shop",
        "create table items (id int primary key); grant select on items to anon, service_role",
    ]);
    server.cli(&["project", "sql", "shop", "insert into items select generate_series(1, 20)"]);
    let rows = server.cli(&["project", "sql", "shop", "select count(*) as items from items"]);
    assert!(rows.contains("ITEMS") && rows.contains("20"), "{rows}");
    let refused = run(&server.home, &["project", "sql", "shop", "--read-only", "delete from items"]);
    assert_eq!(refused.status.code(), Some(6), "{refused:?}");

    let items = format!("{}/rest/v1/items", connection["api_url"].as_str().expect("a URL"));
    let anon = connection["anon_key"].as_str().expect("a key");
    assert_eq!(server.get(&items, anon).1.as_array().map(Vec::len), Some(20));
    server.cli(&["project", "settings", "shop", "--set", r#"{"data_api": {"max_rows": 5}}"#]);
    assert_eq!(server.get(&items, anon).1.as_array().map(Vec::len), Some(5));
    let bad = run(&server.home, &["project", "settings", "shop", "--set", r#"{"data_api": {"max_rowz": 5}}"#]);
    assert_eq!(bad.status.code(), Some(6));
    assert!(String::from_utf8_lossy(&bad.stderr).contains("max_rowz"), "{bad:?}");

    let key = server.cli_json(&["project", "keys", "create", "shop", "ci", "--secret"]);
    let text = key["key"].as_str().expect("the key's text");
    assert_eq!(server.get(&items, text).0, 200);
    server.cli(&["project", "keys", "revoke", "shop", &key["id"].to_string()]);
    assert_eq!(server.get(&items, text).0, 401);

    server.cli(&["project", "suspend", "shop"]);
    assert_ne!(server.get(&items, anon).0, 200);
    server.cli(&["project", "resume", "shop"]);
    assert_eq!(server.get(&items, anon).0, 200);
    server.cli(&["project", "delete", "shop"]);
    assert_ne!(server.get(&items, anon).0, 200);
    server.cli(&["project", "restore", "shop"]);
    assert_eq!(server.get(&items, anon).0, 200);

    for (args, code) in [
        (&["project", "show", "nothing-like-it"][..], 4),
        (&["project", "show", "proj_0000000000000000"], 4),
        (&["project", "create", "shop"], 6),
        (&["project", "list", "--url", &server.url(), "--token", "wrong"], 5),
        (&["project", "list", "--url", "http://127.0.0.1:9"], 3),
        (&["project", "list", "--no-such-flag"], 2),
    ] {
        let output = run(&server.home, args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {output:?}");
        assert!(!output.stderr.is_empty());
    }

    let owner = server.cli_json(&["owner", "create", "second@example.org", "--generate"]);
    assert_eq!(owner["owner"]["email"], "second@example.org");
    assert!(owner["password"].as_str().is_some_and(|password| password.len() > 20));
    owners_log_in_from_elsewhere(server);
    domains_and_names(server);
    server.cli(&["status"]);
    let findings = server.cli(&["doctor"]);
    for wanted in ["healthy", "template", "shared roles", "master key"] {
        assert!(findings.contains(wanted), "{wanted}: {findings}");
    }
    assert!(server.cli(&["mail"]).contains("no mails"));
}

fn owners_log_in_from_elsewhere(server: &Server) {
    let elsewhere = ScratchDir::new();
    let config = elsewhere.path().join("config");
    let with_input = |args: &[&str], input: &str| {
        let mut command = server::launchdb(elsewhere.path());
        command.args(args).env("XDG_CONFIG_HOME", &config).stdin(Stdio::piped());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
        // One that does not read may be gone already.
        let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
        let output = child.wait_with_output().expect("it ends");
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&text).into_owned())
    };
    let set = server.cli_json(&["owner", "set-password", "second@example.org", "--generate"]);
    let password = format!("{}\n", set["password"].as_str().expect("a password"));
    let url = server.url();
    let login = ["login", "--url", &url, "second@example.org"];
    let (code, text) = with_input(&login, "wrong\n");
    assert_eq!(code, Some(5), "{text}");
    assert!(!text.contains("mend"), "{text}");
    let (code, text) = with_input(&login, &password);
    assert_eq!(code, Some(0), "{text}");
    let file = config.join("launchdb/logins.json");
    let mode = std::fs::metadata(&file).expect("the login is kept").mode();
    assert_eq!(mode & 0o777, 0o600);
    for args in [&["project", "create", "theirs"][..], &["project", "list", "--url", &url], &["logout"]] {
        let (code, text) = with_input(args, "");
        assert_eq!(code, Some(0), "{args:?}: {text}");
    }
    let (code, text) = with_input(&["project", "list", "--url", &url], "");
    assert_eq!(code, Some(5), "{text}");
    let admin = server.cli_json(&["owner", "create", "third@example.org", "--generate", "--admin"]);
    assert_eq!(admin["owner"]["is_admin"], true);
}

fn domains_and_names(server: &Server) {
    // A name that looks like an id.
    let made = server.cli_json(&["project", "create", "proj_named"]);
    assert_eq!(server.cli_json(&["project", "show", "proj_named"])["id"], made["id"]);
    server.cli(&["project", "domains", "add", "proj_named", "api.bücher.example"]);
    let listed = server.cli(&["project", "domains", "list", "proj_named"]);
    assert!(listed.contains("api.xn--bcher-kva.example") && listed.contains("active"), "{listed}");
    server.cli(&["project", "domains", "remove", "proj_named", "api.bücher.example"]);
    assert_eq!(server.cli_json(&["project", "domains", "list", "proj_named"])["domains"], serde_json::json!([]));
    server.cli(&["project", "delete", "proj_named", "--yes"]);
    assert!(!server.cli(&["project", "list"]).contains("proj_named"));
    assert!(server.cli(&["project", "list", "--deleted"]).contains("proj_named"));
}

fn status_page_is_plain_and_closed(server: &Server) {
    let (status, page) = server.get(&format!("{}/", server.url()), "");
    let page = page.as_str().expect("a page").to_owned();
    assert_eq!(status, 200);
    assert!(page.contains("<h1>LaunchDB</h1>") && !page.contains("eyJ") && !page.contains("sb_"), "{page}");
    assert!(!page.contains("src=") && !page.contains("<script"), "nothing is loaded");
}

/// Returns a path and a key that have to work after the next start, which may be on another port.
fn a_terminated_server_drains_and_stops_postgres(server: &mut Server) -> (String, String) {
    let connection = server.cli_json(&["project", "connection", "shop"]);
    let api_url = connection["api_url"].as_str().expect("a URL").to_owned();
    let path = api_url.strip_prefix(&server.url()).expect("the API is below the server's URL").to_owned();
    let key = connection["service_role_key"].as_str().expect("a key").to_owned();
    let sql = "create function slow() returns text language sql as $$ select 'done' from pg_sleep(1.5) $$";
    server.cli(&["project", "sql", "shop", sql]);
    assert!(server.postmaster().is_some());
    let slow = format!("{api_url}/rest/v1/rpc/slow");
    let key_of_thread = key.clone();
    let request = std::thread::spawn(move || {
        let answer = ureq::get(slow).header("apikey", &key_of_thread).call();
        answer.expect("a request under way is answered").status().as_u16()
    });
    std::thread::sleep(Duration::from_millis(500));
    server.signal("TERM");
    let status = server.wait();
    assert_eq!(request.join().expect("the request ends"), 200);
    assert_eq!(status.code(), Some(0));
    assert!(server.postmaster().is_none(), "PostgreSQL was stopped");
    assert!(!server.data().join("run/cli.json").exists(), "the way to the server is gone with it");
    (format!("{path}/rest/v1/items?limit=1"), key)
}

fn killed_servers_lose_nothing(server: &mut Server, home: &std::path::Path) {
    let sql = "create table kept (id int primary key); insert into kept values (1); grant select on kept to anon";
    server.cli(&["project", "sql", "shop", sql]);
    let postmaster = server.postmaster().expect("PostgreSQL runs");
    server.signal("KILL");
    server.wait();
    // The cluster may live on without us, or die with us: the next start copes with both.
    let server = &mut Server::start(home, &[]);
    let count = |server: &Server| server.cli_json(&["project", "sql", "shop", "select id from kept"]).to_string();
    assert!(count(server).contains('1'));

    // PostgreSQL alone is killed: the server says so, and recovers by itself.
    let killed = server.postmaster().expect("PostgreSQL runs");
    assert!(killed != postmaster || std::path::Path::new(&format!("/proc/{postmaster}")).exists());
    assert!(test_support::signal(killed, "KILL"));
    let url = format!("{}/health", server.url());
    server.until("PostgreSQL runs again", |server| server.postmaster().filter(|pid| *pid != killed));
    server.until("healthy again", |server| (server.get(&url, "").0 == 200).then_some(()));
    assert!(count(server).contains('1'));
}
