//! Invariants of the architecture that can be read from the sources, each with the words that explain it to whoever
//! breaks it.

mod dependency;
mod exception;
mod file_name;
pub(crate) mod migration;
mod rust_source;
mod source_rule;
mod tree;

use std::fmt;
use std::path::Path;

use anyhow::bail;

/// One broken invariant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Violation {
    /// Relative to the workspace.
    file: String,
    /// From 1; 0 for the whole file.
    line: usize,
    what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.what),
            line => write!(f, "{}:{line}: {}", self.file, self.what),
        }
    }
}

/// Checks everything; fails with the list of what is broken.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    let files = tree::text_files(root)?;
    let mut violations = dependency::check(root)?;
    for file in &files {
        file_name::check(file, &mut violations);
        source_rule::check(file, &mut violations);
    }
    exception::check(&files, &mut violations);
    migration::check(root, &files, &mut violations)?;
    violations.sort();
    if violations.is_empty() {
        return Ok(());
    }
    let list: Vec<String> = violations.iter().map(Violation::to_string).collect();
    bail!("{}\n{} in all; xtask/src/tidy holds the rules and their exceptions", list.join("\n"), list.len());
}
