//! The settings of a server that stands in for `postgrest`.

mod dump;

use std::collections::BTreeMap;

use base::jwt::{JwtKey, JwtKeys};
use base::secret::Secret;
use base::settings::{StatementTimeouts, TxEnd};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use super::{Config, JsPath, OpenApiMode, qualified};
use crate::identifier::QualifiedIdentifier;

/// Most verbose last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    Crit,
    #[default]
    Error,
    Warn,
    Info,
    Debug,
}

/// The engine's configuration, and what the server around it needs.
#[derive(Clone)]
pub struct DropIn {
    pub config: Config,
    /// A libpq connection string; holds a password.
    pub db_uri: Secret<String>,
    /// Most connections.
    pub db_pool: u32,
    /// How long a request waits for a connection, in seconds.
    pub db_pool_acquisition_timeout: u32,
    /// After how long a connection is replaced, in seconds.
    pub db_pool_max_lifetime: u32,
    /// After how long without use a connection is closed, in seconds.
    pub db_pool_max_idletime: u32,
    /// False ends the server when the database cannot be reached.
    pub db_pool_automatic_recovery: bool,
    /// False behind a transaction pooler that cannot keep statements.
    pub db_prepared_statements: bool,
    /// The channel whose notifications reload schema cache and configuration.
    pub db_channel: String,
    pub db_channel_enabled: bool,
    /// Whether settings of the connecting role (`pgrst.*`) count.
    pub db_config: bool,
    /// A function that sets `pgrst.*` settings before they are read. Its schema may be empty.
    pub db_pre_config: Option<QualifiedIdentifier>,
    /// An address, a name, or `*`, `*4`, `!4`, `*6`, `!6`.
    pub server_host: String,
    pub server_port: u16,
    /// Listen here instead of at `server_host` and `server_port`.
    pub server_unix_socket: Option<String>,
    /// Permissions of the socket.
    pub server_unix_socket_mode: u32,
    pub admin_server_host: String,
    pub admin_server_port: Option<u16>,
    pub log_level: LogLevel,
    /// Tokens whose verification is remembered; 0 remembers none.
    pub jwt_cache_max_entries: u32,
    /// As configured, decoded when it was in base64.
    pub jwt_secret: Option<Secret<Vec<u8>>>,
    pub jwt_secret_is_base64: bool,
}

impl DropIn {
    /// Takes over what needs a restart (PostgREST docs, "List of parameters", not reloadable).
    pub(crate) fn keep_fixed(&mut self, running: &Self) {
        let running = running.clone();
        self.db_uri = running.db_uri;
        self.db_pool = running.db_pool;
        self.db_pool_acquisition_timeout = running.db_pool_acquisition_timeout;
        self.db_pool_max_lifetime = running.db_pool_max_lifetime;
        self.db_pool_max_idletime = running.db_pool_max_idletime;
        self.server_host = running.server_host;
        self.server_port = running.server_port;
        self.server_unix_socket = running.server_unix_socket;
        self.server_unix_socket_mode = running.server_unix_socket_mode;
        self.admin_server_host = running.admin_server_host;
        self.admin_server_port = running.admin_server_port;
        self.log_level = running.log_level;
        self.config.openapi_default_host = running.config.openapi_default_host;
    }
}

/// Gives the content of a file that a value names (`@path`), or the reason why there is none.
pub type ReadFile<'a> = &'a dyn Fn(&str) -> Result<Vec<u8>, String>;

const APP_SETTINGS: &str = "app.settings.";

/// A setting's name in the form of the configuration file; None when it is none of ours.
fn canonical_name(name: &str) -> Option<String> {
    if let Some(name) = name.strip_prefix("PGRST_") {
        return Some(match name.strip_prefix("APP_SETTINGS_") {
            Some(own) => format!("{APP_SETTINGS}{own}"),
            None => name.to_ascii_lowercase().replace('_', "-"),
        });
    }
    if let Some(name) = name.strip_prefix("pgrst.") {
        return Some(match name.strip_prefix(APP_SETTINGS) {
            Some(own) => format!("{APP_SETTINGS}{own}"),
            None => name.replace('_', "-"),
        });
    }
    let file_name = name.starts_with(APP_SETTINGS) || !name.bytes().any(|b| b.is_ascii_uppercase() || b == b'_');
    file_name.then(|| name.to_owned())
}

struct Reader {
    values: BTreeMap<String, String>,
    problems: Vec<String>,
}

impl Reader {
    /// The value by the setting's name or an older name of it, even when it is empty.
    fn maybe_empty(&self, names: &[&str]) -> Option<&str> {
        names.iter().find_map(|name| self.values.get(*name)).map(String::as_str)
    }

