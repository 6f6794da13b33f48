//! The list of slow requests, from what the data API hands over to what its owner reads.

use base::slow_query::SlowQuery;

use super::*;

fn slow(project: &str, statement: &str) -> SlowQuery {
    SlowQuery {
        project_ref: ProjectRef::parse(project).unwrap(),
        at: Duration::from_millis(1_795_685_400_250),
        took: Duration::from_micros(1_234_567),
        statement: statement.to_owned(),
        role: "anon".to_owned(),
        method: "GET".to_owned(),
        path: "/items\0".to_owned(),
        request_id: "abc-1".to_owned(),
        rows: Some(7),
        error_code: None,
    }
}

#[tokio::test]
async fn owners_see_their_own_slow_queries_newest_first() {
    let server = Server::start().await;
    let (mine, other) = (server.project().await, server.project().await);
    let directory = server.platform.directory();
    let failed = SlowQuery { rows: None, error_code: Some("57014".to_owned()), ..slow(&mine, "select 2") };
    // One that is gone by now is nobody's.
    directory.record_slow_queries(&[slow(&mine, "select 1"), slow("proj_gone", "select 0"), failed]).await.unwrap();
    directory.record_slow_queries(&[]).await.unwrap();

    let at = |id: &str, rest: &str| format!("/api/projects/{id}/slow-queries{rest}");
    let listed = server.ok("GET", &at(&mine, ""), Value::Null).await;
    let mut queries = listed["slow_queries"].as_array().unwrap().clone();
    queries.iter_mut().for_each(|query| drop(query.as_object_mut().unwrap().remove("id")));
    let expected = |statement: &str, rows: Value, error_code: Value| {
        json!({
            "at": "2026-11-26T09:30:00.250Z", "duration_ms": 1234, "statement": statement, "role": "anon", "method": "GET",
            "path": "/items", "request_id": "abc-1", "rows": rows, "error_code": error_code,
        })
    };
    let both = [expected("select 2", Value::Null, json!("57014")), expected("select 1", json!(7), Value::Null)];
    assert_eq!(queries, both);
    assert_eq!(listed["threshold_ms"], 500);
    assert_eq!(server.ok("GET", &at(&other, ""), Value::Null).await["slow_queries"], json!([]));

    let settings = json!({ "data_api": { "slow_query_ms": 20 } });
    server.ok("PATCH", &format!("/api/projects/{mine}/settings"), settings).await;
    assert_eq!(server.ok("GET", &at(&mine, ""), Value::Null).await["threshold_ms"], 20);

    // The newest are kept.
    let many: Vec<SlowQuery> = (0..500).map(|n| slow(&mine, &format!("select {n}"))).collect();
    directory.record_slow_queries(&many).await.unwrap();
    let listed = server.ok("GET", &at(&mine, "?limit=200"), Value::Null).await;
    let statements: Vec<&str> =
        listed["slow_queries"].as_array().unwrap().iter().map(|q| q["statement"].as_str().unwrap()).collect();
    assert_eq!((statements.len(), statements[0], statements[199]), (200, "select 499", "select 300"));
    assert_eq!(
        server.ok("GET", &at(&mine, "?limit=1"), Value::Null).await["slow_queries"].as_array().unwrap().len(),
        1
    );
    for wrong in ["?limit=0", "?limit=201", "?limit=x"] {
        assert_eq!(server.call("GET", &at(&mine, wrong), Value::Null).await.status, 400, "{wrong}");
    }
}
