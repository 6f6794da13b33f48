use axum::body::Body;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;

use super::{Answer, USER_A, USER_B, Who, World};
use crate::Storage;

const OFFSET: (&str, &str) = ("content-type", "application/offset+octet-stream");

fn metadata(bucket: &str, key: &str) -> String {
    let pairs = [("bucketName", bucket), ("objectName", key), ("contentType", "text/plain"), ("cacheControl", "60")];
    let pairs: Vec<String> =
        pairs.iter().map(|(name, value)| format!("{name} {}", BASE64_STANDARD.encode(value))).collect();
    pairs.join(",")
}

pub(super) async fn tus(
    world: &World,
    who: Who,
    line: &str,
    headers: &[(&str, &str)],
    body: impl Into<Body>,
) -> Answer {
    let mut all = vec![("tus-resumable", "1.0.0")];
    all.extend_from_slice(headers);
    world.ask(who, line, &all, body).await
}

pub(super) async fn create(world: &World, who: Who, key: &str, length: &str) -> Answer {
    let metadata = metadata("private", key);
    tus(world, who, "POST /upload/resumable", &[("upload-length", length), ("upload-metadata", &metadata)], "").await
}

/// The path of a new upload.
pub(super) async fn begin(world: &World, who: Who, key: &str, length: &str) -> String {
    let made = create(world, who, key, length).await;
    assert_eq!(made.status.as_u16(), 201, "{}", made.text());
    let prefix = format!("https://base.example/p/{}/storage/v1", world.project.project_ref);
    made.header("location").strip_prefix(&prefix).unwrap().to_owned()
}

pub(super) async fn patch(world: &World, who: Who, path: &str, offset: &str, body: impl Into<Body>) -> Answer {
    tus(world, who, &format!("PATCH {path}"), &[OFFSET, ("upload-offset", offset)], body).await
}

async fn offset(world: &World, who: Who, path: &str) -> String {
    let head = tus(world, who, &format!("HEAD {path}"), &[], "").await;
    format!("{} {}", head.status.as_str(), head.header("upload-offset"))
}

#[tokio::test]
async fn an_upload_in_pieces_survives_a_restart() {
    let mut world = World::with_buckets().await;
    let a = Who::User(USER_A);
    let path = begin(&world, a, "dir/big.txt", "30").await;
    assert_eq!(offset(&world, a, &path).await, "200 0");
    let piece = patch(&world, a, &path, "0", "0123456789").await;
    assert_eq!(
        (piece.status.as_u16(), piece.header("upload-offset"), piece.header("tus-resumable")),
        (204, "10", "1.0.0")
    );
    assert!(piece.header("upload-expires").ends_with("GMT"));
    assert_eq!(world.get(a, "/object/private/dir/big.txt").await.outcome(), "400 404 not_found", "not yet visible");
    // Another process goes on.
    world.storage = Storage::new(world.storage.shared.config.clone());
    assert_eq!(offset(&world, a, &path).await, "200 10");
    assert_eq!(patch(&world, a, &path, "5", "xxx").await.status.as_u16(), 409);
    assert_eq!(patch(&world, a, &path, "10", "0123456789").await.header("upload-offset"), "20");
    let last = patch(&world, a, &path, "20", "0123456789").await;
    assert_eq!((last.status.as_u16(), last.header("upload-offset"), last.header("tus-complete")), (204, "30", "1"));
    let read = world.get(a, "/object/private/dir/big.txt").await;
    assert_eq!(
        (&*read.text(), read.header("content-type"), read.header("cache-control")),
        ("012345678901234567890123456789", "text/plain", "max-age=60")
    );
    let etag = base::random::to_hex(&<md5::Md5 as md5::Digest>::digest(b"012345678901234567890123456789"));
    assert_eq!(read.header("etag"), format!("\"{etag}\""), "digested across the restart");
    // Who missed the answer finds the upload complete.
    assert_eq!(offset(&world, a, &path).await, "200 30");
    assert_eq!(patch(&world, a, &path, "30", "x").await.status.as_u16(), 409);
}

