//! The migrations service at the wire.

use super::*;
use crate::baseline::FILES;

async fn run(server: &Server, key: Option<(&str, &str)>, body: Value) -> Answer {
    let mut request = Request::builder().method("POST").uri("/internal/migrations/run");
    if let Some((name, key)) = key {
        request = request.header(name, key);
    }
    let router = server.platform.internal_router(Secret::new("the internal key".to_owned()));
    let response = router.oneshot(request.body(Body::from(body.to_string())).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Answer { status: parts.status, headers: parts.headers, body: serde_json::from_slice(&body).unwrap() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_of_an_older_baseline_is_upgraded_and_every_file_is_told() {
    let server = Server::start().await;
    let id = server.project().await;
    let key = Some(("x-internal-key", "the internal key"));
    let answer = run(&server, key, json!({ "project_id": id })).await;
    assert_eq!((answer.status.as_u16(), &answer.body["status"]), (200, &json!("no_changes")), "{}", answer.body);
    assert_eq!(answer.body["migrations_skipped"], json!(FILES.len()));
    assert_eq!(answer.body["results"][0]["name"], FILES[0].name);

    // As one that was made before the last file that can be run again.
    let admin = server.cluster.connect(&server.platform.config().database.database).await;
    let older = "update platform.projects set baseline_version = baseline_version - 1 where id = $1";
    admin.execute(older, &[&id]).await.unwrap();
    let answer = run(&server, Some(("X-Internal-API-Key", "the internal key")), json!({ "project_id": id })).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let version: i32 =
        admin.query_one("select baseline_version from platform.projects where id = $1", &[&id]).await.unwrap().get(0);
    assert_eq!(version, crate::baseline::version(FILES));

    for (key, body, status, code) in [
        (None, json!({ "project_id": id }), 401, "wrong_internal_key"),
        (Some(("x-internal-key", "another")), json!({ "project_id": id }), 401, "wrong_internal_key"),
        (key, json!({ "project_id": "x" }), 400, "validation_failed"),
        (key, json!({}), 400, "validation_failed"),
        (key, json!({ "project_id": "proj_nobody" }), 404, "project_not_found"),
    ] {
        let answer = run(&server, key, body.clone()).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (status, code), "{body}: {}", answer.body);
    }
}
