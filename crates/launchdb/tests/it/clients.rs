//! The published clients against the real binary, see `e2e/README.md`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use test_support::{ScratchDir, SmtpOptions, SmtpServer};

use crate::server::Server;

#[test]
fn supabase_js_and_supabase_py_do_all_they_can() {
    let home = ScratchDir::new();
    let mails = ScratchDir::new();
    let (port, _mail_server) = mail_server(mails.path());
    let smtp = [("SMTP_HOST", "127.0.0.1"), ("SMTP_PORT", port.as_str()), ("SMTP_FROM", "auth@base.example")];
    let server = Server::start_with(home.path(), &[], &smtp);
    let e2e = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../e2e");
    check(&server, mails.path(), "supabase-js", Command::new("node").arg("--test").current_dir(e2e.join("js")));
    let python = python(&e2e);
    check(
        &server,
        mails.path(),
        "supabase-py",
        Command::new(python).args(["-m", "unittest", "discover", "-v"]).current_dir(e2e.join("py")),
    );
}

/// A mail server whose mails become files of a folder, for clients that are not written in Rust; its port, and what it lives
/// in.
fn mail_server(folder: &Path) -> (String, tokio::runtime::Runtime) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let server = runtime.block_on(SmtpServer::start(SmtpOptions::default()));
    let port = server.port().to_string();
    let folder = folder.to_owned();
    runtime.spawn(async move {
        let mut written = 0;
        loop {
            for mail in server.mails().into_iter().skip(written) {
                let text = format!("{}\n{}", mail.to.join(","), mail.readable());
                // Renamed when it is whole, so that nobody reads half a mail.
                let (draft, file) = (folder.join("draft"), folder.join(format!("{written}.eml")));
                std::fs::write(&draft, text).and_then(|()| std::fs::rename(draft, file)).expect("the mail is kept");
                written += 1;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    (port, runtime)
}

/// The interpreter that `script/setup` put the client's packages beside.
fn python(e2e: &Path) -> PathBuf {
    let own = e2e.join("py/.venv/bin/python");
    assert!(own.exists(), "e2e/py/.venv is missing: run script/test, which makes it");
    own
}

fn check(server: &Server, mails: &Path, what: &str, command: &mut Command) {
    let output = command
        .env("LAUNCHDB_URL", server.url())
        .env("LAUNCHDB_TOKEN", server.token())
        .env("LAUNCHDB_MAILS", mails)
        .output()
        .unwrap_or_else(|error| panic!("{what} cannot be started: {error}"));
    assert!(
        output.status.success(),
        "{what}:\n{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
