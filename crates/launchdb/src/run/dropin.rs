//! `launchdb rest`: the data API alone, started as `postgrest` is.

use anyhow::Context as _;
use rest::config::Config;
use tokio_util::sync::CancellationToken;

use super::logging;
use super::signals::Signals;
use crate::config::source::{self, parse_postgrest_file};
use crate::config::{LogConfig, LogFormat, Source};
use crate::exit::{self, Exit, ResultExt as _};

const HELP: &str = "\
The data API alone, in place of postgrest: reads PostgREST's configuration file and PGRST_* variables.

Usage: launchdb rest [FILENAME]

Variables win over the file. A value @PATH is read from that file.";

/// Serves until a signal. `args` are postgrest's.
pub fn run(source: &Source, args: &[String]) -> Result<(), Exit> {
    let mut file = None;
    for arg in args {
        match arg.as_str() {
            "-h" | "--help" => return crate::cli::output::print(HELP),
            "-v" | "--version" => {
                return crate::cli::output::print(concat!("launchdb rest ", env!("CARGO_PKG_VERSION")));
            }
            other if other.starts_with('-') => {
                return Err(Exit::message(exit::USAGE, format!("{other} is not built yet")));
            }
            path if file.is_none() => file = Some(path),
            _ => return Err(Exit::message(exit::USAGE, "one configuration file at most can be given")),
        }
    }
    let settings = settings(file)?;
    let drop_in = Config::from_pgrst_vars(settings)
        .map_err(|problems| Exit::message(exit::CONFIG, format!("settings are wrong:\n  {}", problems.join("\n  "))))?;
    let level = format!("{:?}", drop_in.log_level).to_lowercase();
    logging::start(&LogConfig {
        filter: source
            .get("RUST_LOG")
            .map_or_else(|| if level == "crit" { "error".to_owned() } else { level }, str::to_owned),
        format: LogFormat::Pretty,
        colour: source.get("NO_COLOR").is_none(),
    })?;
    let mut session_settings = Vec::new();
    for (variable, setting) in [("PGTZ", "TimeZone"), ("PGOPTIONS", "options")] {
        if let Some(value) = source::variable(variable) {
            session_settings.push((setting.to_owned(), value));
        }
    }
    let runtime = super::runtime(None)?;
    runtime.block_on(async move {
        let mut signals = Signals::new()?;
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let served = rest::dropin::run(drop_in, session_settings, shutdown);
        tokio::pin!(served);
        let result = tokio::select! {
            result = &mut served => result,
            signal = signals.next() => {
                tracing::info!(signal, "ending");
                stop.cancel();
                tokio::select! {
                    result = &mut served => result,
                    _ = signals.next() => return Ok(()),
                }
            }
        };
        result.exit(exit::FAILURE)
    })
}

/// The file's settings, then the variables, which win; `@PATH` replaced by what the file holds.
fn settings(file: Option<&str>) -> Result<Vec<(String, String)>, Exit> {
    let mut settings = Vec::new();
    if let Some(file) = file {
        let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {file}")).exit(exit::CONFIG)?;
        settings = parse_postgrest_file(&text).with_context(|| file.to_owned()).exit(exit::CONFIG)?;
    }
    settings.extend(source::variables_with_prefix("PGRST_"));
    for (name, value) in &mut settings {
        if let Some(path) = value.strip_prefix('@') {
            let content = std::fs::read_to_string(path)
                .with_context(|| format!("{name} names the file {path}, which cannot be read"))
                .exit(exit::CONFIG)?;
            *value = content.trim_end_matches(['\r', '\n']).to_owned();
        }
    }
    Ok(settings)
}