#[tokio::test]
async fn an_upload_is_its_makers_alone() {
    let world = World::with_buckets().await;
    let path = begin(&world, Who::User(USER_A), "x", "10").await;
    for who in [Who::User(USER_B), Who::Anon] {
        assert_eq!(offset(&world, who, &path).await, "404 ", "{who:?}");
        assert_eq!(patch(&world, who, &path, "0", "0123456789").await.status.as_u16(), 404, "{who:?}");
        assert_eq!(tus(&world, who, &format!("DELETE {path}"), &[], "").await.status.as_u16(), 404, "{who:?}");
    }
    assert_eq!(offset(&world, Who::Service, &path).await, "200 0");
    let metadata = metadata("private", "y");
    let headers = [("upload-length", "10"), ("upload-metadata", &*metadata)];
    let refused = tus(&world, Who::Anon, "POST /upload/resumable", &headers, "").await;
    assert_eq!(refused.outcome(), "403 new row violates row-level security policy");
    assert_eq!(tus(&world, Who::User(USER_A), &format!("DELETE {path}"), &[], "").await.status.as_u16(), 204);
    assert_eq!(offset(&world, Who::User(USER_A), &path).await, "404 ");
    assert_eq!(world.files(), [""; 0]);
}

#[tokio::test]
async fn creation_with_content_and_a_length_that_comes_later() {
    let world = World::with_buckets().await;
    let a = Who::User(USER_A);
    let whole = metadata("private", "whole");
    let headers = [OFFSET, ("upload-length", "5"), ("upload-metadata", &whole)];
    let made = tus(&world, a, "POST /upload/resumable/", &headers, "hello").await;
    assert_eq!((made.status.as_u16(), made.header("upload-offset")), (201, "5"));
    assert_eq!(world.get(a, "/object/private/whole").await.text(), "hello");
    let empty = metadata("private", "empty");
    let made =
        tus(&world, a, "POST /upload/resumable/", &[("upload-length", "0"), ("upload-metadata", &empty)], "").await;
    assert_eq!(made.status.as_u16(), 201);
    assert_eq!(world.get(a, "/object/private/empty").await.header("content-length"), "0");
    let later = metadata("private", "later");
    let made =
        tus(&world, a, "POST /upload/resumable", &[("upload-defer-length", "1"), ("upload-metadata", &later)], "")
            .await;
    let path = made.header("location").split_once("/storage/v1").unwrap().1.to_owned();
    let head = tus(&world, a, &format!("HEAD {path}"), &[], "").await;
    assert_eq!((head.header("upload-defer-length"), head.header("upload-length")), ("1", ""));
    assert_eq!(head.header("upload-metadata"), later);
    assert_eq!(patch(&world, a, &path, "0", "abc").await.status.as_u16(), 204);
    let headers = [OFFSET, ("upload-offset", "3"), ("upload-length", "6")];
    let last = tus(&world, a, &format!("PATCH {path}"), &headers, "def").await;
    assert_eq!(last.header("tus-complete"), "1", "{}", last.text());
    assert_eq!(world.get(a, "/object/private/later").await.text(), "abcdef");
}

#[tokio::test]
async fn what_came_before_a_break_is_kept() {
    let world = World::with_buckets().await;
    let a = Who::User(USER_A);
    let path = begin(&world, a, "x", "600000").await;
    let pieces = [Ok(vec![b'x'; 400_000]), Err(std::io::Error::other("gone"))];
    let broken = Body::from_stream(futures_util::stream::iter(pieces));
    assert_eq!(patch(&world, a, &path, "0", broken).await.status.as_u16(), 400);
    assert_eq!(offset(&world, a, &path).await, "200 400000");
    assert_eq!(patch(&world, a, &path, "400000", vec![b'x'; 200_000]).await.header("tus-complete"), "1");
    assert_eq!(world.get(a, "/object/private/x").await.body.len(), 600_000);
}

