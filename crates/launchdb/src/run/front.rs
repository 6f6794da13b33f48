//! The public entrance.

use axum::Router;
use web::metrics::HttpMetrics;

use super::server::{Services, Start};
use crate::exit::Exit;

pub(super) fn front(
    _start: &Start,
    services: &Services,
    _public_url: &str,
    page: Router,
    _metrics: HttpMetrics,
) -> Result<Router, Exit> {
    let board = services.board.clone();
    let health = axum::routing::get(move || std::future::ready(web::health::respond(&board.parts())));
    Ok(page.merge(services.platform.as_ref().map(|p| p.router()).unwrap_or_default()).route("/health", health))
}
