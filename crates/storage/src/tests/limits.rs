use axum::body::Body;
use serde_json::json;

use super::{Who, World};

/// A body whose length nobody tells before.
fn streamed(bytes: usize) -> Body {
    let pieces: Vec<Result<Vec<u8>, std::io::Error>> =
        (0..bytes.div_ceil(1000)).map(|_| Ok(vec![b'x'; 1000])).collect();
    Body::from_stream(futures_util::stream::iter(pieces))
}

#[tokio::test]
async fn a_buckets_limits() {
    let world = World::start().await;
    let bucket = json!({"name": "b", "file_size_limit": 5_000, "allowed_mime_types": ["image/*"]});
    world.post(Who::Service, "/bucket", bucket).await;
    let png = [("content-type", "image/png")];
    let upload = async |key: &str, headers: &[(&str, &str)], body: Body| {
        world.ask(Who::Service, &format!("POST /object/b/{key}"), headers, body).await.outcome()
    };
    assert_eq!(upload("fits", &png, vec![0; 5_000].into()).await, "200");
    assert_eq!(upload("large", &png, vec![0; 5_001].into()).await, "400 413 Payload too large");
    assert_eq!(upload("streamed", &png, streamed(6_000)).await, "400 413 Payload too large");
    assert_eq!(upload("streamed", &png, streamed(5_000)).await, "200");
    assert_eq!(upload("text", &[("content-type", "text/plain")], "x".into()).await, "400 415 invalid_mime_type");
    assert_eq!(upload("none", &[], "x".into()).await, "400 415 invalid_mime_type");
    assert_eq!(
        upload("spoofed", &png, "<!DOCTYPE html><script>alert(1)</script>".into()).await,
        "400 415 invalid_mime_type"
    );
    assert_eq!(upload("dir/.emptyFolderPlaceholder", &[], "".into()).await, "200", "folders of the dashboard");
    assert_eq!(upload("dir2/.emptyFolderPlaceholder", &[], "x".into()).await, "400 413 Payload too large");
    world.settled().await;
    assert_eq!(world.files().len(), 3, "{:?}", world.files());
}

#[tokio::test]
async fn a_projects_limits() {
    let world = World::start_with(|project, config| {
        project.storage.file_size_limit = 10_000;
        project.storage.total_size_limit = 15_000;
        config.max_uploads_per_project = 1;
    })
    .await;
    world.post(Who::Service, "/bucket", json!({"name": "b"})).await;
    let upload = async |key: &str, body: Body| {
        world.ask(Who::Service, &format!("POST /object/b/{key}"), &[], body).await.outcome()
    };
    assert_eq!(upload("a", vec![0; 10_001].into()).await, "400 413 Payload too large");
    assert_eq!(upload("a", vec![0; 10_000].into()).await, "200");
    assert_eq!(upload("b", vec![0; 5_001].into()).await, "400 413 Payload too large");
    assert_eq!(upload("b", streamed(6_000)).await, "400 413 Payload too large");
    assert_eq!(upload("b", vec![0; 5_000].into()).await, "200");
    assert_eq!(upload("c", vec![0; 1].into()).await, "400 413 Payload too large");
    let copy = json!({"bucketId": "b", "sourceKey": "b", "destinationKey": "c"});
    assert_eq!(world.post(Who::Service, "/object/copy", copy).await.outcome(), "400 413 Payload too large");
    world.ask(Who::Service, "DELETE /object/b/a", &[], "").await;
    assert_eq!(upload("c", vec![0; 10_000].into()).await, "200", "what was deleted does not count");

    // One upload under way is as many as there may be.
    let first = futures_util::stream::iter([Ok::<_, std::io::Error>(vec![b'x'; 10])]);
    let stuck = Body::from_stream(futures_util::StreamExt::chain(first, futures_util::stream::pending()));
    tokio::select! {
        _ = upload("stuck", stuck) => panic!("it never ends"),
        () = async {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            assert_eq!(upload("second", "x".into()).await, "429 429 SlowDown");
        } => {}
    }
    assert_eq!(upload("a2", "".into()).await, "200", "the place is free again");
}

#[tokio::test]
async fn a_disk_that_is_nearly_full_takes_nothing() {
    let world = World::start_with(|_, config| config.disk_reserve = u64::MAX / 2).await;
    world.post(Who::Service, "/bucket", json!({"name": "b"})).await;
    let refused = world.put(Who::Service, "b/x", "x").await;
    assert_eq!((refused.outcome(), refused.header("retry-after")), ("503 503 SlowDown".to_owned(), "60"));

    let world = World::with_buckets().await;
    world.put(Who::Service, "open/x", "x").await;
    world.gate.set_open(false);
    assert_eq!(world.put(Who::Service, "open/y", "x").await.outcome(), "503 503 SlowDown");
    assert_eq!(world.get(Who::Nobody, "/object/public/open/x").await.text(), "x", "reading goes on");
    assert_eq!(world.ask(Who::Service, "DELETE /object/open/x", &[], "").await.outcome(), "200", "and making room");
}
