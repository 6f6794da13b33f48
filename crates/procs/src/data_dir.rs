//! The data folder: everything an embedded LaunchDB keeps on disk.
//!
//! ```text
//! LAUNCHDB_VERSION   the format of this folder, a number
//! launchdb.lock      held by the LaunchDB that runs on it; its pid
//! run/               files of the running server for commands on the same machine
//! postgres/          see [`crate::postgres`]
//! ```
//!
//! Others add their own files (`secrets.env`, `storage/`). As root, the folder belongs to root and PostgreSQL's user may
//! pass through it, no more.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::private_file;
use crate::unprivileged::{AccessError, RunAs};

/// The format this program writes and reads.
pub const FORMAT: u32 = 1;

const VERSION_FILE: &str = "LAUNCHDB_VERSION";
const LOCK_FILE: &str = "launchdb.lock";

/// A data folder that this process alone may use, until the value is dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    run_as: RunAs,
    is_new: bool,
    /// The lock goes when the file is closed, also by a kill -9.
    _lock: File,
}

/// Why a data folder cannot be used. Nothing in it was touched.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    #[error(
        "another LaunchDB{} runs on the data folder {}. Stop it first, or use a folder of its own with --data DIR",
        pid.map(|p| format!(" (process {p})")).unwrap_or_default(), path.display()
    )]
    Locked { path: PathBuf, pid: Option<u32> },
    #[error(
        "{} holds files that are not LaunchDB's ({example}). Use an empty or new folder with --data DIR", path.display()
    )]
    Foreign { path: PathBuf, example: String },
    #[error("{} is a file. Use an empty or new folder with --data DIR", path.display())]
    NoFolder { path: PathBuf },
    #[error(
        "the data folder {} was written by a newer LaunchDB (format {found}, this one knows {FORMAT}). \
         Start that newer version, or use another folder with --data DIR", path.display()
    )]
    Newer { path: PathBuf, found: u32 },
    #[error(
        "{} is damaged: it should hold the number of the folder's format. Put it back from a backup, or \
         write {FORMAT} into it when you are sure that this LaunchDB made the folder", path.display()
    )]
    Damaged { path: PathBuf },
    #[error(
        "the data folder {} belongs to the user with id {owner}, not to this one ({us}). Start LaunchDB as that user, \
         or use another folder with --data DIR", path.display()
    )]
    Owner { path: PathBuf, owner: u32, us: u32 },
    #[error(transparent)]
    Access(#[from] AccessError),
    #[error("cannot use the data folder: {}: {source}", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl DataDir {
    /// Takes the folder for this process, making it when it is new. Looks first and changes nothing when it refuses.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| DataDirError::Io { path, source }
        };
        let path = std::path::absolute(path).map_err(io(path))?;
        let run_as = RunAs::for_this_process()?;
        run_as.check_reachable(&path)?;
        inspect(&path)?;
        run_as.make_passage(&path)?;
        // Links are followed once, here: PostgreSQL names its folder by the real path.
        let path = path.canonicalize().map_err(io(&path))?;
        let lock = take_lock(&path)?;
        let is_new = !path.join(VERSION_FILE).exists();
        if is_new {
            private_file::write(&path.join(VERSION_FILE), &format!("{FORMAT}\n"), None)
                .map_err(io(&path.join(VERSION_FILE)))?;
        }
        let run_dir = path.join("run");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&run_dir).map_err(io(&run_dir))?;
        Ok(Self { path, run_as, is_new, _lock: lock })
    }

    /// The folder, absolute and without links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the embedded PostgreSQL lives.
    pub fn postgres_dir(&self) -> PathBuf {
        self.path.join("postgres")
    }

    /// Files for commands on the same machine; only we may enter.
    pub fn run_dir(&self) -> PathBuf {
        self.path.join("run")
    }

    /// Whom PostgreSQL runs as.
    pub fn run_as(&self) -> &RunAs {
        &self.run_as
    }

    /// Whether this start made the folder.
    pub fn is_new(&self) -> bool {
        self.is_new
    }
}

