//! Temporary folders for tests that start PostgreSQL themselves.

use std::path::{Path, PathBuf};

use procs::unprivileged::RunAs;

use crate::watcher::{self, Watched};

/// A temporary folder that PostgreSQL's unprivileged user can pass through even when the tests run as root.
///
/// Removed with the value. When the test process is killed first, a watcher ends any LaunchDB and PostgreSQL whose data
/// folder is in it, then removes it.
#[derive(Debug)]
pub struct ScratchDir {
    dir: tempfile::TempDir,
}

impl ScratchDir {
    /// Makes an empty folder.
    ///
    /// # Panics
    /// When it cannot be made.
    #[expect(clippy::new_without_default, reason = "making a folder is no default")]
    pub fn new() -> Self {
        let run_as = RunAs::for_this_process().unwrap();
        let preferred = std::env::temp_dir();
        let root: PathBuf =
            if run_as.check_reachable(&preferred.join("x")).is_ok() { preferred } else { "/tmp".into() };
        let dir = tempfile::Builder::new().prefix("launchdb-").tempdir_in(root).unwrap();
        crate::scratch_cluster::make_passage(dir.path()).unwrap();
        Watched::this().and_then(|this| this.watch(dir.path())).unwrap();
        Self { dir }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for ScratchDir {
    fn drop(&mut self) {
        // A test that failed may have left its servers running.
        watcher::clean_up(self.path());
    }
}
