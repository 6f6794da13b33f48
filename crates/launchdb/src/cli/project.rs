//! `launchdb project ...`: the platform API's projects, from the command line.

use std::io::{IsTerminal as _, Read as _, Write as _};

use anyhow::Context as _;
use base::ProjectRef;
use serde_json::{Value, json};

use super::client::{Answer, Client};
use super::output::{cell, object_pairs, pairs, print, table};
use super::{KeysCommand, OneProject, ProjectCommand, ReachArgs, discovery};
use crate::config::Source;
use crate::exit::{self, Exit, ResultExt as _};

/// Runs one command.
pub fn run(source: &Source, command: ProjectCommand) -> Result<(), Exit> {
    match command {
        ProjectCommand::Create { name, reach } => create(source, &reach, &name),
        ProjectCommand::List { deleted, reach } => list(source, &reach, deleted),
        ProjectCommand::Show(project) => show(source, &project, "", object_pairs),
        ProjectCommand::Connection(project) => show(source, &project, "/connection", object_pairs),
        ProjectCommand::Settings { project, set: None } => show(source, &project, "/settings", pretty),
        ProjectCommand::Settings { project, set: Some(set) } => change_settings(source, &project, &set),
        ProjectCommand::Delete { project, yes } => delete(source, &project, yes),
        ProjectCommand::Suspend(project) => act(source, &project, "POST", "/suspend", "suspended"),
        ProjectCommand::Resume(project) => act(source, &project, "POST", "/resume", "answers again"),
        ProjectCommand::RotatePasswords(project) => {
            let client = discovery::connect(source, &project.reach)?;
            let path = format!("{}/database/rotate-passwords", project_path(&client, &project.id)?);
            let answer = client.post(&path, &json!({}))?;
            show_answer(&project.reach, &answer, object_pairs)
        }
        ProjectCommand::Restore(project) => act(source, &project, "POST", "/restore", "restored"),
        ProjectCommand::Slow(project) => show(source, &project, "/slow-queries?limit=200", slow_queries),
        ProjectCommand::Sql { project, query, file, read_only } => {
            let sql = match (query, file) {
                (Some(query), _) => query,
                (None, Some(file)) => std::fs::read_to_string(&file)
                    .with_context(|| format!("cannot read {}", file.display()))
                    .exit(exit::FAILURE)?,
                (None, None) => read_stdin()?,
            };
            run_sql(source, &project, &sql, read_only)
        }
        ProjectCommand::Keys(command) => keys(source, command),
        ProjectCommand::S3Keys(command) => super::s3_keys::run(source, command),
        ProjectCommand::Domains(command) => super::domains::run(source, command),
        ProjectCommand::Extensions(command) => super::extensions::run(source, command),
    }
}

fn read_stdin() -> Result<String, Exit> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).context("cannot read standard input").exit(exit::FAILURE)?;
    Ok(text)
}

