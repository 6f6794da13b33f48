//! A request to the API, from the token to the access log.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::{ConnectInfo, Request, State};
use axum::response::Response as HttpResponse;
use http::header::RETRY_AFTER;
use http::{HeaderName, HeaderValue, StatusCode};

use super::Server;
use super::access_log::Line;
use super::bind::Peer;
use super::cors::{Cors, is_preflight};
use crate::engine::{collect, into_http, render};
use crate::error::Error;
use crate::query_log::QueryLog;
use crate::response::{ServerTiming, Stage};

pub(super) async fn handle(
    State(server): State<Arc<Server>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
) -> HttpResponse {
    let (mut parts, body) = request.into_parts();
    let snapshot = server.current();
    let config = &snapshot.instance.config;
    let queries = config.log_query.then(QueryLog::default);
    if let Some(queries) = &queries {
        parts.extensions.insert(queries.clone());
    }
    let cors = Cors::of(&parts.headers, config.server_cors_allowed_origins.as_deref());
    let mut role = None;
    let mut response = if let Some(cors) = cors.as_ref().filter(|_| is_preflight(&parts.method, &parts.headers)) {
        cors.preflight(&parts.headers)
    } else {
        let anon_role = config.db_anon_role.as_deref();
        let mut timing = ServerTiming::start(config.server_timing_enabled);
        let caller = snapshot.tokens.caller(config, &parts.headers, server.clock.unix_seconds());
        timing.end(Stage::Jwt);
        role = caller.as_ref().ok().map(|caller| caller.role.clone());
        let authenticated = role.as_ref().is_some_and(|role| Some(role.as_str()) != anon_role);
        let result = match (caller, collect(body).await) {
            (Ok(caller), Ok(body)) => snapshot.instance.respond(&caller, &parts, &body, &mut timing).await,
            (Err(error), _) | (_, Err(error)) => Err(error),
        };
        server.note(result.as_ref().map(drop));
        match result {
            Ok(mut response) => {
                timing.add_header(&mut response.headers);
                into_http(response)
            }
            Err(error) => render(&error, authenticated),
        }
    };
    let status = response.status();
    if let Some(cors) = &cors {
        cors.add_to(response.headers_mut());
    }
    if let Some(name) = config.server_trace_header.as_deref().and_then(|name| HeaderName::try_from(name).ok()) {
        let value = parts.headers.get(&name).cloned().unwrap_or(HeaderValue::from_static(""));
        response.headers_mut().insert(name, value);
    }
    if status == StatusCode::SERVICE_UNAVAILABLE {
        let seconds = server.state.retry_after.load(Ordering::Relaxed).max(1);
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if server.access_log.wants(status) {
        for sql in queries.iter().flat_map(QueryLog::take) {
            tracing::info!("{}", sql.lines().collect::<Vec<_>>().join(" "));
        }
        let now = server.clock.unix_seconds();
        server.access_log.write(&Line { peer, role: role.as_ref(), now, request: &parts, response: &response });
    }
    response
}

impl Server {
    /// Draws conclusions from how a request went.
    fn note(&self, result: Result<(), &Error>) {
        match result {
            Err(Error::Connection(_) | Error::Client(_)) => self.state.trouble.notify_one(),
            Err(Error::AcquireTimeout) => self.metrics.pool_timeout(),
            Ok(()) if !self.state.loaded.load(Ordering::Relaxed) => self.state.recovered.notify_one(),
            _ => {}
        }
    }
}
