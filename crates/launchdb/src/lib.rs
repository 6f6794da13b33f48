//! The binary's inside: command line, configuration, wiring and the run loop.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::print_stdout))]

pub mod acme;
pub mod cli;
pub mod config;
pub mod exit;
pub mod files_backup;
pub mod private_file;
pub mod run;
pub mod secrets_file;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::{Cli, Command};
use crate::config::{InvalidConfig, Invocation, Source};
use crate::exit::{Exit, ResultExt as _};

/// The whole program: reads the arguments, does what they say, prints an error once.
pub fn main(args: Vec<OsString>) -> ExitCode {
    // A file called `postgrest` is the data API alone, so that it can be put in postgrest's place.
    let called = args.first().map(Path::new).and_then(Path::file_name).unwrap_or_default();
    let result = if called == "postgrest" {
        let rest = args.into_iter().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect::<Vec<_>>();
        run::dropin::run(&rest)
    } else {
        dispatch(Cli::parse_from(args))
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(exit) => {
            let _ = writeln!(std::io::stderr(), "launchdb: {}", exit.text());
            ExitCode::from(exit.code)
        }
    }
}

fn source() -> Result<Source, Exit> {
    Source::of_process().map_err(InvalidConfig).exit(exit::CONFIG)
}

fn dispatch(cli: Cli) -> Result<(), Exit> {
    // What postgrest does not read is of no concern to what stands in for it.
    if let Command::Rest(args) = &cli.command {
        return run::dropin::run(&args.args);
    }
    let source = source()?;
    match cli.command {
        Command::Dev(args) => {
            let invocation = Invocation { data: args.data, port: args.port, bind: args.bind, ..Invocation::default() };
            run::server(&source, &invocation, args.demo)
        }
        Command::Serve(args) => {
            let invocation = Invocation {
                serve: true,
                only: args.only,
                data: args.data,
                port: args.port,
                bind: args.bind,
                tls: args.tls,
            };
            run::server(&source, &invocation, false)
        }
        Command::Project(command) => cli::project::run(&source, command),
        Command::Login(args) => cli::login::log_in(&source, &args),
        Command::Logout(args) => cli::login::log_out(&source, &args),
        Command::Owner(command) => cli::owner::run(&source, command),
        Command::Storage(command) => cli::storage::run(&source, command),
        Command::Pooler(command) => cli::pooler::run(&source, &command),
        Command::Postgrest(command) => cli::postgrest::run(&source, &command),
        Command::Rotate(command) => cli::rotate::run(&source, command),
        Command::Init(args) => cli::init::run(&args),
        Command::Migrate(command) => cli::migrate::run(&source, command),
        Command::Backup(command) => cli::backup::run(&source, command),
        Command::Restore(args) => cli::backup::restore(&source, args),
        Command::Status(reach) => cli::status::run(&source, &reach),
        Command::Doctor(args) => cli::doctor::run(&source, &args),
        Command::Mail(args) => cli::status::mail(&source, &args),
        Command::Rest(args) => run::dropin::run(&args.args),
    }
}
