use super::*;
use crate::openapi::path_parameters;
use crate::router::{Access, routes};

const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];

/// A path of the table with something in the place of its parameters.
fn filled(path: &str, id: &str) -> String {
    path_parameters(path)
        .iter()
        .fold(path.to_owned(), |path, name| path.replace(&format!("{{{name}}}"), if *name == "id" { id } else { "1" }))
}

#[tokio::test]
async fn the_document_and_the_router_agree() {
    let server = Server::start().await;
    let document = server.call_as("", "GET", "/api/openapi.json", Value::Null).await.body;
    assert_eq!(document["openapi"], "3.1.0");
    let paths = document["paths"].as_object().unwrap();
    for (path, item) in paths {
        for method in METHODS {
            let answer = server.call_as("", method, &filled(path, "proj_nosuch"), Value::Null).await;
            let mounted = !["not_found", "method_not_allowed"].contains(&answer.code());
            assert_eq!(item.get(method.to_lowercase()).is_some(), mounted, "{method} {path}: {}", answer.body);
        }
    }
    for route in routes() {
        let operation = &paths[route.path][route.method.as_str().to_lowercase()];
        assert_eq!(operation["operationId"], route.operation_id);
    }
}

#[tokio::test]
async fn no_route_lets_in_who_has_no_token_or_somebody_elses() {
    let server = Server::start().await;
    let id = server.project().await;
    let stranger = server.other_owner().await;
    for route in routes() {
        let (method, path) = (route.method.as_str(), filled(route.path, &id));
        if route.access == Access::Owner {
            let answer = server.call_as("", method, &path, json!({})).await;
            assert_eq!((answer.status.as_u16(), answer.code()), (401, "unauthorized"), "{method} {path}");
        }
        if route.path.contains("{id}") {
            let answer = server.call_as(&stranger, method, &path, json!({})).await;
            assert_eq!((answer.status.as_u16(), answer.code()), (404, "project_not_found"), "{method} {path}");
            let nowhere = server.call_as(&stranger, method, &filled(route.path, "proj_nosuch"), json!({})).await;
            assert_eq!(answer.body, nowhere.body, "a foreign project looks like none");
        }
    }
    let listed = server.call_as(&stranger, "GET", "/api/projects", Value::Null).await;
    assert_eq!(listed.body["projects"], json!([]));
    check(&server, &[("POST", &format!("/api/projects/{id}/backups"), json!({}), 422, "unsupported")]).await;
}

#[tokio::test]
async fn a_database_that_is_down_is_503_and_comes_back() {
    let server = Server::start().await;
    assert_eq!(server.call_as("", "GET", "/api/health", Value::Null).await.status, 200);
    let admin = server.cluster.connect("postgres").await;
    let database = server.platform.config().database.database.clone();
    let connections = async |allowed: bool| {
        admin.batch_execute(&format!("alter database {database} allow_connections {allowed}")).await.unwrap();
        let end = "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1";
        admin.query(end, &[&database]).await.unwrap();
    };
    connections(false).await;
    until("requests are refused", async || {
        let answer = server.call("GET", "/api/projects", Value::Null).await;
        answer.code() == "database_unavailable" && answer.headers.contains_key("retry-after")
    })
    .await;
    let health = server.call_as("", "GET", "/api/health", Value::Null).await;
    assert_eq!((health.status.as_u16(), &health.body["failing"]), (503, &json!(["platform_database"])));
    connections(true).await;
    until("requests are served again", async || server.call("GET", "/api/projects", Value::Null).await.status == 200)
        .await;
}
