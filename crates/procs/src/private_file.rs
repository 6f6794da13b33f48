//! Files that only one user may read, replaced whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::unprivileged::RunAs;

/// Writes a file with mode 0600 that is the old one or the new one after a crash, never half of it. With `owner` it
/// belongs to that user, else to us.
///
/// The new file has a name nobody can have taken and is renamed over the old one, so a link that PostgreSQL's user put
/// there leads us nowhere.
///
/// # Errors
/// When the folder cannot be written to.
pub fn write(path: &Path, text: &str, owner: Option<&RunAs>) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let name = path.file_name().map(|n| n.to_string_lossy()).unwrap_or_default();
    let staging = folder.join(format!(".{name}.{}", base::random::hex::<6>()));
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&staging)?;
        file.write_all(text.as_bytes())?;
        if let Some(owner) = owner.filter(|owner| owner.dropped) {
            std::os::unix::fs::fchown(&file, Some(owner.uid), Some(owner.gid))?;
        }
        file.sync_all()?;
        fs::rename(&staging, path)?;
        File::open(folder)?.sync_all()
    })();
    if written.is_err() {
        let _ = fs::remove_file(&staging);
    }
    written
}

/// Writes the file only when it says something else; whether it did.
///
/// # Errors
/// As [`write`].
pub fn update(path: &Path, text: &str, owner: Option<&RunAs>) -> io::Result<bool> {
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(false);
    }
    write(path, text, owner).map(|()| true)
}
