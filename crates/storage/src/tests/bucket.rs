use serde_json::json;

use super::{USER_A, Who, World};

/// Request as the service role, body, expected outcome and body.
async fn check(world: &World, line: &str, body: serde_json::Value, expected: &str) {
    let answer = world.ask(Who::Service, line, &[("content-type", "application/json")], body.to_string()).await;
    let text = if answer.status.is_success() { answer.text() } else { answer.outcome() };
    assert_eq!(text, expected, "{line} {body}");
}

#[tokio::test]
async fn a_bucket_lives_and_dies() {
    let world = World::start().await;
    let world = &world;
    check(world, "POST /bucket", json!({"id": "a", "name": "a", "public": true}), r#"{"name":"a"}"#).await;
    check(world, "POST /bucket", json!({"id": "a", "name": "a"}), "400 409 Duplicate").await;
    check(
        world,
        "POST /bucket",
        json!({"name": "b", "file_size_limit": "1MB", "allowed_mime_types": ["image/*"]}),
        r#"{"name":"b"}"#,
    )
    .await;
    let bucket = world.get(Who::Service, "/bucket/b").await.json();
    assert_eq!(bucket["file_size_limit"], 1_000_000);
    assert_eq!(bucket["allowed_mime_types"], json!(["image/*"]));
    assert_eq!((&bucket["public"], &bucket["owner"], &bucket["type"]), (&json!(false), &json!(""), &json!("STANDARD")));
    assert!(bucket["created_at"].as_str().unwrap().ends_with("+00:00"), "{bucket}");
    check(world, "PUT /bucket/b", json!({"public": true}), r#"{"message":"Successfully updated"}"#).await;
    let bucket = world.get(Who::Service, "/bucket/b").await.json();
    assert_eq!((&bucket["public"], &bucket["file_size_limit"]), (&json!(true), &json!(1_000_000)));
    check(
        world,
        "PUT /bucket/b",
        json!({"public": false, "file_size_limit": null, "allowed_mime_types": null}),
        r#"{"message":"Successfully updated"}"#,
    )
    .await;
    let bucket = world.get(Who::Service, "/bucket/b").await.json();
    assert_eq!((&bucket["file_size_limit"], &bucket["allowed_mime_types"]), (&json!(null), &json!(null)));
    let names = |list: serde_json::Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|b| b["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(world.get(Who::Service, "/bucket").await.json()), ["a", "b"]);
    assert_eq!(names(world.get(Who::Service, "/bucket?sortOrder=desc&limit=1").await.json()), ["b"]);
    assert_eq!(names(world.get(Who::Service, "/bucket?search=A").await.json()), ["a"]);
    assert_eq!(names(world.get(Who::Service, "/bucket?offset=1&sortColumn=created_at").await.json()), ["b"]);
    assert_eq!(names(world.get(Who::Anon, "/bucket").await.json()), [""; 0]);
    world.put(Who::Service, "a/x/y.txt", "hello").await;
    check(world, "DELETE /bucket/a", json!({}), "400 409 ResourceNotEmpty").await;
    check(world, "POST /bucket/a/empty", json!({}), r#"{"message":"Successfully emptied"}"#).await;
    check(world, "DELETE /bucket/a", json!({}), r#"{"message":"Successfully deleted"}"#).await;
    check(world, "GET /bucket/a", json!({}), "400 404 Bucket not found").await;
    check(world, "DELETE /bucket/a", json!({}), "400 404 Bucket not found").await;
    check(world, "PUT /bucket/a", json!({"public": true}), "400 404 Bucket not found").await;
    check(world, "POST /bucket/a/empty", json!({}), "400 404 Bucket not found").await;
    world.settled().await;
    assert_eq!(world.files(), [""; 0]);
}

#[tokio::test]
async fn bad_input_is_refused() {
    let world = World::start().await;
    let world = &world;
    for name in ["", ".", "..", "a/b", " a", "a ", "%staging", "ä", "a\0", "a\\b", &"x".repeat(101)] {
        check(world, "POST /bucket", json!({"name": name}), "400 400 Invalid Input").await;
        check(world, "POST /bucket", json!({"name": "fine", "id": name}), "400 400 Invalid Input").await;
    }
    check(world, "POST /bucket", json!({"public": true}), "400 400 InvalidRequest").await;
    check(world, "POST /bucket", json!([1]), "400 400 InvalidRequest").await;
    check(world, "POST /bucket", json!({"name": "a", "public": "yes"}), "400 400 InvalidRequest").await;
    check(world, "POST /bucket", json!({"name": "a", "file_size_limit": "much"}), "400 400 InvalidRequest").await;
    check(world, "POST /bucket", json!({"name": "a", "file_size_limit": "500GB"}), "400 413 Payload too large").await;
    check(world, "POST /bucket", json!({"name": "a", "allowed_mime_types": ["nonsense"]}), "400 415 invalid_mime_type")
        .await;
    check(world, "POST /bucket", json!({"name": "a", "type": "ANALYTICS"}), "501 501 NotSupported").await;
    check(world, "PUT /bucket/a", json!({}), "400 400 InvalidRequest").await;
    let answer = world.ask(Who::Service, "POST /bucket", &[], "{").await;
    assert_eq!(answer.outcome(), "400 400 InvalidRequest");
    assert_eq!(world.get(Who::Service, "/bucket?limit=x").await.outcome(), "400 400 InvalidRequest");
    assert_eq!(world.get(Who::Service, "/bucket?sortColumn=secret").await.outcome(), "400 400 InvalidRequest");
}

#[tokio::test]
async fn policies_decide_about_buckets() {
    let world = World::start().await;
    let user = Who::User(USER_A);
    assert_eq!(world.post(user, "/bucket", json!({"name": "mine"})).await.outcome(), "400 403 Unauthorized");
    world
        .sql("create policy make on storage.buckets for insert to authenticated with check (owner_id = auth.uid()::text);
              create policy see on storage.buckets for select to authenticated using (owner_id = auth.uid()::text)")
        .await;
    assert_eq!(world.post(user, "/bucket", json!({"name": "mine"})).await.outcome(), "200");
    assert_eq!(world.get(user, "/bucket/mine").await.json()["owner"], USER_A);
    assert_eq!(world.get(Who::User(super::USER_B), "/bucket/mine").await.outcome(), "400 404 Bucket not found");
    let update = json!({"public": true}).to_string();
    assert_eq!(world.ask(user, "PUT /bucket/mine", &[], update).await.outcome(), "400 404 Bucket not found");
    assert_eq!(world.ask(user, "DELETE /bucket/mine", &[], "{}").await.outcome(), "400 404 Bucket not found");
    assert_eq!(world.value("select count(*) from storage.buckets where not public").await, "1");
}
