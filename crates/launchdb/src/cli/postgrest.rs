//! `launchdb postgrest ...`: the postgrest-manager's API for operators and scripts.

use base::ProjectRef;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::{Client, refusal};
use super::discovery;
use super::output::{cell, object_pairs, print, table};
use crate::config::Source;
use crate::exit::{self, Exit, ResultExt as _};
use crate::secrets_file;

const HEADINGS: [&str; 5] = ["projectId", "containerName", "port", "status", "restarts"];
/// Where the manager is when nobody says.
const URL: &str = "http://127.0.0.1:9000";
const KEY: &str = "INTERNAL_API_KEY";

#[derive(Debug, Subcommand)]
pub enum PostgrestCommand {
    /// List the instances
    List(ManagerArgs),
    /// Start an instance for a project; one that is there already is refused
    Spawn(OneInstance),
    /// Have a project served by an instance: as spawn, but one that is there already is fine
    Add(OneInstance),
    /// Have an instance read its configuration file again (SIGHUP), without a request dropped
    Reload(OneInstance),
    /// End an instance and remove its configuration
    Remove(OneInstance),
}

#[derive(Debug, Args)]
pub struct OneInstance {
    /// Id of the project (proj_...)
    #[arg(value_name = "ID", value_parser = ProjectRef::parse)]
    id: ProjectRef,
    #[command(flatten)]
    manager: ManagerArgs,
}

#[derive(Debug, Args)]
pub struct ManagerArgs {
    /// Where the manager is [variable: LAUNCHDB_POSTGREST_MANAGER_URL; default: http://127.0.0.1:9000]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Print exactly the JSON that the manager answers
    #[arg(long)]
    json: bool,
}

/// Runs one command.
pub fn run(source: &Source, command: &PostgrestCommand) -> Result<(), Exit> {
    let (method, one) = match command {
        PostgrestCommand::List(args) => {
            let answer = connect(source, args)?.call("GET", "/internal/postgrest", None)?;
            if args.json {
                return print(&answer.text);
            }
            let list = answer.json["containers"].as_array().cloned().unwrap_or_default();
            return print(&table(&HEADINGS, list.iter().map(|one| HEADINGS.map(|name| cell(&one[name])).to_vec())));
        }
        PostgrestCommand::Spawn(one) | PostgrestCommand::Add(one) | PostgrestCommand::Reload(one) => ("POST", one),
        PostgrestCommand::Remove(one) => ("DELETE", one),
    };
    let id = &one.id;
    let (path, body) = match command {
        PostgrestCommand::Reload(_) => (format!("/internal/postgrest/{id}/restart"), None),
        PostgrestCommand::Remove(_) => (format!("/internal/postgrest/{id}"), None),
        _ => ("/internal/postgrest/spawn".to_owned(), Some(json!({ "projectId": id }))),
    };
    let (status, text) = connect(source, &one.manager)?.send(method, &path, body.as_ref())?;
    let answer: Value = serde_json::from_str(&text).unwrap_or_default();
    let is_there = matches!(command, PostgrestCommand::Add(_)) && answer["error"]["code"] == "already_running";
    match status {
        _ if is_there => print(&format!("{id} has an instance already")),
        200..300 if one.manager.json => print(&text),
        200..300 => print(&object_pairs(&answer)),
        // Its mend would be about owners' tokens.
        401 => Err(Exit::message(exit::NOT_ALLOWED, "the manager has another INTERNAL_API_KEY than this command")),
        status => Err(refusal(status, &answer, &text)),
    }
}

fn connect(source: &Source, args: &ManagerArgs) -> Result<Client, Exit> {
    let url = args.url.as_deref().or_else(|| source.get("LAUNCHDB_POSTGREST_MANAGER_URL")).unwrap_or(URL);
    let key = match source.get(KEY) {
        Some(key) => Some(key.to_owned()),
        None => match discovery::find_data_folder(source, None)? {
            Some(data) => secrets_file::read(&secrets_file::path(&data))?.get(KEY).map(|key| key.expose().clone()),
            None => None,
        },
    };
    let key = key.ok_or_else(|| {
        Exit::message(exit::CONFIG, "INTERNAL_API_KEY is not set, and no data folder was found that has one")
    })?;
    Client::new(url, None).map(|client| client.with_internal_key(key)).map_err(|error| error.error).exit(exit::USAGE)
}
