//! Whether anything may be written: closed while the disk is nearly full, because a full one stops PostgreSQL altogether.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a refused writer is told.
pub const DISK_NEARLY_FULL: &str =
    "The server's disk is nearly full; nothing can be written until there is space again";

/// Shared by the guard that watches the disk and the services that write. Clones share it; it starts open.
#[derive(Clone, Debug, Default)]
pub struct WriteGate {
    closed: Arc<AtomicBool>,
}

impl WriteGate {
    pub fn is_open(&self) -> bool {
        !self.closed.load(Ordering::Relaxed)
    }

    /// Refuses writers from now on; says whether that is new.
    pub fn close(&self) -> bool {
        !self.closed.swap(true, Ordering::Relaxed)
    }

    /// Lets writers in again; says whether that is new.
    pub fn open(&self) -> bool {
        self.closed.swap(false, Ordering::Relaxed)
    }
}
