//! What the engine has to know about one API, under PostgREST's names for it (PostgREST docs, "Configuration").

mod drop_in;
mod js_path;

use std::collections::HashMap;

use base::ProjectRef;
use base::jwt::JwtKeys;
use base::role::RoleName;
use base::settings::{DataApiSettings, StatementTimeouts, TxEnd};

pub use drop_in::{DropIn, LogLevel, ReadFile};
pub use js_path::JsPath;

use crate::identifier::QualifiedIdentifier;
use crate::schema_cache::IsolationLevel;

/// What the OpenAPI root document lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OpenApiMode {
    /// What the caller's role may use.
    #[default]
    FollowPrivileges,
    IgnorePrivileges,
    /// There is no root document (PGRST126).
    Disabled,
}

#[derive(Clone)]
pub struct Config {
    /// Exposed schemas; the first is the default. Never empty.
    pub db_schemas: Vec<String>,
    /// Schemas behind the request's own on the search path.
    pub db_extra_search_path: Vec<String>,
    /// The role of requests without a token; None refuses them (PGRST302).
    pub db_anon_role: Option<String>,
    /// Most rows one answer may have.
    pub db_max_rows: Option<u64>,
    /// A function called before each statement. Its schema may be empty.
    pub db_pre_request: Option<QualifiedIdentifier>,
    /// A function that answers for the root path. Its schema may be empty.
    pub db_root_spec: Option<QualifiedIdentifier>,
    pub db_tx_end: TxEnd,
    pub db_aggregates_enabled: bool,
    pub db_plan_enabled: bool,
    /// Role and function settings that are applied to the transaction.
    pub db_hoisted_tx_settings: Vec<String>,
    /// Every `request.*` setting is made, also those that nothing in the database seems to read.
    pub send_all_request_settings: bool,
    /// `application_name` is the request's id while its statements run.
    pub trace_requests: bool,
    pub openapi_mode: OpenApiMode,
    pub openapi_security_active: bool,
    /// Where the API is reached, when that is elsewhere than where it listens.
    pub openapi_server_proxy_uri: Option<String>,
    /// Host and port that the OpenAPI document names when there is no proxy.
    pub openapi_default_host: String,
    /// `app.settings.*`, with their whole names.
    pub app_settings: Vec<(String, String)>,
    pub server_timing_enabled: bool,
    /// None allows every origin.
    pub server_cors_allowed_origins: Option<Vec<String>>,
    /// A request header that is sent back.
    pub server_trace_header: Option<String>,
    pub jwt_aud: Option<String>,
    pub jwt_role_claim_key: JsPath,
    /// Empty refuses every token (PGRST300).
    pub jwt_keys: JwtKeys,
    /// Whether the SQL of a request is noted for the log.
    pub log_query: bool,
    /// What roles set for themselves; of a drop-in server only, because the roles of projects are shared.
    pub role_settings: HashMap<String, RoleSettings>,
    /// Given to a drop-in server that serves one of LaunchDB's projects: its database keeps schema versions, which are
    /// compared as the shared engine does, and statements have the project's timeouts.
    pub project_timeouts: Option<StatementTimeouts>,
}

/// Settings of a role (`ALTER ROLE ... SET`) that apply to each transaction on its behalf.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoleSettings {
    pub settings: Vec<(String, String)>,
    /// Its `default_transaction_isolation`.
    pub isolation_level: Option<IsolationLevel>,
}

impl Config {
    /// What a platform project is served by; `public_url` is the server's own, without a slash at its end.
    pub fn of_project(project: &ProjectRef, settings: &DataApiSettings, public_url: Option<&str>) -> Self {
        let openapi_server_proxy_uri = public_url.map(|url| format!("{url}/p/{project}/rest/v1"));
        Self { openapi_server_proxy_uri, ..Self::from(settings) }
    }

    /// Whether `Prefer: tx=` is honoured.
    pub fn tx_allow_override(&self) -> bool {
        matches!(self.db_tx_end, TxEnd::CommitAllowOverride | TxEnd::RollbackAllowOverride)
    }

    /// Whether transactions are rolled back unless told otherwise.
    pub fn tx_rollback_all(&self) -> bool {
        matches!(self.db_tx_end, TxEnd::Rollback | TxEnd::RollbackAllowOverride)
    }

    /// Whether a token's `aud` members fit. A token without any is for everybody.
    pub fn audience_fits<'a>(&self, mut audiences: impl Iterator<Item = &'a str>) -> bool {
        let Some(own) = &self.jwt_aud else { return true };
        match audiences.next() {
            None => true,
            Some(first) => first == own || audiences.any(|audience| audience == own),
        }
    }

    /// Reads PostgREST's settings: `PGRST_*` variables, names of its configuration file (`db-uri`) or of its
    /// in-database configuration (`pgrst.db_uri`); of several values for one setting the last counts. This crate reads
    /// neither environment nor files: `read_file` gives the content of those that values name (`@path`).
    ///
    /// # Errors
    /// All problems, each starting with the setting's name.
    pub fn from_pgrst_vars(
        vars: impl IntoIterator<Item = (String, String)>,
        read_file: ReadFile<'_>,
    ) -> Result<DropIn, Vec<String>> {
        drop_in::read(vars, read_file)
    }
}

impl Default for Config {
    /// PostgREST's defaults.
    fn default() -> Self {
        Self {
            db_schemas: vec!["public".into()],
            db_extra_search_path: vec!["public".into()],
            db_anon_role: None,
            db_max_rows: None,
            db_pre_request: None,
            db_root_spec: None,
            db_tx_end: TxEnd::Commit,
            db_aggregates_enabled: false,
            db_plan_enabled: false,
            db_hoisted_tx_settings: [
                "statement_timeout",
                "plan_filter.statement_cost_limit",
                "default_transaction_isolation",
            ]
            .map(str::to_owned)
            .into(),
            send_all_request_settings: false,
            trace_requests: false,
            openapi_mode: OpenApiMode::default(),
            openapi_security_active: false,
            openapi_server_proxy_uri: None,
            openapi_default_host: "0.0.0.0:3000".into(),
            app_settings: Vec::new(),
            server_timing_enabled: false,
            server_cors_allowed_origins: None,
            server_trace_header: None,
            jwt_aud: None,
            jwt_role_claim_key: JsPath::default(),
            jwt_keys: JwtKeys::default(),
            log_query: false,
            role_settings: HashMap::new(),
            project_timeouts: None,
        }
    }
}

/// A platform project: callers are authenticated in front of the engine, so it has no keys here.
impl From<&DataApiSettings> for Config {
    fn from(settings: &DataApiSettings) -> Self {
        let db_schemas = if settings.db_schema.is_empty() { vec!["public".into()] } else { settings.db_schema.clone() };
        Self {
            db_schemas,
            db_extra_search_path: settings.db_extra_search_path.clone(),
            db_anon_role: Some(RoleName::ANON.to_owned()),
            db_max_rows: settings.max_rows,
            db_pre_request: settings.db_pre_request.as_deref().map(qualified),
            db_tx_end: settings.db_tx_end,
            db_aggregates_enabled: settings.db_aggregates_enabled,
            db_plan_enabled: settings.db_plan_enabled,
            send_all_request_settings: settings.send_all_request_settings,
            trace_requests: settings.trace_requests,
            ..Self::default()
        }
    }
}

/// `schema.name`, or a name that the search path finds.
fn qualified(text: &str) -> QualifiedIdentifier {
    let (schema, name) = text.split_once('.').unwrap_or(("", text));
    QualifiedIdentifier::new(schema, name)
}
