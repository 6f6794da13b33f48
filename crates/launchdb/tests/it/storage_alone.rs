//! `serve --only storage`: the storage service as a process of its own, beside the one that has everything else.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use test_support::{ScratchDir, free_port};

use crate::s3_store::Files;
use crate::server::{Server, launchdb};

/// The process; it ends with the test.
struct Alone {
    child: Child,
    url: String,
}

impl Alone {
    /// Beside a server, with its database, its secrets and its folder of files.
    fn start(server: &Server, working_folder: &Path) -> Self {
        let port = free_port();
        let text = std::fs::read_to_string(server.data().join("secrets.env")).expect("secrets were made");
        let secret = |name: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            value.unwrap_or_else(|| panic!("{name} is among the secrets")).to_owned()
        };
        let address = |user: &str, password: &str, database: &str| {
            format!("postgresql://{user}:{password}@127.0.0.1:{}/{database}", server.postgres_port())
        };
        let child = launchdb(working_folder)
            .args(["serve", "--only", "storage", "--port", &port.to_string()])
            .env("DATABASE_URL", address("platform", &secret("LAUNCHDB_PLATFORM_DB_PASSWORD"), "platform"))
            .env(
                "LAUNCHDB_ADMIN_DATABASE_URL",
                address("supabase_admin", &secret("POSTGRES_SUPERUSER_PASSWORD"), "postgres"),
            )
            .env("LAUNCHDB_MASTER_KEY", secret("LAUNCHDB_MASTER_KEY"))
            .env("PLATFORM_JWT_SECRET", secret("PLATFORM_JWT_SECRET"))
            .env("LAUNCHDB_PUBLIC_URL", server.url())
            .env("LAUNCHDB_ADMIN_PORT", "0")
            .env("STORAGE_PATH", server.data().join("storage"))
            // What an image may cost is the operator's to say.
            .env("LAUNCHDB_IMAGE_MAX_MEGAPIXELS", "1")
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("the binary starts");
        Self { child, url: format!("http://127.0.0.1:{port}") }
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The head of a PNG of this size, which says it before there are pixels.
fn png(width: u32, height: u32) -> Vec<u8> {
    let mut picture = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
    picture.extend_from_slice(&width.to_be_bytes());
    picture.extend_from_slice(&height.to_be_bytes());
    picture.extend_from_slice(&[8, 2, 0, 0, 0]);
    let checksum = crc32(&picture[12..]);
    picture.extend_from_slice(&checksum.to_be_bytes());
    picture.extend_from_slice(b"\0\0\0\0IDAT\x35\xaf\x06\x1e");
    picture
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

#[test]
fn files_are_served_by_the_storage_service_alone() {
    let home = ScratchDir::new();
    let mut server = Server::start(home.path(), &[]);
    let project = server.cli_json(&["project", "create", "shop"]);
    let id = project["id"].as_str().expect("an id").to_owned();
    let elsewhere = ScratchDir::new();
    let mut alone = Alone::start(&server, elsewhere.path());
    server.until("the storage service alone is healthy", |_| {
        (ureq::get(format!("{}/health", alone.url)).call().ok()?.status() == 200).then_some(())
    });
    let whole = Files::of(&server, "shop");
    let files = Files { base: format!("{}/p/{id}/storage/v1", alone.url), key: whole.key.clone() };
    files.post("/bucket", r#"{"name": "b", "public": true}"#);
    files.put("dir/a", b"from the one");
    assert_eq!(files.get("dir/a"), b"from the one");
    // One folder, one truth: the other process reads it, changes it, and is read.
    assert_eq!(whole.get("dir/a"), b"from the one");
    whole.put("dir/a", b"from the other");
    assert_eq!(files.get("dir/a"), b"from the other");
    let folder = server.data().join("storage").join(&id).join("b/dir/a");
    server.until("only the newest version is there", |_| (std::fs::read_dir(&folder).ok()?.count() == 1).then_some(()));
    // By the specification's address too, and for nothing but files.
    let status = |path: &str| {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        agent
            .get(format!("{}{path}", alone.url))
            .header("apikey", &files.key)
            .call()
            .expect("it answers")
            .status()
            .as_u16()
    };
    assert_eq!(status(&format!("/storage/{id}/b/dir/a")), 200);
    assert!(status(&format!("/p/{id}/rest/v1/")) >= 400);
    assert!(status(&format!("/p/{id}/auth/v1/settings")) >= 400);
    assert!(status("/api/projects") >= 400);
    // Its own settings count: an image of two megapixels is too large here, and only damaged there.
    files.put("large.png", &png(2_000, 1_000));
    let render = |files: &Files| {
        let (status, body) = files.send("GET", "/render/image/authenticated/b/large.png?width=10", &[], b"");
        format!("{status} {}", String::from_utf8_lossy(&body))
    };
    assert!(render(&files).contains("too many pixels"), "{}", render(&files));
    assert!(render(&whole).contains("damaged"), "{}", render(&whole));

    // It ends in order.
    let sent = Command::new("kill").args(["-TERM", &alone.child.id().to_string()]).status();
    assert!(sent.expect("kill runs").success());
    let start = Instant::now();
    let status = loop {
        if let Some(status) = alone.child.try_wait().expect("it can be asked") {
            break status;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "it does not end");
        std::thread::sleep(Duration::from_millis(10));
    };
    assert_eq!(status.code(), Some(0));
}
