//! What the dashboard and the alert rules name is what the server exposes.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use test_support::ScratchDir;

use crate::server::Server;

/// Metrics of PgBouncer, which this server does not run.
const ELSEWHERE: &str = "launchdb_pooler_";

/// Names of metrics in an expression.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let is_metric = |word: &&str| word.starts_with("launchdb_") || word.starts_with("process_");
    words.filter(is_metric).map(str::to_owned).collect()
}

/// Everything that PromQL is written in, of a dashboard.
fn expressions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            found.extend(members.get("expr").and_then(Value::as_str).map(str::to_owned));
            members.values().for_each(|value| expressions(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| expressions(value, found)),
        _ => {}
    }
}

#[test]
fn every_metric_of_dashboard_and_alerts_is_exposed() {
    let home = ScratchDir::new();
    let mut server = Server::start(home.path(), &["--demo"]);
    let project = server.until("the demo", |server| {
        let output = crate::server::run(&server.home, &["project", "connection", "demo", "--json"]);
        serde_json::from_slice::<Value>(&output.stdout).ok()
    });
    let text = |name: &str| project[name].as_str().expect("a text").to_owned();
    let url = format!("{}/p/{}/rest/v1/planets?select=name", server.url(), text("project_id"));
    let key = text("anon_key");
    server.until("the demo is served", |server| (server.get(&url, &key).0 == 200).then_some(()));
    let bucket = format!("{}/p/{}/storage/v1/bucket", server.url(), text("project_id"));
    let key = text("service_role_key");
    let headers = [("apikey", key.as_str()), ("content-type", "application/json")];
    assert_eq!(server.ask("POST", &bucket, &headers, r#"{"id": "b", "name": "b"}"#).status, 200);
    let object = bucket.replace("/bucket", "/object/b/file.txt");
    let headers = [("apikey", key.as_str()), ("content-type", "text/plain")];
    assert_eq!(server.ask("POST", &object, &headers, "content").status, 200);
    server.cli(&["backup", "run", "--all"]);
    server.cli(&["backup", "files", "run"]);
    server.cli(&["backup", "verify"]);

    let page = server.stdout();
    let admin =
        page.split_whitespace().find(|word| word.ends_with("/metrics")).expect("the welcome names it").to_owned();
    let metrics = server.until("everything that is measured now and then", |_| {
        let text = ureq::get(&admin).call().ok()?.body_mut().read_to_string().ok()?;
        text.contains("launchdb_database_size_bytes{").then_some(text)
    });
    let exposed: BTreeSet<&str> = metrics
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(['{', ' ']).next())
        .collect();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../infra/monitoring");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).expect("the file is there");
    let dashboard: Value = serde_json::from_str(&read("grafana-dashboard.json")).expect("JSON");
    let mut found = Vec::new();
    expressions(&dashboard, &mut found);
    assert!(found.len() > 20);
    let mut wanted: BTreeSet<String> = found.iter().flat_map(|expression| names(expression)).collect();
    wanted.extend(names(&read("alerts.yml")));
    assert!(wanted.len() > 20, "{wanted:?}");
    let missing: Vec<&String> =
        wanted.iter().filter(|name| !name.starts_with(ELSEWHERE) && !exposed.contains(name.as_str())).collect();
    assert!(missing.is_empty(), "{missing:?} in\n{metrics}");
    let id = text("project_id");
    for line in [
        format!("launchdb_project_requests_total{{project=\"{id}\",status=\"2xx\"}}"),
        format!("launchdb_db_pool_connections{{database=\"{id}\",state=\"idle\"}}"),
        format!("launchdb_files_backup_age_seconds{{project=\"{id}\"}}"),
        "launchdb_disk_free_bytes{disk=\"data\"}".to_owned(),
    ] {
        assert!(metrics.contains(&line), "{line} in\n{metrics}");
    }
}
