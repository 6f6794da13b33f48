//! The admin server (PostgREST docs, "Admin Server").

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response as HttpResponse;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};

use super::Server;
use super::bind::Address;

#[derive(Clone)]
pub(super) struct Admin {
    pub(super) server: Arc<Server>,
    /// Where the API listens.
    pub(super) address: Address,
}

pub(super) async fn handle(State(admin): State<Admin>, request: Request) -> HttpResponse {
    match request.uri().path() {
        "/live" if admin.address.is_reachable().await => answer(StatusCode::OK, ""),
        "/live" => answer(StatusCode::INTERNAL_SERVER_ERROR, ""),
        "/ready" => answer(admin.readiness().await, ""),
        "/schema_cache" => {
            let cache = admin.server.current().instance.loaded_schema_cache();
            answer(StatusCode::OK, cache.map(|cache| cache.to_json().to_string()).unwrap_or_default())
        }
        "/metrics" => {
            let mut response = answer(StatusCode::OK, admin.server.metrics.render(&admin.server.current()));
            let plain = HeaderValue::from_static("text/plain; charset=utf-8");
            response.headers_mut().insert(CONTENT_TYPE, plain);
            response
        }
        _ => answer(StatusCode::NOT_FOUND, ""),
    }
}

impl Admin {
    async fn readiness(&self) -> StatusCode {
        let state = &self.server.state;
        if !self.address.is_reachable().await {
            StatusCode::INTERNAL_SERVER_ERROR
        } else if state.loaded.load(Ordering::Relaxed) && self.is_connected().await {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        }
    }

    /// A listening connection that lives is proof enough.
    async fn is_connected(&self) -> bool {
        let snapshot = self.server.current();
        if snapshot.drop_in.db_channel_enabled {
            self.server.state.listening.load(Ordering::Relaxed)
        } else {
            snapshot.instance.pool().ping().await.is_ok()
        }
    }
}

fn answer(status: StatusCode, body: impl Into<Body>) -> HttpResponse {
    let mut response = HttpResponse::new(body.into());
    *response.status_mut() = status;
    response
}
