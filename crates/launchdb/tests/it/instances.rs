//! The postgrest-manager as a process of its own, its instances, and the gateway's way to them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use test_support::{ScratchDir, free_port};

use crate::server::{Answer, Server, launchdb};

const SCRIPT: &str = "create table items (id bigint generated always as identity primary key, note text);
    insert into items (note) values ('first'); grant select, insert on items to anon;
    create function token() returns text language sql stable
        as $$ select current_setting('request.headers', true)::json->>'authorization' $$;
    grant execute on function token() to anon;";

/// The acceptance asks for 50; `LAUNCHDB_TEST_INSTANCES=50` runs so many.
fn instances() -> usize {
    std::env::var("LAUNCHDB_TEST_INSTANCES").ok().and_then(|text| text.parse().ok()).unwrap_or(8)
}

/// A manager's process; a killed one leaves its instances.
struct Manager {
    child: Child,
    url: String,
    key: String,
    folder: PathBuf,
}

struct Surroundings {
    settings: Vec<(String, String)>,
    port: u16,
    folder: PathBuf,
    home: PathBuf,
}

impl Surroundings {
    fn new(server: &Server, port: u16) -> Self {
        let secrets = std::fs::read_to_string(server.data().join("secrets.env")).expect("secrets were made");
        let mut settings: Vec<(String, String)> = secrets
            .lines()
            .filter_map(|line| line.split_once('='))
            .filter(|(name, _)| !name.starts_with('#'))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let secret = |wanted: &str| settings.iter().find(|(name, _)| name == wanted).expect("a secret").1.clone();
        let parts = server.superuser_url("postgres");
        let postgres = parts.split(' ').find_map(|part| part.strip_prefix("port=")).expect("a port").to_owned();
        let platform = secret("LAUNCHDB_PLATFORM_DB_PASSWORD");
        let superuser = secret("POSTGRES_SUPERUSER_PASSWORD");
        let folder = server.home.join("projects");
        // Below the ports that Linux gives to outgoing connections: one of those would keep a killed instance from its port
        // for a minute.
        let first = 20_000 + 2 * (std::process::id() % 5_800);
        settings.extend(
            [
                ("DATABASE_URL", format!("postgresql://platform:{platform}@127.0.0.1:{postgres}/platform")),
                (
                    "LAUNCHDB_ADMIN_DATABASE_URL",
                    format!("postgresql://supabase_admin:{superuser}@127.0.0.1:{postgres}/postgres"),
                ),
                ("LAUNCHDB_PUBLIC_URL", server.url()),
                ("LAUNCHDB_ADMIN_PORT", "0".to_owned()),
                ("LAUNCHDB_POSTGREST_DIR", folder.display().to_string()),
                ("LAUNCHDB_POSTGREST_PORTS", format!("{first}-{}", first + 999)),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        Self { settings, port, folder, home: server.home.clone() }
    }

    fn spawn(&self, port: u16) -> Child {
        let mut command = launchdb(&self.home);
        command.args(["serve", "--only", "postgrest-manager", "--port", &port.to_string()]);
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.home.join("manager.log"));
        let log = log.expect("a log");
        command.envs(self.settings.iter().cloned()).stdout(Stdio::null()).stderr(log);
        command.spawn().expect("the manager starts")
    }

    fn start(&self, server: &mut Server) -> Manager {
        let key = self.settings.iter().find(|(name, _)| name == "INTERNAL_API_KEY").expect("a key").1.clone();
        let url = format!("http://127.0.0.1:{}", self.port);
        let manager = Manager { child: self.spawn(self.port), url, key, folder: self.folder.clone() };
        let health = format!("{}/health", manager.url);
        server.until("the manager is healthy", |_| (ureq::get(&health).call().ok()?.status() == 200).then_some(()));
        manager
    }
}

impl Manager {
    fn ask(&self, server: &Server, method: &str, path: &str, body: &Value) -> Answer {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        server.ask(method, &format!("{}/internal/postgrest{path}", self.url), &[("X-Internal-Key", &self.key)], &text)
    }

    fn spawn(&self, server: &Server, id: &str) -> Answer {
        self.ask(server, "POST", "/spawn", &json!({ "projectId": id }))
    }

    /// Process ids by project, of those that run.
    fn running(&self, server: &Server) -> BTreeMap<String, String> {
        let list = self.ask(server, "GET", "", &Value::Null).body;
        let text = |one: &Value, name: &str| one[name].as_str().unwrap_or_default().to_owned();
        let list = list["containers"].as_array().expect("a list").clone();
        let running = list.iter().filter(|one| one["status"] == "running");
        running.map(|one| (text(one, "projectId"), text(one, "containerId"))).collect()
    }

