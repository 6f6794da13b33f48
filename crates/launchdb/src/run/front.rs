//! The public entrance: which services stand behind the gateway of this process.

use std::sync::Arc;

use axum::Router;
use base::{Clock, WriteGate};
use gateway::{Gateway, GatewayConfig};
use web::client_ip::{Cidr, TrustedProxies};
use web::metrics::HttpMetrics;
use web::rate_limit::Rate;

use super::server::{Services, Start};
use crate::config::{Config, Service};
use crate::exit::{self, Exit, ResultExt as _};

/// A project's part of what the whole process may have at once.
const PART_OF_PROJECT: u64 = 4;

/// The proxies whose word about their clients' addresses counts.
pub(super) fn trusted_proxies(config: &Config) -> Result<TrustedProxies, Exit> {
    let proxies: Result<Vec<Cidr>, _> = config.listen.trusted_proxies.iter().map(|range| range.parse()).collect();
    Ok(TrustedProxies(proxies.exit(exit::CONFIG)?))
}

pub(super) fn front(
    start: &Start,
    services: &Services,
    public_url: &str,
    page: Router,
    write_gate: &WriteGate,
    metrics: HttpMetrics,
) -> Result<Gateway, Exit> {
    let config = &start.config;
    let limits = &config.limits;
    let gateway_config = GatewayConfig {
        domain: config.listen.domain.clone(),
        https: public_url.starts_with("https://"),
        trusted_proxies: trusted_proxies(config)?,
        max_in_flight: limits.max_in_flight,
        max_in_flight_per_project: limits.max_in_flight.div_ceil(4),
        answer_bytes: limits.answer_bytes,
        answer_bytes_per_project: limits.answer_bytes / PART_OF_PROJECT,
        body_bytes: limits.body_bytes,
        // The largest body that may come has to find room.
        body_bytes_per_project: (limits.body_bytes / PART_OF_PROJECT).max(limits.project_body_bytes),
        waiting_bodies_per_client: limits.max_connections_per_ip.div_ceil(2),
        ip_rate: Rate::new(limits.per_ip_per_second, limits.per_ip_burst),
        platform_body_bytes: limits.max_body_bytes,
        platform_origins: config.listen.cors_origins.clone(),
        ..GatewayConfig::default()
    };
    let here = |service: Service| start.answers(service);
    let platform = services.platform.as_ref().filter(|_| here(Service::PlatformApi));
    let behind = gateway::Services {
        rest: here(Service::Rest).then(|| services.instances.before(services.engine.service(), write_gate)),
        auth: here(Service::Auth).then(|| services.auth.service()),
        platform: platform.map(|platform| platform.router().into()),
        pages: Some(page.into()),
        storage: services.files.as_ref().map(::storage::Storage::service),
    };
    Ok(Gateway::new(
        gateway_config,
        services.projects.clone(),
        behind,
        services.board.source(),
        metrics,
        start.request_log.clone(),
        Arc::clone(&services.keys),
        Clock::system(),
    ))
}
