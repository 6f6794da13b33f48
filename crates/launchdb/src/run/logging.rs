//! Logs go to standard error: readable on a terminal, one JSON object a line elsewhere.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt;
use web::log_buffer::LogBuffer;
use web::log_request::{LineFormat, RequestLog};

use crate::config::{InvalidConfig, LogConfig, LogFormat, Problem};
use crate::exit::{self, Exit, ResultExt as _};

/// Starts logging for the whole process. What is returned logs requests, once its buffer [runs](LogBuffer::run).
pub fn start(config: &LogConfig) -> Result<(LogBuffer, RequestLog), Exit> {
    let filter = EnvFilter::builder()
        .parse(&config.filter)
        .map_err(|e| {
            let mend = "write it as RUST_LOG=info,rest=debug, or leave it out";
            InvalidConfig(vec![Problem::new("RUST_LOG", &format!("is no filter: {e}"), mend)])
        })
        .exit(exit::CONFIG)?;
    let terminal = std::io::stderr().is_terminal();
    let json = match config.format {
        LogFormat::Json => true,
        LogFormat::Pretty => false,
        LogFormat::Auto => !terminal,
    };
    let buffer = LogBuffer::new(std::io::stderr());
    let events = buffer.clone();
    let builder =
        fmt().with_env_filter(filter).with_writer(move || events.clone()).with_ansi(terminal && config.colour && !json);
    let started = if json {
        builder.json().flatten_event(true).with_current_span(false).try_init()
    } else {
        builder.with_target(false).try_init()
    };
    started.map_err(|e| Exit::message(exit::FAILURE, format!("logging cannot start: {e}")))?;
    let format = if json { LineFormat::Json } else { LineFormat::Pretty };
    Ok((buffer.clone(), RequestLog::new(buffer, format)))
}