/// Prints the answer's own text with `--json`, and what `human` makes of it otherwise.
fn show_answer(reach: &ReachArgs, answer: &Answer, human: impl FnOnce(&Value) -> String) -> Result<(), Exit> {
    if reach.json { print(&answer.text) } else { print(&human(&answer.json)) }
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

/// What can be read of each at a glance; `--json` has it whole.
fn slow_queries(answer: &Value) -> String {
    const COLUMNS: [&str; 6] = ["at", "duration_ms", "rows", "role", "request_id", "statement"];
    const WIDTH: usize = 100;
    let queries = answer["slow_queries"].as_array().map(Vec::as_slice).unwrap_or_default();
    let cells = |query: &Value| COLUMNS.map(|name| cell(&query[name]).chars().take(WIDTH).collect()).to_vec();
    table(&COLUMNS, queries.iter().map(cells))
}

/// The path of a project given by id or name.
pub fn project_path(client: &Client, id_or_name: &str) -> Result<String, Exit> {
    if ProjectRef::parse(id_or_name).is_ok() {
        // A name may look like an id.
        let path = format!("/api/projects/{id_or_name}");
        if client.send("GET", &path, None)?.0 != 404 {
            return Ok(path);
        }
    }
    // Deleted ones too, for `restore`; one that is there wins over deleted ones of the same name.
    let projects = all_projects(client, true)?;
    let named = || projects.iter().filter(|project| project["name"] == id_or_name);
    let found = named().find(|project| project["status"] != "deleted").or_else(|| named().next());
    match found.and_then(|project| project["id"].as_str()) {
        Some(id) => Ok(format!("/api/projects/{id}")),
        None => Err(Exit::message(
            exit::NOT_FOUND,
            format!("there is no project \"{id_or_name}\": `launchdb project list` shows those there are"),
        )),
    }
}

/// Every project of the owner, page by page.
pub fn all_projects(client: &Client, include_deleted: bool) -> Result<Vec<Value>, Exit> {
    let mut all = Vec::new();
    let mut offset = Some(0);
    while let Some(at) = offset {
        let path = format!("/api/projects?limit=1000&offset={at}&include_deleted={include_deleted}");
        let mut page = client.get(&path)?.json;
        if let Value::Array(projects) = page["projects"].take() {
            all.extend(projects);
        }
        offset = page["next_offset"].as_u64();
    }
    Ok(all)
}

fn create(source: &Source, reach: &ReachArgs, name: &str) -> Result<(), Exit> {
    let client = discovery::connect(source, reach)?;
    let answer = client.post("/api/projects", &json!({ "name": name }))?;
    if reach.json {
        return print(&answer.text);
    }
    let id = answer.json["id"].as_str().unwrap_or_default();
    let connection = client.get(&format!("/api/projects/{id}/connection"))?.json;
    print(&pairs([
        ("project", cell(&connection["project_id"])),
        ("api url", cell(&connection["api_url"])),
        ("anon key", cell(&connection["anon_key"])),
        ("database", format!("launchdb project connection {id}   (shows passwords)")),
    ]))
}

fn list(source: &Source, reach: &ReachArgs, deleted: bool) -> Result<(), Exit> {
    let client = discovery::connect(source, reach)?;
    if reach.json {
        return print(&client.get(&format!("/api/projects?limit=1000&include_deleted={deleted}"))?.text);
    }
    let projects = all_projects(&client, deleted)?;
    let cells = |project: &Value| ["id", "name", "status", "created_at"].map(|name| cell(&project[name])).to_vec();
    print(&table(&["id", "name", "status", "created"], projects.iter().map(cells)))
}

fn show(source: &Source, project: &OneProject, path: &str, human: fn(&Value) -> String) -> Result<(), Exit> {
    let client = discovery::connect(source, &project.reach)?;
    let answer = client.get(&format!("{}{path}", project_path(&client, &project.id)?))?;
    show_answer(&project.reach, &answer, human)
}

fn change_settings(source: &Source, project: &OneProject, set: &str) -> Result<(), Exit> {
    let text = if set == "-" { read_stdin()? } else { set.to_owned() };
    let settings: Value = serde_json::from_str(&text).context("the settings are no JSON").exit(exit::USAGE)?;
    let client = discovery::connect(source, &project.reach)?;
    let answer = client.patch(&format!("{}/settings", project_path(&client, &project.id)?), &settings)?;
    show_answer(&project.reach, &answer, pretty)
}

fn act(source: &Source, project: &OneProject, method: &str, path: &str, done: &str) -> Result<(), Exit> {
    let client = discovery::connect(source, &project.reach)?;
    let answer = client.call(method, &format!("{}{path}", project_path(&client, &project.id)?), None)?;
    if project.reach.json && answer.text.is_empty() {
        return Ok(());
    }
    show_answer(&project.reach, &answer, |_| format!("project {}: {done}", project.id))
}

/// Asks first where somebody can answer.
fn delete(source: &Source, project: &OneProject, yes: bool) -> Result<(), Exit> {
    if !yes && std::io::stdin().is_terminal() {
        let client = discovery::connect(source, &project.reach)?;
        let found = client.get(&project_path(&client, &project.id)?)?.json;
        let question = format!("delete project \"{}\" ({})? [y/N] ", cell(&found["name"]), cell(&found["id"]));
        let mut answer = String::new();
        let _ = write!(std::io::stderr(), "{question}");
        std::io::stdin().read_line(&mut answer).context("cannot read the answer").exit(exit::FAILURE)?;
        if !matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
            return Err(Exit::message(exit::FAILURE, "nothing was deleted"));
        }
    }
    act(source, project, "DELETE", "", "deleted; bring it back with `restore`")
}

