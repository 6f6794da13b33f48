//! How many bytes the files below a folder have. Blocking.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::BackendError;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);

/// Bytes of all files in a folder and below it. Names for which `skips` is true are left out, in the folder itself only.
/// Links are not followed; what goes meanwhile counts or does not.
pub(super) fn bytes_below(folder: &OwnedFd, skips: &dyn Fn(&str) -> bool) -> Result<u64, BackendError> {
    let mut bytes = 0_u64;
    for entry in rustix::fs::Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") || name.to_str().is_ok_and(skips) {
            continue;
        }
        let kind = match entry.file_type() {
            FileType::Unknown => kind_of(folder, name)?,
            kind => kind,
        };
        let found = match kind {
            FileType::Directory => match rustix::fs::openat(folder, name, FOLDER, Mode::empty()) {
                Ok(below) => bytes_below(&below, &|_| false)?,
                Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => 0,
                Err(error) => return Err(error.into()),
            },
            FileType::RegularFile => match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => u64::try_from(stat.st_size).unwrap_or_default(),
                Err(Errno::NOENT) => 0,
                Err(error) => return Err(error.into()),
            },
            _ => 0,
        };
        bytes = bytes.saturating_add(found);
    }
    Ok(bytes)
}

/// Some file systems do not say it in their folders.
fn kind_of(folder: &OwnedFd, name: &std::ffi::CStr) -> Result<FileType, BackendError> {
    match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(FileType::from_raw_mode(stat.st_mode)),
        Err(Errno::NOENT) => Ok(FileType::Unknown),
        Err(error) => Err(error.into()),
    }
}
