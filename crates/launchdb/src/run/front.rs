//! The public entrance: which services stand behind the gateway of this process.

use std::sync::Arc;

use axum::Router;
use base::Clock;
use gateway::{Gateway, GatewayConfig};
use web::client_ip::{Cidr, TrustedProxies};
use web::metrics::HttpMetrics;
use web::rate_limit::Rate;

use super::server::{Services, Start};
use crate::config::Service;
use crate::exit::{self, Exit, ResultExt as _};

pub(super) fn front(
    start: &Start,
    services: &Services,
    public_url: &str,
    page: Router,
    metrics: HttpMetrics,
) -> Result<Gateway, Exit> {
    let config = &start.config;
    let proxies: Result<Vec<Cidr>, _> = config.listen.trusted_proxies.iter().map(|range| range.parse()).collect();
    let gateway_config = GatewayConfig {
        domain: config.listen.domain.clone(),
        https: public_url.starts_with("https://"),
        trusted_proxies: TrustedProxies(proxies.exit(exit::CONFIG)?),
        max_in_flight: config.limits.max_in_flight,
        ip_rate: Rate::new(config.limits.per_ip_per_second, config.limits.per_ip_burst),
        platform_body_bytes: config.limits.max_body_bytes,
        platform_origins: config.listen.cors_origins.clone(),
        ..GatewayConfig::default()
    };
    let here =
        |service: Service| start.only.is_none() || start.only == Some(service) || start.only == Some(Service::Gateway);
    let platform = services.platform.as_ref().filter(|_| here(Service::PlatformApi));
    let behind = gateway::Services {
        rest: here(Service::Rest).then(|| services.engine.service()),
        platform: platform.map(|platform| platform.router().into()),
        pages: Some(page.into()),
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