fn run_sql(source: &Source, project: &OneProject, sql: &str, read_only: bool) -> Result<(), Exit> {
    let client = discovery::connect(source, &project.reach)?;
    let path = format!("{}/sql", project_path(&client, &project.id)?);
    let answer = client.post(&path, &json!({ "query": sql, "read_only": read_only }))?;
    show_answer(&project.reach, &answer, sql_text)
}

/// The results of each statement: rows as a table, otherwise its command tag.
fn sql_text(json: &Value) -> String {
    // One statement is the answer itself; several are listed.
    let results = json["results"].as_array().map_or(std::slice::from_ref(json), Vec::as_slice);
    let texts = results.iter().map(|result| {
        let columns: Vec<&str> = result["columns"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|c| c["name"].as_str().or(c.as_str()))
            .collect();
        let command = cell(&result["command"]);
        if columns.is_empty() {
            return command;
        }
        let rows = result["rows"].as_array().into_iter().flatten().map(|row| match row {
            Value::Array(cells) => cells.iter().map(cell).collect(),
            Value::Object(members) => members.values().map(cell).collect(),
            other => vec![cell(other)],
        });
        let cut = if result["truncated"] == true { " (more rows than an answer holds)" } else { "" };
        format!("{}\n{command}{cut}", table(&columns, rows))
    });
    texts.collect::<Vec<_>>().join("\n")
}

fn keys(source: &Source, command: KeysCommand) -> Result<(), Exit> {
    match command {
        KeysCommand::List(project) => show(source, &project, "/keys", |json| {
            let rows = json["keys"].as_array().into_iter().flatten();
            let names = ["id", "name", "kind", "prefix", "created_at", "last_used_at", "revoked_at"];
            table(
                &["key", "name", "kind", "prefix", "created", "last used", "revoked"],
                rows.map(|key| names.map(|name| cell(&key[name])).to_vec()),
            )
        }),
        KeysCommand::Create { project, name, secret } => {
            let client = discovery::connect(source, &project.reach)?;
            let kind = if secret { "secret" } else { "publishable" };
            let path = format!("{}/keys", project_path(&client, &project.id)?);
            let answer = client.post(&path, &json!({ "name": name, "kind": kind }))?;
            show_answer(&project.reach, &answer, object_pairs)
        }
        KeysCommand::Revoke { project, key } => {
            act(source, &project, "DELETE", &format!("/keys/{key}"), "the key is revoked")
        }
        KeysCommand::RotateJwtSecret { project, end_old_tokens } => {
            let client = discovery::connect(source, &project.reach)?;
            let path = format!("{}/keys/rotate-jwt-secret", project_path(&client, &project.id)?);
            let answer = client.post(&path, &json!({ "end_old_tokens": end_old_tokens }))?;
            show_answer(&project.reach, &answer, object_pairs)
        }
        KeysCommand::EndOldTokens(project) => {
            act(source, &project, "DELETE", "/keys/previous-jwt-secrets", "tokens of earlier JWT secrets are ended")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_sql_are_tables_and_tags() {
        let json = json!({"results": [
            {"command": "CREATE TABLE", "columns": [], "rows": []},
            {"command": "SELECT 1", "columns": [{"name": "a"}, {"name": "b"}], "rows": [["x", null]]},
        ]});
        let lines: Vec<_> = sql_text(&json).lines().map(|l| l.trim().to_owned()).collect();
        assert_eq!(lines[0], "CREATE TABLE");
        assert!(lines[1].starts_with('A') && lines[2] == "x" && lines[3] == "SELECT 1", "{lines:?}");
        let one = json!({"command": "SELECT 1", "columns": [{"name": "a"}], "rows": [{"a": 7}], "truncated": true});
        assert!(sql_text(&one).contains('7') && sql_text(&one).ends_with("holds)"));
    }
}
