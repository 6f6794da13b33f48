//! PgBouncer beside the server: what is handed out works with psql, and follows the projects.

use std::process::{Command, Output};

use test_support::ScratchDir;

use crate::server::{Server, run};

fn psql(uri: &str, sql: &str) -> Output {
    Command::new("psql").args(["-At", uri, "-c", sql]).env("PGCONNECT_TIMEOUT", "5").output().expect("psql runs")
}

fn answer(uri: &str, sql: &str) -> Option<String> {
    let output = psql(uri, sql);
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[test]
fn the_poolers_address_works_with_psql_and_follows_a_projects_life() {
    let home = ScratchDir::new();
    let mut server = Server::start_with(home.path(), &[], &[("LAUNCHDB_POOLER_PORT", "0")]);
    let uris: Vec<String> = ["one", "two"]
        .into_iter()
        .map(|name| {
            server.cli(&["project", "create", name]);
            let connection = server.cli_json(&["project", "connection", name]);
            connection["db_uri_pooler"].as_str().expect("an address of the pooler").to_owned()
        })
        .collect();
    let sql = "select current_user || ' ' || session_user = 'postgres ' || current_database()";
    for uri in &uris {
        server.until("the pooler knows the project", |_| answer(uri, "select 1"));
        assert_eq!(answer(uri, sql).as_deref(), Some("t"));
        let script = "create table if not exists kept (a int); insert into kept values (1); select count(*) from kept";
        assert!(answer(uri, script).is_some_and(|text| text.ends_with('1')));
    }
    // Nobody else's database, no wrong password, no superuser, no console.
    let mut other = url::Url::parse(&uris[0]).expect("a URL");
    other.set_path(url::Url::parse(&uris[1]).expect("a URL").path());
    let mut wrong = url::Url::parse(&uris[0]).expect("a URL");
    wrong.set_password(Some("wrong")).expect("a password");
    let mut superuser = url::Url::parse(&server_uri(&server)).expect("a URL");
    superuser.set_port(wrong.port()).expect("a port");
    let mut console = url::Url::parse(&uris[0]).expect("a URL");
    console.set_path("pgbouncer");
    for (uri, sql) in [(other, "select 1"), (wrong, "select 1"), (superuser, "select 1"), (console, "show databases")] {
        assert_eq!(answer(uri.as_str(), sql), None, "{uri}");
    }

    server.cli(&["project", "suspend", "one"]);
    server.until("a suspended project is closed", |_| answer(&uris[0], "select 1").is_none().then_some(()));
    assert_eq!(answer(&uris[1], sql).as_deref(), Some("t"));
    server.cli(&["project", "resume", "one"]);
    server.until("a resumed project is open", |_| answer(&uris[0], "select count(*) from kept"));

    // What operators ask for counts at once; what cannot be is refused and leaves nothing.
    let id = url::Url::parse(&uris[1]).expect("a URL").path().trim_start_matches('/').to_owned();
    server.cli(&["pooler", "add-project", &id, "7", "3"]);
    let ini_text = || std::fs::read_to_string(server.data().join("pooler/pgbouncer.ini")).expect("a file");
    assert!(ini_text().contains(&format!("dbname={id} pool_size=7 reserve_pool=3\n")), "{}", ini_text());
    assert_eq!(answer(&uris[1], "select 1").as_deref(), Some("1"));
    let refused = run(&server.home, &["pooler", "add-user", "supabase_admin"]);
    assert_eq!(refused.status.code(), Some(4), "{refused:?}");

    // Killed, it comes again; what it counts is in the metrics.
    let ini = server.data().join("pooler/pgbouncer.ini");
    let pid = || test_support::process_with(&ini.display().to_string());
    let killed = pid().expect("the pooler runs");
    assert!(test_support::signal(killed, "KILL"));
    server.until("another pooler", |_| pid().filter(|pid| *pid != killed));
    server.until("the pooler answers again", |_| answer(&uris[1], "select 1"));
    server.until("the welcome", |server| server.stdout().contains("/metrics").then_some(()));
    let text = server.stdout();
    let metrics = text.split_whitespace().find(|word| word.ends_with("/metrics")).expect("an address").to_owned();
    server.until("numbers of the pooler", |server| {
        let text = server.get(&metrics, "").1.as_str().unwrap_or_default().to_owned();
        text.contains("launchdb_pooler_queries_total{database=\"proj_").then_some(())
    });
    server.signal("TERM");
    server.wait();
    assert_eq!(pid(), None, "the pooler ends with the server");
}

/// The superuser, directly.
fn server_uri(server: &Server) -> String {
    let parts = server.superuser_url("postgres");
    let part = |name: &str| {
        let part = parts.split(' ').find_map(|part| part.strip_prefix(name)).expect("a part");
        part.trim_matches('\'').to_owned()
    };
    format!("postgresql://supabase_admin:{}@127.0.0.1:{}/postgres", part("password="), part("port="))
}
