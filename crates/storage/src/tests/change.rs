use serde_json::{Value, json};

use super::{USER_A, USER_B, Who, World};

async fn check(world: &World, who: Who, path: &str, body: Value, expected: &str) {
    assert_eq!(world.post(who, path, body.clone()).await.outcome(), expected, "{who:?} {path} {body}");
}

#[tokio::test]
async fn objects_move_and_are_copied_also_to_other_buckets() {
    let world = World::with_buckets().await;
    let (a, b) = (Who::User(USER_A), Who::User(USER_B));
    world.put(a, "private/x", "content").await;
    let from = |key: &str, to: &str| json!({"bucketId": "private", "sourceKey": key, "destinationKey": to});
    check(&world, b, "/object/move", from("x", "y"), "400 404 not_found").await;
    check(&world, b, "/object/copy", from("x", "y"), "400 404 not_found").await;
    let moved = world.post(a, "/object/move", from("x", "dir/y")).await;
    assert_eq!(moved.json()["message"], "Successfully moved");
    assert_eq!(world.get(a, "/object/private/x").await.outcome(), "400 404 not_found");
    assert_eq!(world.get(a, "/object/private/dir/y").await.text(), "content");
    let copied = world.post(a, "/object/copy", from("dir/y", "z")).await;
    assert_eq!(copied.json()["Key"], "private/z");
    check(&world, a, "/object/copy", from("dir/y", "z"), "400 409 Duplicate").await;
    check(&world, a, "/object/move", from("dir/y", "z"), "400 409 Duplicate").await;
    assert_eq!(world.get(a, "/object/private/dir/y").await.text(), "content", "what cannot move stays");
    let mut elsewhere = from("z", "there");
    elsewhere["destinationBucket"] = json!("open");
    check(&world, a, "/object/copy", elsewhere.clone(), "200").await;
    assert_eq!(world.get(Who::Nobody, "/object/public/open/there").await.text(), "content");
    elsewhere["destinationKey"] = json!("moved");
    check(&world, a, "/object/move", elsewhere.clone(), "200").await;
    assert_eq!(world.get(Who::Nobody, "/object/public/open/moved").await.text(), "content");
    elsewhere["destinationBucket"] = json!("nowhere");
    elsewhere["sourceKey"] = json!("dir/y");
    check(&world, a, "/object/move", elsewhere.clone(), "400 404 Bucket not found").await;
    check(&world, a, "/object/copy", elsewhere, "400 404 Bucket not found").await;
    for bad in ["..", "../x", "a/../../b", "", "a\u{0}"] {
        check(&world, a, "/object/move", from("dir/y", bad), "400 400 InvalidKey").await;
        check(&world, a, "/object/copy", from("dir/y", bad), "400 400 InvalidKey").await;
    }
    world.settled().await;
    assert_eq!(world.files().len(), 3, "{:?}", world.files());
}

#[tokio::test]
async fn a_copy_may_say_something_else_of_its_content() {
    let world = World::with_buckets().await;
    let headers = [("content-type", "text/plain"), ("cache-control", "max-age=1"), ("x-metadata", "eyJhIjoxfQ==")];
    world.ask(Who::Service, "POST /object/open/x", &headers, "content").await;
    let copy = |key: &str, more: Value| {
        let mut body = json!({"bucketId": "open", "sourceKey": "x", "destinationKey": key});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    check(&world, Who::Service, "/object/copy", copy("same", json!({})), "200").await;
    let info = world.get(Who::Service, "/object/info/open/same").await.json();
    assert_eq!(
        (&info["content_type"], &info["cache_control"], &info["metadata"]),
        (&json!("text/plain"), &json!("max-age=1"), &json!({"a": 1}))
    );
    let other = json!({"copyMetadata": false, "metadata": {"mimetype": "text/css", "cacheControl": "no-store"}});
    check(&world, Who::Service, "/object/copy", copy("other", other), "200").await;
    let info = world.get(Who::Service, "/object/info/open/other").await.json();
    assert_eq!(
        (&info["content_type"], &info["cache_control"], &info["metadata"]),
        (&json!("text/css"), &json!("no-store"), &json!(null))
    );
    // One name for the content goes, the others stay.
    world.ask(Who::Service, "DELETE /object/open/x", &[], "").await;
    world.settled().await;
    assert_eq!(world.get(Who::Service, "/object/open/same").await.text(), "content");
}

#[tokio::test]
async fn a_move_passes_by_no_limit_of_its_destination() {
    let world = World::with_buckets().await;
    world
        .sql(
            "insert into storage.buckets (id, name, file_size_limit, allowed_mime_types)
             values ('small', 'small', 3, null), ('images', 'images', null, array['image/*'])",
        )
        .await;
    world.put(Who::Service, "private/x", "content").await;
    for operation in ["move", "copy"] {
        let to = |bucket: &str| json!({"bucketId": "private", "sourceKey": "x", "destinationBucket": bucket, "destinationKey": "x"});
        let path = format!("/object/{operation}");
        check(&world, Who::Service, &path, to("small"), "400 413 Payload too large").await;
        check(&world, Who::Service, &path, to("images"), "400 415 invalid_mime_type").await;
    }
    assert_eq!(world.get(Who::Service, "/object/private/x").await.text(), "content");
    world.settled().await;
    assert_eq!(world.files().len(), 1);
}
