//! A released migration file never changes (invariant 11).
//!
//! `cargo xtask release-migrations`, part of making a release, notes the checksum of every migration file. Until then a
//! file may change; afterwards only new files may come. The servers' own ledgers check the same at run time.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use ring::digest::{SHA256, digest};

use super::Violation;
use super::tree::{TextFile, text_files};

const LEDGER: &str = "xtask/released_migrations.txt";
const HEADER: &str =
    "# SHA-256 of every migration file that was part of a release. Written by `cargo xtask release-migrations`.\n";

pub(super) fn check(root: &Path, files: &[TextFile], violations: &mut Vec<Violation>) -> anyhow::Result<()> {
    let ledger = std::fs::read_to_string(root.join(LEDGER)).with_context(|| format!("cannot read {LEDGER}"))?;
    compare(&ledger, &checksums(files), violations);
    Ok(())
}

/// Notes every migration file as it is now. Fails when a noted one changed.
pub(crate) fn release(root: &Path) -> anyhow::Result<()> {
    let files = text_files(root)?;
    let mut violations = Vec::new();
    check(root, &files, &mut violations)?;
    if let Some(violation) = violations.first() {
        anyhow::bail!("{violation}");
    }
    let lines: String = checksums(&files).iter().map(|(path, sum)| format!("{sum}  {path}\n")).collect();
    std::fs::write(root.join(LEDGER), format!("{HEADER}{lines}")).with_context(|| format!("cannot write {LEDGER}"))
}

fn is_migration(path: &str) -> bool {
    let mut parts = path.rsplit('/');
    let (name, folder) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let numbered = name.len() > 5 && name.as_bytes()[..4].iter().all(u8::is_ascii_digit) && name.ends_with(".sql");
    path.starts_with("crates/") && numbered && matches!(folder, "migrations" | "baseline")
}

fn checksums(files: &[TextFile]) -> BTreeMap<&str, String> {
    let migrations = files.iter().filter(|file| is_migration(&file.path));
    migrations
        .map(|file| (file.path.as_str(), base::random::to_hex(digest(&SHA256, file.text.as_bytes()).as_ref())))
        .collect()
}

fn compare(ledger: &str, now: &BTreeMap<&str, String>, violations: &mut Vec<Violation>) {
    for line in ledger.lines().filter(|line| !line.starts_with('#')) {
        let Some((sum, path)) = line.split_once("  ") else { continue };
        let what = match now.get(path) {
            Some(current) if current == sum => continue,
            Some(_) => "this migration was released and may not change (invariant 11): add a new file instead",
            None => "this migration was released and may not be removed (invariant 11)",
        };
        violations.push(Violation { file: path.to_owned(), line: 0, what: what.to_owned() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn released_files_may_not_change() {
        let file = |path: &str, text: &str| TextFile { path: path.to_owned(), text: text.to_owned() };
        let path = "crates/platform/src/migrations/0001_platform.sql";
        let files = [file(path, "select 1"), file("crates/platform/src/store/x.sql", "select 2")];
        let now = checksums(&files);
        assert_eq!(now.keys().collect::<Vec<_>>(), [&path]);
        let ledger = format!("{HEADER}{}  {path}\n", now[path]);
        let broken = |ledger: &str, files: &[TextFile]| {
            let mut violations = Vec::new();
            compare(ledger, &checksums(files), &mut violations);
            violations.len()
        };
        assert_eq!(broken(&ledger, &files), 0);
        assert_eq!(broken(&ledger, &[file(path, "select 3")]), 1);
        assert_eq!(broken(&ledger, &[]), 1);
        assert_eq!(broken(HEADER, &files), 0);
    }
}
