//! A project to begin with, made through our own API as its owner would make it.

use serde_json::{Value, json};

use crate::cli::client::Client;
use crate::exit::Exit;

/// The project with data to try, of `--demo`.
pub const DEMO: &str = "demo";
/// The project of a new data folder.
pub const FIRST: &str = "first";

/// A project that can be used at once, for the welcome.
pub struct ReadyProject {
    pub name: String,
    pub id: String,
    pub api_url: String,
    pub anon_key: String,
}

impl ReadyProject {
    /// Lines to paste into a module. The comment is for Node 20: without a WebSocket of its own the client throws there.
    pub fn snippet(&self) -> String {
        let query = match self.name.as_str() {
            DEMO => ".from('planets').select('name, moons(name)').order('id')",
            FIRST => ".from('greetings').select()",
            _ => ".from('<a table of yours>').select()",
        };
        format!(
            "import {{ createClient }} from '@supabase/supabase-js'\n\
             // Before Node 22: npm install ws, import ws from 'ws', and a third argument {{ realtime: {{ transport: ws }} }}\n\
             const supabase = createClient('{}', '{}')\n\
             const {{ data, error }} = await supabase{query}\n\
             console.log(error ?? data)",
            self.api_url, self.anon_key
        )
    }
}

/// Makes the demo project, unless it is there with all its tables; changes nothing that is.
pub fn ensure_demo(client: &Client) -> Result<(), Exit> {
    ensure(client, DEMO, include_str!("demo.sql"))
}

/// Makes the project of a new data folder.
pub fn ensure_first(client: &Client) -> Result<(), Exit> {
    ensure(client, FIRST, include_str!("starter.sql"))
}

fn ensure(client: &Client, name: &str, sql: &str) -> Result<(), Exit> {
    let id = match find(client, |project| project["name"] == name)? {
        Some(project) if project["status"] != "active" => return Ok(()),
        Some(project) => text(&project["id"]),
        None => text(&client.post("/api/projects", &json!({ "name": name }))?.json["id"]),
    };
    client.post(&format!("/api/projects/{id}/sql"), &json!({ "query": sql })).map(|_| ())
}

/// A project for the welcome: the demo, the first, or any that is active.
pub fn ready_project(client: &Client) -> Result<Option<ReadyProject>, Exit> {
    let mut found = None;
    for name in [DEMO, FIRST] {
        if found.is_none() {
            found = find(client, |project| project["name"] == name && project["status"] == "active")?;
        }
    }
    let Some(project) = found.map_or_else(|| find(client, |project| project["status"] == "active"), |p| Ok(Some(p)))?
    else {
        return Ok(None);
    };
    let id = text(&project["id"]);
    let connection = client.get(&format!("/api/projects/{id}/connection"))?.json;
    Ok(Some(ReadyProject {
        name: text(&project["name"]),
        id,
        api_url: text(&connection["api_url"]),
        anon_key: text(&connection["anon_key"]),
    }))
}

fn find(client: &Client, wanted: impl Fn(&Value) -> bool) -> Result<Option<Value>, Exit> {
    let page = client.get("/api/projects?limit=1000")?.json;
    Ok(page["projects"].as_array().into_iter().flatten().find(|project| wanted(project)).cloned())
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_snippet_is_short_and_works_with_every_node() {
        let project = ReadyProject {
            name: DEMO.to_owned(),
            id: "proj_abc".to_owned(),
            api_url: "http://127.0.0.1:8000/p/proj_abc".to_owned(),
            anon_key: "k".to_owned(),
        };
        assert_eq!(project.snippet().lines().count(), 5);
        assert!(project.snippet().contains("transport: ws"));
        assert!(project.snippet().contains("createClient('http://127.0.0.1:8000/p/proj_abc', 'k')"));
    }

    #[test]
    fn what_we_ship_is_small() {
        assert!(include_str!("demo.sql").len() < 30_000);
    }
}
