//! An instance's configuration file, in PostgREST's format.

use std::fmt::Write as _;

use base::Project;
use base::settings::TxEnd;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Purpose of the key that the gateway signs with for an instance, see [`base::signing::SigningKeys::derive`].
pub const GATEWAY_KEY: &str = "gateway to data api instance";

const HEAD: &str = "# Written by LaunchDB's postgrest-manager, anew whenever the project changes.\n";
/// What stands below this line is the operator's and stays.
pub const OWN_SETTINGS: &str = "# --- settings of your own go below this line and are kept ---";

const URI_PART: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Where an instance listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// As PostgREST's `server-host`.
    pub host: String,
    pub port: u16,
    pub admin_port: u16,
}

/// A configuration file in its three parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conf {
    /// What counts at the start of an instance only.
    pub fixed: String,
    /// What a reload takes over.
    pub reloadable: String,
    /// The operator's, from below [`OWN_SETTINGS`].
    pub own: String,
}

impl Conf {
    /// For a project; `public_url` is the server's own, without a slash at its end.
    pub fn of(project: &Project, listen: &Listen, public_url: &str) -> Self {
        let (database, api) = (&project.database, &project.data_api);
        let encoded = |text: &str| utf8_percent_encode(text, URI_PART).to_string();
        let host = match database.host.contains(':') {
            true => format!("[{}]", database.host),
            false => encoded(&database.host),
        };
        // Other roles' timeouts are set by transaction.
        let options = format!("-c statement_timeout={}", api.statement_timeout_ms.authenticated);
        let uri = format!(
            "postgresql://{}:{}@{host}:{}/{}?options={}",
            encoded(&database.user),
            encoded(database.password.expose()),
            database.port,
            encoded(&database.database),
            encoded(&options),
        );
        let mut fixed = Lines::default();
        fixed.text("db-uri", &uri);
        fixed.plain("db-pool", api.db_pool);
        fixed.text("server-host", &listen.host);
        fixed.plain("server-port", listen.port);
        fixed.plain("admin-server-port", listen.admin_port);

        let mut reloadable = Lines::default();
        reloadable.text("db-schemas", &api.db_schema.join(", "));
        reloadable.text("db-extra-search-path", &api.db_extra_search_path.join(", "));
        reloadable.text("db-anon-role", "anon");
        if let Some(rows) = api.max_rows {
            reloadable.plain("db-max-rows", rows);
        }
        if let Some(function) = &api.db_pre_request {
            reloadable.text("db-pre-request", function);
        }
        let tx_end = match api.db_tx_end {
            TxEnd::Commit => "commit",
            TxEnd::CommitAllowOverride => "commit-allow-override",
            TxEnd::Rollback => "rollback",
            TxEnd::RollbackAllowOverride => "rollback-allow-override",
        };
        reloadable.text("db-tx-end", tx_end);
        // The catalog that settings in the database are in is closed there.
        reloadable.plain("db-config", false);
        reloadable.plain("db-aggregates-enabled", api.db_aggregates_enabled);
        reloadable.plain("db-plan-enabled", api.db_plan_enabled);
        let jwks = project.signing.verifying_jwks(&project.signing.derive(GATEWAY_KEY));
        reloadable.text("jwt-secret", jwks.expose());
        if !public_url.is_empty() {
            reloadable.text("openapi-server-proxy-uri", &format!("{public_url}/p/{}/rest/v1", project.project_ref));
        }
        let timeouts = &api.statement_timeout_ms;
        let timeouts = format!("{}, {}, {}", timeouts.anon, timeouts.authenticated, timeouts.service_role);
        // postgrest itself knows no such setting and passes over it.
        reloadable.text("launchdb-statement-timeouts", &timeouts);
        Self { fixed: fixed.0, reloadable: reloadable.0, own: String::new() }
    }

    /// The file's text.
    pub fn render(&self) -> String {
        format!("{}\n{}", self.generated(), self.own)
    }

    /// The part that is ours, up to the line that ends it.
    pub fn generated(&self) -> String {
        format!("{HEAD}{}\n{}\n{OWN_SETTINGS}", self.fixed, self.reloadable)
    }
}

/// A file's generated part and the operator's own; the latter is empty where the dividing line is gone.
pub fn split(text: &str) -> (&str, &str) {
    match text.split_once(OWN_SETTINGS) {
        Some((before, own)) => {
            let end = before.len() + OWN_SETTINGS.len();
            (&text[..end], own.strip_prefix('\n').unwrap_or(own))
        }
        None => (text, ""),
    }
}

/// The ports that a file names; what an instance that runs was started with.
pub fn ports(text: &str) -> Option<(u16, u16)> {
    let number = |name: &str| {
        let lines = text.lines().filter_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix('='));
        lines.filter_map(|value| value.trim().parse().ok()).next_back()
    };
    Some((number("server-port")?, number("admin-server-port")?))
}

#[derive(Default)]
struct Lines(String);

impl Lines {
    fn plain(&mut self, name: &str, value: impl std::fmt::Display) {
        // Writing to a String cannot fail.
        writeln!(self.0, "{name} = {value}").ok();
    }

    /// A text; `$` would begin the name of a variable.
    fn text(&mut self, name: &str, value: &str) {
        let quoted = value.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "$$");
        self.plain(name, format_args!("\"{quoted}\""));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_operator_wrote_below_the_line_is_kept() {
        let conf = Conf {
            fixed: "server-port = 1\n".into(),
            reloadable: "b = 2\n".into(),
            own: "log-level = \"info\"\n".into(),
        };
        let text = conf.render();
        assert_eq!(split(&text), (conf.generated().as_str(), conf.own.as_str()));
        assert_eq!(split("a = 1\n"), ("a = 1\n", ""));
        let edited = text.replace("b = 2", "b = 3");
        assert_ne!(split(&edited).0, conf.generated());
    }

    #[test]
    fn ports_are_read_and_the_last_one_counts() {
        assert_eq!(ports("server-port = 30000\nadmin-server-port=30001\n"), Some((30000, 30001)));
        assert_eq!(ports("server-port = 1\nserver-port = 2\nadmin-server-port = 3"), Some((2, 3)));
        assert_eq!(ports("server-port = x"), None);
    }

    #[test]
    fn values_are_quoted_for_postgrests_reader() {
        let mut lines = Lines::default();
        lines.text("jwt-secret", "{\"k\":\"a$b\\\"}");
        assert_eq!(lines.0, "jwt-secret = \"{\\\"k\\\":\\\"a$$b\\\\\\\"}\"\n");
    }
}
