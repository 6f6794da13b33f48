//! `serve --only storage`: the storage service as a process of its own, beside the one that has everything else.

use test_support::ScratchDir;

use crate::alone::Alone;
use crate::s3_store::Files;
use crate::server::Server;

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
    let storage = server.data().join("storage").display().to_string();
    // What an image may cost is the operator's to say.
    let settings = [("STORAGE_PATH", storage.as_str()), ("LAUNCHDB_IMAGE_MAX_MEGAPIXELS", "1")];
    let alone = Alone::start(&server, "storage", elsewhere.path(), &settings);
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

    alone.end();
}
