//! Keys are replaced while clients go on: nobody sees a failed request, and nobody is logged out who was not to be.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use test_support::ScratchDir;

use crate::server::{Server, refused, run};

/// What clients of one project hold.
struct Held {
    url: String,
    anon_key: String,
    db_uri: String,
}

fn make(server: &Server, name: &str) -> Held {
    server.cli(&["project", "create", name]);
    let sql = "create table items (id int primary key); insert into items select generate_series(1, 5);
        grant select on items to anon";
    server.cli(&["project", "sql", name, sql]);
    held(server, name)
}

fn held(server: &Server, name: &str) -> Held {
    let connection = server.cli_json(&["project", "connection", name]);
    let text = |field: &str| connection[field].as_str().expect("a text").to_owned();
    Held {
        url: format!("{}/p/{}/rest/v1/items", server.url(), text("project_id")),
        anon_key: text("anon_key"),
        db_uri: text("db_uri"),
    }
}

/// A signed link to a file of the project's.
fn signed_link(server: &Server, name: &str) -> String {
    let connection = server.cli_json(&["project", "connection", name]);
    let text = |field: &str| connection[field].as_str().expect("a text").to_owned();
    let (key, storage) = (text("service_role_key"), text("storage_url"));
    let json = [("apikey", key.as_str()), ("content-type", "application/json")];
    assert_eq!(server.ask("POST", &format!("{storage}/bucket"), &json, r#"{"id": "b", "name": "b"}"#).status, 200);
    let plain = [("apikey", key.as_str()), ("content-type", "text/plain")];
    assert_eq!(server.ask("POST", &format!("{storage}/object/b/file.txt"), &plain, "content").status, 200);
    let signed = server.ask("POST", &format!("{storage}/object/sign/b/file.txt"), &json, r#"{"expiresIn": 600}"#);
    format!("{storage}{}", signed.body["signedURL"].as_str().expect("a link"))
}

/// Asks all the time until it is ended; then says how often, and what went wrong.
struct Load {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    thread: std::thread::JoinHandle<Vec<String>>,
}

impl Load {
    fn begin(held: &Held) -> Self {
        let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (url, key, ended, count) = (held.url.clone(), held.anon_key.clone(), stop.clone(), asked.clone());
        let thread = std::thread::spawn(move || {
            let mut failures = Vec::new();
            while !ended.load(Ordering::Relaxed) {
                match ureq::get(&url).header("apikey", &key).call() {
                    Ok(_) => {}
                    Err(error) => failures.push(error.to_string()),
                }
                count.fetch_add(1, Ordering::Relaxed);
            }
            failures
        });
        Self { stop, asked, thread }
    }

    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        let failures = self.thread.join().expect("the load ends");
        let asked = self.asked.load(Ordering::Relaxed);
        assert!(asked > 10 && failures.is_empty(), "{asked} requests, {failures:?}");
    }
}

fn secrets(server: &Server) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(server.data().join("secrets.env")).expect("secrets were made");
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[test]
fn keys_are_replaced_and_clients_go_on() {
    let home = ScratchDir::new();
    let mut server = Server::start(home.path(), &[]);
    let shop = make(&server, "shop");
    let before = secrets(&server);
    let link = signed_link(&server, "shop");
    assert_eq!(ureq::get(&link).call().map(|answer| answer.status().as_u16()).ok(), Some(200));
    let load = Load::begin(&shop);

    let said = server.cli(&["rotate", "master-key"]);
    assert!(said.contains("sealed with the new master key"), "{said}");
    let after = secrets(&server);
    assert_ne!(after["LAUNCHDB_MASTER_KEY"], before["LAUNCHDB_MASTER_KEY"]);
    assert!(!after.contains_key("LAUNCHDB_MASTER_KEY_PREVIOUS"), "the old key is gone");
    assert_eq!(held(&server, "shop").anon_key, shop.anon_key);

    // With overlap by default.
    server.cli(&["project", "keys", "rotate-jwt-secret", "shop"]);
    let rotated = held(&server, "shop");
    assert_ne!(rotated.anon_key, shop.anon_key);
    assert_eq!(server.get(&shop.url, &rotated.anon_key).0, 200);
    assert!(ureq::get(&link).call().is_ok(), "links that were signed before are accepted, too");

    let session = postgres(&shop.db_uri);
    server.cli(&["project", "rotate-passwords", "shop"]);
    let fresh = held(&server, "shop").db_uri;
    assert_ne!(fresh, shop.db_uri);
    assert!(session.is_open(), "what is connected stays connected");
    drop(postgres(&fresh));
    std::thread::sleep(Duration::from_millis(300));
    load.end();

    server.cli(&["project", "keys", "end-old-tokens", "shop"]);
    assert_eq!(server.get(&shop.url, &shop.anon_key).0, 401, "now it was asked for");
    assert!(ureq::get(&link).call().is_err(), "links end with the tokens");
    assert_eq!(server.get(&shop.url, &rotated.anon_key).0, 200);

    let made = server.cli(&["rotate", "internal-key"]);
    let after = secrets(&server);
    assert!(made.contains(&after["INTERNAL_API_KEY"]), "{made}");
    assert_eq!(after["INTERNAL_API_KEY_PREVIOUS"], before["INTERNAL_API_KEY"]);
    let (code, _) = refused(&run(&server.home, &["rotate", "internal-key"]));
    assert_eq!(code, 6, "one at a time");
    server.cli(&["rotate", "internal-key", "--end-previous"]);
    assert!(!secrets(&server).contains_key("INTERNAL_API_KEY_PREVIOUS"));
    assert!(server.cli(&["rotate", "status"]).contains("seals everything"));

    // Killed at once after it began, it goes on with both keys at the next start.
    let token = server.token();
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    let started = server.ask("POST", &format!("{}/api/rotations/master-key", server.url()), &headers, "");
    assert_eq!(started.status, 202, "{}", started.body);
    server.signal("KILL");
    server.wait();
    let kept = secrets(&server);
    let mut server = Server::start(home.path(), &[]);
    server.until("the change to end", |server| {
        let after = secrets(server);
        (!after.contains_key("LAUNCHDB_MASTER_KEY_PREVIOUS")).then_some(after)
    });
    assert_eq!(secrets(&server)["LAUNCHDB_MASTER_KEY"], kept["LAUNCHDB_MASTER_KEY"]);
    let again = held(&server, "shop");
    assert_eq!(again.anon_key, rotated.anon_key);
    assert_eq!(server.get(&again.url, &again.anon_key).0, 200);
    assert!(server.cli(&["doctor"]).contains("master key"));
}

/// A session of psql that waits.
struct Session(std::process::Child);

impl Session {
    fn is_open(&self) -> bool {
        std::path::Path::new(&format!("/proc/{}/exe", self.0.id())).exists()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Connected when it is returned.
fn postgres(uri: &str) -> Session {
    let mut child = std::process::Command::new("psql")
        .args(["-At", uri, "-c", "select 'connected'", "-c", "select pg_sleep(60)"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("psql runs");
    let mut line = String::new();
    let mut said = std::io::BufReader::new(child.stdout.take().expect("its output"));
    std::io::BufRead::read_line(&mut said, &mut line).expect("a line");
    assert_eq!(line.trim(), "connected");
    Session(child)
}
