//! The public front door: from host and path to project and service, with key check, limits, CORS, log and metrics.
//!
//! It knows no service: the binary hands it [`HttpService`]s. One plain async function is the whole path of a request.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod answer;
pub mod keyless;
pub mod route;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use axum::extract::Request;
use axum::response::Response;
use base::settings::StatementTimeouts;
use base::{Caller, Clock, Project, ProjectStatus, ProjectTable, RoleName};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Uri, header};
use web::byte_budget::{ByteBudget, Held, hold_answer};
use web::client_ip::{TrustedProxies, client_ip};
use web::cors;
use web::health::HealthSource;
use web::limits::{BODY_READ_TIMEOUT, HeadLimits, check_head};
use web::log_request::RequestLog;
use web::metrics::HttpMetrics;
use web::overload::{InFlight, PerClient, ProjectGates, ProjectShare};
use web::rate_limit::{IpRateLimiter, Rate};
use web::received_body::Reception;
use web::request_id::RequestIds;
use web::{ApiKeyCheck, ClientIp, HttpService, OriginalPath, Rejection, ServiceKind, Work};

use crate::answer::Answer;
use crate::route::{Locator, Target, host_name, route};

/// Addresses whose rates are remembered.
const REMEMBERED_ADDRESSES: usize = 65_536;
/// Seconds that a request may take beyond what its statements may: waiting for a connection, and going there and back.
const SLACK_SECONDS: u64 = 15;
/// A request is not given up before this many seconds, however short its statements have to be.
const LEAST_DEADLINE_SECONDS: u64 = 45;
/// Seconds for what sets its own time: SQL of the control plane, functions with a `statement_timeout` of their own.
const LONG_DEADLINE_SECONDS: u64 = 330;

/// What the front needs to know.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// The server's own domain, below which projects have names of their own.
    pub domain: Option<String>,
    /// Whether clients reach the server over TLS.
    pub https: bool,
    pub trusted_proxies: TrustedProxies,
    pub head_limits: HeadLimits,
    /// Requests in work at once, of all projects and of one.
    pub max_in_flight: usize,
    pub max_in_flight_per_project: usize,
    /// Bytes of answers that wait for slow clients, and of request bodies: of the whole process and of one project.
    pub answer_bytes: u64,
    pub answer_bytes_per_project: u64,
    pub body_bytes: u64,
    pub body_bytes_per_project: u64,
    /// Bodies of one client that are waited for at once.
    pub waiting_bodies_per_client: usize,
    /// Requests of one client address; none is no limit.
    pub ip_rate: Option<Rate>,
    /// Largest body for the control plane, in bytes.
    pub platform_body_bytes: u64,
    /// Origins that browsers may call the control plane from.
    pub platform_origins: Vec<String>,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            domain: None,
            https: false,
            trusted_proxies: TrustedProxies::default(),
            head_limits: HeadLimits::default(),
            max_in_flight: 4_096,
            max_in_flight_per_project: 1_024,
            answer_bytes: 256 * 1024 * 1024,
            answer_bytes_per_project: 64 * 1024 * 1024,
            body_bytes: 256 * 1024 * 1024,
            body_bytes_per_project: 64 * 1024 * 1024,
            waiting_bodies_per_client: 512,
            ip_rate: None,
            platform_body_bytes: 10 * 1024 * 1024,
            platform_origins: Vec::new(),
        }
    }
}

/// The services of this process. One that is not here answers 404 and says so; one that does not exist yet 501.
#[derive(Clone, Default)]
pub struct Services {
    pub rest: Option<HttpService>,
    pub auth: Option<HttpService>,
    pub storage: Option<HttpService>,
    pub platform: Option<HttpService>,
    pub pages: Option<HttpService>,
}

/// The front of one process.
pub struct Gateway {
    config: GatewayConfig,
    projects: Arc<ProjectTable>,
    services: Services,
    health: HealthSource,
    metrics: HttpMetrics,
    log: RequestLog,
    clock: Clock,
    keys: Arc<ApiKeyCheck>,
    ids: RequestIds,
    in_flight: InFlight,
    gates: ProjectGates,
    answers: Arc<ByteBudget>,
    bodies: Arc<ByteBudget>,
    /// The control plane's share, as if it were a project.
    platform_bodies: Arc<ByteBudget>,
    waiting_bodies: Arc<PerClient>,
    ip_limiter: Option<IpRateLimiter>,
}

