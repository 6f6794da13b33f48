//! Which crate may depend on which (invariant 1), read from cargo's metadata.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::Violation;

/// The crates of the design and what each may depend on. A new crate gets a line here first.
const ALLOWED: [(&str, &[&str]); 20] = [
    ("base", &[]),
    ("pg", &["base"]),
    ("web", &["base"]),
    ("procs", &["base"]),
    ("outbound", &[]),
    ("mailer", &["pg", "outbound", "base"]),
    ("rest", &["pg", "web", "base"]),
    ("auth", &["pg", "web", "base", "outbound", "mailer"]),
    ("storage", &["pg", "web", "base", "outbound"]),
    ("realtime", &["pg", "web", "base"]),
    // The templates of mails are checked when they are stored.
    ("platform", &["pg", "web", "procs", "base", "mailer"]),
    ("gateway", &["web", "base"]),
    ("dedicated", &["web", "procs", "base"]),
    (
        "launchdb",
        &[
            "base",
            "pg",
            "web",
            "procs",
            "rest",
            "auth",
            "storage",
            "realtime",
            "platform",
            "gateway",
            "outbound",
            "mailer",
            "dedicated",
        ],
    ),
    ("test-support", &["base", "procs"]),
    ("seeded", &[]),
    ("rest-fuzz", &["rest", "seeded", "base"]),
    ("storage-fuzz", &["storage", "seeded", "base"]),
    ("xtask", &["base"]),
    // Kept last: what only tests may use.
    ("(tests)", &["test-support", "seeded"]),
];

/// Database clients: the pure crates never see one.
const DATABASE_CLIENTS: [&str; 3] = ["tokio-postgres", "postgres-protocol", "postgres-types"];
const WITHOUT_DATABASE: [&str; 5] = ["base", "web", "procs", "gateway", "dedicated"];

pub(super) fn check(root: &Path) -> anyhow::Result<Vec<Violation>> {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(root)
        .output()
        .context("cannot start cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    }
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata printed no JSON")?;
    let mut violations = Vec::new();
    for package in array(&metadata, "packages") {
        check_package(package, &mut violations);
    }
    Ok(violations)
}

fn check_package(package: &Value, violations: &mut Vec<Violation>) {
    let name = text(package, "name");
    let folder = if name == "xtask" { name.to_owned() } else { format!("crates/{name}") };
    let mut report = |what: String| violations.push(Violation { file: format!("{folder}/Cargo.toml"), line: 0, what });
    let allowed = |name: &str| ALLOWED.iter().find(|(n, _)| *n == name).map(|(_, allowed)| *allowed);
    let Some(own) = allowed(name) else {
        report(format!(
            "the crate `{name}` is not in the design: add it to the table of crates with what it may depend on"
        ));
        return;
    };
    if !text(package, "manifest_path").replace('\\', "/").ends_with(&format!("{folder}/Cargo.toml")) {
        report(format!("the crate's folder and its name `{name}` differ"));
    }
    for dependency in array(package, "dependencies") {
        let (other, kind) = (text(dependency, "name"), text(dependency, "kind"));
        let is_ours = !dependency["path"].is_null();
        let in_tests = kind == "dev" && allowed("(tests)").is_some_and(|tests| tests.contains(&other));
        if is_ours && !own.contains(&other) && !in_tests {
            report(format!("`{name}` may not depend on `{other}`: services never depend on each other (invariant 1)"));
        }
        if kind != "dev" && WITHOUT_DATABASE.contains(&name) && DATABASE_CLIENTS.contains(&other) {
            report(format!("`{name}` may not use the database client `{other}`"));
        }
    }
    for target in array(package, "targets") {
        let kinds = array(target, "kind");
        if kinds.iter().any(|kind| kind == "lib") && target["doctest"] == Value::Bool(true) {
            report("a library sets `doctest = false`: each doctest is a link of its own".to_owned());
        }
        if kinds.iter().any(|kind| kind == "test") && name != "launchdb" {
            report("only `launchdb` has a tests/ folder: one test binary per crate".to_owned());
        }
    }
}

fn array<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn violations(name: &str, dependencies: Value) -> Vec<String> {
        let mut out = Vec::new();
        let package = json!({
            "name": name, "manifest_path": format!("/x/crates/{name}/Cargo.toml"), "dependencies": dependencies,
        });
        check_package(&package, &mut out);
        out.into_iter().map(|v| v.what).collect()
    }

    #[test]
    fn services_do_not_depend_on_each_other() {
        let ours = |name: &str, kind: Value| json!({"name": name, "kind": kind, "path": "/x"});
        assert_eq!(violations("rest", json!([ours("pg", Value::Null)])), [""; 0]);
        assert_eq!(violations("rest", json!([ours("test-support", json!("dev"))])), [""; 0]);
        assert_eq!(violations("rest", json!([ours("test-support", Value::Null)])).len(), 1);
        assert_eq!(violations("rest", json!([ours("platform", json!("dev"))])).len(), 1);
        assert_eq!(violations("gateway", json!([{"name": "tokio-postgres", "kind": null, "path": null}])).len(), 1);
        assert_eq!(violations("unheard-of", json!([])).len(), 1);
    }
}
