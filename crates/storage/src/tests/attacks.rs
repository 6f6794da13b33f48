//! What a hostile client, or a hostile owner of a project, tried once: each has a bound that holds.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use base::{ProjectRef, ProjectTable};
use futures_util::{StreamExt as _, stream};
use serde_json::json;

use super::s3::{ask, element, outcome, service};
use super::{USER_A, Who, World};
use crate::Rounds;
use crate::reconcile::Scope;

const MIB: usize = 1024 * 1024;

/// A body that stops before its end.
fn stuck(beginning: Vec<u8>) -> Body {
    let first = stream::once(async move { Ok::<_, std::io::Error>(beginning) });
    Body::from_stream(first.chain(stream::pending()))
}

/// The database is slow when the row of an object is made whose content has come.
async fn slow_rows(world: &World) {
    world
        .sql(
            "create function slow() returns trigger language plpgsql as $$ begin
                 if new.metadata ? 'eTag' then perform pg_sleep(1); end if; return new; end $$;
             create trigger slow before insert on storage.objects for each row execute function slow()",
        )
        .await;
}

/// Waits until it is.
async fn until_slow(world: &World) {
    let sql = "select count(*) from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'";
    test_support::eventually("the row is being made", async || (world.value(sql).await == "1").then_some(())).await;
}

/// Bodies that are read whole have a room of their own, so that clients that send most of one and wait take no gigabytes.
#[tokio::test]
async fn bodies_that_never_end_take_no_more_than_their_room() {
    let world = World::with_buckets().await;
    let list =
        |body: Body| world.ask(Who::Anon, "POST /object/list/open", &[("content-type", "application/json")], body);
    // Four of them fill the room of a project.
    let held =
        stream::iter((0..4).map(|_| list(stuck(vec![b' '; 4 * MIB - 100])))).buffer_unordered(4).collect::<Vec<_>>();
    tokio::select! {
        ended = held => panic!("{} ended", ended.len()),
        () = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            assert_eq!(list(stuck(vec![b' '; MIB])).await.outcome(), "503 503 SlowDown");
            assert_eq!(list(" {}".into()).await.outcome(), "200", "a small one has room");
            // Fields of a form and lists in XML as well.
            let head = "--x\r\ncontent-disposition: form-data; name=\"metadata\"\r\n\r\n";
            let field = stuck(format!("{head}{}", " ".repeat(MIB / 2)).into_bytes());
            let headers = [("content-type", "multipart/form-data; boundary=x")];
            let form = world.ask(Who::User(USER_A), "POST /object/open/x", &headers, field).await;
            assert_eq!(form.outcome(), "503 503 SlowDown");
        } => {}
    }
    test_support::eventually("the room is free again", async || {
        (list(" {\"prefix\": \"\"}".into()).await.outcome() == "200").then_some(())
    })
    .await;
}

#[tokio::test]
async fn lists_in_xml_have_that_room_too() {
    let world = super::s3::world().await;
    let s3 = service(&world);
    let request = |bytes: usize| {
        let body = stuck(vec![b' '; bytes]);
        let mut request =
            http::Request::post("/s3/private?delete").header("content-length", 8 * MIB).body(body).unwrap();
        s3.sign(&mut request, "UNSIGNED-PAYLOAD");
        world.send(Who::Nobody, request)
    };
    let held = stream::iter((0..2).map(|_| request(8 * MIB - 10))).buffer_unordered(2).collect::<Vec<_>>();
    tokio::select! {
        ended = held => panic!("{} ended", ended.len()),
        () = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            assert_eq!(outcome(&request(MIB).await), "503 SlowDown");
        } => {}
    }
}

/// Each segment of a name is a folder: an inode, a block and a sync.
#[tokio::test]
async fn a_name_makes_few_folders_whatever_the_way_it_comes() {
    let world = super::s3::world().await;
    let (user, s3) = (Who::User(USER_A), service(&world));
    let deep = "/".repeat(1_000);
    assert_eq!(world.put(user, &format!("private/{deep}"), "x").await.outcome(), "400 400 InvalidKey");
    world.put(user, "private/a", "x").await;
    for operation in ["move", "copy"] {
        let body = json!({"bucketId": "private", "sourceKey": "a", "destinationKey": deep});
        let answer = world.post(user, &format!("/object/{operation}"), body).await;
        assert_eq!(answer.outcome(), "400 400 InvalidKey", "{operation}");
    }
    let resumable = super::tus::create(&world, user, &deep, "1").await;
    assert_eq!(resumable.status.as_u16(), 400, "{}", resumable.text());
    let put = ask(&world, &s3, &format!("PUT /s3/private/{deep}"), &[], "x").await;
    assert!(put.status.is_client_error(), "{}", put.text());
    // The deepest there may be.
    assert_eq!(world.put(user, &format!("private/{}x", "x/".repeat(63)), "x").await.outcome(), "200");
}

