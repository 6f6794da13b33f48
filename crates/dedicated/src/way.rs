//! The way of a request to its project's own instance, where there is one that is ready; else to the shared engine, which
//! answers the same. So a project can be switched back and forth, and an instance may end at any time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use base::settings::DataApiInstance;
use base::{Caller, Project, ProjectRef, Secret, WriteGate, jwt};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::Authority;
use http::{Method, Uri};
use http_body_util::{BodyExt as _, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use web::{HttpService, Protocol, Rejection, RequestId};

use self::lost::Lost;
use crate::conf::GATEWAY_KEY;

mod lost;

/// Between two looks at the manager's list; shorter than an instance goes on after it was said to be stopped.
const INTERVAL: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(3);
/// Longest list that is read.
const MOST: usize = 8 * 1024 * 1024;
/// How long connecting may take, and how long an unused connection is kept.
const CONNECT: Duration = Duration::from_secs(2);
const IDLE: Duration = Duration::from_secs(20);
/// Between two words about requests that the shared engine took over.
const QUIET: Duration = Duration::from_secs(10);

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Headers of one connection (RFC 9110, section 7.6.1).
const HOP_BY_HOP: [HeaderName; 6] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::TE,
    header::TRAILER,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
];

/// Where the manager is.
#[derive(Clone, Debug)]
pub struct WayConfig {
    /// `http://host:port`, without a slash at its end.
    pub manager_url: Uri,
    pub key: Secret<String>,
}

/// Knows the instances that are ready. Cheap to clone.
#[derive(Clone)]
pub struct Way(Arc<Inner>);

struct Inner {
    config: WayConfig,
    client: Client<HttpConnector, Body>,
    instances: ArcSwap<HashMap<ProjectRef, Authority>>,
    warned: Mutex<Option<Instant>>,
}

#[derive(Deserialize)]
struct List {
    containers: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    project_id: String,
    host: Option<String>,
    port: u16,
    status: String,
}