#[tokio::test]
async fn a_client_that_comes_back_ends_its_old_request() {
    let world = World::with_buckets().await;
    let a = Who::User(USER_A);
    let path = begin(&world, a, "x", "10").await;
    let first = futures_util::stream::iter([Ok::<_, std::io::Error>(b"01234".to_vec())]);
    let stuck = Body::from_stream(futures_util::StreamExt::chain(first, futures_util::stream::pending()));
    let (old, new) = tokio::join!(patch(&world, a, &path, "0", stuck), async {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        offset(&world, a, &path).await
    });
    assert_eq!((old.status.as_u16(), &*new), (423, "200 5"));
    assert_eq!(patch(&world, a, &path, "5", "56789").await.header("tus-complete"), "1");
}

#[tokio::test]
async fn with_a_link_for_an_upload() {
    let world = World::with_buckets().await;
    let answer = world.post(Who::User(USER_A), "/object/upload/sign/private/x", json!({})).await.json();
    let token = answer["token"].as_str().unwrap();
    let make = async |token: &str, key: &str| {
        let metadata = metadata("private", key);
        let headers = [("upload-length", "5"), ("upload-metadata", &*metadata), ("x-signature", token)];
        tus(&world, Who::Nobody, "POST /upload/resumable/sign", &headers, "").await
    };
    assert_eq!(make("nonsense", "x").await.status.as_u16(), 400);
    assert_eq!(make(token, "y").await.status.as_u16(), 400, "for another object");
    let made = make(token, "x").await;
    let path = made.header("location").split_once("/storage/v1").unwrap().1.to_owned();
    assert!(path.starts_with("/upload/resumable/sign/"));
    assert_eq!(offset(&world, Who::Nobody, &path).await, "400 ", "without the signature");
    assert_eq!(offset(&world, Who::User(USER_A), &path.replace("/sign", "")).await, "404 ", "by the other way");
    let headers = [OFFSET, ("upload-offset", "0"), ("x-signature", token)];
    let done = tus(&world, Who::Nobody, &format!("PATCH {path}"), &headers, "hello").await;
    assert_eq!(done.header("tus-complete"), "1", "{}", done.text());
    assert_eq!(world.get(Who::User(USER_A), "/object/private/x").await.text(), "hello");
}

#[tokio::test]
async fn bad_requests_and_limits() {
    let world = World::with_buckets().await;
    let a = Who::User(USER_A);
    let metadata = metadata("private", "x");
    let create =
        async |headers: &[(&str, &str)]| tus(&world, a, "POST /upload/resumable", headers, "").await.status.as_u16();
    assert_eq!(create(&[("upload-length", "5")]).await, 400);
    assert_eq!(create(&[("upload-metadata", &metadata)]).await, 400);
    assert_eq!(create(&[("upload-length", "-5"), ("upload-metadata", &metadata)]).await, 400);
    assert_eq!(create(&[("upload-length", "5"), ("upload-metadata", "nonsense")]).await, 400);
    assert_eq!(create(&[("upload-length", "99999999999"), ("upload-metadata", &metadata)]).await, 413);
    assert_eq!(
        create(&[("upload-length", "5"), ("upload-metadata", &super::tus::metadata("nowhere", "x"))]).await,
        404
    );
    assert_eq!(
        create(&[("upload-length", "5"), ("upload-metadata", &super::tus::metadata("private", "../x"))]).await,
        400
    );
    let headers = [("upload-length", "5"), ("upload-metadata", &*metadata)];
    let version = world.ask(a, "POST /upload/resumable", &headers, "").await;
    assert_eq!((version.status.as_u16(), version.header("tus-version")), (412, "1.0.0"));
    let options = world.ask(a, "OPTIONS /upload/resumable", &[], "").await;
    assert_eq!((options.status.as_u16(), options.header("tus-version")), (204, "1.0.0"));
    assert!(options.header("tus-extension").contains("creation-with-upload"));
    let path = begin(&world, a, "x", "5").await;
    let plain = tus(&world, a, &format!("PATCH {path}"), &[("upload-offset", "0")], "hello").await;
    assert_eq!(plain.status.as_u16(), 415);
    assert_eq!(tus(&world, a, &format!("PATCH {path}"), &[OFFSET], "hello").await.status.as_u16(), 400);
    assert_eq!(patch(&world, a, &path, "0", "too long").await.status.as_u16(), 413);
    assert_eq!(offset(&world, a, &path).await, "200 0", "nothing of it counts");
    for id in ["nonsense", "../x", "%2e%2e", "0123456789abcdef0123456789abcdeX"] {
        assert_eq!(tus(&world, a, &format!("HEAD /upload/resumable/{id}"), &[], "").await.status.as_u16(), 404, "{id}");
    }
    world.clock.advance(25 * 3600);
    assert_eq!(tus(&world, a, &format!("HEAD {path}"), &[], "").await.status.as_u16(), 410);
    assert_eq!(world.files(), [""; 0]);
}

