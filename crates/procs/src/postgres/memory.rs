//! How much memory the server's processes have taken for themselves.

use std::collections::HashMap;
use std::sync::Arc;

use super::postmaster::{PidFile, Place};
use crate::process;

/// Looks at the memory of a cluster's processes, whichever postmaster runs at the moment. Clones look at the same.
#[derive(Clone, Debug)]
pub struct BackendMemory(pub(super) Arc<Place>);

impl BackendMemory {
    /// Bytes that each process of the server has for itself alone ([`process::data_bytes`]), by process id. Shared buffers
    /// are not among them. Two small files for the server and one for each process are read.
    pub fn sizes(&self) -> HashMap<u32, u64> {
        let postmaster = PidFile::read(&self.0.data);
        let processes = postmaster.map(|file| process::children(file.pid)).unwrap_or_default();
        processes.into_iter().filter_map(|pid| Some((pid, process::data_bytes(pid)?))).collect()
    }
}
