//! Who has to go when the sessions of a project, or all together, have taken too much memory.
//!
//! A backend's own limit ends the statement that asks for too much, but twenty backends may each stay just below theirs.
//! Memory can be filled within a second, so the sum is looked at far more often than the sessions are, without SQL.

use std::collections::HashMap;
use std::time::Duration;

use procs::postgres::Backends;

use super::offence::Offence;

/// The memory of an embedded cluster's backends. Sizes are in bytes of private memory: shared buffers do not count.
#[derive(Clone, Debug)]
pub struct MemoryConfig {
    pub backends: Backends,
    /// Most that the sessions of one project may have together.
    pub project_bytes: u64,
    /// Most that the sessions of all projects may have together.
    pub total_bytes: u64,
    /// How often it is looked at.
    pub interval: Duration,
}

impl MemoryConfig {
    /// A project may have `project_bytes`, all of them together twice that.
    pub fn new(backends: Backends, project_bytes: u64) -> Self {
        let total_bytes = project_bytes.saturating_mul(2);
        Self { backends, project_bytes, total_bytes, interval: Duration::from_millis(100) }
    }

    /// The processes' sizes when some project can have too much.
    pub(super) fn excess(&self) -> Option<HashMap<u32, u64>> {
        let sizes = self.backends.memory_sizes();
        let sum: u64 = sizes.values().sum();
        (sum > self.project_bytes.min(self.total_bytes)).then_some(sizes)
    }

    /// Returns when somebody may have too much.
    pub(super) async fn exceeded(&self) {
        loop {
            tokio::time::sleep(self.interval).await;
            if self.excess().is_some() {
                return;
            }
        }
    }

    /// The sessions to end until every project, and all together, are within their limits: always the largest of the
    /// project that has most. `sessions` are those that could be one, with their bytes.
    pub(super) fn offences(&self, mut sessions: Vec<(Offence, u64)>) -> Vec<Offence> {
        let mut projects = HashMap::<String, u64>::new();
        for (session, bytes) in &sessions {
            *projects.entry(session.project.clone()).or_default() += bytes;
        }
        // From the back, the largest first.
        sessions.sort_by_key(|(_, bytes)| *bytes);
        let mut offences = Vec::new();
        loop {
            let total: u64 = projects.values().sum();
            let Some((project, most)) = projects.iter_mut().max_by_key(|(_, bytes)| **bytes) else { return offences };
            if *most <= self.project_bytes && total <= self.total_bytes {
                return offences;
            }
            let Some(largest) = sessions.iter().rposition(|(session, _)| session.project == *project) else {
                return offences;
            };
            let (offence, bytes) = sessions.remove(largest);
            *most -= bytes;
            offences.push(offence);
        }
    }
}
