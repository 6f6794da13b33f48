//! A project's settings as the services read them. `platform` validates and stores them; the names on the wire are
//! those of Supabase's management API or PostgREST's own with underscores (contracts, section 2).

use serde::{Deserialize, Serialize};

use crate::role::RoleName;

/// What happens to a transaction at its end (PostgREST docs, `db-tx-end`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TxEnd {
    Commit,
    #[default]
    CommitAllowOverride,
    Rollback,
    RollbackAllowOverride,
}

/// Which process answers for a project's data API.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DataApiInstance {
    /// The engine that serves all projects.
    #[default]
    Shared,
    /// A process of the project's own, which the postgrest-manager keeps.
    Dedicated,
}

/// The data API of one project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataApiSettings {
    /// Exposed schemas; the first is the default. Listed schemas that do not exist are ignored until they do.
    pub db_schema: Vec<String>,
    /// Schemas added to the search path behind the request's own.
    pub db_extra_search_path: Vec<String>,
    /// Most rows one answer may have; none means no limit.
    pub max_rows: Option<u64>,
    /// Most connections the project's data API opens.
    pub db_pool: u32,
    pub db_aggregates_enabled: bool,
    pub db_plan_enabled: bool,
    pub db_tx_end: TxEnd,
    /// A function called before each statement, as `schema.name`.
    pub db_pre_request: Option<String>,
    /// Longest a statement of the data API runs, in milliseconds, by role; `default` for roles not named.
    pub statement_timeout_ms: StatementTimeouts,
    /// Roles of the project's own that a user's token may choose, besides anon, authenticated and service_role.
    pub jwt_roles: Vec<String>,
    /// Send every `request.*` setting even when nothing in the database seems to read it.
    pub send_all_request_settings: bool,
    /// Show each request's id as `application_name` while its statements run. Reads of one caller then share no exchange.
    pub trace_requests: bool,
    /// Requests whose statements take as long, in milliseconds, are listed for the owner; 0 lists none.
    pub slow_query_ms: u32,
    pub instance: DataApiInstance,
}

/// Milliseconds; 0 is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StatementTimeouts {
    pub anon: u32,
    pub authenticated: u32,
    pub service_role: u32,
}

impl StatementTimeouts {
    /// The limit of a role; roles not named here have that of `authenticated`.
    pub fn of(&self, role: &RoleName) -> u32 {
        match role.as_str() {
            RoleName::ANON => self.anon,
            RoleName::SERVICE_ROLE => self.service_role,
            _ => self.authenticated,
        }
    }
}

impl Default for StatementTimeouts {
    // Supabase's: 3 s for anon, 8 s for authenticated and everybody else.
    fn default() -> Self {
        Self { anon: 3_000, authenticated: 8_000, service_role: 8_000 }
    }
}

impl Default for DataApiSettings {
    fn default() -> Self {
        Self {
            db_schema: vec!["public".into()],
            db_extra_search_path: vec!["public".into(), "extensions".into()],
            max_rows: Some(1_000),
            db_pool: 10,
            db_aggregates_enabled: false,
            db_plan_enabled: false,
            db_tx_end: TxEnd::default(),
            db_pre_request: None,
            statement_timeout_ms: StatementTimeouts::default(),
            jwt_roles: Vec::new(),
            send_all_request_settings: false,
            trace_requests: false,
            slow_query_ms: 500,
            instance: DataApiInstance::default(),
        }
    }
}

/// Limits the gateway keeps for one project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitSettings {
    /// Requests per second of the whole project, as a long-term average; 0 is no limit.
    pub requests_per_second: u32,
    /// Requests that may come at once above the average.
    pub request_burst: u32,
    /// Largest request body, in bytes.
    pub max_body_bytes: u64,
    /// Origins that browsers may call from; `*` is any.
    pub cors_origins: Vec<String>,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            requests_per_second: 0,
            request_burst: 0,
            max_body_bytes: 10 * 1024 * 1024,
            cors_origins: vec!["*".into()],
        }
    }
}

/// Files of one project. The names on the wire are those of Supabase's management API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct StorageSettings {
    /// Largest object, in bytes; buckets may have a smaller limit of their own.
    pub file_size_limit: u64,
    /// Bytes of all objects together; 0 is no limit.
    pub total_size_limit: u64,
    pub features: StorageFeatures,
}

/// What can be switched off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct StorageFeatures {
    pub image_transformation: Option<StorageFeature>,
    pub s3_protocol: Option<StorageFeature>,
}

impl StorageFeatures {
    pub fn image_transformation_enabled(&self) -> bool {
        self.image_transformation.is_none_or(|feature| feature.enabled)
    }

    pub fn s3_protocol_enabled(&self) -> bool {
        self.s3_protocol.is_none_or(|feature| feature.enabled)
    }
}

/// One switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageFeature {
    pub enabled: bool,
}

impl Default for StorageSettings {
    // 50 MiB, Supabase's and the specification's default.
    fn default() -> Self {
        Self { file_size_limit: 50 * 1024 * 1024, total_size_limit: 0, features: StorageFeatures::default() }
    }
}