impl Way {
    pub fn new(config: WayConfig) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT));
        let client =
            Client::builder(TokioExecutor::new()).pool_idle_timeout(IDLE).pool_max_idle_per_host(64).build(connector);
        Self(Arc::new(Inner { config, client, instances: ArcSwap::default(), warned: Mutex::default() }))
    }

    /// Follows the manager's list until `shutdown`. While the manager is away the last list counts: its instances go on.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_away = false;
        while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
            let Some(read) = shutdown.run_until_cancelled(timeout(PATIENCE, self.read())).await else { return };
            let problem = match read {
                Ok(Ok(instances)) => {
                    if **self.0.instances.load() != instances {
                        self.0.instances.store(Arc::new(instances));
                    }
                    None
                }
                Ok(Err(problem)) => Some(problem),
                Err(_) => Some("it takes too long".to_owned()),
            };
            if problem.is_some() != is_away {
                is_away = problem.is_some();
                let url = &self.0.config.manager_url;
                match problem {
                    Some(problem) => tracing::warn!(%url, problem, "the postgrest-manager does not answer"),
                    None => tracing::info!(%url, "the postgrest-manager answers"),
                }
            }
        }
    }

    async fn read(&self) -> Result<HashMap<ProjectRef, Authority>, String> {
        let config = &self.0.config;
        let text = |error: &dyn std::error::Error| error.to_string();
        let url = format!("{}/internal/postgrest", config.manager_url.to_string().trim_end_matches('/'));
        let request = Request::get(url).header("x-internal-key", config.key.expose()).body(Body::empty());
        let request = request.map_err(|error| text(&error))?;
        let answer = self.0.client.request(request).await.map_err(|error| web::error::chain(&error))?;
        if !answer.status().is_success() {
            return Err(format!("it answers {}", answer.status()));
        }
        let body = Limited::new(answer.into_body(), MOST).collect().await.map_err(|error| error.to_string())?;
        let list: List = serde_json::from_slice(&body.to_bytes()).map_err(|error| text(&error))?;
        let own = config.manager_url.host().unwrap_or_default();
        let ready = list.containers.into_iter().filter(|entry| entry.status == "running").filter_map(|entry| {
            let host = entry.host.as_deref().unwrap_or(own);
            let authority = format!("{host}:{}", entry.port).parse().ok()?;
            Some((ProjectRef::parse(&entry.project_id).ok()?, authority))
        });
        Ok(ready.collect())
    }

    /// The data API of all projects: each request goes where its project's setting says.
    pub fn service(&self, shared: HttpService, gate: WriteGate) -> HttpService {
        let way = self.clone();
        HttpService::from_fn(move |request| {
            let (way, shared, gate) = (way.clone(), shared.clone(), gate.clone());
            async move { way.handle(request, &shared, &gate).await }
        })
    }

    async fn handle(&self, request: Request, shared: &HttpService, gate: &WriteGate) -> Response {
        // Only the shared engine knows how to refuse writes.
        let Some((project, caller, authority)) = self.find(&request).filter(|_| gate.is_open()) else {
            return answer(shared, request).await;
        };
        let (parts, body) = request.into_parts();
        // Whole, as the shared engine reads it, and so that there is something to send it when the instance is away.
        let body = match web::read_body(body).await {
            Ok(body) => body,
            Err(error) => return Rejection::from(error).respond(Protocol::Rest),
        };
        let mut forwarded = Request::new(Body::from(body.clone()));
        *forwarded.method_mut() = parts.method.clone();
        *forwarded.headers_mut() = headers(&parts.headers, &project, &caller, parts.extensions.get::<RequestId>());
        let Some(uri) = absolute(&authority, &parts.uri) else {
            return answer(shared, Request::from_parts(parts, Body::from(body))).await;
        };
        *forwarded.uri_mut() = uri;
        match self.0.client.request(forwarded).await {
            Ok(response) => received(response),
            Err(error) => {
                self.forget(&project.project_ref, &authority, &error);
                // Nothing was done there, or doing it again changes nothing.
                match error.is_connect() || matches!(parts.method, Method::GET | Method::HEAD) {
                    true => answer(shared, Request::from_parts(parts, Body::from(body))).await,
                    false => web::respond(&Lost(error)),
                }
            }
        }
    }

    /// Where a request goes that does not go to the shared engine.
    fn find(&self, request: &Request) -> Option<(Arc<Project>, Caller, Authority)> {
        let project = request.extensions().get::<Arc<Project>>()?;
        if project.data_api.instance != DataApiInstance::Dedicated {
            return None;
        }
        let authority = self.0.instances.load().get(&project.project_ref).cloned()?;
        Some((project.clone(), request.extensions().get::<Caller>()?.clone(), authority))
    }

    /// No more requests to an instance that is away, until the manager says again that it is ready.
    fn forget(&self, id: &ProjectRef, authority: &Authority, error: &hyper_util::client::legacy::Error) {
        self.0.instances.rcu(|instances| {
            let mut left = HashMap::clone(instances);
            if left.get(id) == Some(authority) {
                left.remove(id);
            }
            left
        });
        let mut warned = self.0.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.is_none_or(|at| at.elapsed() >= QUIET) {
            *warned = Some(Instant::now());
            tracing::warn!(
                project.r#ref = %id, cause = %web::error::chain(error),
                "a project's own instance does not answer; the shared engine answers in its place"
            );
        }
    }
}

async fn answer(shared: &HttpService, request: Request) -> Response {
    // What panicked there is answered as everywhere: by the gateway.
    match shared.call(request).await {
        Some(response) => response,
        None => Rejection::Internal.respond(Protocol::Rest),
    }
}

fn absolute(authority: &Authority, uri: &Uri) -> Option<Uri> {
    let path = uri.path_and_query()?.clone();
    Uri::builder().scheme("http").authority(authority.clone()).path_and_query(path).build().ok()
}

/// What an instance is sent: the caller as the gateway found it, in a token that only an instance of this project takes.
fn headers(given: &HeaderMap, project: &Project, caller: &Caller, id: Option<&RequestId>) -> HeaderMap {
    let mut headers = given.clone();
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    let token = jwt::sign_hs256_text(&project.signing.derive(GATEWAY_KEY), &caller.claims);
    if let Ok(value) = HeaderValue::try_from(format!("Bearer {token}")) {
        headers.insert(header::AUTHORIZATION, value);
    }
    if let Some(id) = id {
        headers.insert(REQUEST_ID, id.header_value());
    }
    headers
}

/// An instance's answer as the shared engine would have given it: what belongs to its connection, and what the gateway says
/// of origins, is left out. Its body is handed on as it comes.
fn received(response: http::Response<hyper::body::Incoming>) -> Response {
    let (mut parts, body) = response.into_parts();
    for name in HOP_BY_HOP {
        parts.headers.remove(name);
    }
    parts.headers.remove(header::SERVER);
    let cors: Vec<HeaderName> =
        parts.headers.keys().filter(|name| name.as_str().starts_with("access-control-")).cloned().collect();
    for name in cors {
        parts.headers.remove(name);
    }
    Response::from_parts(parts, Body::from_stream(body.into_data_stream()))
}

#[cfg(test)]
mod tests;