impl Gateway {
    /// `keys` is shared with whoever records the last use of opaque keys.
    #[expect(clippy::too_many_arguments, reason = "each is something else that the process has made")]
    pub fn new(
        config: GatewayConfig,
        projects: Arc<ProjectTable>,
        services: Services,
        health: HealthSource,
        metrics: HttpMetrics,
        log: RequestLog,
        keys: Arc<ApiKeyCheck>,
        clock: Clock,
    ) -> Self {
        let start = Instant::now();
        let share = ProjectShare {
            in_flight: config.max_in_flight_per_project,
            answer_bytes: config.answer_bytes_per_project,
            body_bytes: config.body_bytes_per_project,
        };
        Self {
            in_flight: InFlight::new(config.max_in_flight, metrics.in_flight.clone()),
            gates: ProjectGates::new(share, start),
            answers: ByteBudget::new(config.answer_bytes),
            bodies: ByteBudget::new(config.body_bytes),
            platform_bodies: ByteBudget::new(config.body_bytes_per_project),
            waiting_bodies: PerClient::new(config.waiting_bodies_per_client.max(1)),
            ip_limiter: config.ip_rate.map(|rate| IpRateLimiter::new(rate, REMEMBERED_ADDRESSES, start)),
            ids: RequestIds::new(),
            config,
            projects,
            services,
            health,
            metrics,
            log,
            clock,
            keys,
        }
    }

    /// The whole way of a request.
    pub async fn handle(&self, request: Request, peer: SocketAddr, work: &Work) -> Response {
        let start = Instant::now();
        let id = self.ids.accept_or_make(request.headers());
        let ip = client_ip(peer.ip(), request.headers(), &self.config.trusted_proxies);
        let mut answer = Answer::new(&self.metrics, &self.log, &request, id, ip, start, self.config.https);
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        let result = self.dispatch(request, ClientIp(ip), start, work, &mut answer).await;
        let result = result.and_then(|response| self.hold(response, reads, answer.project.as_ref()));
        answer.finish(result)
    }

    /// Counts a long answer against the budgets until it is sent.
    fn hold(&self, response: Response, reads: bool, project: Option<&Arc<Project>>) -> Result<Response, Rejection> {
        // What was done cannot be undone any more, so that its answer gets room that others do not get.
        let stretch = if reads { 1 } else { 2 };
        let held = || {
            let gate = project.map(|project| self.gates.gate(&project.project_ref, &self.projects));
            Held::none(&self.answers, gate.as_ref().map(|gate| &gate.answers))
        };
        hold_answer(response, held, stretch).ok_or(Rejection::AnswersWaiting)
    }

    async fn dispatch(
        &self,
        request: Request,
        ip: ClientIp,
        now: Instant,
        work: &Work,
        answer: &mut Answer<'_>,
    ) -> Result<Response, Rejection> {
        let uri = request.uri().clone();
        let host_header = host_header(request.headers())?.cloned();
        let host = host_of(&uri, host_header.as_ref());
        let target = route(host.as_deref(), uri.path(), self.config.domain.as_deref(), |host| {
            self.projects.by_domain(host).is_some()
        });
        // Health comes first: it must answer when everything else is refused.
        if target == Target::Health {
            return match *request.method() {
                Method::GET | Method::HEAD => Ok(web::health::respond(&(self.health)())),
                _ => Err(Rejection::MethodNotAllowed { allow: "GET" }),
            };
        }
        if let Target::Project { service, project, .. } = &target {
            answer.service = *service;
            answer.own_origin = matches!(project, Locator::Domain(_));
            // Until the project's own origins are known: a browser should see a refusal as what it is.
            answer.origin = cors::any_origin(request.headers());
        }
        let _permit = self.in_flight.enter()?;
        check_head(&uri, request.headers(), self.config.head_limits)?;
        if let Some(limiter) = &self.ip_limiter {
            limiter.take(ip.0, now)?;
        }
        match target {
            Target::Project { project, service, path } => {
                self.to_project(request, &project, service, path, &uri, ip, now, work, answer).await
            }
            Target::Platform => {
                answer.service = ServiceKind::Platform;
                answer.origin = cors::allowed_origin(request.headers(), &self.config.platform_origins);
                if cors::is_preflight(request.method(), request.headers()) {
                    return Ok(cors::preflight(request.headers(), &answer.origin));
                }
                self.to_own(self.services.platform.as_ref(), "platform", request, &uri, ip, work, answer).await
            }
            Target::Pages => {
                answer.service = ServiceKind::Pages;
                self.to_own(self.services.pages.as_ref(), "status page", request, &uri, ip, work, answer).await
            }
            Target::Health | Target::Nowhere => Err(Rejection::NotFound),
        }
    }

