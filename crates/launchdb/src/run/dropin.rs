//! `launchdb rest`: the data API alone, started as `postgrest` is.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rest::config::{DropIn, LogLevel};
use rest::dropin::{self, Reload, StartError};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use web::log_buffer::LogBuffer;

use super::logging;
use crate::cli::output::print;
use crate::config::postgrest::{PostgrestSource, libpq_defaults};
use crate::config::source::variable;
use crate::config::{LogConfig, LogFormat};
use crate::exit::{self, Exit, ResultExt as _};

const HELP: &str = "\
The data API alone, in place of postgrest: reads PostgREST's configuration file and PGRST_* variables.

Usage: launchdb rest [OPTIONS] [FILENAME]
   or: postgrest [OPTIONS] [FILENAME], when the program is called by that name

  FILENAME                Configuration file; variables win over it, settings in the database over both
      --config FILENAME   The same
      --dump-config       Print the settings in force, secrets among them, and exit
      --dump-schema       Print the schema cache as JSON and exit (also --dump-schema-cache)
      --ready             Ask the admin server of a running server whether it is ready; exit code 0 if so
  -e, --example           Print an example of a configuration file
  -v, --version           Print the version
  -h, --help              Print this

Signals: SIGUSR1 reloads the schema cache, SIGUSR2 the configuration, SIGHUP both; SIGTERM ends in order.";

const VERSION: &str = concat!("PostgREST 14 (as served by LaunchDB ", env!("CARGO_PKG_VERSION"), ")");

/// Reloads that may wait; a burst of signals asks for no more than one of each.
const RELOADS: usize = 8;
/// How long the admin server may take to say whether it is ready.
const READY: Duration = Duration::from_secs(10);

enum Action {
    Serve,
    DumpConfig,
    DumpSchemaCache,
    Ready,
}

/// Does what postgrest would do with these arguments.
pub fn run(args: &[String]) -> Result<(), Exit> {
    let mut file = None;
    let mut action = Action::Serve;
    let mut args = args.iter().map(String::as_str);
    while let Some(arg) = args.next() {
        let path = match arg {
            "-h" | "--help" => return print(HELP),
            "-v" | "--version" => return print(VERSION),
            "-e" | "--example" => return print(include_str!("dropin/example.conf")),
            "--dump-config" => {
                action = Action::DumpConfig;
                continue;
            }
            "--dump-schema" | "--dump-schema-cache" => {
                action = Action::DumpSchemaCache;
                continue;
            }
            "--ready" => {
                action = Action::Ready;
                continue;
            }
            "--config" => args.next().ok_or_else(|| Exit::message(exit::USAGE, "--config needs a file"))?,
            other => match other.strip_prefix("--config=") {
                Some(path) => path,
                None if other.starts_with('-') => {
                    return Err(Exit::message(exit::USAGE, format!("there is no option {other}\n\n{HELP}")));
                }
                None => other,
            },
        };
        if file.replace(PathBuf::from(path)).is_some() {
            return Err(Exit::message(exit::USAGE, "one configuration file at most can be given"));
        }
    }
    let source = Arc::new(PostgrestSource { file });
    let libpq = libpq_defaults();
    // Read once more with what the database says; here it is needed for the log, and to fail early.
    let settings = dropin::configure(&*source).map_err(failed)?;
    if let Action::Ready = action {
        return ready(&settings);
    }
    let log = start_logging(settings.log_level)?;
    let connect = pg::ConnectConfig::from_uri(settings.db_uri.expose(), &libpq);
    let local = connect.is_ok_and(|connect| super::is_local(&connect.host));
    let runtime = super::runtime(super::workers(local))?;
    // Until the runtime goes; what then waits is written below.
    runtime.spawn(log.clone().run(CancellationToken::new()));
    let result = runtime.block_on(async {
        match action {
            Action::DumpConfig => print(&dropin::dump_config(source, &libpq).await.map_err(failed)?),
            Action::DumpSchemaCache => print(&dropin::dump_schema_cache(source, &libpq).await.map_err(failed)?),
            Action::Ready | Action::Serve => {
                let mut signals = Signals::new()?;
                let shutdown = CancellationToken::new();
                let (reloads, receiver) = mpsc::channel(RELOADS);
                let served = dropin::run(settings, &libpq, source, receiver, shutdown.clone());
                tokio::pin!(served);
                loop {
                    tokio::select! {
                        result = &mut served => return result.map_err(failed),
                        () = signals.obeyed(&reloads, &shutdown) => {}
                    }
                    if signals.ends > 1 {
                        return Ok(());
                    }
                }
            }
        }
    });
    runtime.shutdown_background();
    log.flush();
    result
}