/// Whether somebody may start here: the folder is missing, empty, or ours and of a format we know.
fn inspect(path: &Path) -> Result<(), DataDirError> {
    let io = |source| DataDirError::Io { path: path.to_owned(), source };
    let meta = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(io)?,
    };
    if !meta.is_dir() {
        return Err(DataDirError::NoFolder { path: path.to_owned() });
    }
    let us = rustix::process::geteuid().as_raw();
    if meta.uid() != us {
        return Err(DataDirError::Owner { path: path.to_owned(), owner: meta.uid(), us });
    }
    let version = path.join(VERSION_FILE);
    match fs::read_to_string(&version) {
        Ok(text) => match text.trim().parse() {
            Ok(0) | Err(_) => Err(DataDirError::Damaged { path: version }),
            Ok(found) if found > FORMAT => Err(DataDirError::Newer { path: path.to_owned(), found }),
            Ok(_) => Ok(()),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // A first start that was cut off right at its beginning leaves no more than these.
            let ours = |name: &str| name == LOCK_FILE || name.starts_with(&format!(".{VERSION_FILE}."));
            for entry in fs::read_dir(path).map_err(io)? {
                let name = entry.map_err(io)?.file_name().to_string_lossy().into_owned();
                if !ours(&name) {
                    return Err(DataDirError::Foreign { path: path.to_owned(), example: name });
                }
            }
            Ok(())
        }
        Err(source) => Err(DataDirError::Io { path: version, source }),
    }
}

fn take_lock(path: &Path) -> Result<File, DataDirError> {
    let file = path.join(LOCK_FILE);
    let io = |source| DataDirError::Io { path: file.clone(), source };
    let mut lock =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&file).map_err(io)?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut text = String::new();
            let _ = lock.read_to_string(&mut text);
            return Err(DataDirError::Locked { path: path.to_owned(), pid: text.trim().parse().ok() });
        }
        Err(error) => return Err(io(error.into())),
    }
    // The pid is for the message above only; the lock itself ends with its holder, so a stale one cannot be met.
    let written = lock.set_len(0).and_then(|()| lock.rewind()).and_then(|()| writeln!(lock, "{}", std::process::id()));
    written.map_err(io)?;
    Ok(lock)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn scratch() -> tempfile::TempDir {
        let dir = tempfile::tempdir_in("/tmp").unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711)).unwrap();
        dir
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_folder_is_made_once_and_closed_for_others() {
        let scratch = scratch();
        let path = scratch.path().join("data");
        let first = DataDir::open(&path).unwrap();
        assert!(first.is_new());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o007, 0);
        assert_eq!(fs::metadata(first.run_dir()).unwrap().permissions().mode() & 0o777, 0o700);
        drop(first);
        assert!(!DataDir::open(&path).unwrap().is_new());
    }

    #[test]
    fn a_live_lock_names_its_holder_and_a_stale_one_is_taken_over() {
        let scratch = scratch();
        let first = DataDir::open(scratch.path()).unwrap();
        let error = DataDir::open(scratch.path()).unwrap_err();
        assert!(matches!(error, DataDirError::Locked { pid: Some(pid), .. } if pid == std::process::id()), "{error}");
        drop(first);
        fs::write(scratch.path().join(LOCK_FILE), "1\n").unwrap();
        DataDir::open(scratch.path()).unwrap();
    }

    #[test]
    fn what_is_not_ours_stays_untouched() {
        let check = |file: &str, text: &str, expected: &str| {
            let scratch = scratch();
            fs::write(scratch.path().join(file), text).unwrap();
            let error = DataDir::open(scratch.path()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert_eq!(names(scratch.path()), [file]);
            assert_eq!(fs::read_to_string(scratch.path().join(file)).unwrap(), text);
            assert_eq!(fs::metadata(scratch.path()).unwrap().permissions().mode() & 0o777, 0o711);
        };
        check("thesis.tex", "years of work", "thesis.tex");
        check(VERSION_FILE, "2\n", "newer LaunchDB (format 2, this one knows 1)");
        check(VERSION_FILE, "", "damaged");
        check(VERSION_FILE, "0\n", "damaged");
        let scratch = scratch();
        let file = scratch.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(matches!(DataDir::open(&file), Err(DataDirError::NoFolder { .. })));
    }
}