    /// An empty value is as good as none.
    fn text(&self, names: &[&str]) -> Option<String> {
        names.iter().filter_map(|name| self.values.get(*name)).find(|value| !value.is_empty()).cloned()
    }

    /// Reads a value by `parse`, which tells what is wrong with it.
    fn with<T>(&mut self, names: &[&str], parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let text = self.text(names)?;
        parse(&text).map_err(|problem| self.problems.push(format!("{}: {problem}", names[0]))).ok()
    }

    /// As PostgREST does, what is no number is as good as nothing.
    fn number<T: std::str::FromStr>(&self, names: &[&str]) -> Option<T> {
        names.iter().find_map(|name| self.values.get(*name)?.trim().parse().ok())
    }

    /// `true`, `True`, `"yes"` is none; a number is true above zero; anything else is as good as nothing.
    fn flag(&self, names: &[&str], default: bool) -> bool {
        let parse = |text: &String| {
            let letters: String = text.chars().filter(|c| c.is_alphabetic()).collect();
            match letters.to_lowercase().as_str() {
                "true" => Some(true),
                "false" => Some(false),
                _ => text.trim().parse::<i64>().ok().map(|n| n > 0),
            }
        };
        names.iter().find_map(|name| parse(self.values.get(*name)?)).unwrap_or(default)
    }
}

fn comma_separated(text: &str) -> Vec<String> {
    text.split(',').map(|part| part.trim().to_owned()).collect()
}

pub(super) fn read(
    vars: impl IntoIterator<Item = (String, String)>,
    read_file: ReadFile<'_>,
) -> Result<DropIn, Vec<String>> {
    let values = vars.into_iter().filter_map(|(name, value)| Some((canonical_name(&name)?, value))).collect();
    let mut reader = Reader { values, problems: Vec::new() };
    let config = config(&mut reader);
    let mut drop_in = server(&mut reader, config, read_file);
    read_jwt_secret(&mut reader, &mut drop_in, read_file);
    if reader.problems.is_empty() { Ok(drop_in) } else { Err(reader.problems) }
}

fn config(reader: &mut Reader) -> Config {
    let default = Config::default();
    let schemas = reader.with(&["db-schemas", "db-schema"], |text| {
        let schemas = comma_separated(text);
        match schemas.iter().find(|schema| matches!(schema.as_str(), "pg_catalog" | "information_schema")) {
            Some(schema) => Err(format!("does not allow schema: '{schema}'")),
            None => Ok(schemas),
        }
    });
    let extra_search_path = match reader.maybe_empty(&["db-extra-search-path"]) {
        Some("") => Vec::new(),
        Some(text) => comma_separated(text),
        None => default.db_extra_search_path.clone(),
    };
    let tx_end = reader.with(&["db-tx-end"], |text| match text {
        "commit" => Ok(TxEnd::Commit),
        "commit-allow-override" => Ok(TxEnd::CommitAllowOverride),
        "rollback" => Ok(TxEnd::Rollback),
        "rollback-allow-override" => Ok(TxEnd::RollbackAllowOverride),
        _ => Err("Invalid transaction termination. Check your configuration.".into()),
    });
    let openapi_mode = reader.with(&["openapi-mode"], |text| match text {
        "follow-privileges" => Ok(OpenApiMode::FollowPrivileges),
        "ignore-privileges" => Ok(OpenApiMode::IgnorePrivileges),
        "disabled" => Ok(OpenApiMode::Disabled),
        _ => Err("Invalid openapi-mode. Check your configuration.".into()),
    });
    let proxy_uri = reader.with(&["openapi-server-proxy-uri"], |text| {
        if is_proxy_uri(text) {
            Ok(text.to_owned())
        } else {
            Err("Malformed proxy uri, a correct example: https://example.com:8443/basePath".into())
        }
    });
    let jwt_aud = reader.with(&["jwt-aud"], |text| {
        // With a colon it is a URI (RFC 7519, StringOrURI).
        if text.contains(':') && !is_uri(text) {
            return Err("should be a string or a valid URI".into());
        }
        Ok(text.to_owned())
    });
    let role_claim_key = reader.with(&["jwt-role-claim-key", "role-claim-key"], |text| {
        JsPath::parse(text).ok_or_else(|| format!("failed to parse role-claim-key value ({text})"))
    });
    let app_settings =
        reader.values.iter().filter(|(name, _)| name.starts_with(APP_SETTINGS)).map(|(n, v)| (n.clone(), v.clone()));
    let app_settings = app_settings.collect();
    Config {
        db_schemas: schemas.unwrap_or(default.db_schemas),
        db_extra_search_path: extra_search_path,
        db_anon_role: reader.text(&["db-anon-role"]),
        db_max_rows: reader.number(&["db-max-rows", "max-rows"]),
        db_pre_request: reader.text(&["db-pre-request", "pre-request"]).as_deref().map(qualified),
        db_root_spec: reader.text(&["db-root-spec", "root-spec"]).as_deref().map(qualified),
        db_tx_end: tx_end.unwrap_or(TxEnd::Commit),
        db_aggregates_enabled: reader.flag(&["db-aggregates-enabled"], false),
        db_plan_enabled: reader.flag(&["db-plan-enabled"], false),
        db_hoisted_tx_settings: reader
            .text(&["db-hoisted-tx-settings"])
            .map_or(default.db_hoisted_tx_settings, |text| comma_separated(&text)),
        send_all_request_settings: false,
        trace_requests: false,
        openapi_mode: openapi_mode.unwrap_or_default(),
        openapi_security_active: reader.flag(&["openapi-security-active"], false),
        openapi_server_proxy_uri: proxy_uri,
        openapi_default_host: default.openapi_default_host,
        app_settings,
        server_timing_enabled: reader.flag(&["server-timing-enabled"], false),
        server_cors_allowed_origins: reader.text(&["server-cors-allowed-origins"]).map(|text| comma_separated(&text)),
        server_trace_header: reader.text(&["server-trace-header"]),
        jwt_aud,
        jwt_role_claim_key: role_claim_key.unwrap_or_default(),
        jwt_keys: JwtKeys::default(),
        log_query: reader.flag(&["log-query"], false),
        role_settings: default.role_settings,
        project_timeouts: reader.with(&["launchdb-statement-timeouts"], project_timeouts),
    }
}

