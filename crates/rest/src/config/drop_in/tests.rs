use base::jwt::sign_hs256;
use serde_json::json;

use super::*;

const SECRET: &str = "reallyreallyreallyreallyverysafe";

fn read(vars: &[(&str, &str)]) -> Result<DropIn, Vec<String>> {
    let read_file = |path: &str| match path {
        "uri" => Ok(b" postgresql://from/file \n".to_vec()),
        "secret" => Ok(format!("{SECRET}\n").into_bytes()),
        _ => Err(format!("there is no {path}")),
    };
    Config::from_pgrst_vars(vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())), &read_file)
}

#[track_caller]
fn problems(vars: &[(&str, &str)]) -> Vec<String> {
    read(vars).err().unwrap_or_default()
}

#[test]
fn variables_are_read() {
    let drop_in = read(&[
        ("PGRST_DB_URI", "postgresql://u:p@h/db"),
        ("PGRST_DB_SCHEMAS", r#"v1, v2,SPECIAL "@/\#~_-"#),
        ("PGRST_DB_EXTRA_SEARCH_PATH", ""),
        ("PGRST_DB_ANON_ROLE", "anon"),
        ("PGRST_DB_PRE_REQUEST", "test.switch_role"),
        ("PGRST_DB_ROOT_SPEC", "root"),
        ("PGRST_DB_TX_END", "rollback-allow-override"),
        ("PGRST_DB_MAX_ROWS", "2"),
        ("PGRST_DB_PLAN_ENABLED", "True"),
        ("PGRST_DB_AGGREGATES_ENABLED", "1"),
        ("PGRST_DB_CONFIG", "false"),
        ("PGRST_DB_POOL", "3"),
        ("PGRST_SERVER_PORT", "3456"),
        ("PGRST_ADMIN_SERVER_PORT", "3457"),
        ("PGRST_SERVER_UNIX_SOCKET_MODE", "777"),
        ("PGRST_SERVER_TRACE_HEADER", "X-Request-Id"),
        ("PGRST_SERVER_CORS_ALLOWED_ORIGINS", "http://a.example, http://b.example"),
        ("PGRST_OPENAPI_MODE", "ignore-privileges"),
        ("PGRST_OPENAPI_SERVER_PROXY_URI", "https://postgrest.com/openapi.json"),
        ("PGRST_LOG_LEVEL", "crit"),
        ("PGRST_JWT_AUD", "youraudience"),
        ("PGRST_JWT_ROLE_CLAIM_KEY", ".a.b"),
        ("PGRST_APP_SETTINGS_app_host", "localhost"),
        ("HOME", "/root"),
    ])
    .unwrap_or_else(|problems| panic!("{problems:?}"));
    let config = &drop_in.config;
    assert_eq!(drop_in.db_uri.expose(), "postgresql://u:p@h/db");
    assert_eq!(config.db_schemas, ["v1", "v2", r#"SPECIAL "@/\#~_-"#]);
    assert!(config.db_extra_search_path.is_empty());
    assert_eq!(config.db_anon_role.as_deref(), Some("anon"));
    assert_eq!(config.db_pre_request.as_ref().map(ToString::to_string).as_deref(), Some("test.switch_role"));
    assert_eq!(config.db_root_spec.as_ref().map(ToString::to_string).as_deref(), Some("root"));
    assert!(config.tx_allow_override() && config.tx_rollback_all());
    assert_eq!(config.db_max_rows, Some(2));
    assert!(config.db_plan_enabled && config.db_aggregates_enabled);
    assert!(!drop_in.db_config);
    assert_eq!((drop_in.db_pool, drop_in.server_port, drop_in.admin_server_port), (3, 3456, Some(3457)));
    assert_eq!((drop_in.server_unix_socket_mode, drop_in.log_level), (0o777, LogLevel::Crit));
    assert_eq!(config.server_cors_allowed_origins.as_ref().map(Vec::len), Some(2));
    assert_eq!(config.openapi_mode, OpenApiMode::IgnorePrivileges);
    assert_eq!(config.jwt_role_claim_key.to_string(), r#"."a"."b""#);
    assert_eq!(config.app_settings, [("app.settings.app_host".to_owned(), "localhost".to_owned())]);
}

#[test]
fn the_defaults_are_those_of_postgrest() {
    let drop_in = read(&[]).unwrap_or_else(|problems| panic!("{problems:?}"));
    assert_eq!(drop_in.config.db_schemas, ["public"]);
    assert_eq!(drop_in.config.db_extra_search_path, ["public"]);
    assert!(!drop_in.config.tx_allow_override() && !drop_in.config.tx_rollback_all());
    assert_eq!((drop_in.server_host.as_str(), drop_in.server_port, drop_in.db_pool), ("!4", 3000, 10));
    assert_eq!(drop_in.config.openapi_default_host, "0.0.0.0:3000");
    assert!(drop_in.config.jwt_keys.is_empty());
    assert_eq!(drop_in.db_uri.expose(), "postgresql://");
}

#[test]
fn names_of_file_database_and_older_versions_count() {
    let drop_in = read(&[
        ("db-schema", "api"),
        ("max-rows", "5"),
        ("pgrst.db_pool", "7"),
        ("db-pool", "8"),
        ("pre-request", "f"),
        ("pgrst.app.settings.x", "y"),
    ])
    .unwrap_or_else(|problems| panic!("{problems:?}"));
    assert_eq!(drop_in.config.db_schemas, ["api"]);
    assert_eq!((drop_in.config.db_max_rows, drop_in.db_pool), (Some(5), 8));
    assert!(drop_in.config.db_pre_request.is_some());
    assert_eq!(drop_in.config.app_settings[0].0, "app.settings.x");
}

#[test]
fn all_problems_are_told_at_once() {
    let found = problems(&[
        ("PGRST_DB_TX_END", "maybe"),
        ("PGRST_LOG_LEVEL", "loud"),
        ("PGRST_JWT_SECRET", "short"),
        ("PGRST_JWT_ROLE_CLAIM_KEY", "role"),
        ("PGRST_DB_SCHEMAS", "public,pg_catalog"),
        ("PGRST_ADMIN_SERVER_PORT", "3000"),
        ("PGRST_DB_URI", "@/run/secrets/uri"),
    ]);
    let names: Vec<&str> = found.iter().map(|problem| problem.split(':').next().unwrap_or("")).collect();
    assert_eq!(
        names,
        ["db-schemas", "db-tx-end", "jwt-role-claim-key", "log-level", "db-uri", "admin-server-port", "jwt-secret",]
    );
    for (name, value, good) in [
        ("PGRST_OPENAPI_SERVER_PROXY_URI", "https://h:8443/base", true),
        ("PGRST_OPENAPI_SERVER_PROXY_URI", "h/base", false),
        ("PGRST_OPENAPI_SERVER_PROXY_URI", "ftp://h/", false),
        ("PGRST_OPENAPI_SERVER_PROXY_URI", "https://u@h/", false),
        ("PGRST_OPENAPI_SERVER_PROXY_URI", "https://h/?q", false),
        ("PGRST_OPENAPI_SERVER_PROXY_URI", "https://h:99999/", false),
        ("PGRST_JWT_AUD", "https://h/x", true),
        ("PGRST_JWT_AUD", "urn:x", true),
        ("PGRST_JWT_AUD", "foo://%%$$^^.com bar", false),
        ("PGRST_SERVER_UNIX_SOCKET_MODE", "8", false),
        ("PGRST_SERVER_UNIX_SOCKET_MODE", "599", false),
        ("PGRST_SERVER_UNIX_SOCKET_MODE", "500", false),
        ("PGRST_DB_POOL", "", true),
    ] {
        assert_eq!(problems(&[(name, value)]).is_empty(), good, "{name}={value}");
    }
}

#[test]
fn secrets_are_text_base64_or_jwks() {
    let token = sign_hs256(SECRET.as_bytes(), &json!({"role": "x"}));
    let check = |vars: &[(&str, &str)]| {
        let drop_in = read(vars).unwrap_or_else(|problems| panic!("{problems:?}"));
        assert!(drop_in.config.jwt_keys.verify_signature(&token).is_ok(), "{vars:?}");
    };
    check(&[("PGRST_JWT_SECRET", SECRET)]);
    check(&[("PGRST_JWT_SECRET", "@secret")]);
    let base64 = BASE64_STANDARD.encode(SECRET);
    check(&[("PGRST_JWT_SECRET", &base64), ("PGRST_JWT_SECRET_IS_BASE64", "true")]);
    check(&[("PGRST_JWT_SECRET", &base64.replace('=', ".")), ("PGRST_SECRET_IS_BASE64", "true")]);
    let jwk = json!({"kty": "oct", "alg": "HS256", "k": base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(SECRET)});
    check(&[("PGRST_JWT_SECRET", &jwk.to_string())]);
    check(&[("PGRST_JWT_SECRET", &json!({"keys": [jwk]}).to_string())]);
}

#[test]
fn what_cannot_be_read_as_number_or_flag_is_as_good_as_nothing() {
    let drop_in = read(&[
        ("PGRST_DB_POOL", "many"),
        ("PGRST_DB_MAX_ROWS", "true"),
        ("PGRST_DB_CHANNEL_ENABLED", "perhaps"),
        ("PGRST_DB_PLAN_ENABLED", "\"TRUE\""),
        ("PGRST_DB_URI", "@uri"),
        ("db-pool-timeout", "5"),
        ("db-pool-max-idletime", "6"),
    ])
    .unwrap_or_else(|problems| panic!("{problems:?}"));
    assert_eq!((drop_in.db_pool, drop_in.config.db_max_rows), (10, None));
    assert!(drop_in.db_channel_enabled && drop_in.config.db_plan_enabled);
    assert_eq!((drop_in.db_uri.expose().as_str(), drop_in.db_pool_max_idletime), ("postgresql://from/file", 5));
}

#[test]
fn a_dump_read_again_is_the_same() {
    let check = |vars: &[(&str, &str)], lines: &[&str]| {
        let dump = read(vars).unwrap_or_else(|problems| panic!("{problems:?}")).dump();
        for line in lines {
            assert!(dump.lines().any(|own| own == *line), "{line} is missing in\n{dump}");
        }
        let unquoted = |value: &str| {
            let inner = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
            inner.replace("\\\"", "\"")
        };
        let again: Vec<(String, String)> = dump
            .lines()
            .filter_map(|line| line.split_once(" = "))
            .map(|(name, value)| (name.to_owned(), unquoted(value)))
            .collect();
        let again: Vec<(&str, &str)> = again.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(read(&again).unwrap_or_else(|problems| panic!("{problems:?}")).dump(), dump);
    };
    check(&[], &["db-max-rows = \"\"", "db-pool = 10", "server-host = \"!4\"", "server-unix-socket-mode = \"660\""]);
    check(
        &[
            ("db-schemas", "a,   b"),
            ("role-claim-key", ".user[0].\"real-role\""),
            ("jwt-secret", "c2VjdXJpdHl0aHJvdWdob2JzY3VyaXR5aW5iYXNlNjQ="),
            ("secret-is-base64", "1"),
            ("app.settings.x", "with \"quotes\""),
            ("admin-server-port", "3001"),
        ],
        &[
            "db-schemas = \"a,b\"",
            "jwt-role-claim-key = \".\\\"user\\\"[0].\\\"real-role\\\"\"",
            "jwt-secret = \"c2VjdXJpdHl0aHJvdWdob2JzY3VyaXR5aW5iYXNlNjQ=\"",
            "jwt-secret-is-base64 = true",
            "app.settings.x = \"with \\\"quotes\\\"\"",
            "admin-server-port = 3001",
        ],
    );
}

#[test]
fn audiences_fit() {
    let config = |aud: Option<&str>| Config { jwt_aud: aud.map(str::to_owned), ..Config::default() };
    let check = |aud, of_token: &[&str], fits| {
        assert_eq!(config(aud).audience_fits(of_token.iter().copied()), fits, "{aud:?} {of_token:?}");
    };
    check(None, &["x"], true);
    check(Some("a"), &[], true);
    check(Some("a"), &["b", "a"], true);
    check(Some("a"), &["b"], false);
}
