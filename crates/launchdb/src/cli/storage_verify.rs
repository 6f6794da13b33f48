//! `launchdb storage verify`: asks the running server to compare the rows and files of projects.

use serde_json::{Value, json};

use super::client::Client;
use super::output::{print, table};
use super::project::{all_projects, project_path};
use super::{VerifyArgs, discovery};
use crate::config::Source;
use crate::exit::{self, Exit};

/// Compares project by project and prints what was found; fails when something is not as it should be.
pub fn run(source: &Source, args: &VerifyArgs) -> Result<(), Exit> {
    let client = discovery::connect(source, &args.reach)?;
    let paths = match &args.project {
        Some(project) => vec![project_path(&client, project)?],
        None => all_projects(&client, false)?
            .iter()
            .filter(|project| project["status"] == "active")
            .filter_map(|project| project["id"].as_str().map(|id| format!("/api/projects/{id}")))
            .collect(),
    };
    let mut reports = Vec::with_capacity(paths.len());
    for path in paths {
        let connection = client.get(&format!("{path}/connection"))?.json;
        let text = |name: &str| connection[name].as_str().unwrap_or_default().to_owned();
        let (id, key) = (text("project_id"), text("service_role_key"));
        // The storage service takes the project's key and not the owner's token.
        let storage = Client::new(client.url(), Some(key))?;
        let body = json!({ "checksums": !args.quick, "repair": args.repair, "grace": args.grace });
        let mut report = storage.post(&format!("/p/{id}/storage/v1/_launchdb/verify"), &body)?.json;
        report["project"] = id.into();
        reports.push(report);
    }
    let clean = reports.iter().all(|report| report["clean"] == true);
    print(&if args.reach.json { Value::Array(reports).to_string() } else { human(&reports) })?;
    match clean {
        true => Ok(()),
        false => Err(Exit::message(exit::FAILURE, "rows and files do not agree everywhere")),
    }
}

fn human(reports: &[Value]) -> String {
    const COLUMNS: [&str; 6] = ["project", "objects", "files", "bytes_read", "orphans", "repaired"];
    let cells = |report: &Value| {
        let mut cells: Vec<String> = COLUMNS.iter().map(|name| super::output::cell(&report[*name])).collect();
        let named = report["faults"].as_array().map_or(0, |faults| faults.len() as u64);
        cells.push((named + report["more_faults"].as_u64().unwrap_or_default()).to_string());
        cells
    };
    let headings = ["project", "objects", "files", "bytes read", "without a row", "repaired", "faults"];
    let mut text = table(&headings, reports.iter().map(cells));
    for report in reports {
        for fault in report["faults"].as_array().into_iter().flatten() {
            let field = |name: &str| fault[name].as_str().unwrap_or_default();
            let project = report["project"].as_str().unwrap_or_default();
            text.push_str(&format!("\n{project} {}: {}", field("object"), field("what")));
        }
    }
    text
}
