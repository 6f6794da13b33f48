//! Bounded work in flight: beyond the bound a request is refused at once, so that memory stays bounded too.
//!
//! A permit is held until the service has answered, not until the last byte left: what an answer still holds is bounded
//! by the number of connections ([`crate::ServeConfig::max_connections`]).

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use base::{Project, ProjectRef, ProjectTable};
use prometheus_client::metrics::gauge::Gauge;

use crate::rate_limit::{Bucket, Rate, nanos};
use crate::rejection::Rejection;

/// Counts requests in work against a bound.
#[derive(Debug)]
pub struct InFlight {
    present: Gauge,
    max: i64,
}

/// One request in work; ends when dropped.
#[derive(Debug)]
pub struct Permit<'a>(&'a InFlight);

impl InFlight {
    pub fn new(max: usize, gauge: Gauge) -> Self {
        Self { present: gauge, max: i64::try_from(max).unwrap_or(i64::MAX) }
    }

    pub fn enter(&self) -> Result<Permit<'_>, Rejection> {
        // The gauge hands back what was there before.
        let permit = Permit(self);
        if self.present.inc() >= self.max { Err(Rejection::Overloaded) } else { Ok(permit) }
    }

    pub fn present(&self) -> i64 {
        self.present.get()
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.present.dec();
    }
}

/// The limits of one project that change with each request.
#[derive(Debug)]
pub struct ProjectGate {
    pub in_flight: InFlight,
    bucket: Bucket,
}

/// A gate for every project that has been asked for.
pub struct ProjectGates {
    max_in_flight: usize,
    start: Instant,
    gates: RwLock<HashMap<ProjectRef, Arc<ProjectGate>>>,
}

impl ProjectGates {
    /// Each project may have `max_in_flight` requests in work.
    pub fn new(max_in_flight: usize, start: Instant) -> Self {
        Self { max_in_flight, start, gates: RwLock::default() }
    }

    /// The project's gate. `table` says which projects still exist when the gates are many.
    pub fn gate(&self, project_ref: &ProjectRef, table: &ProjectTable) -> Arc<ProjectGate> {
        if let Some(gate) = self.gates.read().unwrap_or_else(PoisonError::into_inner).get(project_ref) {
            return gate.clone();
        }
        let mut gates = self.gates.write().unwrap_or_else(PoisonError::into_inner);
        if gates.len() > 64 + 2 * table.len() {
            gates.retain(|project_ref, _| table.get(project_ref).is_some());
        }
        gates
            .entry(project_ref.clone())
            .or_insert_with(|| {
                let in_flight = InFlight::new(self.max_in_flight, Gauge::default());
                Arc::new(ProjectGate { in_flight, bucket: Bucket::default() })
            })
            .clone()
    }

    /// Counts one request of the project against its rate, when it has one.
    pub fn check_rate(&self, gate: &ProjectGate, project: &Project, now: Instant) -> Result<(), Rejection> {
        match Rate::new(project.limits.requests_per_second, project.limits.request_burst) {
            Some(rate) => gate.bucket.take(rate, nanos(self.start, now)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_holds_and_permits_come_back() {
        let in_flight = InFlight::new(2, Gauge::default());
        let first = in_flight.enter().unwrap();
        let second = in_flight.enter().unwrap();
        assert!(matches!(in_flight.enter(), Err(Rejection::Overloaded)));
        assert_eq!(in_flight.present(), 2);
        drop(first);
        let third = in_flight.enter().unwrap();
        drop((second, third));
        assert_eq!(in_flight.present(), 0);
    }
}
