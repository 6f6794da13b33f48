//! `launchdb project domains ...`.

use serde_json::{Value, json};

use super::output::{cell, object_pairs, print, table};
use super::project::project_path;
use super::{DomainsCommand, discovery};
use crate::config::Source;
use crate::exit::Exit;

const HEADINGS: [&str; 4] = ["domain", "status", "created_at", "approved_at"];
const WAITING: [&str; 4] = ["domain", "project_id", "owner_email", "created_at"];

/// Runs one command.
pub fn run(source: &Source, command: DomainsCommand) -> Result<(), Exit> {
    let reach = match &command {
        DomainsCommand::Waiting { reach } => reach,
        DomainsCommand::List(project) => &project.reach,
        DomainsCommand::Add { project, .. }
        | DomainsCommand::Remove { project, .. }
        | DomainsCommand::Approve { project, .. } => &project.reach,
    };
    let client = discovery::connect(source, reach)?;
    let answer =
        match &command {
            DomainsCommand::List(project) => client.get(&format!("{}/domains", project_path(&client, &project.id)?))?,
            DomainsCommand::Add { project, domain } => client
                .post(&format!("{}/domains", project_path(&client, &project.id)?), &json!({ "domain": domain }))?,
            DomainsCommand::Remove { project, domain } => {
                client.delete(&format!("{}/domains/{}", project_path(&client, &project.id)?, encoded(domain)))?
            }
            DomainsCommand::Waiting { .. } => client.get("/api/domains")?,
            // The project is somebody else's, so that it can only be named by its id.
            DomainsCommand::Approve { project, domain } => client
                .post(&format!("/api/domains/{}/approve", encoded(domain)), &json!({ "project_id": project.id }))?,
        };
    if reach.json {
        return print(&answer.text);
    }
    match &answer.json["domains"] {
        Value::Array(domains) => {
            let names = if matches!(command, DomainsCommand::Waiting { .. }) { WAITING } else { HEADINGS };
            print(&table(&names, domains.iter().map(|domain| names.map(|name| cell(&domain[name])).to_vec())))
        }
        _ if matches!(command, DomainsCommand::Remove { .. }) => print("the domain is given up"),
        _ => print(&object_pairs(&answer.json)),
    }
}

/// A segment of a path.
fn encoded(domain: &str) -> String {
    url::form_urlencoded::byte_serialize(domain.as_bytes()).collect()
}