/// What LaunchDB says of an instance of its own: the database keeps schema versions, and these are the milliseconds that
/// statements of anon, authenticated and service_role may take.
fn project_timeouts(text: &str) -> Result<StatementTimeouts, String> {
    let numbers: Vec<u32> = text.split(',').map_while(|part| part.trim().parse().ok()).collect();
    match numbers.as_slice() {
        [anon, authenticated, service_role] => {
            Ok(StatementTimeouts { anon: *anon, authenticated: *authenticated, service_role: *service_role })
        }
        _ => Err("should be three numbers of milliseconds with commas between".into()),
    }
}

fn server(reader: &mut Reader, mut config: Config, read_file: ReadFile<'_>) -> DropIn {
    let socket_mode = reader.with(&["server-unix-socket-mode"], |text| match u32::from_str_radix(text, 8) {
        Err(_) => Err("Invalid server-unix-socket-mode: not an octal".into()),
        Ok(mode @ 0o600..=0o777) => Ok(mode),
        Ok(_) => Err("Invalid server-unix-socket-mode: needs to be between 600 and 777".into()),
    });
    let log_level = reader.with(&["log-level"], |text| match text {
        "crit" => Ok(LogLevel::Crit),
        "error" => Ok(LogLevel::Error),
        "warn" => Ok(LogLevel::Warn),
        "info" => Ok(LogLevel::Info),
        "debug" => Ok(LogLevel::Debug),
        _ => Err("Invalid logging level. Check your configuration.".into()),
    });
    let db_uri = reader.with(&["db-uri"], |text| match text.strip_prefix('@') {
        Some(path) => Ok(String::from_utf8_lossy(&read_file(path)?).trim().to_owned()),
        None => Ok(text.to_owned()),
    });
    let server_port = reader.number(&["server-port"]).unwrap_or(3000);
    let admin_server_port = reader.number(&["admin-server-port"]);
    if admin_server_port == Some(server_port) {
        reader.problems.push("admin-server-port: cannot be the same as server-port".into());
    }
    let server_host = reader.text(&["server-host"]).unwrap_or_else(|| "!4".into());
    config.openapi_default_host = match server_host.as_str() {
        "*" | "*4" | "!4" | "*6" | "!6" => format!("0.0.0.0:{server_port}"),
        host => format!("{host}:{server_port}"),
    };
    DropIn {
        config,
        db_uri: Secret::new(db_uri.unwrap_or_else(|| "postgresql://".into())),
        db_pool: reader.number(&["db-pool"]).unwrap_or(10),
        db_pool_acquisition_timeout: reader.number(&["db-pool-acquisition-timeout"]).unwrap_or(10),
        db_pool_max_lifetime: reader.number(&["db-pool-max-lifetime"]).unwrap_or(1800),
        db_pool_max_idletime: reader.number(&["db-pool-timeout", "db-pool-max-idletime"]).unwrap_or(30),
        db_pool_automatic_recovery: reader.flag(&["db-pool-automatic-recovery"], true),
        db_prepared_statements: reader.flag(&["db-prepared-statements"], true),
        db_channel: reader.text(&["db-channel"]).unwrap_or_else(|| "pgrst".into()),
        db_channel_enabled: reader.flag(&["db-channel-enabled"], true),
        db_config: reader.flag(&["db-config"], true),
        db_pre_config: reader.text(&["db-pre-config"]).as_deref().map(qualified),
        admin_server_host: reader.text(&["admin-server-host"]).unwrap_or_else(|| server_host.clone()),
        server_host,
        server_port,
        server_unix_socket: reader.text(&["server-unix-socket"]),
        server_unix_socket_mode: socket_mode.unwrap_or(0o660),
        admin_server_port,
        log_level: log_level.unwrap_or_default(),
        jwt_cache_max_entries: reader.number(&["jwt-cache-max-entries"]).unwrap_or(1000),
        jwt_secret: None,
        jwt_secret_is_base64: reader.flag(&["jwt-secret-is-base64", "secret-is-base64"], false),
    }
}

