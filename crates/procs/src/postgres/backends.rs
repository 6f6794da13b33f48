//! The server's processes as the machine sees them: what they take, and their end without a word of SQL.

use std::collections::HashMap;
use std::sync::Arc;

use super::postmaster::{PidFile, Place};
use crate::process::{self, ProcessId, Signal};

/// A cluster's processes, whichever postmaster runs at the moment. Clones look at the same.
#[derive(Clone, Debug)]
pub struct Backends(pub(super) Arc<Place>);

impl Backends {
    /// Bytes that each process of the server has for itself alone ([`process::data_bytes`]), by process id. Shared buffers
    /// are not among them. Two small files for the server and one for each process are read.
    pub fn memory_sizes(&self) -> HashMap<u32, u64> {
        self.pids().into_iter().filter_map(|pid| Some((pid, process::data_bytes(pid)?))).collect()
    }

    /// Ends the processes that `accept` agrees to by their titles, without the prefix that all have: a session's begins
    /// with role and database (PostgreSQL docs, "Standard Unix Tools"). Gives how many were told.
    pub fn end(&self, accept: impl Fn(&str) -> bool) -> usize {
        let is_meant = |pid: &u32| {
            process::accept_arguments(*pid, |arguments| {
                let title = arguments.first().and_then(|title| title.strip_prefix("postgres: "));
                // The cluster's name stands before it.
                title.is_some_and(|title| accept(title.split_once(": ").map_or(title, |(_, title)| title)))
            })
        };
        let meant = self.pids().into_iter().filter_map(ProcessId::of).filter(|id| is_meant(&id.pid));
        meant.filter(|id| id.signal(Signal::TERM).is_ok()).count()
    }

    fn pids(&self) -> Vec<u32> {
        PidFile::read(&self.0.data).map(|file| process::children(file.pid)).unwrap_or_default()
    }
}