/// The owner of a project writes what rows say of sizes; what is on the disk counts.
#[tokio::test]
async fn the_quota_does_not_believe_rows() {
    let mut world = World::start_with(|project, _| project.storage.total_size_limit = 15_000).await;
    world.add_buckets().await;
    let upload = async |world: &World, key: &str, bytes: usize| {
        world.ask(Who::Service, &format!("POST /object/open/{key}"), &[], vec![0; bytes]).await.outcome()
    };
    assert_eq!(upload(&world, "a", 10_000).await, "200");
    world.counted().await;
    world.sql("update storage.objects set metadata = metadata || '{\"size\": 0, \"contentLength\": 0}'").await;
    assert_eq!(upload(&world, "b", 6_000).await, "400 413 Payload too large");
    // Nor the other way: nobody is refused because a row claims much.
    world.sql("update storage.objects set metadata = metadata || '{\"size\": 99999999}'").await;
    assert_eq!(upload(&world, "c", 4_000).await, "200");
    // After a start rows are all that is known, until the files have been counted.
    world.sql("update storage.objects set metadata = metadata || '{\"size\": 0}'").await;
    world.storage = crate::Storage::new(world.storage.shared.config.clone());
    assert_eq!(upload(&world, "d", 1).await, "200");
    world.counted().await;
    assert_eq!(upload(&world, "e", 6_000).await, "400 413 Payload too large");
}

/// What waits for its end takes room as well.
#[tokio::test]
async fn unfinished_uploads_count() {
    let world = World::start_with(|project, _| project.storage.total_size_limit = 15_000).await;
    world.add_buckets().await;
    let user = Who::User(USER_A);
    let upload = async |key: &str, bytes: usize| {
        world.ask(user, &format!("POST /object/private/{key}"), &[], vec![0; bytes]).await.outcome()
    };
    assert_eq!(upload("a", 1_000).await, "200");
    world.counted().await;
    let path = super::tus::begin(&world, user, "big", "12000").await;
    assert_eq!(super::tus::patch(&world, user, &path, "0", vec![0; 10_000]).await.status.as_u16(), 204);
    assert_eq!(upload("b", 5_000).await, "400 413 Payload too large");
    let second = super::tus::begin(&world, user, "other", "4000").await;
    assert_eq!(super::tus::patch(&world, user, &second, "0", vec![0; 3_500]).await.status.as_u16(), 204);
    let more = super::tus::patch(&world, user, &path, "10000", vec![0; 2_000]).await;
    assert_eq!(more.status.as_u16(), 413, "no room for the rest: {}", more.text());
    assert_eq!(super::tus::tus(&world, user, &format!("DELETE {second}"), &[], "").await.status.as_u16(), 204);
    let last = super::tus::patch(&world, user, &path, "10000", vec![0; 2_000]).await;
    assert_eq!(last.header("tus-complete"), "1", "{}", last.text());
    assert_eq!(upload("c", 2_500).await, "400 413 Payload too large");
    assert_eq!(upload("c", 2_000).await, "200");
}

