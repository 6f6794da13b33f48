//! PostgREST's configuration file and what libpq takes from its surroundings, for `launchdb rest`.

use std::path::PathBuf;
use std::time::Duration;

use base::Secret;
use pg::LibpqDefaults;
use rest::dropin::SettingsSource;

use super::source::{EnvFileError, env_value, variable, variables_with_prefix};

/// The configuration file, if one was given, and the `PGRST_*` variables.
pub struct PostgrestSource {
    pub file: Option<PathBuf>,
}

impl SettingsSource for PostgrestSource {
    fn settings(&self) -> Result<Vec<(String, String)>, String> {
        let mut settings = Vec::new();
        if let Some(file) = &self.file {
            let text = std::fs::read_to_string(file).map_err(|e| format!("cannot read {}: {e}", file.display()))?;
            settings = parse_file(&text, variable).map_err(|e| format!("{}: {e}", file.display()))?;
        }
        settings.extend(variables_with_prefix("PGRST_"));
        Ok(settings)
    }

    fn file(&self, path: &str) -> Result<Vec<u8>, String> {
        std::fs::read(path).map_err(|e| format!("cannot read {path}: {e}"))
    }
}

/// Reads PostgREST's configuration file (its docs, "Config File"): `key = value` lines, texts in double quotes with
/// `\"`, `\\`, `\n` and `\t` as escapes, `$(NAME)` for a variable of the environment, `#` comments.
fn parse_file(text: &str, lookup: impl Fn(&str) -> Option<String>) -> Result<Vec<(String, String)>, EnvFileError> {
    let mut values = Vec::new();
    for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let fail = |what| EnvFileError { line: index + 1, what };
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (key, value) = line.split_once('=').ok_or_else(|| fail("there is no \"=\""))?;
        let (key, value) = (key.trim(), value.trim_start());
        let mut text = interpolated(&env_value(value).map_err(fail)?, &lookup).map_err(fail)?;
        // Of a value that is no text, PostgREST hands on how it prints it.
        if key.starts_with("app.settings.") && !value.starts_with('"') {
            match text.as_str() {
                "true" | "on" => text = "Bool True".to_owned(),
                "false" | "off" => text = "Bool False".to_owned(),
                _ => {}
            }
        }
        values.push((key.to_owned(), text));
    }
    Ok(values)
}

/// The text with `$(NAME)` replaced by the variable's value and `$$` by one `$`.
fn interpolated(text: &str, lookup: impl Fn(&str) -> Option<String>) -> Result<String, &'static str> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('(') {
            let (name, after) = after.split_once(')').ok_or("\"$(\" is not closed")?;
            out.push_str(&lookup(name).ok_or("it names a variable that is not set")?);
            rest = after;
        } else {
            out.push('$');
            rest = after.strip_prefix('$').unwrap_or(after);
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// What libpq would add to a connection string (PostgreSQL docs, "Environment Variables"). Variables that are empty
/// count as not set.
pub fn libpq_defaults() -> LibpqDefaults {
    let get = |name: &str| variable(name).filter(|value| !value.is_empty());
    let session = [("PGOPTIONS", "options"), ("PGTZ", "TimeZone"), ("PGDATESTYLE", "DateStyle")]
        .into_iter()
        .chain([("PGAPPNAME", "application_name")])
        .filter_map(|(name, setting)| Some((setting.to_owned(), get(name)?)));
    let password_file = get("PGPASSFILE").or_else(|| Some(format!("{}/.pgpass", get("HOME")?)));
    LibpqDefaults {
        host: get("PGHOSTADDR").or_else(|| get("PGHOST")),
        port: get("PGPORT").and_then(|port| port.parse().ok()),
        user: get("PGUSER").or_else(os_user),
        password: get("PGPASSWORD").map(Secret::new),
        database: get("PGDATABASE"),
        connect_timeout: get("PGCONNECT_TIMEOUT")
            .and_then(|seconds| seconds.parse().ok())
            .filter(|seconds| *seconds > 0)
            .map(Duration::from_secs),
        session_settings: session.collect(),
        password_file: password_file.and_then(|path| private_text(&path)).map(Secret::new),
    }
}

/// The text of a file that nobody but its owner may read; libpq ignores others, too.
fn private_text(path: &str) -> Option<String> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(path).ok()?.permissions().mode();
    if mode & 0o077 == 0 { std::fs::read_to_string(path).ok() } else { None }
}

/// The name of the user this process runs as.
fn os_user() -> Option<String> {
    let uid = rustix::process::geteuid().as_raw().to_string();
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let by_uid = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then(|| name.to_owned())
    });
    by_uid.or_else(|| variable("USER"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_as_postgrest_reads_them() {
        let lookup = |name: &str| (name == "SECRET").then(|| "from the environment".to_owned());
        let text = "\u{feff}# Comm\u{e8}nt\n\ndb-uri = \"postgres://u:p$$w@h/db?x=1\" # here\ndb-pool=3\n\
                    app.settings.q=\"a \\\"b\\\"\"\njwt-secret = \"$(SECRET)!\"\nlog-query = true\r\n\
                    app.settings.b = false\n";
        let expected = [
            ("db-uri", "postgres://u:p$w@h/db?x=1"),
            ("db-pool", "3"),
            ("app.settings.q", "a \"b\""),
            ("jwt-secret", "from the environment!"),
            ("log-query", "true"),
            ("app.settings.b", "Bool False"),
        ];
        assert_eq!(parse_file(text, lookup).unwrap(), expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
        for (text, line) in
            [("a = 1\nb", 2), ("a = \"$(SECRET\"", 1), ("\na = \"$(NONE)\"", 2), ("a = \"x", 1), ("a = \"x\" y", 1)]
        {
            assert_eq!(parse_file(text, lookup).unwrap_err().line, line, "{text}");
        }
    }
}
