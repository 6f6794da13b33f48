//! What a server answers besides the gateway: internal services, metrics, health.

use std::sync::Arc;

use axum::Router;
use axum::routing::{MethodRouter, get};
use prometheus_client::registry::Registry;
use web::health;

use super::health::HealthBoard;
use super::instances;
use super::server::{Services, Start};
use super::storage::Storage;
use crate::config::Service;
use crate::config::secrets::INTERNAL_KEY_PREVIOUS;
use crate::exit::{self, Exit};

/// What other processes of the installation call; on loopback, and on the port of the migrations service.
pub(super) fn internal_router(start: &Start, storage: &Storage, services: &Services) -> Result<Router, Exit> {
    if let Some(fleet) = &services.instances.fleet {
        return instances::router(fleet, &storage.secrets);
    }
    let platform = services.platform.as_ref().filter(|_| start.only != Some(Service::Pgbouncer));
    match (platform, storage.secrets.get("INTERNAL_API_KEY")) {
        (Some(platform), Some(key)) => {
            let router = platform.internal_router(key.clone());
            if let Some(previous) = storage.secrets.get(INTERNAL_KEY_PREVIOUS) {
                platform.accept_previous_internal_key(previous.clone());
            }
            Ok(router)
        }
        _ if start.only == Some(Service::Migrations) => Err(Exit::message(
            exit::CONFIG,
            "the migrations service needs INTERNAL_API_KEY: set INTERNAL_API_KEY=$(openssl rand -hex 32)",
        )),
        _ => Ok(Router::new()),
    }
}

pub(super) fn admin_router(board: &HealthBoard, registry: Registry) -> Router {
    let registry = Arc::new(registry);
    let metrics = move || std::future::ready(web::metrics::respond(&registry));
    Router::new().route("/metrics", get(metrics)).route("/health", health_route(board))
}

pub(super) fn health_route(board: &HealthBoard) -> MethodRouter {
    let board = board.clone();
    get(move || std::future::ready(health::respond(&board.parts())))
}