/// By whatever way contents come and go, what is known of their size is what is there.
#[tokio::test]
async fn what_is_counted_is_what_is_there() {
    let world = World::start_with(|project, config| {
        config.project_bytes = 1 << 40;
        project.s3 = super::s3::keys();
    })
    .await;
    world.add_buckets().await;
    let (user, s3) = (Who::User(USER_A), service(&world));
    world.put(user, "private/a", "first").await;
    world.counted().await;
    let check = async |what: &str| {
        world.settled().await;
        let shared = &world.storage.shared;
        let id = &world.project.project_ref;
        let there = shared.backend.bytes(id).await.unwrap() + shared.config.staging.bytes(id).await.unwrap();
        assert_eq!(shared.quotas.files(id).unwrap().bytes, there, "{what}");
    };
    check("an upload").await;
    world.put(user, "private/a", "the second").await;
    check("another content").await;
    let body = json!({"bucketId": "private", "sourceKey": "a", "destinationKey": "b"});
    assert_eq!(world.post(user, "/object/copy", body.clone()).await.outcome(), "200");
    check("a copy").await;
    assert_eq!(world.post(user, "/object/copy", body).await.outcome(), "400 409 Duplicate");
    check("a copy that was refused").await;
    let body = json!({"bucketId": "private", "sourceKey": "b", "destinationKey": "c"});
    assert_eq!(world.post(user, "/object/move", body).await.outcome(), "200");
    check("a move").await;
    world.ask(user, "DELETE /object/private/c", &[], "").await;
    check("a deletion").await;
    let path = super::tus::begin(&world, user, "t", "10").await;
    super::tus::patch(&world, user, &path, "0", "01234").await;
    check("half of a resumable upload").await;
    super::tus::patch(&world, user, &path, "5", "56789").await;
    check("a resumable upload").await;
    let path = super::tus::begin(&world, user, "v", "10").await;
    world.put(user, "private/v", "sooner").await;
    let late = super::tus::patch(&world, user, &path, "0", "0123456789").await;
    assert_eq!(late.outcome(), "409 The resource already exists");
    check("a resumable upload that was refused").await;
    super::tus::tus(&world, user, &format!("DELETE {path}"), &[], "").await;
    let path = super::tus::begin(&world, user, "u", "10").await;
    super::tus::patch(&world, user, &path, "0", "01234").await;
    super::tus::tus(&world, user, &format!("DELETE {path}"), &[], "").await;
    check("one that was given up").await;
    let begun = ask(&world, &s3, "POST /s3/private/m?uploads", &[], "").await;
    let id = element(&begun.text(), "UploadId").to_owned();
    let part = format!("PUT /s3/private/m?partNumber=1&uploadId={id}");
    ask(&world, &s3, &part, &[], "a part").await;
    let etag = ask(&world, &s3, &part, &[], "the same part again").await.header("etag").to_owned();
    check("parts").await;
    let list = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part></CompleteMultipartUpload>"
    );
    let done = ask(&world, &s3, &format!("POST /s3/private/m?uploadId={id}"), &[], list).await;
    assert_eq!(outcome(&done), "200");
    check("parts that became one").await;
    let begun = ask(&world, &s3, "POST /s3/private/n?uploads", &[], "").await;
    let id = element(&begun.text(), "UploadId").to_owned();
    ask(&world, &s3, &format!("PUT /s3/private/n?partNumber=1&uploadId={id}"), &[], "a part").await;
    ask(&world, &s3, &format!("DELETE /s3/private/n?uploadId={id}"), &[], "").await;
    check("parts that were given up").await;
    world.sql("set storage.allow_delete_query = 'true'; delete from storage.objects").await;
    let scope = Scope { checksums: false, repair: true, grace: 0, uploads_grace: 0 };
    world.storage.reconcile(&world.project, scope).await.unwrap();
    check("the end of all").await;
    assert_eq!(world.files(), [""; 0]);
}

/// An upload in parts is counted once: one that is larger than half of what is left can be completed.
#[tokio::test]
async fn parts_are_not_counted_twice() {
    let world = World::start_with(|project, _| {
        project.storage.total_size_limit = 12 * MIB as u64;
        project.s3 = super::s3::keys();
    })
    .await;
    world.add_buckets().await;
    world.put(Who::Service, "open/x", "x").await;
    world.counted().await;
    let s3 = service(&world);
    let begun = ask(&world, &s3, "POST /s3/private/m?uploads", &[], "").await;
    let id = element(&begun.text(), "UploadId").to_owned();
    let mut list = String::from("<CompleteMultipartUpload>");
    for (number, bytes) in [(1, 5 * MIB), (2, 4 * MIB)] {
        let line = format!("PUT /s3/private/m?partNumber={number}&uploadId={id}");
        let part = ask(&world, &s3, &line, &[], vec![7; bytes]).await;
        assert_eq!(outcome(&part), "200");
        list.push_str(&format!("<Part><PartNumber>{number}</PartNumber><ETag>{}</ETag></Part>", part.header("etag")));
    }
    list.push_str("</CompleteMultipartUpload>");
    let more = ask(&world, &s3, &format!("PUT /s3/private/m?partNumber=3&uploadId={id}"), &[], vec![7; 4 * MIB]).await;
    assert_eq!(more.status.as_u16(), 413, "the quota holds for parts: {}", more.text());
    let done = ask(&world, &s3, &format!("POST /s3/private/m?uploadId={id}"), &[], list).await;
    assert_eq!(outcome(&done), "200", "{}", done.text());
    let large = world.ask(Who::Service, "POST /object/open/y", &[], vec![0; 4 * MIB]).await;
    assert_eq!(large.outcome(), "400 413 Payload too large");
    assert_eq!(world.ask(Who::Service, "POST /object/open/y", &[], vec![0; 2 * MIB]).await.outcome(), "200");
}

