//! Bounded work in flight: beyond the bound a request is refused at once, so that memory stays bounded too.
//!
//! A permit is held until the service has answered, not until the last byte left: what answers still hold is bounded by
//! [`crate::byte_budget`]. Nor does a request whose body is waited for have a place ([`crate::received_body`]).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use base::{Project, ProjectRef, ProjectTable};
use prometheus_client::metrics::gauge::Gauge;

use crate::byte_budget::ByteBudget;
use crate::rate_limit::{Bucket, Rate, client_key, nanos};
use crate::rejection::Rejection;

/// Counts requests in work against a bound. Clones count together.
#[derive(Clone, Debug)]
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

    /// Somebody who has a permit does without a place until [`Self::resume`].
    pub(crate) fn pause(&self) {
        self.present.dec();
    }

    pub(crate) fn resume(&self) {
        self.present.inc();
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.present.dec();
    }
}

/// How many of something each client has at once; clients are told apart as by the rate limits.
#[derive(Debug)]
pub struct PerClient {
    max: usize,
    present: Mutex<HashMap<u64, usize>>,
}

/// One of them; ends when dropped.
#[derive(Debug)]
pub struct ClientPlace {
    of: Arc<PerClient>,
    key: u64,
}

impl PerClient {
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, present: Mutex::default() })
    }

    /// None when the client has as many as it may.
    pub fn enter(self: &Arc<Self>, client: IpAddr) -> Option<ClientPlace> {
        let key = client_key(client);
        let mut present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        let count = present.entry(key).or_default();
        if *count >= self.max {
            return None;
        }
        *count += 1;
        Some(ClientPlace { of: self.clone(), key })
    }
}

impl Drop for ClientPlace {
    fn drop(&mut self) {
        let mut present = self.of.present.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = present.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                present.remove(&self.key);
            }
        }
    }
}

/// What one project may have at once.
#[derive(Clone, Copy, Debug)]
pub struct ProjectShare {
    /// Requests in work.
    pub in_flight: usize,
    /// Bytes of answers that wait to be sent.
    pub answer_bytes: u64,
    /// Bytes of request bodies.
    pub body_bytes: u64,
}

/// The limits of one project that change with each request.
#[derive(Debug)]
pub struct ProjectGate {
    pub in_flight: InFlight,
    pub answers: Arc<ByteBudget>,
    pub bodies: Arc<ByteBudget>,
    bucket: Bucket,
}

/// A gate for every project that has been asked for.
pub struct ProjectGates {
    share: ProjectShare,
    start: Instant,
    gates: RwLock<HashMap<ProjectRef, Arc<ProjectGate>>>,
}

impl ProjectGates {
    /// A gate for each project, as large as `share`.
    pub fn new(share: ProjectShare, start: Instant) -> Self {
        Self { share, start, gates: RwLock::default() }
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
                Arc::new(ProjectGate {
                    in_flight: InFlight::new(self.share.in_flight, Gauge::default()),
                    answers: ByteBudget::new(self.share.answer_bytes),
                    bodies: ByteBudget::new(self.share.body_bytes),
                    bucket: Bucket::default(),
                })
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
