//! Running a server: wiring of the services, start, shutdown.

pub mod bind;
pub mod logging;
pub mod status_page;

use crate::config::{Config, Invocation, Source};
use crate::exit::{self, Exit, ResultExt as _};

pub fn server(source: &Source, invocation: &Invocation, demo: bool) -> Result<(), Exit> {
    let config = Config::load(source, invocation).exit(exit::CONFIG)?;
    logging::start(&config.log)?;
    let _ = demo;
    let _listeners = bind::bind(&config.listen)?;
    Ok(())
}

pub fn dropin(_source: &Source, _args: Vec<String>) -> Result<(), Exit> {
    Ok(())
}
