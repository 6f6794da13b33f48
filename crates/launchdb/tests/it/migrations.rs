//! An application's migrations through the command line, and the migrations service as a process of its own.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use test_support::ScratchDir;

use crate::server::{Server, launchdb, refused, run};

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn migrations_run_once_and_the_internal_service_alone() {
    let home = ScratchDir::new();
    let server = Server::start(home.path(), &[]);
    server.cli(&["project", "create", "shop"]);
    files_are_made_applied_and_verified(&server, home.path());
    the_service_runs_in_a_process_of_its_own(&server);
}

fn files_are_made_applied_and_verified(server: &Server, home: &Path) {
    let project: [&'static str; 2] = ["--project", "shop"];
    let with = |command: &[&'static str]| [&["migrate"], command, &project].concat();
    let path = server.cli(&["migrate", "new", "Add tasks!"]);
    let path = home.join(path.trim());
    assert!(path.display().to_string().ends_with("_add_tasks_.sql"), "{}", path.display());
    std::fs::write(&path, "create table tasks (id int primary key);\ninsert into tasks values (1);\n")
        .expect("written");
    assert!(server.cli(&with(&["status"])).contains("pending"));
    let (code, text) = refused(&run(home, &with(&["verify"])));
    assert!(code == 6 && text.contains("was not applied"), "{code} {text}");
    assert!(server.cli(&with(&["up", "--dry-run"])).contains("nothing was kept"));
    assert!(server.cli(&with(&["status"])).contains("pending"));
    assert!(server.cli(&with(&["up"])).contains("add_tasks_"));
    assert_eq!(server.cli(&with(&["up"])).trim(), "nothing to apply");
    assert!(server.cli(&with(&["verify"])).contains("1 files were applied"));

    // One that fails is taken back whole, and named with its line; the one before it stays.
    let migrations = path.parent().expect("a folder");
    std::fs::write(migrations.join("29990101000000_good.sql"), "insert into tasks values (2);\n").expect("written");
    let bad = migrations.join("29990102000000_bad.sql");
    std::fs::write(&bad, "insert into tasks values (3);\n\ninsert into taks values (4);\n").expect("written");
    let (code, text) = refused(&run(home, &with(&["up"])));
    assert!(code == 6 && text.contains("29990102000000_bad.sql:3:") && text.contains("42P01"), "{code} {text}");
    let rows =
        server.cli(&["project", "sql", "shop", "select string_agg(id::text, ',' order by id) as ids from tasks"]);
    assert!(rows.contains("1,2") && !rows.contains('3'), "{rows}");
    std::fs::write(&bad, "insert into tasks values (3);\n").expect("written");
    server.cli(&with(&["up"]));

    // A file that was changed after it ran is refused everywhere.
    std::fs::write(&path, "create table tasks (id bigint primary key);\n").expect("written");
    assert!(server.cli(&with(&["status"])).contains("CHANGED"));
    let (code, text) = refused(&run(home, &with(&["verify"])));
    assert!(code == 6 && text.contains("was changed"), "{code} {text}");
    assert_eq!(refused(&run(home, &with(&["up"]))).0, 6);
    let ledger = "select count(*) as applied from supabase_migrations.schema_migrations";
    assert!(server.cli(&["project", "sql", "shop", ledger]).contains('3'));
}

/// A process of the installation beside the server.
struct Process {
    child: Child,
    url: String,
}

impl Drop for Process {
    fn drop(&mut self) {
        test_support::signal(self.child.id(), "TERM");
        let _ = self.child.wait();
    }
}

fn the_service_runs_in_a_process_of_its_own(server: &Server) {
    let secrets = std::fs::read_to_string(server.data().join("secrets.env")).expect("secrets were made");
    let secret = |name: &str| {
        let line = secrets.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.expect("a value").to_owned()
    };
    let port = std::fs::read_to_string(server.data().join("postgres/port")).expect("PostgreSQL has a port");
    let at = |user: &str, password: String, database: &str| {
        format!("postgresql://{user}:{password}@127.0.0.1:{}/{database}", port.trim())
    };
    let elsewhere = ScratchDir::new();
    let service_port = test_support::free_port();
    let mut child = launchdb(elsewhere.path())
        .args(["serve", "--only", "migrations", "--port", &service_port.to_string()])
        .env("DATABASE_URL", at("platform", secret("LAUNCHDB_PLATFORM_DB_PASSWORD"), "platform"))
        .env("LAUNCHDB_ADMIN_DATABASE_URL", at("supabase_admin", secret("POSTGRES_SUPERUSER_PASSWORD"), "postgres"))
        .envs(["LAUNCHDB_MASTER_KEY", "PLATFORM_JWT_SECRET", "INTERNAL_API_KEY"].map(|name| (name, secret(name))))
        .env("LAUNCHDB_PUBLIC_URL", server.url())
        .env("LAUNCHDB_ADMIN_PORT", "0")
        .env("LAUNCHDB_STATUS_PORT", "off")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let stderr = BufReader::new(child.stderr.take().expect("piped"));
    std::thread::spawn(move || stderr.lines().map_while(Result::ok).for_each(drop));
    let process = Process { child, url: format!("http://127.0.0.1:{service_port}") };
    let started = Instant::now();
    while ureq::get(format!("{}/health", process.url)).call().is_err() {
        assert!(started.elapsed() < PATIENCE, "the migrations service is not healthy");
        std::thread::sleep(Duration::from_millis(20));
    }
    let id = server.cli_json(&["project", "show", "shop"])["id"].as_str().expect("an id").to_owned();
    let ask = |key: &str, id: &str| {
        let url = format!("{}/internal/migrations/run", process.url);
        let headers = [("x-internal-key", key), ("content-type", "application/json")];
        server.ask("POST", &url, &headers, &json!({ "project_id": id }).to_string())
    };
    let answer = ask(&secret("INTERNAL_API_KEY"), &id);
    assert_eq!((answer.status, answer.body["status"].as_str()), (200, Some("no_changes")), "{}", answer.body);
    assert!(answer.body["results"].as_array().is_some_and(|results| results.len() > 5), "{}", answer.body);
    assert_eq!(ask("another", &id).status, 401);
    assert_eq!(ask(&secret("INTERNAL_API_KEY"), "proj_nobody").status, 404);
    // Nothing else is served there, and what there is needs the key.
    assert_eq!(server.ask("GET", &format!("{}/api/projects", process.url), &[], "").status, 401);
}
