//! Rules about the text of files.

use super::Violation;
use super::exception::{Rule, is_excepted};
use super::rust_source::RustSource;
use super::tree::TextFile;

/// A file longer than this needs a reason.
const LONG: usize = 600;
/// No reason is good enough for more.
const TOO_LONG: usize = 800;

/// The pure stages of the data API (invariant 2).
const PURE_STAGES: [&str; 4] = ["api_request", "plan", "query", "response"];

pub(super) fn check(file: &TextFile, violations: &mut Vec<Violation>) {
    check_machine_paths(file, violations);
    if !file.path.ends_with(".rs") {
        return;
    }
    let source = RustSource::parse(&file.text);
    let mut report = Report { file, violations };
    check_length(&mut report);
    check_unfinished(&source, &mut report);
    if file.is_test() {
        return;
    }
    check_words(&source, &mut report);
    check_pure_stages(&source, &mut report);
    check_sql(&source, &mut report);
}

struct Report<'a> {
    file: &'a TextFile,
    violations: &'a mut Vec<Violation>,
}

impl Report<'_> {
    fn add(&mut self, line: usize, what: &str) {
        self.violations.push(Violation { file: self.file.path.clone(), line, what: what.to_owned() });
    }

    /// Unless the file is excepted from `rule`.
    fn add_for(&mut self, rule: Rule, line: usize, what: &str) {
        if !is_excepted(rule, &self.file.path) {
            self.add(line, what);
        }
    }
}

/// Paths of the machine on which something was written have no meaning elsewhere.
fn check_machine_paths(file: &TextFile, violations: &mut Vec<Violation>) {
    const PATHS: [&str; 3] = ["/root/", "/home/", "/Users/"];
    let mut report = Report { file, violations };
    for (i, line) in file.text.lines().enumerate() {
        let found = PATHS.iter().any(|path| {
            // `https://host/home/x` and `a/home/b` are other things.
            line.match_indices(path).any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '.'))
        });
        if found {
            report.add_for(Rule::MachinePath, i + 1, "a path of one machine: nobody else has it");
        }
    }
}

fn check_length(report: &mut Report<'_>) {
    let lines = report.file.text.lines().count();
    if lines > TOO_LONG {
        report.add(0, &format!("{lines} lines, more than {TOO_LONG}: cut it where the concepts part"));
    } else if lines > LONG {
        let what =
            format!("{lines} lines, more than {LONG}: cut it where the concepts part, or except it with a reason");
        report.add_for(Rule::Length, 0, &what);
    }
}

fn check_unfinished(source: &RustSource, report: &mut Report<'_>) {
    const MARKS: [(&str, &str); 6] = [
        ("#[ignore", "a test that is not run says nothing: mend or remove it"),
        ("todo!(", "unfinished"),
        ("unimplemented!(", "unfinished"),
        ("dbg!(", "left from debugging"),
        ("allow(dead_code)", "dead code: remove it"),
        ("allow(unused", "dead code: remove it"),
    ];
    for (i, line) in source.code.iter().enumerate() {
        for (mark, what) in MARKS.iter().filter(|(mark, _)| line.contains(mark)) {
            report.add(i + 1, &format!("`{}`: {what}", mark.trim_end_matches('(')));
        }
    }
}

fn check_words(source: &RustSource, report: &mut Report<'_>) {
    const STATE: [&str; 8] =
        ["OnceLock<", "LazyLock<", "OnceCell<", "Mutex<", "RwLock<", "Atomic", "LazyCell<", "RefCell<"];
    const ENVIRONMENT: [&str; 6] =
        ["env::var(", "env::var_os(", "env::vars(", "env::vars_os(", "env::set_var(", "env::remove_var("];
    for (line, code) in source.product_code() {
        if ENVIRONMENT.iter().any(|call| code.contains(call)) {
            let what = "configuration is read in `launchdb::config` only (invariant 8): take the value as a parameter";
            report.add_for(Rule::Environment, line, what);
        }
        let is_static = code.trim_start().trim_start_matches("pub ").starts_with("static ")
            || code.trim_start().starts_with("pub(crate) static ");
        if code.contains("thread_local!") || code.contains("static mut ") || is_static && contains_any(code, &STATE) {
            let what = "process-wide state (invariant 7): two platforms run in one process, so hand it down instead";
            report.add_for(Rule::State, line, what);
        }
        if code.contains("tokio::spawn(") || code.contains("task::spawn(") {
            let what = "a task that no JoinSet or TaskTracker knows (invariant 9) is never ended";
            report.add_for(Rule::Task, line, what);
        }
        if code.contains("SystemTime::now(") {
            report.add_for(
                Rule::Time,
                line,
                "time comes from `base::Clock` (invariant 10), so that tests need not sleep",
            );
        }
    }
}

fn check_pure_stages(source: &RustSource, report: &mut Report<'_>) {
    let Some(rest) = report.file.path.strip_prefix("crates/rest/src/") else { return };
    let stage = rest.split(['/', '.']).next().unwrap_or_default().to_owned();
    if !PURE_STAGES.contains(&stage.as_str()) {
        return;
    }
    for (line, code) in source.product_code() {
        let impure = words(code)
            .find(|word| matches!(*word, "async" | "await" | "tokio" | "tokio_postgres" | "postgres_protocol"));
        if let Some(word) = impure {
            report
                .add(line, &format!("`{word}` in the pure stage `rest::{stage}` (invariant 2): only main_tx does IO"));
        }
    }
}

