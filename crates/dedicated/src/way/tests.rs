use axum::Router;
use axum::routing::any;
use base::ProjectRef;
use tokio::net::TcpListener;

use super::*;

/// A manager that lists one instance, and that instance: it says who it is and what it was sent.
async fn manager(status: &'static str) -> (Way, ProjectRef) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let id = ProjectRef::parse("proj_abc123").unwrap();
    let list = serde_json::json!({
        "containers": [{ "projectId": id.as_str(), "containerName": "x", "host": null, "port": port, "status": status }],
    });
    let router = Router::new()
        .route("/internal/postgrest", any(move || std::future::ready(axum::Json(list))))
        .fallback(|request: Request| async move { format!("instance {}", request.uri()) });
    tokio::task::spawn_local(async move { axum_serve(listener, router).await });
    let config =
        WayConfig { manager_url: format!("http://127.0.0.1:{port}").parse().unwrap(), key: Secret::new("k".into()) };
    (Way::new(config), id)
}

async fn axum_serve(listener: TcpListener, router: Router) {
    let metrics = web::metrics::HttpMetrics::default();
    web::serve(listener, Arc::new(router), web::ServeConfig::default(), metrics, CancellationToken::new()).await;
}

#[tokio::test]
async fn only_instances_that_run_are_known() {
    tokio::task::LocalSet::new()
        .run_until(async {
            for (status, known) in [("running", 1), ("starting", 0), ("stopped", 0), ("restarting", 0)] {
                let (way, _) = manager(status).await;
                assert_eq!(way.read().await.unwrap().len(), known, "{status}");
            }
        })
        .await;
}