    /// A service of the server itself, which gets the request as it came.
    #[expect(clippy::too_many_arguments, reason = "the second half of one function")]
    async fn to_own(
        &self,
        service: Option<&HttpService>,
        name: &'static str,
        request: Request,
        uri: &Uri,
        ip: ClientIp,
        work: &Work,
        answer: &Answer<'_>,
    ) -> Result<Response, Rejection> {
        let service = service.ok_or(Rejection::NotHere { service: name })?;
        let (mut parts, body) = request.into_parts();
        let reception = Reception {
            limit: self.config.platform_body_bytes,
            streamed: false,
            process: &self.bodies,
            project: Some(&self.platform_bodies),
            in_work: [Some(&self.in_flight), None],
            clients: &self.waiting_bodies,
            client: ip.0,
        };
        let (body, _held) = reception.receive(&parts.headers, body)?;
        parts.extensions.insert(OriginalPath(uri.clone()));
        parts.extensions.insert(ip);
        parts.extensions.insert(answer.id.clone());
        work.must_end_in(LONG_DEADLINE_SECONDS);
        in_time(work, service.call(Request::from_parts(parts, body))).await
    }

    #[expect(clippy::too_many_arguments, reason = "the second half of one function")]
    async fn to_project(
        &self,
        request: Request,
        locator: &Locator<'_>,
        kind: ServiceKind,
        path: &str,
        uri: &Uri,
        ip: ClientIp,
        now: Instant,
        work: &Work,
        answer: &mut Answer<'_>,
    ) -> Result<Response, Rejection> {
        let project = match locator {
            Locator::Id(id) => self.projects.find(id),
            Locator::Domain(domain) => self.projects.by_domain(domain),
        };
        let project = project.filter(|project| project.status != ProjectStatus::Deleted);
        let project = project.ok_or(Rejection::UnknownProject)?;
        answer.project = Some(project.clone());
        answer.origin = cors::allowed_origin(request.headers(), &project.limits.cors_origins);
        if cors::is_preflight(request.method(), request.headers()) {
            return Ok(cors::preflight(request.headers(), &answer.origin));
        }
        let gate = self.gates.gate(&project.project_ref, &self.projects);
        self.gates.check_rate(&gate, &project, now)?;
        match project.status {
            ProjectStatus::Active => {}
            ProjectStatus::Suspended => return Err(Rejection::ProjectSuspended),
            ProjectStatus::Provisioning | ProjectStatus::Failed | ProjectStatus::Deleted => {
                return Err(Rejection::ProjectNotReady);
            }
        }
        let _permit = gate.in_flight.enter()?;
        let seconds = self.clock.unix_seconds();
        let caller = match self.keys.authenticate(&project, request.headers(), uri.query(), seconds) {
            Ok(caller) => caller,
            // An open link stays open for a browser that also sends something stale.
            Err(_) if keyless::needs_no_key(kind, request.method(), path) => web::api_key::anonymous(),
            Err(error) => return Err(error.into()),
        };
        let service = match kind {
            ServiceKind::Rest => self.services.rest.as_ref().ok_or(Rejection::NotHere { service: kind.name() })?,
            ServiceKind::Auth => self.services.auth.as_ref().ok_or(Rejection::NotBuilt { service: kind.name() })?,
            ServiceKind::Storage => {
                self.services.storage.as_ref().ok_or(Rejection::NotBuilt { service: kind.name() })?
            }
            _ => return Err(Rejection::NotBuilt { service: kind.name() }),
        };
        let (parts, body) = request.into_parts();
        // Contents of objects go to the disk as they come: their limit is storage's own, and they may take their time.
        let streamed = kind == ServiceKind::Storage;
        let reception = Reception {
            limit: if streamed { storage_body_limit(&project) } else { project.limits.max_body_bytes },
            streamed,
            process: &self.bodies,
            project: Some(&gate.bodies),
            in_work: [Some(&self.in_flight), Some(&gate.in_flight)],
            clients: &self.waiting_bodies,
            client: ip.0,
        };
        let (body, held) = reception.receive(&parts.headers, body)?;
        let seconds = deadline_seconds(&project.data_api.statement_timeout_ms, &caller.role, path);
        work.must_end_in(match held {
            Some(_) if streamed => 0,
            Some(_) => seconds + BODY_READ_TIMEOUT.as_secs(),
            None => seconds,
        });
        let request = for_service(Request::from_parts(parts, body), path, uri, project, caller, ip, answer)?;
        in_time(work, service.call(request)).await
    }
}

