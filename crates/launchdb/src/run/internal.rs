//! What other processes of the installation ask with the internal key.

use axum::Router;

use super::instances;
use super::server::{Services, Start};
use super::storage::Storage;
use crate::config::Service;
use crate::exit::{self, Exit};

/// What other processes of the installation call; on loopback, and on the port of the migrations service.
pub(super) fn router(start: &Start, storage: &Storage, services: &Services) -> Result<Router, Exit> {
    if let Some(fleet) = &services.instances.fleet {
        return instances::router(fleet, &storage.secrets);
    }
    match (
        services.platform.as_ref().filter(|_| start.only != Some(Service::Pgbouncer)),
        storage.secrets.get("INTERNAL_API_KEY"),
    ) {
        (Some(platform), Some(key)) => Ok(platform.internal_router(key.clone())),
        _ if start.only == Some(Service::Migrations) => Err(Exit::message(
            exit::CONFIG,
            "the migrations service needs INTERNAL_API_KEY: set INTERNAL_API_KEY=$(openssl rand -hex 32)",
        )),
        _ => Ok(Router::new()),
    }
}
