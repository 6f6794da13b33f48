//! What the person who started a server reads on standard output.

use platform::FirstOwner;

use super::starter::ReadyProject;

/// Everything to be said.
pub struct Welcome {
    pub public_url: String,
    pub status_url: Option<String>,
    pub admin_url: Option<String>,
    pub data: Option<String>,
    /// Where PostgreSQL is, in words.
    pub database: String,
    /// Made at this start.
    pub first_owner: Option<FirstOwner>,
    pub project: Option<ReadyProject>,
    pub notes: Vec<String>,
    /// Milliseconds from the start to the first answer.
    pub ready_ms: u64,
}

impl Welcome {
    /// The text; the owner's password is in it, this one time.
    pub fn text(&self) -> String {
        let mut text = format!("\nLaunchDB is ready ({} ms).\n\n", self.ready_ms);
        let mut line = |name: &str, value: &str| text.push_str(&format!("  {name:<15}{value}\n"));
        line("URL", &self.public_url);
        if let Some(status) = &self.status_url {
            line("status page", status);
        }
        if let Some(admin) = &self.admin_url {
            line("metrics", admin);
        }
        line("PostgreSQL", &self.database);
        if let Some(data) = &self.data {
            line("data folder", data);
        }
        if let Some(owner) = &self.first_owner {
            line("owner", &owner.email);
            match &owner.password {
                Some(password) => {
                    line("password", &format!("{}   (shown only now; keep it)", password.expose()));
                }
                None => line("password", "the one in LAUNCHDB_OWNER_PASSWORD"),
            }
        }
        if let Some(project) = &self.project {
            line("project", &format!("{} ({})", project.name, project.id));
            line("  URL", &project.api_url);
            line("  anon key", &project.anon_key);
            line("  all keys", &format!("launchdb project connection {}", project.name));
        }
        for note in &self.notes {
            line("note", note);
        }
        if let Some(project) = &self.project {
            text.push_str("\nPaste this into a module (npm install @supabase/supabase-js):\n\n");
            for snippet_line in project.snippet().lines() {
                text.push_str(&format!("  {snippet_line}\n"));
            }
        }
        text.push_str("\nCtrl-C stops everything.\n");
        text
    }
}
