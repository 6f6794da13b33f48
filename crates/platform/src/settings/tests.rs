use serde_json::json;

use super::*;

fn object(value: Value) -> Map<String, Value> {
    let Value::Object(map) = value else { panic!("an object") };
    map
}

/// Applies a patch to stored settings, as the handler does.
fn patched(stored: &Sections, patch: Value) -> Sections {
    let change = plan(stored, &object(patch)).unwrap();
    let mut stored = stored.clone();
    stored.extend(change.sections);
    stored
}

#[test]
fn defaults_are_those_of_the_typed_structs() {
    let stored = Sections::default();
    assert_eq!(data_api(&stored), DataApiSettings::default());
    assert_eq!(limits(&stored), LimitSettings::default());
    assert!(legacy_keys_enabled(&stored));
    assert_eq!(
        section("storage", &stored)["features"],
        json!({"imageTransformation": {"enabled": true}, "s3Protocol": {"enabled": true}})
    );
}

#[test]
fn every_bad_key_and_value_is_named() {
    let patch = json!({
        "auth": {"site_url": "nowhere", "jwt_exp": 1, "no_such_key": true, "mailer_autoconfirm": "yes", "smtp_pass": 7},
        "data_api": {
            "db_schema": ["public", "pg_catalog"],
            "jwt_roles": ["supabase_admin"],
            "max_rows": 0,
            "db_tx_end": "maybe",
            "db_pre_request": "a.b.c",
            "statement_timeout_ms": {"anon": -1, "robot": 5},
        },
        "limits": {"cors_origins": ["https://ok.example", "ok.example/path"], "requests_per_second": 1.5},
        "storage": 7,
        "billing": {},
    });
    let problems = plan(&Sections::default(), &object(patch)).unwrap_err();
    let names: Vec<_> = problems.iter().map(|problem| problem.field.as_str()).collect();
    assert_eq!(
        names,
        [
            "auth.site_url",
            "auth.jwt_exp",
            "auth.no_such_key",
            "auth.mailer_autoconfirm",
            "auth.smtp_pass",
            "data_api.db_schema",
            "data_api.jwt_roles",
            "data_api.max_rows",
            "data_api.db_tx_end",
            "data_api.db_pre_request",
            "data_api.statement_timeout_ms.anon",
            "data_api.statement_timeout_ms.robot",
            "limits.cors_origins",
            "limits.requests_per_second",
            "storage",
            "billing",
        ]
    );
}

#[test]
fn a_patch_keeps_what_it_does_not_name() {
    let stored = patched(
        &Sections::default(),
        json!({"data_api": {
            "db_schema": "public, api", "max_rows": null, "statement_timeout_ms": {"anon": 100}, "db_pool": 3,
        }}),
    );
    let stored = patched(&stored, json!({"data_api": {"db_pool": null, "statement_timeout_ms": {"service_role": 7}}}));
    let settings = data_api(&stored);
    assert_eq!(settings.db_schema, ["public", "api"]);
    assert_eq!(settings.max_rows, None);
    assert_eq!(settings.db_pool, DataApiSettings::default().db_pool);
    assert_eq!(settings.statement_timeout_ms.anon, 100);
    assert_eq!(settings.statement_timeout_ms.authenticated, 8_000);
    assert_eq!(settings.statement_timeout_ms.service_role, 7);
}

#[test]
fn secrets_are_neither_stored_in_the_open_nor_shown() {
    let change =
        plan(&Sections::default(), &object(json!({"auth": {"smtp_pass": "hush", "smtp_host": "mx"}}))).unwrap();
    assert_eq!(change.secrets, [("auth.smtp_pass".to_owned(), Some("hush".to_owned()))]);
    assert!(!format!("{:?}", change.sections).contains("hush"));
    let stored: Sections = change.sections.into_iter().collect();
    let shown = view(&stored, &HashSet::from(["auth.smtp_pass".to_owned()]), &SettingDefaults::default());
    assert_eq!(shown["auth"]["smtp_pass"], MASK);
    assert_eq!(shown["auth"]["smtp_host"], "mx");
    // The form sends the mask back: nothing changes. Null forgets.
    let again = plan(&stored, &object(json!({"auth": {"smtp_pass": MASK}}))).unwrap();
    assert!(again.secrets.is_empty());
    let forgotten = plan(&stored, &object(json!({"auth": {"smtp_pass": null}}))).unwrap();
    assert_eq!(forgotten.secrets, [("auth.smtp_pass".to_owned(), None)]);
}

