//! The folder of backups. A file under its final name is whole: it is written under another one, synced, and renamed.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::file_name::BackupName;

/// What a file is called while it is written: `.<name>.partial-<random>`.
const PARTIAL: &str = ".partial-";
/// Beside a backup that was restored to see whether it can be: Unix seconds of that.
const VERIFIED: &str = ".verified";
/// Beside a backup that the project's owner asked for.
const ASKED: &str = ".asked";
/// A partial file that old was left by a process that was killed, in seconds.
const STALE: i64 = 24 * 3600;

/// A folder of backups.
#[derive(Clone, Debug)]
pub struct BackupFolder {
    path: PathBuf,
}

/// One backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupFile {
    pub name: BackupName,
    pub path: PathBuf,
    pub bytes: u64,
    /// When it was last restored into a scratch database and found right; Unix seconds.
    pub verified_at: Option<i64>,
}

impl BackupFolder {
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Every backup, by database and then by time; none when there is no folder.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn list(&self) -> io::Result<Vec<BackupFile>> {
        let entries = match fs::read_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut files = Vec::new();
        for entry in entries {
            let entry = entry?;
            let Some(name) = entry.file_name().to_str().and_then(BackupName::parse) else { continue };
            let metadata = entry.metadata()?;
            if metadata.is_file() {
                let verified = fs::read_to_string(marker(&entry.path(), VERIFIED)).ok();
                let verified_at = verified.and_then(|text| text.trim().parse().ok());
                files.push(BackupFile { name, path: entry.path(), bytes: metadata.len(), verified_at });
            }
        }
        files.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(files)
    }