    fn signal(&self, name: &str) {
        kill(name, &self.child.id().to_string());
    }

    fn ended(&mut self) {
        let start = Instant::now();
        while self.child.try_wait().expect("it can be asked").is_none() {
            assert!(start.elapsed() < Duration::from_secs(20), "the manager does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.folder.parent().map(|home| home.join("manager.log"));
            let log = log.and_then(|log| std::fs::read_to_string(log).ok()).unwrap_or_default();
            let words: Vec<&str> = log.lines().filter(|line| !line.contains("\"message\":\"request\"")).collect();
            let end = words[words.len().saturating_sub(30)..].join("\n  ");
            eprintln!("the end of the manager's log, without requests:\n  {end}");
        }
        if self.child.try_wait().ok().flatten().is_none() {
            self.signal("TERM");
            let start = Instant::now();
            while self.child.try_wait().ok().flatten().is_none() && start.elapsed() < Duration::from_secs(10) {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        // What a failed test left.
        for pid in noted(&self.folder) {
            let arguments = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            if arguments.contains(&self.folder.display().to_string()) {
                kill("KILL", &pid);
            }
        }
    }
}

fn noted(folder: &Path) -> Vec<String> {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let notes = files.filter(|path| path.extension().is_some_and(|ending| ending == "json"));
    let texts = notes.filter_map(|path| std::fs::read_to_string(path).ok());
    let values = texts.filter_map(|text| serde_json::from_str::<Value>(&text).ok());
    values.filter_map(|note| Some(note["process"][0].as_u64()?.to_string())).collect()
}

fn kill(name: &str, pid: &str) {
    test_support::signal(pid.parse().expect("a process id"), name);
}

fn is_alive(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z')))
}

/// Requests one after the other, until it is dropped: reads and writes that all have to succeed.
struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    threads: Vec<std::thread::JoinHandle<Vec<String>>>,
}

impl Load {
    fn start(url: &str, key: &str) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let threads = (0..2)
            .map(|number| {
                let (url, key, stop, done) = (url.to_owned(), key.to_owned(), stop.clone(), done.clone());
                std::thread::spawn(move || {
                    let config = ureq::Agent::config_builder().http_status_as_error(false).build();
                    let agent: ureq::Agent = config.into();
                    let bearer = format!("Bearer {key}");
                    let mut failures = Vec::new();
                    while !stop.load(Ordering::Relaxed) {
                        let answer = if number == 0 {
                            agent.get(&url).header("apikey", &key).header("authorization", &bearer).call()
                        } else {
                            let request = agent.post(&url).header("apikey", &key).header("authorization", &bearer);
                            request.header("content-type", "application/json").send(r#"{"note": "under load"}"#)
                        };
                        match answer {
                            Ok(answer) if answer.status().is_success() => {
                                done.fetch_add(1, Ordering::Relaxed);
                            }
                            Ok(mut answer) => {
                                let text = answer.body_mut().read_to_string().unwrap_or_default();
                                failures.push(format!("{}: {text}", answer.status()));
                            }
                            Err(error) => failures.push(error.to_string()),
                        }
                    }
                    failures
                })
            })
            .collect();
        Self { stop, done, threads }
    }

    /// How many were answered, after `more` others were.
    fn after(&self, more: usize) {
        let wanted = self.done.load(Ordering::Relaxed) + more;
        let start = Instant::now();
        while self.done.load(Ordering::Relaxed) < wanted {
            assert!(start.elapsed() < Duration::from_secs(30), "no answers come");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            let failures = thread.join().expect("no panic");
            assert_eq!(failures, [""; 0], "of {}", self.done.load(Ordering::Relaxed));
        }
    }
}

struct Project {
    id: String,
    url: String,
    key: String,
}

fn project(server: &Server, name: &str) -> Project {
    server.cli(&["project", "create", name]);
    server.cli(&["project", "sql", name, SCRIPT]);
    let connection = server.cli_json(&["project", "connection", name]);
    let text = |field: &str| connection[field].as_str().expect("a text").to_owned();
    Project { id: text("project_id"), url: format!("{}/rest/v1", text("api_url")), key: text("anon_key") }
}

fn set(server: &Server, project: &Project, instance: &str) {
    let patch = json!({ "data_api": { "instance": instance } }).to_string();
    server.cli(&["project", "settings", &project.id, "--set", &patch]);
}

/// Whether a project's requests go to an instance of its own: there they carry the gateway's token.
fn is_dedicated(server: &Server, project: &Project) -> bool {
    let (status, body) = server.get(&format!("{}/rpc/token", project.url), &project.key);
    assert_eq!(status, 200, "{body}");
    body.is_string()
}

#[test]
fn instances_are_kept_and_switched_without_a_failed_request() {
    let home = ScratchDir::new();
    let port = free_port();
    let manager_url = format!("http://127.0.0.1:{port}");
    let settings = [("LAUNCHDB_POSTGREST_MANAGER_URL", manager_url.as_str()), ("LAUNCHDB_SPARES", "4")];
    let mut server = Server::start_with(home.path(), &[], &settings);
    let surroundings = Surroundings::new(&server, port);
    let mut manager = surroundings.start(&mut server);
    let projects: Vec<Project> = (0..instances()).map(|number| project(&server, &format!("p{number}"))).collect();
    let first = &projects[0];

    what_is_refused(&server, &manager);
    let made = two_operators_at_once(&server, &manager, &first.id);
    let direct = format!("http://127.0.0.1:{made}/items");
    edited_by_hand(&server, &manager, &first.id, &direct, &first.key);

    // SIGHUP, and a setting that changes, under load.
    let load = Load::start(&direct, &first.key);
    for round in 0..5 {
        let answer = manager.ask(&server, "POST", &format!("/{}/restart", first.id), &Value::Null);
        assert_eq!((answer.status, &answer.body["status"]), (200, &json!("running")), "{}", answer.body);
        let patch = json!({ "data_api": { "max_rows": 100 + round } }).to_string();
        server.cli(&["project", "settings", &first.id, "--set", &patch]);
        load.after(20);
    }
    load.end();
    // New tables are seen at once, as by the shared engine.
    server.cli(&["project", "sql", &first.id, "create table later (id int); grant select on later to anon"]);
    assert_eq!(server.get(&direct.replace("items", "later"), "").1, json!([]));
    assert!(!is_dedicated(&server, first), "the setting decides where requests go");

    // There and back under load.
    let load = Load::start(&format!("{}/items", first.url), &first.key);
    for (instance, dedicated) in [("dedicated", true), ("shared", false), ("dedicated", true)] {
        set(&server, first, instance);
        server.until(instance, |server| (is_dedicated(server, first) == dedicated).then_some(()));
        load.after(40);
    }
    load.end();

    // Everybody has one; some are killed, and all come back.
    projects.iter().for_each(|project| set(&server, project, "dedicated"));
    // Two start at a time, and each takes the processor for a second or two.
    let patience = Duration::from_secs(60) + 5 * Duration::from_secs(projects.len() as u64);
    let before = server.until_within(patience, "all run", |server| {
        Some(manager.running(server)).filter(|running| running.len() == projects.len())
    });
    let killed: Vec<&String> = before.keys().enumerate().filter(|(n, _)| n % 3 != 1).map(|(_, id)| id).collect();
    killed.iter().for_each(|id| kill("KILL", &before[*id]));
    let begun = Instant::now();
    let after = server.until_within(patience, "all run again", |server| {
        let running = manager.running(server);
        let all = running.len() == projects.len() && killed.iter().all(|id| running[*id] != before[*id]);
        all.then_some(running)
    });
    eprintln!("{} of {} killed, all back after {:?}", killed.len(), projects.len(), begun.elapsed());
    for project in &projects {
        server.until("its own instance answers", |server| is_dedicated(server, project).then_some(()));
    }

    // A killed manager's instances go on, and the next one takes them over.
    manager.signal("KILL");
    manager.ended();
    assert!(after.values().all(|pid| is_alive(pid)));
    assert!(is_dedicated(&server, first));
    let mut manager = surroundings.start(&mut server);
    let adopted =
        server.until("all are known", |server| Some(manager.running(server)).filter(|r| r.len() == after.len()));
    assert_eq!(adopted, after);
    a_second_manager_is_refused(&surroundings);

    // One that is deleted stays away until it is asked for; a project that is deleted has none.
    for _ in 0..2 {
        let answer = manager.ask(&server, "DELETE", &format!("/{}", first.id), &Value::Null);
        assert_eq!((answer.status, answer.body), (200, json!({ "projectId": first.id, "status": "stopped" })));
    }
    assert!(!is_alive(&after[&first.id]));
    server.until("the shared engine answers", |server| (!is_dedicated(server, first)).then_some(()));
    assert_eq!(manager.spawn(&server, &first.id).status, 201);
    let last = &projects[projects.len() - 1];
    server.cli(&["project", "delete", &last.id, "--yes"]);
    server
        .until("a deleted project has none", |server| (!manager.running(server).contains_key(&last.id)).then_some(()));
    let remaining = manager.running(&server);
    manager.signal("TERM");
    manager.ended();
    server.until("all ended with their manager", |_| (!remaining.values().any(|pid| is_alive(pid))).then_some(()));
    assert_eq!(server.get(&format!("{}/items?limit=1", first.url), &first.key).0, 200);
}

fn what_is_refused(server: &Server, manager: &Manager) {
    let url = format!("{}/internal/postgrest", manager.url);
    assert_eq!(server.ask("GET", &url, &[("X-Internal-Key", "wrong")], "").status, 401);
    assert_eq!(server.ask("GET", &url, &[], "").status, 401);
    let check = |method: &str, path: &str, body: Value, status: u16, code: &str| {
        let answer = manager.ask(server, method, path, &body);
        assert_eq!((answer.status, answer.body["error"]["code"].as_str()), (status, Some(code)), "{}", answer.body);
    };
    check("POST", "/spawn", json!({ "projectId": "../../etc" }), 400, "bad_project_id");
    check("POST", "/spawn", json!({}), 400, "bad_body");
    check("POST", "/spawn", json!({ "projectId": "proj_nobody" }), 404, "no_such_project");
    check("POST", "/proj_nobody/restart", Value::Null, 404, "not_running");
    check("GET", "/proj_nobody", Value::Null, 404, "not_running");
    assert_eq!(manager.ask(server, "DELETE", "/proj_nobody", &Value::Null).status, 200);
}

/// The instance's port.
fn two_operators_at_once(server: &Server, manager: &Manager, id: &str) -> u64 {
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let spawn = || scope.spawn(|| manager.spawn(server, id));
        [spawn(), spawn()].map(|thread| thread.join().expect("no panic")).into()
    });
    let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409], "{} {}", answers[0].body, answers[1].body);
    let made = &answers.iter().find(|answer| answer.status == 201).expect("one was made").body;
    assert_eq!(
        (made["containerName"].as_str(), made["status"].as_str()),
        (Some(format!("postgrest-{id}").as_str()), Some("running"))
    );
    let mode = std::fs::metadata(manager.folder.join(format!("{id}.conf"))).expect("a file");
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&mode) & 0o777, 0o600);
    let listed = server.cli(&["postgrest", "list", "--url", &manager.url]);
    assert!(listed.contains(id), "{listed}");
    server.cli(&["postgrest", "add", id, "--url", &manager.url]);
    made["port"].as_u64().expect("a port")
}

