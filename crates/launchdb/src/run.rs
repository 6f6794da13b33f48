//! Running a server: wiring of the services, start, shutdown.

pub mod backups;
pub mod bind;
pub mod cli_session;
pub mod dropin;
pub mod files;
mod front;
pub mod health;
mod housekeeping;
mod instances;
mod key_file;
pub mod logging;
pub mod metrics;
mod outward;
mod patience;
pub mod pooler;
mod redirect;
mod route;
mod routers;
mod server;
pub mod signals;
pub mod starter;
pub mod status_page;
pub mod storage;
mod tls;
pub mod welcome;

use std::net::IpAddr;
use std::num::NonZeroUsize;
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
    let host = config.database.url.as_ref().map(|target| target.host.as_str());
    let runtime = runtime(config.workers.unwrap_or_else(|| workers(host.is_none_or(is_local))))?;
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

/// Threads for requests when nobody says how many: one for each core, or for every second one where PostgreSQL works on
/// the same cores. More would only wake and move each other's tasks, see docs/performance.md.
fn workers(beside_postgresql: bool) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    if beside_postgresql { cores.div_ceil(2) } else { cores }
}

/// Whether a database server at this address runs on this machine, as far as its address says.
fn is_local(host: &str) -> bool {
    let loopback = |ip: IpAddr| ip.to_canonical().is_loopback();
    host.starts_with('/') || host == "localhost" || host.parse().is_ok_and(loopback)
}

fn runtime(workers: usize) -> Result<Runtime, Exit> {
    Builder::new_multi_thread().worker_threads(workers).enable_all().build().exit(exit::FAILURE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_this_machine_are_known() {
        let check = |host: &str, local: bool| assert_eq!(is_local(host), local, "{host}");
        check("/var/run/postgresql", true);
        check("localhost", true);
        check("127.0.0.1", true);
        check("::1", true);
        check("10.0.0.5", false);
        check("db.example.org", false);
        assert!(workers(true) >= 1 && workers(true) <= workers(false));
    }
}