    /// The newest backup of each database.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn newest(&self) -> io::Result<Vec<BackupFile>> {
        let mut newest: Vec<BackupFile> = Vec::new();
        for file in self.list()? {
            match newest.last_mut() {
                Some(last) if last.name.database == file.name.database => *last = file,
                _ => newest.push(file),
            }
        }
        Ok(newest)
    }

    /// Whether there is a whole backup of this name.
    pub(super) fn holds(&self, name: &BackupName) -> bool {
        self.path.join(name.to_string()).exists()
    }

    /// Makes the folder when it is missing. Only its user may read it.
    pub(super) fn make(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.path)
    }

    /// Begins a file, and the folder where that is missing. Only its user may read either.
    pub(super) fn begin(&self, name: BackupName) -> io::Result<Unfinished> {
        self.make()?;
        let partial = self.path.join(format!(".{name}{PARTIAL}{}", base::random::hex::<4>()));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
        Ok(Unfinished { folder: self.path.clone(), partial, name, file, written: 0, kept: false })
    }

    /// Writes down that a backup could be restored.
    pub(super) fn mark_verified(&self, file: &Path, now: i64) -> io::Result<()> {
        let path = marker(file, VERIFIED);
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        writeln!(file, "{now}")
    }

    /// Writes down that a backup was asked for, and removes those that were asked for before of the same database.
    pub(super) fn replace_asked(&self, new: &BackupFile) -> io::Result<()> {
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(marker(&new.path, ASKED))?;
        for file in self.list()?.iter().filter(|file| file.name.database == new.name.database && file.path != new.path)
        {
            if fs::exists(marker(&file.path, ASKED))? {
                remove(&file.path)?;
            }
        }
        Ok(())
    }

    /// Removes backups older than `days`, and what killed processes left. The newest of each database stays however old
    /// it is. Returns the backups that are gone. `now` in Unix seconds.
    ///
    /// # Errors
    /// When the folder cannot be read or a file not be removed.
    pub fn prune(&self, now: i64, days: u32) -> io::Result<Vec<BackupName>> {
        let limit = now - i64::from(days) * 86_400;
        let newest: Vec<BackupName> = self.newest()?.into_iter().map(|file| file.name).collect();
        let mut removed = Vec::new();
        for file in self.list()? {
            if file.name.taken_at < limit && !newest.contains(&file.name) {
                remove(&file.path)?;
                removed.push(file.name);
            }
        }
        self.remove_stale(now)?;
        Ok(removed)
    }

    fn remove_stale(&self, now: i64) -> io::Result<()> {
        let Ok(entries) = fs::read_dir(&self.path) else { return Ok(()) };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let partial = name.to_str().and_then(|name| name.strip_prefix('.')?.split_once(PARTIAL));
            // The name says when it was begun.
            let begun = partial.and_then(|(name, _)| BackupName::parse(name)).map(|name| name.taken_at);
            if begun.is_some_and(|begun| begun < now - STALE) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

/// Removes a backup with what is beside it.
fn remove(file: &Path) -> io::Result<()> {
    fs::remove_file(file)?;
    for suffix in [VERIFIED, ASKED] {
        let _ = fs::remove_file(marker(file, suffix));
    }
    Ok(())
}

fn marker(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// A file that is being written; removed unless it is kept.
#[derive(Debug)]
pub(super) struct Unfinished {
    folder: PathBuf,
    partial: PathBuf,
    name: BackupName,
    file: File,
    /// Bytes.
    written: u64,
    kept: bool,
}

/// Behind this many bytes the disk is asked to begin, so that the sync at the end finds little left to do.
const WRITE_BEHIND: u64 = 8 * 1024 * 1024;

impl Unfinished {
    /// Syncs the file and gives it its name; another one of that name stays what it is.
    pub(super) fn keep(mut self) -> io::Result<BackupFile> {
        self.file.sync_all()?;
        let path = self.folder.join(self.name.to_string());
        renameat_with(CWD, &self.partial, CWD, &path, RenameFlags::NOREPLACE)?;
        self.kept = true;
        File::open(&self.folder)?.sync_all()?;
        let bytes = self.file.metadata()?.len();
        Ok(BackupFile { name: self.name.clone(), path, bytes, verified_at: None })
    }
}

impl Write for Unfinished {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let written = self.file.write(data)?;
        let before = self.written / WRITE_BEHIND;
        self.written += written as u64;
        let now = self.written / WRITE_BEHIND;
        if now > before {
            // Begins to write what is dirty and does not wait for it; a hint, so that nobody minds a failure.
            let length = std::num::NonZeroU64::new((now - before) * WRITE_BEHIND);
            let _ = rustix::fs::fadvise(&self.file, before * WRITE_BEHIND, length, rustix::fs::Advice::DontNeed);
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.kept {
            let _ = fs::remove_file(&self.partial);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const DAY: i64 = 86_400;

    fn name(database: &str, taken_at: i64) -> BackupName {
        BackupName { database: database.to_owned(), taken_at }
    }

    fn write(folder: &BackupFolder, name: BackupName) -> io::Result<BackupFile> {
        let mut file = folder.begin(name)?;
        file.write_all(b"data")?;
        file.keep()
    }

    #[test]
    fn a_file_has_its_name_only_when_it_is_whole() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = BackupFolder::new(scratch.path().join("backups"));
        assert_eq!(folder.list().unwrap(), []);
        drop(folder.begin(name("platform", DAY)).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let kept = write(&folder, name("platform", DAY)).unwrap();
        assert_eq!(folder.list().unwrap(), std::slice::from_ref(&kept));
        for (path, mode) in [(folder.path(), 0o700), (kept.path.as_path(), 0o600)] {
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, mode);
        }
        assert_eq!(write(&folder, name("platform", DAY)).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn of_those_that_an_owner_asked_for_one_is_kept() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = BackupFolder::new(scratch.path().to_owned());
        write(&folder, name("proj_abc", DAY)).unwrap();
        let other = write(&folder, name("proj_other", DAY)).unwrap();
        folder.replace_asked(&other).unwrap();
        for day in 2..5 {
            let asked = write(&folder, name("proj_abc", day * DAY)).unwrap();
            folder.replace_asked(&asked).unwrap();
        }
        let kept = folder.list().unwrap();
        assert_eq!(kept.iter().map(|file| file.name.taken_at / DAY).collect::<Vec<_>>(), [1, 4, 1]);
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 5);
    }

    #[test]
    fn old_ones_go_and_the_newest_stays() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = BackupFolder::new(scratch.path().to_owned());
        for (database, day) in [("platform", 1), ("platform", 2), ("platform", 30), ("proj_abc", 1), ("proj_abc", 2)] {
            let file = write(&folder, name(database, day * DAY)).unwrap();
            folder.mark_verified(&file.path, 7).unwrap();
        }
        // As a process that was killed leaves it.
        folder.begin(name("proj_abc", DAY)).unwrap().kept = true;
        fs::write(scratch.path().join("notes.txt"), "mine").unwrap();
        let gone = folder.prune(31 * DAY, 7).unwrap();
        assert_eq!(gone, [name("platform", DAY), name("platform", 2 * DAY), name("proj_abc", DAY)]);
        let kept = folder.list().unwrap();
        assert_eq!(kept.iter().map(|file| file.name.taken_at / DAY).collect::<Vec<_>>(), [30, 2]);
        assert_eq!(kept[0].verified_at, Some(7));
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 5);
    }
}
