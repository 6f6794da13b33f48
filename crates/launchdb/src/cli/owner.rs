//! `launchdb owner create`.

use std::io::{BufRead as _, IsTerminal as _};

use anyhow::Context as _;
use serde_json::json;

use super::output::{cell, pairs, print};
use super::{OwnerCommand, discovery};
use crate::config::Source;
use crate::exit::{self, Exit, ResultExt as _};

/// Runs one command.
pub fn run(source: &Source, command: OwnerCommand) -> Result<(), Exit> {
    let OwnerCommand::Create { email, generate, reach } = command;
    let client = discovery::connect(source, &reach)?;
    // Without a password the server makes one and answers it, this one time.
    let body =
        if generate { json!({ "email": email }) } else { json!({ "email": email, "password": read_password()? }) };
    let answer = client.post("/api/owners", &body)?;
    if reach.json {
        return print(&answer.text);
    }
    let owner = &answer.json["owner"];
    let mut rows = vec![("owner", cell(&owner["email"])), ("id", cell(&owner["id"]))];
    if generate {
        rows.push(("password", format!("{}   (shown only now)", cell(&answer.json["password"]))));
    }
    print(&pairs(rows))
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
