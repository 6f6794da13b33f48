//! Backups of the storage service's files, beside those of the databases: incremental, hashed and encrypted.
//!
//! ```text
//! BACKUPS/storage/<project>/content/<first two digits>/<SHA-256 of the content>.gpg
//! BACKUPS/storage/<project>/<project>_<YYYYMMDD>_<HHMMSS>.files.gpg      which file had which content
//! ```
//!
//! A content is kept once, under the hash of what is in it, so that `gpg --decrypt FILE | sha256sum` shows whether it is
//! right. Versions of the storage service never change: one that the list before has is not read again. A list is
//! written when all its contents are there, and contents go when no list names them any more.

mod content;
mod list;
mod restore;
mod run;

use std::collections::HashSet;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::{ProjectRef, Secret};
use platform::backup::BackupName;
use rustix::fs::{FlockOperation, flock};
use storage::backend::BackendError;

pub use list::{FileList, ListName};
pub use restore::{RestoreFiles, RestoredFiles};
pub use run::{FilesDone, FilesRun};

/// The folder in that of the backups.
const FOLDER: &str = "storage";
/// Held by whoever writes or removes.
const LOCK: &str = ".lock";
/// A file that is being written begins with it.
const PARTIAL: &str = ".partial-";

/// Why files were not backed up or restored.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    #[error("{} cannot be read or written", path.display())]
    Folder {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the disk of {} is full, or nearly: what is complete was kept, and the next run goes on", folder.display())]
    DiskFull { folder: PathBuf },
    #[error("somebody else backs up files into {} just now", folder.display())]
    Busy { folder: PathBuf },
    #[error("{}: the key does not open it (BACKUP_ENCRYPTION_KEY has to be the one of the day it was made)", path.display())]
    WrongKey { path: PathBuf },
    #[error("{} is damaged or cut off: {what}", path.display())]
    Damaged { path: PathBuf, what: String },
    #[error("there is no backup of files of {0}")]
    None(ProjectRef),
    #[error("the files of {project} cannot be read")]
    Source {
        project: ProjectRef,
        #[source]
        source: BackendError,
    },
    #[error("{object} cannot be put back")]
    Destination {
        object: String,
        #[source]
        source: BackendError,
    },
    #[error("the work was cancelled; the next run goes on where it was")]
    Cancelled,
}

impl FilesError {
    fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { folder: path },
            _ => Self::Folder { path, source },
        }
    }
}

/// Where the backups of files are, and the key of all of them.
#[derive(Clone)]
pub struct FilesBackup {
    root: PathBuf,
    key: Secret<String>,
    /// Less than this is left free on the folder's disk, in bytes.
    least_free_bytes: u64,
}

