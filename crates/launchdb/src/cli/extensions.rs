//! `launchdb project extensions ...`.

use serde_json::{Value, json};

use super::output::{cell, object_pairs, print, table};
use super::project::project_path;
use super::{ExtensionsCommand, discovery};
use crate::config::Source;
use crate::exit::Exit;

const HEADINGS: [&str; 6] = ["name", "installed_version", "schema", "version", "install", "comment"];

/// Runs one command.
pub fn run(source: &Source, command: ExtensionsCommand) -> Result<(), Exit> {
    let (ExtensionsCommand::List(project)
    | ExtensionsCommand::Install { project, .. }
    | ExtensionsCommand::Remove { project, .. }) = &command;
    let client = discovery::connect(source, &project.reach)?;
    let path = format!("{}/extensions", project_path(&client, &project.id)?);
    let answer = match &command {
        ExtensionsCommand::List(_) => client.get(&path)?,
        ExtensionsCommand::Install { name, .. } => client.post(&path, &json!({ "name": name }))?,
        ExtensionsCommand::Remove { name, .. } => client.delete(&format!("{path}/{name}"))?,
    };
    if project.reach.json {
        return print(&answer.text);
    }
    match &answer.json["extensions"] {
        Value::Array(list) => {
            print(&table(&HEADINGS, list.iter().map(|one| HEADINGS.map(|name| cell(&one[name])).to_vec())))
        }
        _ if matches!(command, ExtensionsCommand::Remove { .. }) => print("the extension is removed"),
        _ => print(&object_pairs(&answer.json)),
    }
}