#[test]
fn stored_keys_of_another_version_do_no_harm() {
    let stored = Sections::from([("data_api".to_owned(), object(json!({"from_the_future": 1, "max_rows": 5})))]);
    assert_eq!(data_api(&stored).max_rows, Some(5));
}

#[test]
fn names_are_unique_and_defaults_valid() {
    for name in SECTIONS {
        let rules = rules(name).unwrap();
        let mut seen = HashSet::new();
        for rule in &rules {
            assert!(seen.insert(rule.name.clone()), "{name}.{} twice", rule.name);
            if !rule.default.is_null() {
                let mut problems = Vec::new();
                rule.check(&rule.name, &rule.default, &mut problems);
                assert_eq!(problems, [], "{name}.{}", rule.name);
            }
        }
    }
}

#[test]
fn a_function_is_named_without_tricks() {
    let check = |name: &str| {
        let patch = json!({ "data_api": { "db_pre_request": name } });
        plan(&Sections::default(), &object(patch)).is_ok()
    };
    for good in ["check_request", "public.check_request", "my-schema.prüfe_1", "_a.b$"] {
        assert!(check(good), "{good}");
    }
    for bad in ["\"; drop", "a\"b", "a;b", "a b", "a'b", "a.b.c", "", ".a", "a.", "a\\b", "1a", "a()"] {
        assert!(!check(bad), "{bad}");
    }
}

#[test]
fn the_redirect_list_takes_patterns() {
    let check = |list: Value, good: bool| {
        let patch = json!({ "auth": { "uri_allow_list": list } });
        assert_eq!(plan(&Sections::default(), &object(patch)).is_ok(), good, "{list}");
    };
    check(json!("https://{a,b}.example.com/**, myapp://callback"), true);
    check(json!(["https://*.example.com/[a-z]?", "{http,https}://localhost:3000/*"]), true);
    check(json!("https://a.example.com, nowhere"), false);
    check(json!("https://{a,b.example.com"), true);
    check(json!("https:///path"), false);
}

#[test]
fn templates_are_checked_when_they_are_stored() {
    let check = |name: &str, text: &str, problem: Option<&str>| {
        let found = plan(&Sections::default(), &object(json!({ "auth": { name: text } })));
        let found = found.err().map(|problems| (problems[0].field.clone(), problems[0].problem.clone()));
        match (&found, problem) {
            (None, None) => {}
            (Some((field, said)), Some(problem)) => {
                assert!(*field == format!("auth.{name}") && said.contains(problem), "{name} {text}: {field} {said}");
            }
            _ => panic!("{name} {text}: {found:?}"),
        }
    };
    check("mailer_templates_invite_content", "<a href=\"{{ .ConfirmationURL }}\">{{ .Data.name }}</a>", None);
    check("mailer_templates_invite_content", "", None);
    check("mailer_subjects_invite", "{{ if .Data.name }}Hi {{ .Data.name }}{{ else }}Hi{{ end }}", None);
    check("sms_template", "{{ .Code }}", None);
    check("mailer_templates_invite_content", "a\n{{ if }}", Some("line 2"));
    check("mailer_templates_invite_content", "{{ .Token", Some("must be a template that can be used"));
    check("mailer_subjects_recovery", "{{ define \"x\" }}{{ end }}", Some("line 1"));
    check("mfa_phone_template", "{{ nothing .Code }}", Some("line 1"));
}

#[test]
fn the_operators_defaults_count_where_a_project_says_nothing() {
    let defaults = SettingDefaults { jwt_exp: Some(900), sessions_inactivity_timeout: Some(86_400) };
    let effective = |stored: &Sections| {
        let settings = auth(stored, BTreeMap::new(), &defaults);
        let shown = view(stored, &HashSet::new(), &defaults);
        assert_eq!(shown["auth"]["jwt_exp"], settings.jwt_exp);
        (settings.jwt_exp, settings.sessions_inactivity_timeout)
    };
    let stored = Sections::default();
    assert_eq!(effective(&stored), (900, 86_400));
    let stored = patched(&stored, json!({ "auth": { "jwt_exp": 3600, "sessions_inactivity_timeout": 0 } }));
    assert_eq!(effective(&stored), (3600, 0));
    let stored = patched(&stored, json!({ "auth": { "jwt_exp": null } }));
    assert_eq!(effective(&stored), (900, 0));
    assert_eq!(auth(&Sections::default(), BTreeMap::new(), &SettingDefaults::default()).jwt_exp, 3600);
}
