//! `cargo xtask`: what is done to the workspace by a program rather than by hand.
//!
//! `cargo xtask ci` is the one gate. `cargo xtask tidy` is its fast part, the invariants of `ARCHITECTURE.md` that can be
//! read from the sources. `cargo xtask fuzz` tries random requests on the data API's pure stages for as long as wanted,
//! `cargo xtask fuzz storage` random names, headers and signatures on storage's.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::print_stdout))]

mod ci;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask ci | tidy | fuzz [storage] [--inputs N] [--seed N] | release-migrations

  ci                  tidy, fmt, clippy, tests, and deny, machete and typos where they are installed
  tidy                the invariants that can be read from the sources
  fuzz                random requests through the data API's pure stages, a million unless told otherwise;
                      with `storage` names, headers and signatures through storage's
  release-migrations  note the checksums of all migration files: from then on they may not change";

fn main() -> ExitCode {
    let root = root();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["ci"] => ci::run(&root),
        ["tidy"] => tidy::run(&root),
        ["fuzz", "storage", rest @ ..] => ci::fuzz(&root, "storage-fuzz", rest),
        ["fuzz", rest @ ..] => ci::fuzz(&root, "rest-fuzz", rest),
        ["release-migrations"] => tidy::migration::release(&root),
        _ => Err(anyhow::anyhow!(USAGE)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The workspace's folder.
fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).to_owned()
}
