//! What the database has to say of the server's configuration (PostgREST docs, "In-Database Configuration" and
//! "Impersonated Role Settings").

use std::collections::HashMap;

use bytes::Bytes;
use pg::{Exchange, Pool, Query, Resets, Rows, Streams};

use crate::config::RoleSettings;
use crate::identifier::QualifiedIdentifier;
use crate::query;
use crate::schema_cache::IsolationLevel;

/// Settings that may stand in the database.
const NAMES: [&str; 23] = [
    "pgrst.db_aggregates_enabled",
    "pgrst.db_anon_role",
    "pgrst.db_extra_search_path",
    "pgrst.db_hoisted_tx_settings",
    "pgrst.db_max_rows",
    "pgrst.db_plan_enabled",
    "pgrst.db_pre_config",
    "pgrst.db_pre_request",
    "pgrst.db_prepared_statements",
    "pgrst.db_root_spec",
    "pgrst.db_schemas",
    "pgrst.db_tx_end",
    "pgrst.jwt_aud",
    "pgrst.jwt_cache_max_entries",
    "pgrst.jwt_role_claim_key",
    "pgrst.jwt_secret",
    "pgrst.jwt_secret_is_base64",
    "pgrst.openapi_mode",
    "pgrst.openapi_security_active",
    "pgrst.openapi_server_proxy_uri",
    "pgrst.server_cors_allowed_origins",
    "pgrst.server_timing_enabled",
    "pgrst.server_trace_header",
];

/// The version with privileges on parameters.
const PARAMETER_PRIVILEGES: i64 = 150_000;

/// Read in one go.
#[derive(Clone, Debug, Default)]
pub(crate) struct DatabaseConfig {
    /// `pgrst.*`
    pub(super) settings: Vec<(String, String)>,
    pub(crate) roles: HashMap<String, RoleSettings>,
}

/// The server's version as a number and in its own words.
pub(super) async fn server_version(pool: &Pool) -> Result<(i64, String), pg::Error> {
    let rows = read(pool, vec![statement(include_str!("server_version.sql"), Vec::new())]).await?;
    let row = rows.first().and_then(|rows| rows.rows.first());
    let version = row.and_then(|row| row.text(1)).unwrap_or_default().to_owned();
    Ok((row.and_then(|row| row.int(0)).unwrap_or_default(), version))
}

impl DatabaseConfig {
    /// Calls the pre-config function, if there is one, and reads what counts.
    pub(crate) async fn read(pool: &Pool, pre_config: Option<&QualifiedIdentifier>) -> Result<Self, pg::Error> {
        let (version, _) = server_version(pool).await?;
        let mut queries = Vec::with_capacity(3);
        queries.extend(pre_config.map(query::call_without_arguments));
        let names = format!("{{{}}}", NAMES.join(","));
        let params = vec![Some(Bytes::from(names)), Some(Bytes::from(pre_config.is_some().to_string()))];
        queries.push(statement(include_str!("db_settings.sql"), params));
        let roles = if version >= PARAMETER_PRIVILEGES {
            include_str!("role_settings.sql")
        } else {
            include_str!("role_settings_14.sql")
        };
        queries.push(statement(roles, Vec::new()));
        let mut results = read(pool, queries).await?;
        let (roles, settings) = (results.pop().unwrap_or_default(), results.pop().unwrap_or_default());
        let pair = |row: &pg::Row| Some((row.text(0)?.to_owned(), row.text(1)?.to_owned()));
        Ok(Self { settings: settings.rows.iter().filter_map(pair).collect(), roles: role_settings(&roles) })
    }
}

fn role_settings(rows: &Rows) -> HashMap<String, RoleSettings> {
    let mut roles: HashMap<String, RoleSettings> = HashMap::new();
    for row in &rows.rows {
        let (Some(role), Some(name), Some(value)) = (row.text(0), row.text(1), row.text(2)) else { continue };
        let settings = roles.entry(role.to_owned()).or_default();
        if name == "default_transaction_isolation" {
            settings.isolation_level = Some(IsolationLevel::parse(value));
        } else {
            settings.settings.push((name.to_owned(), value.to_owned()));
        }
    }
    roles
}

fn statement(sql: &str, params: Vec<Option<Bytes>>) -> Query {
    Query { sql: sql.into(), params }
}

/// Runs reads of ours in one transaction.
async fn read(pool: &Pool, queries: Vec<Query>) -> Result<Vec<Rows>, pg::Error> {
    let exchange = Exchange {
        scope: "".into(),
        begin: None,
        setup: query::read_only().into(),
        queries,
        read_only: true,
        resets: Resets::Settings,
        joins: false,
        streams: Streams::Nothing,
    };
    pool.run(&exchange).await
}
