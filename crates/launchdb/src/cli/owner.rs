//! `launchdb owner create`.

use std::io::{BufRead as _, IsTerminal as _};

use anyhow::Context as _;
use serde_json::json;

use super::output::{object_pairs, print};
use super::{OwnerCommand, discovery};
use crate::config::Source;
use crate::exit::{self, Exit, ResultExt as _};

/// Runs one command.
pub fn run(source: &Source, command: OwnerCommand) -> Result<(), Exit> {
    let OwnerCommand::Create { email, generate, reach } = command;
    let client = discovery::connect(source, &reach)?;
    let password = if generate { base::random::password() } else { read_password()? };
    let answer = client.post("/api/owners", &json!({ "email": email, "password": password }))?;
    if reach.json {
        print(&answer.text)?;
    } else {
        print(&object_pairs(&answer.json))?;
    }
    if generate {
        // On standard error, so that --json stays the API's own answer.
        note(&format!("password of {email} (shown only now): {password}"));
    }
    Ok(())
}

fn read_password() -> Result<String, Exit> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        note("password of the new owner (it is shown while you type; end with Enter):");
    }
    let mut line = String::new();
    stdin.lock().read_line(&mut line).context("cannot read the password").exit(exit::FAILURE)?;
    let password = line.trim_end_matches(['\r', '\n']).to_owned();
    if password.is_empty() {
        return Err(Exit::message(exit::USAGE, "there is no password on standard input: give one, or use --generate"));
    }
    Ok(password)
}

fn note(text: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "{text}");
}
