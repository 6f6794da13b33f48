//! kill -9 at 200 random moments of uploads, overwrites, moves and deletes: every acknowledged object is there and whole,
//! nobody ever sees a part of one, and rows and files agree after a comparison.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;
use test_support::ScratchDir;

use crate::server::Server;

const KILLS: usize = 200;
/// Operations that are acknowledged between two kills, at least.
const BETWEEN_KILLS: u64 = 5;
const WORKERS: usize = 6;
/// Names that each worker has for itself.
const NAMES: usize = 4;

/// Where the server is at the moment, and the key of its project.
struct Target {
    base: Mutex<String>,
    key: String,
}

/// What a name may hold: one content that is known, or several after an answer that never came. None is nothing.
type Possible = BTreeSet<Option<u64>>;

/// A content that tells its number and its length in every part, so that a torn one shows.
fn content(number: u64) -> Vec<u8> {
    let line = format!("{number:020}\n").into_bytes();
    let lines = match number % 4 {
        0 => 20_000,
        1 => 4_000,
        _ => 40,
    };
    let mut content = line.repeat(lines);
    content.extend_from_slice(format!("{lines:020}").as_bytes());
    content
}

fn number_of(content: &[u8]) -> u64 {
    let text = std::str::from_utf8(&content[..20]).expect("our own content");
    let number = text.parse().expect("our own content");
    assert!(content == self::content(number), "a torn content of {} bytes, number {number}", content.len());
    number
}

/// What came back: status and body; none when the server was gone.
fn send(target: &Target, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Option<(u16, Vec<u8>)> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(30)))
        .build()
        .into();
    let url = format!("{}/storage/v1{path}", target.base.lock().expect("no worker panics"));
    let mut request = ureq::http::Request::builder().method(method).uri(url).header("apikey", &target.key);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut answer = match method {
        "GET" | "DELETE" => agent.run(request.body(()).expect("a request")),
        _ => agent.run(request.body(body).expect("a request")),
    }
    .ok()?;
    let body = answer.body_mut().with_config().limit(64 << 20).read_to_vec().ok()?;
    Some((answer.status().as_u16(), body))
}

/// What a name holds now; none when the server is gone.
fn look(target: &Target, name: &str) -> Option<Option<u64>> {
    match send(target, "GET", &format!("/object/b/{name}"), &[], &[])? {
        (200, content) => Some(Some(number_of(&content))),
        (400, body) => {
            let text = String::from_utf8_lossy(&body);
            assert!(text.contains("not_found"), "{name}: {text}");
            Some(None)
        }
        (status, _) => {
            assert!(status >= 500 || status == 429, "{name}: {status}");
            None
        }
    }
}

/// One worker's names and what they may hold.
struct Names<'a> {
    target: &'a Target,
    numbers: &'a AtomicU64,
    known: BTreeMap<String, Possible>,
}

impl Names<'_> {
    /// What a name holds, when the server says; it has to be one of what is possible.
    fn settle(&mut self, name: &str) -> Option<Option<u64>> {
        let now = look(self.target, name)?;
        let possible = self.known.entry(name.to_owned()).or_default();
        assert!(possible.contains(&now), "{name} holds {now:?}, which is none of {possible:?}");
        *possible = Possible::from([now]);
        Some(now)
    }

    /// Notes what an operation made of a name: `after` when it was acknowledged, `before` when it was refused, both when
    /// nobody knows.
    fn note(&mut self, name: &str, before: Option<u64>, after: Option<u64>, answer: Option<bool>) {
        let possible = match answer {
            Some(true) => Possible::from([after]),
            Some(false) => Possible::from([before]),
            None => Possible::from([before, after]),
        };
        self.known.insert(name.to_owned(), possible);
    }

    /// One operation on random names. False when the server is gone.
    fn operate(&mut self, worker: usize) -> bool {
        let random = u64::from_le_bytes(base::random::bytes::<8>());
        let at = |n: u64| format!("w{worker}/{}", n % NAMES as u64);
        let (name, other) = (at(random), at(random / 16 + 1));
        let Some(before) = self.settle(&name) else { return false };
        let done = |answer: &Option<(u16, Vec<u8>)>| match answer {
            Some((200, _)) => Some(true),
            Some((status, body)) if *status < 500 && *status != 429 => {
                panic!("{status} {}", String::from_utf8_lossy(body))
            }
            // It may have been done.
            _ => None,
        };
        match (random / 256 % 8, before) {
            (0, Some(number)) => {
                let answer = done(&send(self.target, "DELETE", &format!("/object/b/{name}"), &[], &[]));
                self.note(&name, Some(number), None, answer);
                answer.is_some()
            }
            (1 | 2, Some(number)) if name != other => {
                let Some(there) = self.settle(&other) else { return false };
                if there.is_some() {
                    return true;
                }
                let body = json!({"bucketId": "b", "sourceKey": name, "destinationKey": other}).to_string();
                let headers = [("content-type", "application/json")];
                let answer = done(&send(self.target, "POST", "/object/move", &headers, body.as_bytes()));
                self.note(&name, Some(number), None, answer);
                self.note(&other, None, Some(number), answer);
                answer.is_some()
            }
            _ => {
                let number = self.numbers.fetch_add(1, Ordering::Relaxed);
                let answer =
                    send(self.target, "POST", &format!("/object/b/{name}"), &[("x-upsert", "true")], &content(number));
                let answer = done(&answer);
                self.note(&name, before, Some(number), answer);
                answer.is_some()
            }
        }
    }
}