/// Nobody else writes while it lives.
struct Alone(#[expect(dead_code, reason = "held for its lock")] Arc<File>);

impl FilesBackup {
    /// `folder` is that of the databases' backups.
    pub fn new(folder: &Path, key: Secret<String>, least_free_bytes: u64) -> Self {
        Self { root: folder.join(FOLDER), key, least_free_bytes }
    }

    fn project(&self, project: &ProjectRef) -> PathBuf {
        self.root.join(project.as_str())
    }

    fn alone(&self) -> Result<Alone, FilesError> {
        make_folder(&self.root)?;
        let path = self.root.join(LOCK);
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = file.map_err(FilesError::at(&path))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Alone(Arc::new(file))),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(FilesError::Busy { folder: self.root.clone() }),
            Err(error) => Err(FilesError::at(&path)(error.into())),
        }
    }

    /// Projects that have a list.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn projects(&self) -> Result<Vec<ProjectRef>, FilesError> {
        let mut projects = Vec::new();
        for name in names(&self.root)? {
            let Ok(project) = ProjectRef::parse(&name) else { continue };
            if !self.lists(&project)?.is_empty() {
                projects.push(project);
            }
        }
        projects.sort();
        Ok(projects)
    }

    /// A project's lists, oldest first.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn lists(&self, project: &ProjectRef) -> Result<Vec<ListName>, FilesError> {
        let folder = self.project(project);
        let mut lists: Vec<ListName> = names(&folder)?.iter().filter_map(|name| ListName::parse(name)).collect();
        lists.retain(|list| list.0.database == project.as_str());
        lists.sort();
        Ok(lists)
    }

    /// Reads a list to its end; blocks.
    ///
    /// # Errors
    /// When it is not whole, or another key's.
    pub fn read_list(&self, project: &ProjectRef, list: &ListName) -> Result<FileList, FilesError> {
        FileList::read(&self.project(project).join(list.to_string()), &self.key)
    }

    /// Removes lists older than `days`, but for the newest of each project, and contents that no list names. Says how many
    /// files went. Blocks; `now` in Unix seconds.
    ///
    /// # Errors
    /// When something cannot be read or removed, or somebody else is at work.
    pub fn prune(&self, now: i64, days: u32) -> Result<u64, FilesError> {
        if !self.root.exists() {
            return Ok(0);
        }
        let _alone = self.alone()?;
        let limit = now - i64::from(days) * 86_400;
        let mut removed = 0;
        for project in self.projects()? {
            let folder = self.project(&project);
            let lists = self.lists(&project)?;
            let (newest, older) = lists.split_last().ok_or_else(|| FilesError::None(project.clone()))?;
            // All that stay are read before anything goes: one that cannot be read keeps everything.
            let (stale, kept): (Vec<_>, Vec<_>) = older.iter().partition(|list| list.0.taken_at < limit);
            let mut named: HashSet<String> = HashSet::new();
            for list in kept.into_iter().chain([newest]) {
                named.extend(self.read_list(&project, list)?.entries.into_iter().map(|entry| entry.sha256));
            }
            for list in stale {
                remove(&folder.join(list.to_string()))?;
                removed += 1;
            }
            for digits in names(&folder.join(content::FOLDER))? {
                let below = folder.join(content::FOLDER).join(digits);
                for name in names(&below)? {
                    let is_named = name.strip_suffix(content::SUFFIX).is_some_and(|hash| named.contains(hash));
                    if !is_named {
                        remove(&below.join(name))?;
                        removed += 1;
                    }
                }
            }
        }
        Ok(removed)
    }

    fn check_disk(&self) -> Result<(), FilesError> {
        let stat = rustix::fs::statvfs(&self.root).map_err(|error| FilesError::at(&self.root)(error.into()))?;
        match stat.f_bavail.saturating_mul(stat.f_frsize) < self.least_free_bytes {
            true => Err(FilesError::DiskFull { folder: self.root.clone() }),
            false => Ok(()),
        }
    }
}

/// When the files of each project were last backed up, in Unix seconds; `folder` is that of the databases' backups.
///
/// # Errors
/// When the folder cannot be read.
pub fn newest(folder: &Path) -> Result<Vec<(ProjectRef, i64)>, FilesError> {
    // Names tell it: nothing is opened.
    let backup = FilesBackup::new(folder, Secret::new(String::new()), 0);
    let mut newest = Vec::new();
    for project in backup.projects()? {
        newest.extend(backup.lists(&project)?.pop().map(|list| (project, list.0.taken_at)));
    }
    Ok(newest)
}

/// The name of a list that is made now.
fn list_name(project: &ProjectRef, now: i64) -> ListName {
    ListName(BackupName { database: project.as_str().to_owned(), taken_at: now })
}

fn make_folder(path: &Path) -> Result<(), FilesError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(FilesError::at(path))
}

/// Names in a folder; none when it is not there.
fn names(path: &Path) -> Result<Vec<String>, FilesError> {
    let entries = match std::fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(FilesError::at(path))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.map_err(FilesError::at(path))?.file_name().into_string().ok());
    }
    Ok(names)
}

fn remove(path: &Path) -> Result<(), FilesError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FilesError::at(path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
