//! Small files that only their owner may read: secrets and the CLI's way to the server.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

/// Writes a file with mode 0600 so that it is either the old one or the new one, whole, whatever happens meanwhile.
pub fn write(path: &Path, contents: &[u8]) -> io::Result<()> {
    let folder = path.parent().ok_or_else(|| io::Error::other("a file needs a folder"))?;
    let name = path.file_name().ok_or_else(|| io::Error::other("a file needs a name"))?;
    let temporary = folder.join(format!(".{}.{}", name.to_string_lossy(), base::random::hex::<6>()));
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(contents)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        // The rename itself has to reach the disk as well.
        fs::File::open(folder)?.sync_all()
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Why a private file cannot be believed.
#[derive(Debug, PartialEq, Eq)]
pub enum Doubt {
    /// Others may read or write it; holds the mode.
    Mode(u32),
    /// It belongs to this other user.
    Owner(u32),
}

/// Looks at the rights of a private file. It has to belong to this user or to root, and to be closed for others.
pub fn doubt(path: &Path) -> io::Result<Option<Doubt>> {
    let metadata = fs::metadata(path)?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Ok(Some(Doubt::Mode(mode)));
    }
    let owner = metadata.uid();
    Ok((owner != 0 && owner != rustix::process::geteuid().as_raw()).then_some(Doubt::Owner(owner)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_file_is_replaced_whole_and_closed_for_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write(&path, b"one").unwrap();
        write(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(doubt(&path).unwrap(), None);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(doubt(&path).unwrap(), Some(Doubt::Mode(0o640)));
    }
}