fn check_sql(source: &RustSource, report: &mut Report<'_>) {
    if may_hold_sql(&report.file.path) {
        return;
    }
    for (line, text) in source.product_strings().filter(|(_, text)| looks_like_sql(text)) {
        let start: String = text.chars().take(40).collect();
        let what = format!(
            "SQL text (\"{start}\") outside *.sql, store/, rest::query, rest::schema_cache and pg (invariant 3)"
        );
        report.add_for(Rule::Sql, line, &what);
    }
}

fn may_hold_sql(path: &str) -> bool {
    const PLACES: [&str; 3] = ["crates/rest/src/query", "crates/rest/src/schema_cache", "crates/pg/"];
    PLACES.iter().any(|place| path.starts_with(place)) || path.contains("/store/") || path.ends_with("/store.rs")
}

/// Whether a string reads like a statement: its first words are those of one. Prose begins otherwise, or with a capital.
fn looks_like_sql(text: &str) -> bool {
    let lower = text.trim_start().to_lowercase();
    let all_caps = text.split_whitespace().next().is_some_and(|word| word.chars().all(|c| !c.is_lowercase()));
    if !all_caps && !text.trim_start().starts_with(|c: char| c.is_lowercase()) {
        return false;
    }
    let mut first = lower.split(|c: char| c.is_whitespace() || c == '(').filter(|word| !word.is_empty());
    let (one, two, more) = (first.next().unwrap_or_default(), first.next().unwrap_or_default(), lower.as_str());
    const OBJECTS: [&str; 17] = [
        "table",
        "database",
        "role",
        "user",
        "schema",
        "index",
        "function",
        "policy",
        "view",
        "extension",
        "type",
        "trigger",
        "publication",
        "sequence",
        "default",
        "or",
        "unique",
    ];
    match one {
        "select" => more.contains(" from ") || two.starts_with("pg_") || two.starts_with("set_config"),
        "insert" => two == "into",
        "delete" => two == "from" && (more.contains(" where ") || more.split_whitespace().count() == 3),
        "update" => more.contains(" set "),
        "with" => more.contains(" as (") || more.contains(" as materialized ("),
        "create" | "alter" | "drop" => OBJECTS.contains(&two),
        "grant" => more.contains(" on ") && more.contains(" to "),
        "revoke" => more.contains(" on ") && more.contains(" from "),
        "set" => matches!(two, "role" | "local" | "session"),
        "truncate" | "vacuum" | "listen" | "notify" | "reset" => all_caps && !two.is_empty(),
        _ => false,
    }
}

fn contains_any(text: &str, needles: &[&str]) -> bool {
    needles.iter().any(|needle| text.contains(needle))
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, text: &str, expected: &[&str]) {
        let mut violations = Vec::new();
        super::check(&TextFile { path: path.to_owned(), text: text.to_owned() }, &mut violations);
        let found: Vec<String> = violations.iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.contains(expected), "{found} is not about {expected}");
        }
    }

    #[test]
    fn each_invariant_is_seen() {
        check("crates/web/src/a.rs", "let x = std::env::var(\"A\");\n", &["invariant 8"]);
        check("crates/launchdb/src/config/source.rs", "let x = std::env::var(\"A\");\n", &[]);
        check("crates/web/src/a.rs", "static A: OnceLock<u8> = OnceLock::new();\n", &["invariant 7"]);
        check("crates/web/src/a.rs", "static A: &str = \"\";\n", &[]);
        check("crates/web/src/a.rs", "tokio::spawn(async {});\n", &["invariant 9"]);
        check("crates/web/src/a.rs", "let now = SystemTime::now();\n", &["invariant 10"]);
        check("crates/rest/src/plan/read_plan.rs", "async fn a() { tokio::x() }\n", &["invariant 2"]);
        check("crates/rest/src/plan.rs", "// async\nfn tokio_like() {}\n", &[]);
        check("crates/rest/src/main_tx.rs", "async fn a() {}\n", &[]);
        check("crates/web/src/a.rs", "/// todo!()\nfn a() { todo!() }\n", &["unfinished"]);
        check("crates/web/src/tests.rs", "#[ignore]\nfn a() { tokio::spawn(x); }\n", &["not run"]);
    }

    #[test]
    fn sql_stays_where_it_belongs() {
        let sql = "let q = \"select a from b\";\n";
        check("crates/platform/src/projects.rs", sql, &["invariant 3"]);
        check("crates/platform/src/store/project.rs", sql, &[]);
        check("crates/rest/src/query/snippet.rs", sql, &[]);
        check("crates/platform/src/projects.rs", &format!("#[cfg(test)]\nmod tests {{\n{sql}}}\n"), &[]);
        for prose in
            ["select a project first", "update the settings", "Create a table", "delete a project", "with care"]
        {
            assert!(!looks_like_sql(prose), "{prose}");
        }
        for sql in ["SELECT 1 FROM x", "create table x (a int)", "GRANT SELECT ON a TO b", "insert into x values (1)"] {
            assert!(looks_like_sql(sql), "{sql}");
        }
    }

    #[test]
    fn long_files_and_machine_paths_are_seen() {
        check("crates/web/src/a.rs", &"\n".repeat(LONG + 1), &["lines"]);
        check("crates/web/src/a.rs", &"\n".repeat(LONG), &[]);
        check("docs/a.md", concat!("see /", "home/main"), &["one machine"]);
        check("docs/a.md", "see https://example.org/home/main", &[]);
    }
}
