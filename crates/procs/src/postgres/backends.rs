//! The server's processes as the machine sees them: who they are, and what they take.

use std::collections::HashMap;
use std::sync::Arc;

use super::postmaster::{PidFile, Place};
use crate::process::{self, ProcessId};

/// A cluster's processes, whichever postmaster runs at the moment. Clones look at the same.
#[derive(Clone, Debug)]
pub struct Backends(pub(super) Arc<Place>);

impl Backends {
    /// Bytes that each process of the server has for itself alone ([`process::data_bytes`]), by process id. Shared buffers
    /// are not among them. Two small files for the server and one for each process are read.
    pub fn memory_sizes(&self) -> HashMap<u32, u64> {
        self.pids().into_iter().filter_map(|pid| Some((pid, process::data_bytes(pid)?))).collect()
    }

    /// The processes and their titles without the prefix that all have: a session's begins with role and database
    /// (PostgreSQL docs, "Standard Unix Tools").
    pub fn titles(&self) -> Vec<(ProcessId, String)> {
        let title = |id: ProcessId| {
            let arguments = process::arguments(id.pid);
            let title = arguments.split('\0').next()?.strip_prefix("postgres: ")?.trim_end();
            // The cluster's name stands before it.
            let title = title.split_once(": ").map_or(title, |(_, title)| title).to_owned();
            Some((id, title))
        };
        self.pids().into_iter().filter_map(ProcessId::of).filter_map(title).collect()
    }

    fn pids(&self) -> Vec<u32> {
        PidFile::read(&self.0.data).map(|file| process::children(file.pid)).unwrap_or_default()
    }
}