/// A body that does something once it has been read.
fn body_and_then(text: &'static str, then: impl FnOnce() + Send + 'static) -> Body {
    Body::from_stream(futures_util::stream::once(async move {
        then();
        Ok::<_, std::convert::Infallible>(text)
    }))
}

#[tokio::test]
async fn an_upload_whose_end_failed_is_not_called_complete() {
    let world = World::with_buckets().await;
    let a = Who::User(USER_A);
    let path = begin(&world, a, "late", "10").await;
    // The disk is nearly full when the last byte has come.
    let gate = world.gate.clone();
    let last = patch(&world, a, &path, "0", body_and_then("0123456789", move || gate.set_open(false))).await;
    assert_eq!(last.status.as_u16(), 503, "{}", last.text());
    assert_eq!(offset(&world, a, &path).await, "503 ", "everything has come and the object is not there");
    world.gate.set_open(true);
    assert_eq!(offset(&world, a, &path).await, "200 10");
    assert_eq!(world.get(a, "/object/private/late").await.text(), "0123456789");
    assert_eq!(offset(&world, a, &path).await, "200 10");
    // The database refuses the row, and with it the content.
    world
        .sql(
            "create function refuse() returns trigger language plpgsql as $$ begin
                 if new.metadata ? 'eTag' then raise exception 'not now'; end if; return new; end $$;
             create trigger refuse before insert on storage.objects for each row execute function refuse()",
        )
        .await;
    let path = begin(&world, a, "refused", "3").await;
    assert_eq!(patch(&world, a, &path, "0", "abc").await.outcome(), "400 not now");
    assert_eq!(offset(&world, a, &path).await, "404 ", "the client begins anew");
}

/// The server ended after the bytes got their place and before the row was there, after both, or when nothing is left.
#[tokio::test]
async fn an_upload_that_a_crash_ended_is_brought_to_its_end() {
    for (key, placed, expected) in [("placed", true, "200 4"), ("lost", false, "404 ")] {
        let world = World::with_buckets().await;
        let a = Who::User(USER_A);
        let path = begin(&world, a, key, "4").await;
        let gate = world.gate.clone();
        let last = patch(&world, a, &path, "0", body_and_then("body", move || gate.set_open(false))).await;
        assert_eq!(last.status.as_u16(), 503);
        world.gate.set_open(true);
        let root = world.root.path().join(world.project.project_ref.as_str());
        let id = path.rsplit('/').next().unwrap();
        let record: serde_json::Value =
            serde_json::from_slice(&std::fs::read(root.join(format!("%tus/{id}.json"))).unwrap()).unwrap();
        let folder = root.join("private").join(key);
        std::fs::create_dir_all(&folder).unwrap();
        let place = folder.join(format!("%{}", record["version"].as_str().unwrap()));
        std::fs::rename(root.join("%tus").join(id), &place).unwrap();
        if !placed {
            std::fs::remove_file(&place).unwrap();
        }
        assert_eq!(offset(&world, a, &path).await, expected, "{key}");
        if placed {
            let read = world.get(a, "/object/private/placed").await;
            let etag = base::random::to_hex(&<md5::Md5 as md5::Digest>::digest(b"body"));
            assert_eq!((&*read.text(), read.header("etag")), ("body", &*format!("\"{etag}\"")));
            // Behind the row, with only the record left.
            std::fs::write(root.join(format!("%tus/{id}.json")), record.to_string()).unwrap();
            assert_eq!(offset(&world, a, &path).await, "200 4");
        }
        world.settled().await;
        let left: Vec<String> = world.files().into_iter().filter(|file| file.contains("%tus")).collect();
        assert_eq!(left, [""; 0], "{key}");
    }
}

