//! Making a new cluster so that a crash in the middle leaves nothing half-made behind.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use base::Secret;

use crate::binaries::Binaries;
use crate::unprivileged::{AccessError, RunAs};

/// What a new cluster is made of.
#[derive(Clone, Debug)]
pub struct Initdb<'a> {
    pub binaries: &'a Binaries,
    pub run_as: &'a RunAs,
    pub superuser: &'a str,
    pub password: &'a Secret<String>,
    /// Whether to force everything to disk before the cluster counts as made.
    pub durable: bool,
}

/// Why no cluster could be made.
#[derive(Debug, thiserror::Error)]
pub enum InitdbError {
    #[error(transparent)]
    Access(#[from] AccessError),
    #[error("cannot write {}: {source}", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot start {}: {source}", program.display())]
    Start {
        program: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("initdb could not make the cluster: {output}")]
    Failed { output: String },
}

impl Initdb<'_> {
    /// Makes a cluster at `target`, which must not exist; the folder above it must. Blocks for about a second.
    ///
    /// The work happens under another name beside `target` and becomes visible by one rename.
    pub fn create(&self, target: &Path) -> Result<(), InitdbError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| InitdbError::Io { path, source }
        };
        let staging = target.with_extension("new");
        if staging.exists() {
            fs::remove_dir_all(&staging).map_err(io(&staging))?;
        }
        self.run_as.make_dir(&staging)?;
        let made = self.run(&staging);
        if made.is_err() {
            // What is left would only confuse; the error that matters is the first one.
            let _ = fs::remove_dir_all(&staging);
        }
        made?;
        if self.durable {
            // One call for the whole file system instead of initdb's fsync of a thousand files.
            let folder = File::open(&staging).map_err(io(&staging))?;
            rustix::fs::syncfs(&folder).map_err(|e| io(&staging)(e.into()))?;
        }
        fs::rename(&staging, target).map_err(io(target))?;
        if self.durable
            && let Some(parent) = target.parent()
        {
            File::open(parent).and_then(|folder| folder.sync_all()).map_err(io(parent))?;
        }
        Ok(())
    }

    fn run(&self, staging: &Path) -> Result<(), InitdbError> {
        // Sorting by code point never changes with the C library (no corrupt indexes after an upgrade of the system) and
        // is the fastest; character classes of Unicode make lower(), ILIKE and citext work for every language.
        match self.run_with_ctype(staging, "C.UTF-8") {
            Err(InitdbError::Failed { output }) if output.contains("locale") => self.run_with_ctype(staging, "C"),
            other => other,
        }
    }

    fn run_with_ctype(&self, staging: &Path, ctype: &str) -> Result<(), InitdbError> {
        // A file, because other users can read a command line, and a pipe of root's cannot be opened again by PostgreSQL's
        // user through /dev/stdin.
        let password_file = staging.with_extension("password");
        let _ = fs::remove_file(&password_file);
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&password_file)
            .and_then(|mut file| file.write_all(self.password.expose().as_bytes()));
        let result = match written {
            Ok(()) => self
                .run_as
                .own(&password_file)
                .map_err(InitdbError::from)
                .and_then(|()| self.spawn(staging, &password_file, ctype)),
            Err(source) => Err(InitdbError::Io { path: password_file.clone(), source }),
        };
        let _ = fs::remove_file(&password_file);
        result
    }

    fn spawn(&self, staging: &Path, password_file: &Path, ctype: &str) -> Result<(), InitdbError> {
        let program = self.binaries.program("initdb");
        let output = self
            .run_as
            .command(&program)
            .current_dir("/")
            .env_clear()
            .env("LC_ALL", "C")
            .arg("--pgdata")
            .arg(staging)
            .arg("--pwfile")
            .arg(password_file)
            .arg(format!("--username={}", self.superuser))
            .args(["--auth=scram-sha-256", "--encoding=UTF8", "--data-checksums", "--no-sync", "--no-instructions"])
            .args(["--locale=C", &format!("--lc-ctype={ctype}"), "--text-search-config=english"])
            .stdin(Stdio::null())
            .output()
            .map_err(|source| InitdbError::Start { program, source })?;
        if output.status.success() {
            return Ok(());
        }
        let text = [output.stdout, output.stderr].concat();
        Err(InitdbError::Failed { output: String::from_utf8_lossy(&text).trim().to_owned() })
    }
}
