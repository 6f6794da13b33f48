//! `launchdb project s3-keys ...`.

use serde_json::{Value, json};

use super::output::{cell, object_pairs, print, table};
use super::project::project_path;
use super::{S3KeysCommand, discovery};
use crate::config::Source;
use crate::exit::Exit;

const HEADINGS: [&str; 4] = ["id", "name", "access_key_id", "created_at"];

/// Runs one command.
pub fn run(source: &Source, command: S3KeysCommand) -> Result<(), Exit> {
    let (S3KeysCommand::List(project) | S3KeysCommand::Create { project, .. } | S3KeysCommand::Delete { project, .. }) =
        &command;
    let client = discovery::connect(source, &project.reach)?;
    let path = format!("{}/s3-keys", project_path(&client, &project.id)?);
    let answer = match &command {
        S3KeysCommand::List(_) => client.get(&path)?,
        S3KeysCommand::Create { name, .. } => client.post(&path, &json!({ "name": name }))?,
        S3KeysCommand::Delete { key, .. } => client.delete(&format!("{path}/{key}"))?,
    };
    if project.reach.json {
        return print(&answer.text);
    }
    match &answer.json["keys"] {
        Value::Array(list) => {
            print(&table(&HEADINGS, list.iter().map(|one| HEADINGS.map(|name| cell(&one[name])).to_vec())))
        }
        _ if matches!(command, S3KeysCommand::Delete { .. }) => print("the access key is deleted"),
        _ => print(&object_pairs(&answer.json)),
    }
}
