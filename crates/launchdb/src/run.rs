//! Running a server: wiring of the services, start, shutdown.

pub mod bind;
pub mod cli_session;
pub mod dropin;
pub mod files;
mod front;
pub mod health;
pub mod logging;
pub mod metrics;
mod server;
pub mod signals;
pub mod starter;
pub mod status_page;
pub mod storage;
pub mod welcome;

use std::time::Instant;

use tokio::runtime::{Builder, Runtime};

use crate::config::{Config, Invocation, Source};
use crate::exit::{self, Exit, ResultExt as _};

/// Starts a server and runs it until a signal.
pub fn server(source: &Source, invocation: &Invocation, demo: bool) -> Result<(), Exit> {
    let started = Instant::now();
    let config = Config::load(source, invocation).exit(exit::CONFIG)?;
    let (log_buffer, request_log) = logging::start(&config.log)?;
    for warning in &config.warnings {
        tracing::warn!(setting = warning.name, mend = warning.mend, "{} {}", warning.name, warning.what);
    }
    let runtime = runtime(config.workers)?;
    let start = server::Start {
        config,
        only: invocation.only,
        serve: invocation.serve,
        demo,
        started,
        log_buffer: log_buffer.clone(),
        request_log,
    };
    let result = runtime.block_on(server::run(start));
    log_buffer.flush();
    // Whatever still blocks a thread must not hold up the end.
    runtime.shutdown_background();
    result
}

/// The runtime; one thread for each core unless told otherwise.
fn runtime(workers: Option<usize>) -> Result<Runtime, Exit> {
    let mut builder = Builder::new_multi_thread();
    if let Some(workers) = workers {
        builder.worker_threads(workers);
    }
    builder.enable_all().build().exit(exit::FAILURE)
}
