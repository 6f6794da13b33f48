//! One database served as `postgrest` serves it: configured by its variables, callers authenticated here.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response as HttpResponse;
use base::{Clock, WriteGate};
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use pg::{Budget, ConnectConfig, PoolConfig};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::authenticate::VerifiedTokens;
use crate::config::DropIn;
use crate::engine::{collect, into_http, render};
use crate::instance::{Instance, Shared};
use crate::response::{ServerTiming, Stage};

struct Server {
    instance: Instance,
    tokens: VerifiedTokens,
    clock: Clock,
}

/// Why the server could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("db-uri: {0}")]
    Uri(#[source] pg::Error),
    #[error("cannot listen on {address}: {source}")]
    Listen { address: String, source: std::io::Error },
    #[error("the server ended: {0}")]
    Serve(#[source] std::io::Error),
}

/// Serves until `shutdown`. `session_settings` are what libpq would take from the environment (`PGOPTIONS`, `PGTZ`).
pub async fn run(
    drop_in: DropIn,
    session_settings: Vec<(String, String)>,
    shutdown: CancellationToken,
) -> Result<(), StartError> {
    let connect = ConnectConfig::from_uri(drop_in.db_uri.expose(), session_settings).map_err(StartError::Uri)?;
    let address = format!("{}:{}", listen_host(&drop_in.server_host), drop_in.server_port);
    let listener = TcpListener::bind(&address).await.map_err(|source| StartError::Listen { address, source })?;
    let max_connections = usize::try_from(drop_in.db_pool).unwrap_or(usize::MAX).max(1);
    let pool = PoolConfig {
        max_connections,
        interleaved: (max_connections - 1).min(2),
        acquire_timeout: Duration::from_secs(u64::from(drop_in.db_pool_acquisition_timeout)),
        prepared_statements: drop_in.db_prepared_statements,
        ..PoolConfig::default()
    };
    let shared = Shared {
        budget: Budget::new(max_connections),
        tasks: TaskTracker::new(),
        connect_timeout: connect.connect_timeout,
        interleaved: pool.interleaved,
        public_url: None,
        write_gate: WriteGate::new(),
    };
    let tokens = VerifiedTokens::new(usize::try_from(drop_in.jwt_cache_max_entries).unwrap_or(usize::MAX));
    let instance = Instance::drop_in(drop_in.config, connect, pool, &shared);
    if let Err(error) = instance.schema_cache().await {
        tracing::error!("the schema cache could not be loaded, and will be at the next request: {error}");
    }
    let server = Arc::new(Server { instance, tokens, clock: Clock::system() });
    let router = Router::new().fallback(handle).with_state(server);
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service)
        .with_graceful_shutdown(async move { shutdown.cancelled().await })
        .await
        .map_err(StartError::Serve)
}

/// PostgREST's special names of addresses.
fn listen_host(name: &str) -> &str {
    match name {
        "!4" | "*4" | "*" => "0.0.0.0",
        "!6" | "*6" => "[::]",
        other => other,
    }
}

async fn handle(State(server): State<Arc<Server>>, request: Request) -> HttpResponse {
    let (parts, body) = request.into_parts();
    let config = &server.instance.config;
    let cors = Cors::of(&parts.headers, config.server_cors_allowed_origins.as_deref());
    let mut response = if let Some(cors) = cors.as_ref().filter(|_| is_preflight(&parts.method, &parts.headers)) {
        cors.preflight(&parts.headers)
    } else {
        let anon_role = config.db_anon_role.as_deref();
        let mut timing = ServerTiming::start(config.server_timing_enabled);
        let caller = server.tokens.caller(config, &parts.headers, server.clock.unix_seconds());
        timing.end(Stage::Jwt);
        let authenticated = caller.as_ref().is_ok_and(|caller| Some(caller.role.as_str()) != anon_role);
        let result = match (caller, collect(body).await) {
            (Ok(caller), Ok(body)) => server.instance.respond(&caller, &parts, &body, &mut timing).await,
            (Err(error), _) | (_, Err(error)) => Err(error),
        };
        match result {
            Ok(mut response) => {
                timing.add_header(&mut response.headers);
                into_http(response)
            }
            Err(error) => render(&error, authenticated),
        }
    };
    if let Some(cors) = &cors {
        cors.add_to(response.headers_mut());
    }
    if let Some(name) = config.server_trace_header.as_deref().and_then(|name| HeaderName::try_from(name).ok()) {
        let value = parts.headers.get(&name).cloned().unwrap_or(HeaderValue::from_static(""));
        response.headers_mut().insert(name, value);
    }
    response
}

fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// CORS as PostgREST does it: any origin, or those of `server-cors-allowed-origins` with credentials.
struct Cors {
    allow_origin: HeaderValue,
    credentials: bool,
}

const EXPOSED: &str = "Content-Encoding, Content-Location, Content-Range, Content-Type, Date, Location, Server, \
                       Transfer-Encoding, Range-Unit";

impl Cors {
    fn of(headers: &HeaderMap, allowed: Option<&[String]>) -> Option<Self> {
        let origin = headers.get(ORIGIN)?;
        match allowed {
            None | Some([]) => Some(Self { allow_origin: HeaderValue::from_static("*"), credentials: false }),
            Some(allowed) => allowed
                .iter()
                .any(|one| one.as_bytes() == origin.as_bytes())
                .then(|| Self { allow_origin: origin.clone(), credentials: true }),
        }
    }

    fn add_to(&self, headers: &mut HeaderMap) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, self.allow_origin.clone());
        if self.credentials {
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    }

    fn preflight(&self, request: &HeaderMap) -> HttpResponse {
        let mut response = HttpResponse::new(axum::body::Body::empty());
        *response.status_mut() = StatusCode::OK;
        let headers = response.headers_mut();
        headers.insert(
            ACCESS_CONTROL_ALLOW_METHODS,
            HeaderValue::from_static("GET, POST, PATCH, PUT, DELETE, OPTIONS, HEAD"),
        );
        let wanted = request.get(ACCESS_CONTROL_REQUEST_HEADERS).and_then(|value| value.to_str().ok()).unwrap_or("");
        // What is always allowed, then what was asked for.
        let mut allowed = String::from("Authorization");
        for name in wanted.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            allowed.push_str(", ");
            allowed.push_str(name);
        }
        allowed.push_str(", Accept, Accept-Language, Content-Language");
        if let Ok(value) = HeaderValue::from_str(&allowed) {
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, value);
        }
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
        response
    }
}