/// A shared secret, a JWK or a JWK set; each may be in base64.
fn read_jwt_secret(reader: &mut Reader, drop_in: &mut DropIn, read_file: ReadFile<'_>) {
    let is_base64 = drop_in.jwt_secret_is_base64;
    let secret = reader.with(&["jwt-secret"], |text| {
        let mut secret = match text.strip_prefix('@') {
            Some(path) => read_file(path)?,
            None => text.as_bytes().to_vec(),
        };
        if text.starts_with('@') && secret.last() == Some(&b'\n') {
            secret.pop();
        }
        if is_base64 {
            secret = std::str::from_utf8(&secret).ok().and_then(from_base64).ok_or("not valid base64")?;
        }
        Ok((jwt_keys(&secret)?, secret))
    });
    let (keys, secret) = secret.unzip();
    drop_in.config.jwt_keys = JwtKeys::new(keys.unwrap_or_default());
    drop_in.jwt_secret = secret.map(Secret::new);
}

fn jwt_keys(secret: &[u8]) -> Result<Vec<JwtKey>, String> {
    let jwks: Vec<Value> = match serde_json::from_slice(secret) {
        Ok(Value::Object(mut object)) => match object.remove("keys") {
            Some(Value::Array(keys)) => keys,
            _ => vec![Value::Object(object)],
        },
        _ if secret.len() < 32 => return Err("The JWT secret must be at least 32 characters long.".into()),
        _ => return Ok(vec![JwtKey::secret(secret)]),
    };
    // A set may hold keys for other purposes.
    jwks.iter().filter_map(|jwk| JwtKey::from_jwk(jwk).map_err(|error| error.to_string()).transpose()).collect()
}

/// Base64 of either alphabet; `.` may stand for the padding.
fn from_base64(text: &str) -> Option<Vec<u8>> {
    let standard: String = text
        .trim()
        .chars()
        .map(|c| match c {
            '_' => '/',
            '-' => '+',
            '.' => '=',
            other => other,
        })
        .collect();
    BASE64_STANDARD.decode(standard).ok()
}

/// An absolute http(s) URI with a host, without query and user.
fn is_proxy_uri(text: &str) -> bool {
    let Ok(uri) = text.parse::<http::Uri>() else { return false };
    let Some(authority) = uri.authority() else { return false };
    let scheme = matches!(uri.scheme_str(), Some("http" | "https"));
    let port = match authority.as_str().rsplit_once(':') {
        Some((_, port)) if !port.ends_with(']') => port.is_empty() || authority.port_u16().is_some_and(|port| port > 0),
        _ => true,
    };
    let plain = !authority.as_str().contains('@') && !authority.host().is_empty();
    scheme && plain && port && uri.query().is_none() && !text.contains('#')
}

/// A URI as far as RFC 3986 can be told by its characters: a scheme, and no character outside the allowed ones.
fn is_uri(text: &str) -> bool {
    let Some((scheme, _)) = text.split_once(':') else { return false };
    let scheme_fits = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=%".contains(&b);
    // A bracket may stand only around an address in the authority.
    let brackets = text.matches('[').count();
    scheme_fits && text.bytes().all(allowed) && brackets <= 1 && brackets == text.matches(']').count()
}

#[cfg(test)]
mod tests;