fn failed(error: StartError) -> Exit {
    let code = match &error {
        StartError::Config(_) | StartError::Uri(_) => exit::CONFIG,
        StartError::Listen { source, .. } if source.kind() == std::io::ErrorKind::AddrInUse => exit::PORT_USED,
        _ => exit::FAILURE,
    };
    // Its text tells the causes already.
    Exit::message(code, error.to_string())
}

/// PostgREST writes of its own life at every level; what the level changes are errors of requests and the details.
fn start_logging(level: LogLevel) -> Result<LogBuffer, Exit> {
    let filter = match level {
        LogLevel::Crit => "info,rest::engine=off",
        LogLevel::Error | LogLevel::Warn | LogLevel::Info => "info",
        LogLevel::Debug => "debug",
    };
    let (log, _) = logging::start(&LogConfig {
        filter: variable("RUST_LOG").unwrap_or_else(|| filter.to_owned()),
        format: LogFormat::Pretty,
        colour: variable("NO_COLOR").is_none(),
    })?;
    Ok(log)
}

/// Asks a running server's admin server.
fn ready(settings: &DropIn) -> Result<(), Exit> {
    let fail = |text: String| Err(Exit::message(exit::FAILURE, text));
    let Some(port) = settings.admin_server_port else {
        return fail("there is no admin server: admin-server-port is not set".to_owned());
    };
    let host = settings.admin_server_host.as_str();
    if matches!(host, "*" | "*4" | "!4" | "*6" | "!6") {
        return fail(format!(
            "--ready needs to know an address, and admin-server-host (or server-host) is \"{host}\": set it to one"
        ));
    }
    let host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() };
    let url = format!("http://{host}:{port}/ready");
    let agent: ureq::Agent =
        ureq::Agent::config_builder().timeout_global(Some(READY)).http_status_as_error(false).build().into();
    match agent.get(&url).call() {
        Ok(answer) if answer.status().is_success() => print(&format!("OK: {url}")),
        Ok(answer) => fail(format!("{url} answers {}", answer.status())),
        Err(error) => fail(format!("{url} does not answer: {error}")),
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    user_1: Signal,
    user_2: Signal,
    /// How often the end was asked for.
    ends: usize,
}

impl Signals {
    fn new() -> Result<Self, Exit> {
        let make = |kind| signal(kind).exit(exit::FAILURE);
        Ok(Self {
            terminate: make(SignalKind::terminate())?,
            interrupt: make(SignalKind::interrupt())?,
            hang_up: make(SignalKind::hangup())?,
            user_1: make(SignalKind::user_defined1())?,
            user_2: make(SignalKind::user_defined2())?,
            ends: 0,
        })
    }

    /// Waits for the next signal and does what it asks for.
    async fn obeyed(&mut self, reloads: &mpsc::Sender<Reload>, shutdown: &CancellationToken) {
        let wanted: &[Reload] = tokio::select! {
            _ = self.terminate.recv() => &[],
            _ = self.interrupt.recv() => &[],
            _ = self.hang_up.recv() => &[Reload::Config, Reload::SchemaCache],
            _ = self.user_1.recv() => &[Reload::SchemaCache],
            _ = self.user_2.recv() => &[Reload::Config],
        };
        if wanted.is_empty() {
            tracing::info!("asked to end");
            self.ends += 1;
            shutdown.cancel();
        }
        for reload in wanted {
            // A full queue holds one that does the same.
            reloads.try_send(*reload).ok();
        }
    }
}
