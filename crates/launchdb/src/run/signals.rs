//! Signals: the first SIGTERM or Ctrl-C ends the server in order, the second cuts requests off, the third ends at once.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::{self, Exit, ResultExt as _};

/// The signals that end a server. Made before anything is started, so that none is missed.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    pub fn new() -> Result<Self, Exit> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).exit(exit::FAILURE)?,
            interrupt: signal(SignalKind::interrupt()).exit(exit::FAILURE)?,
            hang_up: signal(SignalKind::hangup()).exit(exit::FAILURE)?,
        })
    }

    /// Waits for the next one that ends the server; its name.
    pub async fn next(&mut self) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.hang_up.recv() => {
                    tracing::info!("SIGHUP: settings are read at the start only; projects' settings apply at once anyway");
                }
            }
        }
    }
}
