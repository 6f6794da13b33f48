use super::*;

/// The fields named by a validation error, in order.
fn fields(answer: &Answer) -> Vec<&str> {
    answer.body["error"]["details"].as_array().unwrap().iter().map(|p| p["field"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn every_problem_is_named_precisely() {
    let server = Server::start().await;
    let answer = server.call("POST", "/api/projects", json!({"name": "  ", "id": "Proj", "colour": "red"})).await;
    assert_eq!(answer.status, 400);
    assert_eq!(fields(&answer), ["name", "id", "colour"]);
    let answer = server.call("POST", "/api/projects", json!({"name": 7, "id": ["x"]})).await;
    assert_eq!(fields(&answer), ["name", "id"]);
    let answer = server.call("POST", "/api/projects", Value::Null).await;
    assert_eq!(fields(&answer), ["name"]);

    check(
        &server,
        &[
            ("POST", "/api/projects", json!([1]), 400, "validation_failed"),
            ("POST", "/api/projects", json!({"name": "a\0b"}), 400, "validation_failed"),
            ("POST", "/api/projects", json!({"name": "x".repeat(101)}), 400, "validation_failed"),
            ("POST", "/api/projects", json!({"name": "a\u{7}b"}), 400, "validation_failed"),
            ("GET", "/api/projects?limit=0", Value::Null, 400, "validation_failed"),
            ("GET", "/api/projects?limit=99999999999999999999", Value::Null, 400, "validation_failed"),
            ("GET", "/api/projects?sort=name", Value::Null, 400, "validation_failed"),
            ("GET", "/api/projects/proj_nosuch", Value::Null, 404, "project_not_found"),
            ("GET", "/api/projects/%00", Value::Null, 404, "project_not_found"),
            ("GET", "/api/projects/%ff%fe", Value::Null, 404, "project_not_found"),
            ("GET", "/api/projects/proj_x'%20or%201=1--", Value::Null, 404, "project_not_found"),
            ("GET", "/api/nothing", Value::Null, 404, "not_found"),
            ("PUT", "/api/projects", json!({}), 405, "method_not_allowed"),
        ],
    )
    .await;
}

#[tokio::test]
async fn bodies_that_are_no_json_are_refused_in_our_shape() {
    let server = Server::start().await;
    let nested = "[".repeat(100_000);
    let large = vec![b' '; usize::try_from(crate::request::MOST_BODY_BYTES).unwrap() + 1];
    let cases: [(&[u8], &str, u16, &str); 7] = [
        (b"{", "application/json", 400, "invalid_json"),
        (b"{\"name\": \"\xff\xfe\"}", "application/json", 400, "invalid_json"),
        (b"{\"name\": \"a\" \"b\"}", "application/json; charset=utf-8", 400, "invalid_json"),
        (nested.as_bytes(), "application/json", 400, "invalid_json"),
        (b"name=x", "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
        (b"\"text\"", "application/json", 400, "validation_failed"),
        (&large, "application/json", 413, "body_too_large"),
    ];
    for (body, media_type, status, code) in cases {
        let request = Request::post("/api/projects")
            .header("authorization", format!("Bearer {}", server.token))
            .header("content-type", media_type)
            .body(Body::from(body.to_vec()))
            .unwrap();
        let answer = server.send(request).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (status, code), "{media_type}");
        assert!(answer.body["error"]["message"].is_string());
    }
}
