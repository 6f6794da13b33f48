//! `launchdb owner ...`.

use serde_json::{Value, json};

use super::output::{cell, pairs, print};
use super::{OwnerCommand, discovery, password};
use crate::config::Source;
use crate::exit::Exit;

/// Runs one command.
pub fn run(source: &Source, command: OwnerCommand) -> Result<(), Exit> {
    let (path, mut body, generate, reach) = match command {
        OwnerCommand::Create { email, generate, admin, reach } => {
            ("/api/owners", json!({ "email": email, "is_admin": admin }), generate, reach)
        }
        OwnerCommand::SetPassword { email, generate, reach } => {
            ("/api/owners/set-password", json!({ "email": email }), generate, reach)
        }
    };
    let client = discovery::connect(source, &reach)?;
    // Without a password the server makes one and answers it, this one time.
    if !generate {
        body["password"] = Value::from(password::ask(&format!("new password of {}", cell(&body["email"])))?);
    }
    let answer = client.post(path, &body)?;
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
