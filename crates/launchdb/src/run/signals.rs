//! Signals: the first SIGTERM or Ctrl-C ends the server in order, the second ends it at once.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::{self, Exit, ResultExt as _};

/// The signals that end a server. Made before anything is started, so that none is missed.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    /// How often the end was asked for.
    ends: usize,
}

impl Signals {
    pub fn new() -> Result<Self, Exit> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).exit(exit::FAILURE)?,
            interrupt: signal(SignalKind::interrupt()).exit(exit::FAILURE)?,
            hang_up: signal(SignalKind::hangup()).exit(exit::FAILURE)?,
            ends: 0,
        })
    }

    /// Waits for the next one that ends the server; its name.
    pub async fn next(&mut self) -> &'static str {
        loop {
            let name = tokio::select! {
                _ = self.terminate.recv() => "SIGTERM",
                _ = self.interrupt.recv() => "SIGINT",
                _ = self.hang_up.recv() => {
                    tracing::info!("SIGHUP: settings are read at the start only; projects' settings apply at once anyway");
                    continue;
                }
            };
            self.ends += 1;
            return name;
        }
    }

    /// Whether somebody did not want to wait for an end in order.
    pub fn end_at_once(&self) -> bool {
        self.ends > 1
    }
}
