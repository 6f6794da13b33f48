//! The other sections: the data API, limits, storage, and what belongs to the whole project.

use base::settings::{DataApiSettings, LimitSettings};
use serde::Serialize;
use serde_json::{Value, json};

use super::rule::{Kind, Rule, rule};

/// Gives each rule the default of the typed struct, so that defaults are written down once.
fn with_defaults(rules: Vec<(&'static str, Kind)>, defaults: &impl Serialize) -> Vec<Rule> {
    let defaults = serde_json::to_value(defaults).unwrap_or_default();
    rules.into_iter().map(|(name, kind)| rule(name, kind, defaults.get(name).cloned().unwrap_or_default())).collect()
}

pub(crate) fn data_api() -> Vec<Rule> {
    let defaults = DataApiSettings::default();
    // A day; 0 is no limit.
    let timeout = || Kind::Int(0, 24 * 3600 * 1000);
    let timeouts = vec![("anon", timeout()), ("authenticated", timeout()), ("service_role", timeout())];
    let rules = vec![
        ("db_schema", Kind::Schemas),
        ("db_extra_search_path", Kind::Schemas),
        ("max_rows", Kind::Int(1, 10_000_000)),
        ("db_pool", Kind::Int(1, 100)),
        ("db_aggregates_enabled", Kind::Bool),
        ("db_plan_enabled", Kind::Bool),
        ("db_tx_end", Kind::Choice(&["commit", "commit-allow-override", "rollback", "rollback-allow-override"])),
        ("db_pre_request", Kind::FunctionName),
        ("statement_timeout_ms", Kind::Object(with_defaults(timeouts, &defaults.statement_timeout_ms))),
        ("jwt_roles", Kind::Roles),
        ("send_all_request_settings", Kind::Bool),
        ("trace_requests", Kind::Bool),
        ("slow_query_ms", Kind::Int(0, 3600 * 1000)),
        ("instance", Kind::Choice(&["shared", "dedicated"])),
    ];
    let rules = with_defaults(rules, &defaults);
    rules
        .into_iter()
        .map(|rule| if matches!(rule.name.as_ref(), "max_rows" | "db_pre_request") { rule.nullable() } else { rule })
        .collect()
}

pub(crate) fn limits() -> Vec<Rule> {
    let rules = vec![
        ("requests_per_second", Kind::Int(0, 1_000_000)),
        ("request_burst", Kind::Int(0, 1_000_000)),
        ("max_body_bytes", Kind::Int(1024, 1024 * 1024 * 1024)),
        ("cors_origins", Kind::Origins),
    ];
    with_defaults(rules, &LimitSettings::default())
}

pub(crate) fn storage() -> Vec<Rule> {
    let feature = || Kind::Object(vec![rule("enabled", Kind::Bool, true)]);
    let features =
        vec![rule("imageTransformation", feature(), Value::Null), rule("s3Protocol", feature(), Value::Null)];
    vec![
        // 50 MiB, Supabase's and the specification's default; at most 500 GiB.
        rule("fileSizeLimit", Kind::Int(0, 500 * 1024 * 1024 * 1024), 50 * 1024 * 1024),
        // 0 is no limit.
        rule("totalSizeLimit", Kind::Int(0, 1024 * 1024 * 1024 * 1024 * 1024), 0),
        rule("features", Kind::Object(features), json!({})),
    ]
}

pub(crate) fn general() -> Vec<Rule> {
    vec![
        // New tables of `public` open to anon, authenticated and service_role, as old Supabase projects have it.
        rule("legacy_default_privileges", Kind::Bool, false),
        // Whether the legacy anon and service_role JWTs are accepted.
        rule("legacy_keys_enabled", Kind::Bool, true),
    ]
}