impl web::Handler for Gateway {
    async fn handle(&self, request: Request, peer: SocketAddr, work: &Work) -> Response {
        Gateway::handle(self, request, peer, work).await
    }
}

/// The service's answer, unless it takes longer than the request may: a database that hangs must not hold it for ever.
async fn in_time(work: &Work, call: impl Future<Output = Option<Response>>) -> Result<Response, Rejection> {
    let mut call = pin!(call);
    poll_fn(|cx| match work.is_overdue() {
        true => Poll::Ready(Err(Rejection::TimedOut)),
        false => call.as_mut().poll(cx).map(|response| response.ok_or(Rejection::Internal)),
    })
    .await
}

/// Largest body of a request to storage: its largest object, with what a form has around it. The service knows exactly.
fn storage_body_limit(project: &Project) -> u64 {
    const AROUND: u64 = 8 * 1024 * 1024;
    project.storage.file_size_limit.saturating_add(AROUND)
}

/// Seconds after which a request of the data API is given up although PostgreSQL should have ended it long before; 0 is
/// never. A request may have several statements, each with the timeout of its role.
fn deadline_seconds(timeouts: &StatementTimeouts, role: &RoleName, path: &str) -> u64 {
    let timeout = match role.as_str() {
        RoleName::ANON => timeouts.anon,
        RoleName::SERVICE_ROLE => timeouts.service_role,
        _ => timeouts.authenticated,
    };
    if timeout == 0 {
        return 0;
    }
    let least = if path.starts_with("/rpc/") { LONG_DEADLINE_SECONDS } else { LEAST_DEADLINE_SECONDS };
    SLACK_SECONDS + least.max(2 * u64::from(timeout.div_ceil(1000)))
}

/// The request as the service sees it: below its base, without the key in the query, with who and where it is for.
fn for_service(
    request: Request,
    path: &str,
    uri: &Uri,
    project: Arc<Project>,
    caller: Caller,
    ip: ClientIp,
    answer: &Answer<'_>,
) -> Result<Request, Rejection> {
    let (mut parts, body) = request.into_parts();
    let path = if path.is_empty() { "/" } else { path };
    let relative = match uri.query().map(web::api_key::query_without_api_key) {
        Some(query) if !query.is_empty() => {
            let mut text = String::with_capacity(path.len() + query.len() + 1);
            text.push_str(path);
            text.push('?');
            text.push_str(&query);
            PathAndQuery::try_from(text)
        }
        _ => PathAndQuery::try_from(path),
    };
    parts.uri = Uri::from(relative.map_err(|_| Rejection::NotFound)?);
    parts.extensions.insert(OriginalPath(uri.clone()));
    parts.extensions.insert(ip);
    parts.extensions.insert(answer.id.clone());
    parts.extensions.insert(project);
    parts.extensions.insert(caller);
    Ok(Request::from_parts(parts, body))
}

/// The one Host header. Two of them, or one that is no text, could mean one project here and another one elsewhere.
fn host_header(headers: &HeaderMap) -> Result<Option<&HeaderValue>, Rejection> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next();
    match (host.is_none_or(|host| host.to_str().is_ok()), hosts.next()) {
        (true, None) => Ok(host),
        _ => Err(Rejection::Host),
    }
}

/// The host a request names, from an absolute URI or the Host header.
fn host_of<'a>(uri: &'a Uri, header: Option<&'a HeaderValue>) -> Option<Cow<'a, str>> {
    let host = match uri.host() {
        Some(host) => host,
        None => header?.to_str().ok()?,
    };
    host_name(host)
}