fn edited_by_hand(server: &Server, manager: &Manager, id: &str, direct: &str, key: &str) {
    let file = manager.folder.join(format!("{id}.conf"));
    let text = std::fs::read_to_string(&file).expect("a file");
    let answers = || server.ask("GET", direct, &[("authorization", &format!("Bearer {key}"))], "");
    assert_eq!(answers().status, 200);
    std::fs::write(&file, format!("{text}db-tx-end = \"nonsense\"\n")).expect("written");
    let answer = manager.ask(server, "POST", &format!("/{id}/restart"), &Value::Null);
    assert_eq!((answer.status, &answer.body["error"]["code"]), (422, &json!("bad_configuration")), "{}", answer.body);
    assert!(answer.body.to_string().contains("db-tx-end"), "{}", answer.body);
    assert_eq!(answers().status, 200, "it goes on with what it had");
    // What is right counts, and stays when the file is written anew.
    std::fs::write(&file, format!("{text}db-max-rows = 0\n")).expect("written");
    assert_eq!(manager.ask(server, "POST", &format!("/{id}/restart"), &Value::Null).status, 200);
    let start = Instant::now();
    while answers().body != json!([]) {
        assert!(start.elapsed() < Duration::from_secs(10), "the setting does not count: {}", answers().body);
    }
    std::fs::write(&file, &text).expect("written");
    assert_eq!(manager.ask(server, "POST", &format!("/{id}/restart"), &Value::Null).status, 200);
}

fn a_second_manager_is_refused(surroundings: &Surroundings) {
    let status = surroundings.spawn(free_port()).wait().expect("it ends");
    assert_eq!(status.code(), Some(10));
    let log = std::fs::read_to_string(surroundings.home.join("manager.log")).expect("a log");
    assert!(log.contains("another postgrest-manager works in it"), "{log}");
}