#[test]
fn killed_servers_keep_every_acknowledged_object_whole() {
    let home = ScratchDir::new();
    let mut server = Server::start(home.path(), &[]);
    let project = server.cli_json(&["project", "create", "files"]);
    let id = project["id"].as_str().expect("an id").to_owned();
    let connection = server.cli_json(&["project", "connection", &id]);
    let key = connection["service_role_key"].as_str().expect("a key").to_owned();
    let target = Target { base: Mutex::new(format!("{}/p/{id}", server.url())), key };
    let made = send(&target, "POST", "/bucket", &[("content-type", "application/json")], br#"{"name":"b"}"#);
    assert_eq!(made.map(|answer| answer.0), Some(200));
    let (numbers, done, operations) = (AtomicU64::new(1), AtomicBool::new(false), AtomicU64::new(0));
    let (target, done, operations) = (&target, &done, &operations);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| {
                let known = (0..NAMES).map(|n| (format!("w{worker}/{n}"), Possible::from([None]))).collect();
                let mut names = Names { target, numbers: &numbers, known };
                scope.spawn(move || {
                    while !done.load(Ordering::Relaxed) {
                        if names.operate(worker) {
                            operations.fetch_add(1, Ordering::Relaxed);
                        } else {
                            std::thread::sleep(Duration::from_millis(20));
                        }
                    }
                    names
                })
            })
            .collect();
        for _ in 0..KILLS {
            // A server that has just started does nothing that could be torn.
            let busy = operations.load(Ordering::Relaxed) + BETWEEN_KILLS;
            server.until("some operations", |_| {
                let failed = workers.iter().any(std::thread::ScopedJoinHandle::is_finished);
                (failed || operations.load(Ordering::Relaxed) >= busy).then_some(())
            });
            if workers.iter().any(std::thread::ScopedJoinHandle::is_finished) {
                break;
            }
            std::thread::sleep(Duration::from_millis(u64::from(base::random::bytes::<1>()[0]) / 4));
            server.signal("KILL");
            server.wait();
            server = Server::start(home.path(), &[]);
            *target.base.lock().expect("no worker panics") = format!("{}/p/{id}", server.url());
        }
        done.store(true, Ordering::Relaxed);
        for worker in workers {
            let mut names = worker.join().expect("the worker did not panic");
            for name in names.known.keys().cloned().collect::<Vec<_>>() {
                assert!(names.settle(&name).is_some(), "{name} cannot be read");
            }
        }
    });
    assert!(operations.load(Ordering::Relaxed) >= BETWEEN_KILLS * KILLS as u64, "not all kills were reached");
    verify(target);
}

/// What crashes left is removed; then everything agrees, to the checksum.
fn verify(target: &Target) {
    let verify = |body: serde_json::Value| -> serde_json::Value {
        let headers = [("content-type", "application/json")];
        let answer = send(target, "POST", "/_launchdb/verify", &headers, body.to_string().as_bytes());
        let (status, body) = answer.expect("the server is there");
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).expect("a report")
    };
    let repaired = verify(json!({"repair": true, "grace": 0}));
    assert_eq!((&repaired["clean"], &repaired["faults"]), (&json!(true), &json!([])), "{repaired}");
    let after = verify(json!({"grace": 0}));
    assert_eq!((&after["clean"], &after["orphans"]), (&json!(true), &json!(0)), "{after}");
    assert_eq!(after["objects"], after["files"], "{after}");
}
