//! The gate: every step that has to pass before a change is merged.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, bail};

/// Runs the steps from the quickest to the slowest and stops at the first that fails.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    step("tidy", || crate::tidy::run(root))?;
    step("fmt", || cargo(root, &["fmt", "--all", "--check"]).context("run `cargo fmt --all`"))?;
    optional(root, "deny", &["deny", "--all-features", "check", "bans", "licenses", "sources"])?;
    optional(root, "machete", &["machete"])?;
    if installed("typos") {
        step("typos", || command(root, Command::new("typos")))?;
    }
    step("clippy", || cargo(root, &["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]))?;
    step("tests", || tests(root))
}

/// With nextest where it is there; building it on a fresh machine would take longer than the tests, and they pass under
/// plain `cargo test` as well.
fn tests(root: &Path) -> anyhow::Result<()> {
    if installed("cargo-nextest") {
        return cargo(root, &["nextest", "run", "--workspace", "--locked", "--no-fail-fast"]);
    }
    eprintln!("cargo-nextest is not installed, so the tests run under `cargo test`");
    cargo(root, &["test", "--workspace", "--locked", "--no-fail-fast"])
}

/// Optimised, because the number of inputs is what counts.
pub(crate) fn fuzz(root: &Path, package: &str, arguments: &[&str]) -> anyhow::Result<()> {
    cargo(root, &[&["run", "--release", "--locked", "--package", package, "--"], arguments].concat())
}

fn optional(root: &Path, name: &str, arguments: &[&str]) -> anyhow::Result<()> {
    if !installed(&format!("cargo-{name}")) {
        eprintln!("== {name}: skipped, cargo-{name} is not installed");
        return Ok(());
    }
    step(name, || cargo(root, arguments))
}

fn step(name: &str, work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    eprintln!("== {name}");
    let start = Instant::now();
    work().with_context(|| format!("{name} failed"))?;
    eprintln!("== {name}: passed in {:.1} s", start.elapsed().as_secs_f32());
    Ok(())
}

fn cargo(root: &Path, arguments: &[&str]) -> anyhow::Result<()> {
    // The cargo that started us, so that a toolchain chosen on its command line stays.
    let mut command_line = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command_line.args(arguments);
    if std::env::var_os("CI").is_some() {
        // Everything is built once there, and nobody debugs it: panics still say where they are.
        command_line.env("CARGO_INCREMENTAL", "0").env("CARGO_PROFILE_DEV_DEBUG", "none");
    }
    command(root, command_line)
}

fn command(root: &Path, mut command_line: Command) -> anyhow::Result<()> {
    let status = command_line
        .current_dir(root)
        .status()
        .with_context(|| format!("cannot start {}", command_line.get_program().to_string_lossy()))?;
    if !status.success() {
        bail!("`{}` ended with {status}", format!("{command_line:?}").replace('"', ""));
    }
    Ok(())
}

fn installed(program: &str) -> bool {
    let mut look = Command::new(program);
    // Subcommands of cargo want their own name first; the others ignore or refuse it, which is an answer as well.
    look.args(program.strip_prefix("cargo-")).arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    look.status().is_ok()
}