/// An owner puts a view in place of the table, with new rows each time it is looked at. Others' files are looked after.
#[tokio::test]
async fn one_projects_endless_rows_hold_up_no_other() {
    let hostile = World::start_with(|_, config| {
        config.rounds = Rounds { longest: Duration::from_millis(500), ..Rounds::default() };
    })
    .await;
    hostile.add_buckets().await;
    hostile.put(Who::Service, "private/a", "content").await;
    let mut other = World::with_buckets().await;
    other.storage = hostile.storage.clone();
    other.put(Who::Service, "private/a", "content").await;
    let file = hostile.files().into_iter().find(|file| file.starts_with(other.project.project_ref.as_str())).unwrap();
    let orphan = hostile.root.path().join(file).with_file_name("%00000000-0000-4000-8000-000000000000");
    std::fs::write(&orphan, "left").unwrap();
    hostile
        .sql(
            "alter table storage.objects rename to kept;
             create view storage.objects as
                 select gen_random_uuid() as id, 'private'::text as bucket_id, 'v'::text as version, '{}'::jsonb as metadata,
                     to_char(clock_timestamp(), 'YYYYMMDDHH24MISSUS') || lpad(i::text, 4, '0') as name
                 from generate_series(1, 600) as i;
             grant select on storage.objects to supabase_storage_admin",
        )
        .await;
    hostile.clock.advance(3_601);
    let projects = ProjectTable::new();
    projects.replace_all(vec![(*hostile.project).clone(), (*other.project).clone()]);
    let none = |_: Vec<ProjectRef>| async { Ok::<_, Infallible>(Vec::new()) };
    let round = hostile.storage.round(&projects, &none);
    tokio::time::timeout(Duration::from_secs(20), round).await.expect("the round ends");
    assert!(!orphan.exists());
    assert_eq!(other.get(Who::Service, "/object/private/a").await.text(), "content");
}

/// An upload whose client hangs up behind the last byte keeps its place until its work is done.
#[tokio::test]
async fn who_hangs_up_leaves_no_free_place_behind() {
    let world = World::start_with(|_, config| config.max_uploads_per_project = 1).await;
    world.add_buckets().await;
    slow_rows(&world).await;
    tokio::select! {
        answer = world.put(Who::Service, "open/a", "content") => panic!("{}", answer.outcome()),
        () = until_slow(&world) => {}
    }
    assert_eq!(world.put(Who::Service, "open/b", "content").await.outcome(), "429 429 SlowDown");
    test_support::eventually("the place is free", async || {
        (world.put(Who::Service, "open/b", "content").await.outcome() == "200").then_some(())
    })
    .await;
    assert_eq!(world.get(Who::Nobody, "/object/public/open/a").await.text(), "content", "the work went on");
}

/// Comparing rows and files reads the whole disk: one at a time of a project, and two of all.
#[tokio::test]
async fn comparisons_are_few() {
    let world = World::with_buckets().await;
    world.put(Who::Service, "private/a", "content").await;
    let (mut second, mut third) = (World::with_buckets().await, World::with_buckets().await);
    second.storage = world.storage.clone();
    third.storage = world.storage.clone();
    let verify = async |world: &World| world.post(Who::Service, "/_launchdb/verify", json!({})).await;
    assert_eq!(world.post(Who::User(USER_A), "/_launchdb/verify", json!({})).await.outcome(), "400 403 Unauthorized");
    let mut locks = Vec::new();
    for world in [&world, &second] {
        let client = world.database.connect().await;
        client.batch_execute("begin; lock table storage.objects in access exclusive mode").await.unwrap();
        locks.push(client);
    }
    let unlocked = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(verify(&world).await.outcome(), "503 503 SlowDown", "the project's own is under way");
        assert_eq!(verify(&third).await.outcome(), "503 503 SlowDown", "two are under way");
        for lock in &locks {
            lock.batch_execute("rollback").await.unwrap();
        }
    };
    let (first, other, ()) = tokio::join!(verify(&world), verify(&second), unlocked);
    assert_eq!((first.outcome(), other.outcome()), ("200".to_owned(), "200".to_owned()));
    assert_eq!(verify(&third).await.outcome(), "200", "their places are free again");
}

/// A repair without any grace removes no content whose row is being made.
#[tokio::test]
async fn a_repair_takes_nothing_from_an_upload_under_way() {
    let world = World::with_buckets().await;
    slow_rows(&world).await;
    let upload = world.put(Who::Service, "open/a", "content");
    let repair = async {
        until_slow(&world).await;
        world.post(Who::Service, "/_launchdb/verify", json!({"repair": true, "grace": 0})).await
    };
    let (upload, repair) = tokio::join!(upload, repair);
    assert_eq!((upload.outcome(), repair.outcome()), ("200".to_owned(), "200".to_owned()));
    assert_eq!(repair.json()["orphans"], 0, "{}", repair.text());
    assert_eq!(world.get(Who::Nobody, "/object/public/open/a").await.text(), "content");
}
