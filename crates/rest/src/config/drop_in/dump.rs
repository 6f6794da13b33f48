//! The settings as `--dump-config` prints them: a configuration file that has the same effect.

use std::fmt::{Display, Write as _};

use base::settings::TxEnd;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::{DropIn, LogLevel};
use crate::config::OpenApiMode;

struct Lines(String);

impl Lines {
    fn plain(&mut self, name: &str, value: impl Display) {
        // Writing to a String cannot fail.
        writeln!(self.0, "{name} = {value}").ok();
    }

    fn text(&mut self, name: &str, value: impl Display) {
        let quoted = value.to_string().replace('"', "\\\"");
        self.plain(name, format_args!("\"{quoted}\""));
    }

    /// A number; nothing is the empty text.
    fn number(&mut self, name: &str, value: Option<impl Display>) {
        match value {
            Some(value) => self.plain(name, value),
            None => self.text(name, ""),
        }
    }
}

impl DropIn {
    /// Every setting with its value, secrets among them, in PostgREST's order and form.
    pub fn dump(&self) -> String {
        let config = &self.config;
        let or_empty = |value: &Option<String>| value.clone().unwrap_or_default();
        let function = |value: &Option<crate::identifier::QualifiedIdentifier>| {
            value.as_ref().map(ToString::to_string).unwrap_or_default()
        };
        let mut out = Lines(String::with_capacity(2048));
        out.plain("db-aggregates-enabled", config.db_aggregates_enabled);
        out.text("db-anon-role", or_empty(&config.db_anon_role));
        out.text("db-channel", &self.db_channel);
        out.plain("db-channel-enabled", self.db_channel_enabled);
        out.text("db-extra-search-path", config.db_extra_search_path.join(","));
        out.text("db-hoisted-tx-settings", config.db_hoisted_tx_settings.join(","));
        out.number("db-max-rows", config.db_max_rows);
        out.plain("db-plan-enabled", config.db_plan_enabled);
        out.plain("db-pool", self.db_pool);
        out.plain("db-pool-acquisition-timeout", self.db_pool_acquisition_timeout);
        out.plain("db-pool-max-lifetime", self.db_pool_max_lifetime);
        out.plain("db-pool-max-idletime", self.db_pool_max_idletime);
        out.plain("db-pool-automatic-recovery", self.db_pool_automatic_recovery);
        out.text("db-pre-request", function(&config.db_pre_request));
        out.plain("db-prepared-statements", self.db_prepared_statements);
        out.text("db-root-spec", function(&config.db_root_spec));
        out.text("db-schemas", config.db_schemas.join(","));
        out.plain("db-config", self.db_config);
        out.text("db-pre-config", function(&self.db_pre_config));
        out.text("db-tx-end", tx_end(config.db_tx_end));
        out.text("db-uri", self.db_uri.expose());
        out.text("jwt-aud", or_empty(&config.jwt_aud));
        out.text("jwt-role-claim-key", &config.jwt_role_claim_key);
        out.text("jwt-secret", self.dump_jwt_secret());
        out.plain("jwt-secret-is-base64", self.jwt_secret_is_base64);
        out.plain("jwt-cache-max-entries", self.jwt_cache_max_entries);
        out.text("log-level", log_level(self.log_level));
        out.plain("log-query", config.log_query);
        out.text("openapi-mode", openapi_mode(config.openapi_mode));
        out.plain("openapi-security-active", config.openapi_security_active);
        out.text("openapi-server-proxy-uri", or_empty(&config.openapi_server_proxy_uri));
        let origins = config.server_cors_allowed_origins.as_ref().map(|origins| origins.join(","));
        out.text("server-cors-allowed-origins", origins.unwrap_or_default());
        out.text("server-host", &self.server_host);
        out.plain("server-port", self.server_port);
        out.text("server-trace-header", or_empty(&config.server_trace_header));
        out.plain("server-timing-enabled", config.server_timing_enabled);
        out.text("server-unix-socket", or_empty(&self.server_unix_socket));
        out.text("server-unix-socket-mode", format_args!("{:o}", self.server_unix_socket_mode));
        out.text("admin-server-host", &self.admin_server_host);
        out.number("admin-server-port", self.admin_server_port);
        for (name, value) in &config.app_settings {
            out.text(name, value);
        }
        out.0
    }

    fn dump_jwt_secret(&self) -> String {
        let Some(secret) = &self.jwt_secret else { return String::new() };
        if self.jwt_secret_is_base64 {
            BASE64_STANDARD.encode(secret.expose())
        } else {
            String::from_utf8_lossy(secret.expose()).into_owned()
        }
    }
}

fn tx_end(end: TxEnd) -> &'static str {
    match end {
        TxEnd::Commit => "commit",
        TxEnd::CommitAllowOverride => "commit-allow-override",
        TxEnd::Rollback => "rollback",
        TxEnd::RollbackAllowOverride => "rollback-allow-override",
    }
}

fn log_level(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Crit => "crit",
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
    }
}

fn openapi_mode(mode: OpenApiMode) -> &'static str {
    match mode {
        OpenApiMode::FollowPrivileges => "follow-privileges",
        OpenApiMode::IgnorePrivileges => "ignore-privileges",
        OpenApiMode::Disabled => "disabled",
    }
}