/// Unfinished uploads take room for a day without anybody seeing them.
#[tokio::test]
async fn one_user_has_few_unfinished_uploads() {
    let world = World::start_with(|_, config| config.project_bytes = 100 * 1024 * 1024).await;
    world.add_buckets().await;
    let (a, b) = (Who::User(USER_A), Who::User(USER_B));
    // Ten megabytes of a hundred, but one of the largest files in any case.
    let first = begin(&world, a, "large", "40000000").await;
    assert_eq!(
        create(&world, a, "more", "20000000").await.outcome(),
        "429 Too many resumable uploads are not finished: finish or end some of them first"
    );
    assert_eq!(create(&world, b, "of-b", "20000000").await.status.as_u16(), 201);
    assert_eq!(create(&world, Who::Service, "servers", "40000000").await.status.as_u16(), 201);
    assert_eq!(tus(&world, a, &format!("DELETE {first}"), &[], "").await.status.as_u16(), 204);
    let mut paths = Vec::new();
    for number in 0..100 {
        paths.push(begin(&world, a, &format!("x{number}"), "5").await);
    }
    assert_eq!(create(&world, a, "more", "5").await.status.as_u16(), 429);
    assert_eq!(patch(&world, a, &paths[0], "0", "hello").await.header("tus-complete"), "1");
    assert_eq!(create(&world, a, "more", "5").await.status.as_u16(), 201, "what is finished counts no more");
    // Another process finds them on the disk.
    let storage = Storage::new(world.storage.shared.config.clone());
    let world = World { storage, ..world };
    assert_eq!(create(&world, a, "again", "5").await.status.as_u16(), 429);
    world.clock.advance(25 * 3600);
    assert_eq!(create(&world, a, "again", "5").await.status.as_u16(), 201, "what has expired neither");
}

/// Ids are not to be guessed, but who learns one ends nobody's request with it.
#[tokio::test]
async fn a_stranger_does_not_end_a_request() {
    let world = World::with_buckets().await;
    let a = Who::User(USER_A);
    let path = begin(&world, a, "x", "10").await;
    let (tell, told) = tokio::sync::oneshot::channel::<()>();
    let pieces = futures_util::stream::once(async { Ok::<_, std::io::Error>("01234") });
    let rest = futures_util::stream::once(async move {
        told.await.unwrap();
        Ok("56789")
    });
    let body = Body::from_stream(futures_util::StreamExt::chain(pieces, rest));
    let (upload, ()) = tokio::join!(patch(&world, a, &path, "0", body), async {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        for who in [Who::User(USER_B), Who::Anon, Who::Nobody] {
            assert_eq!(offset(&world, who, &path).await, "404 ", "{who:?}");
        }
        tell.send(()).unwrap();
    });
    assert_eq!(upload.header("tus-complete"), "1", "{}", upload.text());
}

/// What a crash left between the bytes and their record.
#[tokio::test]
async fn files_without_a_record_go() {
    let world = World::with_buckets().await;
    let path = begin(&world, Who::User(USER_A), "x", "10").await;
    let folder = world.root.path().join(world.project.project_ref.as_str()).join("%tus");
    for name in ["0123456789abcdef0123456789abcdef", "0123456789abcdef0123456789abcde0.new"] {
        std::fs::write(folder.join(name), "left").unwrap();
    }
    let scope = crate::reconcile::Scope { checksums: false, repair: true, grace: 0, uploads_grace: 0 };
    world.storage.reconcile(&world.project, scope).await.unwrap();
    assert_eq!(world.files().len(), 4, "they may be about to get one: {:?}", world.files());
    world.clock.advance(23 * 3600);
    patch(&world, Who::User(USER_A), &path, "0", "01234").await;
    world.clock.advance(2 * 3600);
    world.storage.reconcile(&world.project, scope).await.unwrap();
    assert_eq!(world.files().len(), 2, "{:?}", world.files());
    assert_eq!(offset(&world, Who::User(USER_A), &path).await, "200 5");
}
