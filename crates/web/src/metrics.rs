//! Metrics of HTTP in the Prometheus text format. A registry is a value that the binary makes: no recorder is global.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use base::{ProjectRef, ProjectTable};
use http::{HeaderValue, StatusCode, header};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::service::ServiceKind;

/// Upper bounds of the latency buckets, in seconds.
const BOUNDS: [f64; 11] = [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5, f64::INFINITY];
const BOUNDS_MICROS: [u64; 10] = [500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 500_000, 2_500_000];

/// The reasons of [`crate::Rejection::reason`].
const REASONS: [&str; 8] = ["key", "rate_limit", "overload", "body", "header", "project", "route", "internal"];

/// Classes of statuses; the first is for clients that hung up.
const CLASSES: [&str; 6] = ["aborted", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// Status in log and metrics of a request whose client hung up before the answer.
pub const CLIENT_CLOSED: u16 = 499;

#[derive(Debug, Default)]
struct Latency {
    buckets: [AtomicU64; BOUNDS.len()],
    sum_micros: AtomicU64,
}

impl Latency {
    fn observe(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_MICROS.iter().position(|bound| micros <= *bound).unwrap_or(BOUNDS_MICROS.len());
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_micros.fetch_add(micros, Ordering::Relaxed);
    }
}

#[derive(Debug, Default)]
struct PerService {
    requests: [AtomicU64; CLASSES.len()],
    latency: Latency,
}

/// What one project's clients asked.
#[derive(Debug, Default)]
struct PerProject {
    requests: [AtomicU64; CLASSES.len()],
    sum_micros: AtomicU64,
}

/// Projects that are counted at most; more would make the answer longer than a scraper takes.
const MOST_PROJECTS: usize = 10_000;

#[derive(Debug, Default)]
struct Counts {
    projects: RwLock<HashMap<ProjectRef, Arc<PerProject>>>,
    services: [PerService; ServiceKind::ALL.len()],
    rejected: [AtomicU64; REASONS.len()],
}

/// The metrics of one public front. Counting costs a few atomic additions.
#[derive(Clone, Debug, Default)]
pub struct HttpMetrics {
    counts: Arc<Counts>,
    /// Requests in work.
    pub in_flight: Gauge,
    /// Open connections.
    pub connections: Gauge,
    /// Connections that were refused because too many were open.
    pub connections_refused: Counter,
}

impl HttpMetrics {
    /// Makes the metrics and puts them in the registry.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("launchdb_http_in_flight", "Requests in work", metrics.in_flight.clone());
        registry.register("launchdb_http_connections", "Open connections", metrics.connections.clone());
        registry.register(
            "launchdb_http_connections_refused",
            "Connections refused because too many were open",
            metrics.connections_refused.clone(),
        );
        registry.register_collector(Box::new(HttpCollector(metrics.counts.clone())));
        metrics
    }

    /// Counts one answered request, or one whose client hung up ([`CLIENT_CLOSED`]).
    pub fn observe(&self, service: ServiceKind, status: u16, duration: Duration) {
        let service = &self.counts.services[service as usize];
        service.requests[class(status)].fetch_add(1, Ordering::Relaxed);
        service.latency.observe(duration);
    }

    /// Counts one answered request of a project.
    pub fn observe_project(&self, project: &ProjectRef, status: u16, duration: Duration) {
        let found = self.counts.projects.read().unwrap_or_else(PoisonError::into_inner).get(project).cloned();
        let counts = found.or_else(|| {
            let mut projects = self.counts.projects.write().unwrap_or_else(PoisonError::into_inner);
            let has_room = projects.len() < MOST_PROJECTS;
            has_room.then(|| projects.entry(project.clone()).or_default().clone())
        });
        if let Some(counts) = counts {
            counts.requests[class(status)].fetch_add(1, Ordering::Relaxed);
            let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
            counts.sum_micros.fetch_add(micros, Ordering::Relaxed);
        }
    }

    /// Forgets the counts of projects that are no longer there.
    pub fn forget_projects(&self, table: &ProjectTable) {
        let mut projects = self.counts.projects.write().unwrap_or_else(PoisonError::into_inner);
        projects.retain(|project, _| table.get(project).is_some());
    }

    /// Counts one request that the plumbing refused.
    pub fn rejected(&self, reason: &str) {
        if let Some(at) = REASONS.iter().position(|known| *known == reason) {
            self.counts.rejected[at].fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Which of [`CLASSES`].
fn class(status: u16) -> usize {
    match status {
        CLIENT_CLOSED => 0,
        other => usize::from(other / 100).min(CLASSES.len() - 1),
    }
}

#[derive(Debug)]
struct HttpCollector(Arc<Counts>);

impl Collector for HttpCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let counter = MetricType::Counter;
        let mut requests = encoder.encode_descriptor(
            "launchdb_http_requests",
            "Requests by service and class of status",
            None,
            counter,
        )?;
        for (kind, service) in ServiceKind::ALL.iter().zip(&self.0.services) {
            for (class, count) in CLASSES.iter().zip(&service.requests) {
                let count = count.load(Ordering::Relaxed);
                // Series appear with their first request: most pairs never happen.
                if count > 0 {
                    requests
                        .encode_family(&[("service", kind.name()), ("status", class)])?
                        .encode_counter::<NoLabelSet, _, u64>(&count, None)?;
                }
            }
        }
        let mut rejected = encoder.encode_descriptor(
            "launchdb_http_rejected",
            "Requests refused before a service, by reason",
            None,
            counter,
        )?;
        for (reason, count) in REASONS.iter().zip(&self.0.rejected) {
            rejected
                .encode_family(&[("reason", *reason)])?
                .encode_counter::<NoLabelSet, _, u64>(&count.load(Ordering::Relaxed), None)?;
        }
        self.encode_projects(&mut encoder)?;
        let mut latency = encoder.encode_descriptor(
            "launchdb_http_request_duration_seconds",
            "Time from a request's head to its answer's",
            None,
            MetricType::Histogram,
        )?;
        for (kind, service) in ServiceKind::ALL.iter().zip(&self.0.services) {
            let buckets: Vec<(f64, u64)> =
                BOUNDS.iter().zip(&service.latency.buckets).map(|(b, n)| (*b, n.load(Ordering::Relaxed))).collect();
            let count: u64 = buckets.iter().map(|(_, n)| n).sum();
            if count > 0 {
                #[expect(clippy::cast_precision_loss, reason = "a sum of durations is no exact number")]
                let sum = service.latency.sum_micros.load(Ordering::Relaxed) as f64 / 1e6;
                latency
                    .encode_family(&[("service", kind.name())])?
                    .encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
            }
        }
        Ok(())
    }
}

impl HttpCollector {
    fn encode_projects(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let projects = self.0.projects.read().unwrap_or_else(PoisonError::into_inner).clone();
        let counter = MetricType::Counter;
        let mut requests = encoder.encode_descriptor(
            "launchdb_project_requests",
            "Requests by project and class of status",
            None,
            counter,
        )?;
        for (project, counts) in &projects {
            for (class, count) in CLASSES.iter().zip(&counts.requests) {
                let count = count.load(Ordering::Relaxed);
                if count > 0 {
                    requests
                        .encode_family(&[("project", project.as_str()), ("status", class)])?
                        .encode_counter::<NoLabelSet, _, u64>(&count, None)?;
                }
            }
        }
        let mut seconds = encoder.encode_descriptor(
            "launchdb_project_request_seconds",
            "Time of a project's requests from their heads to their answers', summed up",
            None,
            counter,
        )?;
        for (project, counts) in &projects {
            #[expect(clippy::cast_precision_loss, reason = "a sum of durations is no exact number")]
            let sum = counts.sum_micros.load(Ordering::Relaxed) as f64 / 1e6;
            seconds
                .encode_family(&[("project", project.as_str())])?
                .encode_counter::<NoLabelSet, _, f64>(&sum, None)?;
        }
        Ok(())
    }
}

/// The answer to `GET /metrics`.
pub fn respond(registry: &Registry) -> Response {
    let mut text = String::with_capacity(8 * 1024);
    let mut response = match prometheus_client::encoding::text::encode(&mut text, registry) {
        Ok(()) => Response::new(Body::from(text)),
        Err(error) => {
            tracing::error!(%error, "the metrics could not be written");
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            response
        }
    };
    let value = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, value);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_service_and_class() {
        let mut registry = Registry::default();
        let metrics = HttpMetrics::register(&mut registry);
        metrics.observe(ServiceKind::Rest, 200, Duration::from_micros(700));
        metrics.observe(ServiceKind::Rest, 404, Duration::from_secs(9));
        metrics.observe(ServiceKind::Rest, CLIENT_CLOSED, Duration::ZERO);
        metrics.rejected("key");
        let project = ProjectRef::parse("proj_abc").unwrap();
        metrics.observe_project(&project, 503, Duration::from_millis(1500));
        metrics.observe_project(&project, 200, Duration::from_millis(500));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            r#"launchdb_http_requests_total{service="rest",status="2xx"} 1"#,
            r#"launchdb_http_requests_total{service="rest",status="4xx"} 1"#,
            r#"launchdb_http_requests_total{service="rest",status="aborted"} 1"#,
            r#"launchdb_http_rejected_total{reason="key"} 1"#,
            r#"launchdb_project_requests_total{project="proj_abc",status="5xx"} 1"#,
            r#"launchdb_project_request_seconds_total{project="proj_abc"} 2.0"#,
            r#"launchdb_http_request_duration_seconds_count{service="rest"} 3"#,
            r#"launchdb_http_request_duration_seconds_bucket{le="0.001",service="rest"} 2"#,
            r#"launchdb_http_request_duration_seconds_bucket{le="+Inf",service="rest"} 3"#,
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        metrics.forget_projects(&ProjectTable::new());
        text.clear();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(!text.contains("proj_abc"));
    }
}
