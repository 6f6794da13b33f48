//! Whether data may be written right now; closed by the guard of the disk, asked by every service before it writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A gate that every service may look at on every request. Clones are the same gate.
#[derive(Clone, Debug, Default)]
pub struct WriteGate(Arc<AtomicBool>);

/// Why a write is refused; the text may be shown to anybody. Answer it with 503 and a `Retry-After`: the state ends
/// without the client's doing. PostgreSQL's own SQLSTATE for it is 53100 (disk_full).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("disk nearly full: writes are refused")]
pub struct WritesRefused;

impl WriteGate {
    /// An open gate.
    pub fn new() -> Self {
        Self::default()
    }

    pub fn is_open(&self) -> bool {
        !self.0.load(Ordering::Relaxed)
    }

    /// # Errors
    /// [`WritesRefused`] while the gate is closed.
    pub fn check(&self) -> Result<(), WritesRefused> {
        if self.is_open() { Ok(()) } else { Err(WritesRefused) }
    }

    /// Opens or closes the gate; for the guard alone.
    pub fn set_open(&self, open: bool) {
        self.0.store(!open, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_are_one_gate() {
        let gate = WriteGate::new();
        let other = gate.clone();
        assert_eq!(other.check(), Ok(()));
        gate.set_open(false);
        assert_eq!(other.check(), Err(WritesRefused));
        gate.set_open(true);
        assert!(other.is_open());
    }
}
