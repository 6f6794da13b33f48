//! The project's own text files.

use std::path::Path;
use std::process::Command;

use anyhow::Context as _;

/// A text file of the project.
#[derive(Clone, Debug)]
pub(super) struct TextFile {
    /// Relative to the workspace, with `/`.
    pub(super) path: String,
    pub(super) text: String,
}

impl TextFile {
    /// The crate whose file this is, such as `rest`.
    pub(super) fn crate_name(&self) -> Option<&str> {
        match self.path.strip_prefix("crates/") {
            Some(rest) => rest.split('/').next(),
            None => self.path.starts_with("xtask/").then_some("xtask"),
        }
    }

    /// Whether the whole file is test code.
    pub(super) fn is_test(&self) -> bool {
        self.crate_name() == Some("test-support")
            || self.path.split('/').any(|part| part == "tests" || part == "tests.rs")
    }
}

/// Every text file that git knows or would take; without git (a tarball), all but what builds leave.
pub(super) fn text_files(root: &Path) -> anyhow::Result<Vec<TextFile>> {
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output();
    let mut paths: Vec<String> = match listed {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).split_terminator('\0').map(str::to_owned).collect()
        }
        _ => {
            let mut paths = Vec::new();
            walk(root, root, &mut paths)?;
            paths
        }
    };
    paths.sort();
    let mut files = Vec::new();
    for path in paths {
        match std::fs::read(root.join(&path)) {
            Ok(bytes) => {
                if let Ok(text) = String::from_utf8(bytes) {
                    files.push(TextFile { path, text });
                }
            }
            // Listed, but removed in the working copy.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("cannot read {path}")),
        }
    }
    Ok(files)
}

fn walk(root: &Path, dir: &Path, paths: &mut Vec<String>) -> anyhow::Result<()> {
    const LEFT_BY_BUILDS: [&str; 7] = ["target", ".git", "node_modules", ".venv", ".launchdb", "__pycache__", "out"];
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        if path.is_dir() {
            if !LEFT_BY_BUILDS.contains(&name.as_str()) {
                walk(root, &path, paths)?;
            }
        } else if let Ok(relative) = path.strip_prefix(root) {
            paths.push(relative.to_string_lossy().into_owned());
        }
    }
    Ok(())
}
