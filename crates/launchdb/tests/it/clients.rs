//! The published clients against the real binary, see `e2e/README.md`.

use std::path::{Path, PathBuf};
use std::process::Command;

use test_support::ScratchDir;

use crate::server::Server;

#[test]
fn supabase_js_and_supabase_py_do_all_they_can() {
    let home = ScratchDir::new();
    let server = Server::start(home.path(), &[]);
    let e2e = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../e2e");
    check(&server, "supabase-js", Command::new("node").arg("--test").current_dir(e2e.join("js")));
    let python = python(&e2e);
    check(
        &server,
        "supabase-py",
        Command::new(python).args(["-m", "unittest", "discover", "-v"]).current_dir(e2e.join("py")),
    );
}

/// The interpreter that `script/setup` put the client's packages beside.
fn python(e2e: &Path) -> PathBuf {
    let own = e2e.join("py/.venv/bin/python");
    assert!(own.exists(), "e2e/py/.venv is missing: run script/test, which makes it");
    own
}

fn check(server: &Server, what: &str, command: &mut Command) {
    let output = command
        .env("LAUNCHDB_URL", server.url())
        .env("LAUNCHDB_TOKEN", server.token())
        .output()
        .unwrap_or_else(|error| panic!("{what} cannot be started: {error}"));
    assert!(
        output.status.success(),
        "{what}:\n{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
