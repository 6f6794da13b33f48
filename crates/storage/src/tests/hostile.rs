//! Names that try to get out of their bucket: whatever is sent, and however it is encoded, files are made below the
//! bucket's folder or not at all.

use std::collections::BTreeSet;
use std::path::Path;

use axum::body::Body;
use http::Request;
use serde_json::json;

use super::{Who, World};

/// More than 500 names, as a path may carry them.
fn corpus() -> BTreeSet<String> {
    let mut corpus = BTreeSet::new();
    let dots = [
        "..",
        "%2e%2e",
        "%2E%2e",
        ".%2e",
        "%2e.",
        "%252e%252e",
        "%c0%ae%c0%ae",
        "%e0%80%ae%e0%80%ae",
        "..%00",
        "..%01",
        "..%20",
        "%20..",
        "..;",
        "...",
        "....",
        ".%00.",
        "%ef%bc%8e%ef%bc%8e",
        "..%ff",
        "%u002e%u002e",
        ".",
    ];
    let slashes = ["/", "%2f", "%2F", "%5c", "%252f", "%c0%af", "//", "%2f%2f", "%5c%5c", "/./", ";/"];
    let targets = ["x", "etc/passwd", "%staging/x", "%25staging%2fx", "private/x"];
    for dot in dots {
        for slash in slashes {
            for target in targets {
                corpus.insert(format!("{dot}{slash}{target}"));
            }
            corpus.insert(format!("a{slash}{dot}{slash}b"));
            corpus.insert(format!("a{slash}{dot}"));
            corpus.insert(format!("{dot}{slash}{dot}{slash}{dot}{slash}{dot}{slash}tmp{slash}x"));
        }
    }
    for control in 0..=0x20_u8 {
        corpus.insert(format!("a%{control:02x}b"));
        corpus.insert(format!("%{control:02x}"));
    }
    for odd in 0x7f..=0xff_u8 {
        corpus.insert(format!("a%{odd:02x}b"));
    }
    for name in [
        "CON", "NUL", "aux.txt", "COM1", "LPT9", "a.", "a%20", "-rf", "~", "~root", "$HOME", "`id`", "a:b", "a%3cb",
        "|x", "%25v", "%2525", "%staging", "%tus", "con/aux",
    ] {
        corpus.insert(name.to_owned());
        corpus.insert(format!("dir/{name}"));
    }
    for length in [199, 200, 201, 255, 256, 400, 1023, 1024, 1025, 5_000] {
        corpus.insert("x".repeat(length));
        corpus.insert(format!("{}/{}", "d".repeat(length / 2), "f".repeat(length / 2)));
        corpus.insert("a/".repeat(length / 2));
    }
    corpus
}

/// Every file and folder below `root`.
fn everything(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            found.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            if path.is_dir() && !path.is_symlink() {
                folders.push(path);
            }
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn nothing_leaves_the_bucket() {
    let world = World::with_buckets().await;
    // What a name such as `../x` would reach; others may have a file there.
    let beside = world.root.path().parent().unwrap().join("x");
    let changed = |path: &std::path::Path| std::fs::metadata(path).and_then(|file| file.modified()).ok();
    let before = changed(&beside);
    let outside = world.root.path().join("outside");
    std::fs::write(&outside, "untouched").unwrap();
    let bucket = format!("{}/open", world.project.project_ref);
    let (mut sent, mut stored) = (0, BTreeSet::new());
    for name in corpus() {
        for route in ["/object/open/", "/open/"] {
            let uri = format!("{route}{name}");
            let Ok(request) = Request::post(&uri).header("x-upsert", "true").body(Body::from("hostile")) else {
                continue;
            };
            sent += 1;
            let answer = world.send(Who::Service, request).await;
            match answer.status.as_u16() {
                200 => {
                    stored.insert(answer.json()["Key"].as_str().unwrap().to_owned());
                    assert_eq!(world.get(Who::Service, &uri).await.text(), "hostile", "{uri}");
                }
                400 | 404 => {}
                other => panic!("{uri}: {other} {}", answer.text()),
            }
        }
    }
    assert!(sent >= 1_000, "{sent}");
    world.settled().await;
    let inside = |path: &String| {
        path == "outside" || path.starts_with(&format!("{bucket}/")) || bucket.starts_with(path.as_str())
    };
    let all = everything(world.root.path());
    let strays: Vec<_> = all.iter().filter(|path| !inside(path)).collect();
    assert!(strays.iter().all(|path| path.ends_with("%staging")), "{strays:?}");
    let files = all.iter().filter(|path| path.contains("/%") && world.root.path().join(path).is_file()).count();
    assert_eq!(files, stored.len(), "one file for each object");
    assert_eq!(std::fs::read_to_string(&outside).unwrap(), "untouched");
    assert_eq!(changed(&beside), before, "something was written beside the root");
}

#[tokio::test]
async fn nor_through_the_body_of_a_request() {
    let world = World::with_buckets().await;
    world.put(Who::Service, "open/a", "content").await;
    let before = everything(world.root.path());
    for name in [
        "..",
        "../x",
        "../../etc/passwd",
        "a/../../x",
        "/../x",
        "a\\..\\b",
        "a\u{0}b",
        "%2e%2e/x",
        "x/.",
        "\u{ff0e}\u{ff0e}/x",
        "",
    ] {
        for body in [
            json!({"bucketId": "open", "sourceKey": "a", "destinationKey": name}),
            json!({"bucketId": "open", "sourceKey": name, "destinationKey": "b"}),
            json!({"bucketId": name, "sourceKey": "a", "destinationKey": "b"}),
            json!({"bucketId": "open", "sourceKey": "a", "destinationBucket": format!("x/{name}"), "destinationKey": "b"}),
        ] {
            for path in ["/object/move", "/object/copy"] {
                let answer = world.post(Who::Service, path, body.clone()).await;
                assert_eq!(answer.status.as_u16(), 400, "{path} {body}: {}", answer.text());
            }
        }
        let answer = world.post(Who::Service, "/object/sign/open", json!({"expiresIn": 9, "paths": [name]})).await;
        assert!(answer.json()[0]["signedURL"].is_null(), "{name}");
    }
    assert_eq!(everything(world.root.path()), before);
}

/// Somebody with a shell on the server may plant links; the service does not follow them.
#[tokio::test]
async fn links_on_the_disk_are_not_followed() {
    let world = World::with_buckets().await;
    world.put(Who::Service, "open/a", "content").await;
    let secret = test_support::ScratchDir::new();
    std::fs::write(secret.path().join("passwd"), "secret").unwrap();
    let folder = world.root.path().join(world.project.project_ref.as_str()).join("open");
    let file = folder.join("a").join(Path::new(&world.files()[0]).file_name().unwrap());
    std::fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink(secret.path().join("passwd"), &file).unwrap();
    let read = world.get(Who::Service, "/object/open/a").await;
    assert!(read.status.as_u16() >= 400 && !read.text().contains("secret"), "{}", read.text());
    std::os::unix::fs::symlink(secret.path(), folder.join("dir")).unwrap();
    let stored = world.put(Who::Service, "open/dir/x", "content").await;
    assert_eq!(stored.status.as_u16(), 500, "{}", stored.text());
    assert_eq!(everything(secret.path()), ["passwd"]);
}
