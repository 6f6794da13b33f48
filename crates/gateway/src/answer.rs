//! What every answer gets on its way out: request id, CORS, security headers, a line in the log, a count.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::Request;
use axum::response::Response;
use base::Project;
use http::{HeaderMap, HeaderName, Method, Uri};
use web::cors::{self, AllowedOrigin};
use web::log_request::{RequestLine, RequestLog};
use web::metrics::{CLIENT_CLOSED, HttpMetrics};
use web::{Protocol, Rejection, RequestId, ServiceKind, security_headers};

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The answer in the making. When the client hangs up, dropping it counts the request all the same.
pub(crate) struct Answer<'a> {
    pub(crate) service: ServiceKind,
    pub(crate) project: Option<Arc<Project>>,
    /// The request came to the project's own domain, which it shares with nobody.
    pub(crate) own_origin: bool,
    pub(crate) origin: AllowedOrigin,
    pub(crate) id: RequestId,
    metrics: &'a HttpMetrics,
    log: &'a RequestLog,
    method: Method,
    uri: Uri,
    /// Auth's errors have a shape that the request chooses.
    auth_protocol: Protocol,
    ip: IpAddr,
    start: Instant,
    https: bool,
    finished: bool,
}

impl<'a> Answer<'a> {
    pub(crate) fn new(
        metrics: &'a HttpMetrics,
        log: &'a RequestLog,
        request: &Request,
        id: RequestId,
        ip: IpAddr,
        start: Instant,
        https: bool,
    ) -> Self {
        Self {
            service: ServiceKind::Gateway,
            project: None,
            own_origin: false,
            origin: AllowedOrigin::None,
            id,
            metrics,
            log,
            method: request.method().clone(),
            uri: request.uri().clone(),
            auth_protocol: Protocol::auth(request.headers()),
            ip,
            start,
            https,
            finished: false,
        }
    }

    fn protocol(&self) -> Protocol {
        match self.service {
            ServiceKind::Auth => self.auth_protocol,
            other => other.protocol(&HeaderMap::new()),
        }
    }

    pub(crate) fn finish(mut self, result: Result<Response, Rejection>) -> Response {
        let mut response = match result {
            Ok(response) => response,
            Err(rejection) => {
                self.metrics.rejected(rejection.reason());
                rejection.respond(self.protocol())
            }
        };
        let headers = response.headers_mut();
        headers.insert(X_REQUEST_ID, self.id.header_value());
        cors::decorate(headers, &self.origin);
        match self.service {
            ServiceKind::Platform | ServiceKind::Gateway => security_headers::platform(headers, self.https),
            ServiceKind::Pages => security_headers::pages(headers, self.https),
            // The auth service ties a sign-in at a provider to the browser in which it began.
            ServiceKind::Auth => security_headers::project(headers, self.own_origin, Some("sb-oauth-")),
            _ => security_headers::project(headers, self.own_origin, None),
        }
        let code = response.extensions().get::<web::error::ErrorCode>().map(|code| code.0.as_str());
        self.record(response.status().as_u16(), code);
        self.finished = true;
        response
    }

    fn record(&self, status: u16, error_code: Option<&str>) {
        let duration = self.start.elapsed();
        self.metrics.observe(self.service, status, duration);
        if let Some(project) = &self.project {
            self.metrics.observe_project(&project.project_ref, status, duration);
        }
        self.log.write(&RequestLine {
            request_id: &self.id,
            method: self.method.as_str(),
            path: self.uri.path(),
            service: self.service.name(),
            status,
            duration,
            project_ref: self.project.as_ref().map(|project| &project.project_ref),
            client_ip: self.ip,
            error_code,
        });
    }
}

impl Drop for Answer<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.record(CLIENT_CLOSED, None);
        }
    }
}
