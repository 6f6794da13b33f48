//! The user PostgreSQL runs as when we are root: it refuses to run as root, rightly.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};

/// Users to drop to, in order: the one that Debian's package makes, then the one every system has.
const CANDIDATES: [&str; 2] = ["postgres", "nobody"];

/// Whom child processes run as, and who owns what they write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunAs {
    /// Login name, for messages.
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    /// Whether this differs from ourselves, that is, whether we are root.
    pub dropped: bool,
}

/// Why a folder cannot hold a cluster.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    #[error(
        "this process runs as root, PostgreSQL must not, and neither of the users `postgres` and `nobody` exists. \
         Create one (useradd --system postgres), or start LaunchDB as an ordinary user"
    )]
    NoUser,
    #[error(
        "PostgreSQL runs as the user `{user}`, who may not enter {}. Use a folder that this user can reach, for instance \
         --data /var/lib/launchdb, or allow it with: chmod o+x {}", folder.display(), folder.display()
    )]
    Closed { user: String, folder: PathBuf },
    #[error("cannot read or change {}: {source}", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl RunAs {
    /// The user for child processes of this process: ourselves, or an unprivileged user when we are root.
    pub fn for_this_process() -> Result<Self, AccessError> {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        if uid != 0 {
            let name = name_of(&passwd, uid).unwrap_or_else(|| uid.to_string());
            return Ok(Self { name, uid, gid, dropped: false });
        }
        CANDIDATES.iter().find_map(|name| by_name(&passwd, name)).ok_or(AccessError::NoUser)
    }

    /// Another of the users that we, as root, may drop to, by id: a cluster made as `nobody` stays `nobody`'s.
    pub(crate) fn other(&self, uid: u32) -> Option<Self> {
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let candidates = if self.dropped { &CANDIDATES[..] } else { &[] };
        candidates.iter().filter_map(|name| by_name(&passwd, name)).find(|user| user.uid == uid)
    }

    /// A command that starts `program` as this user, in a process group of its own so that a Ctrl-C on the terminal
    /// reaches only us and we decide how the child ends.
    pub fn command(&self, program: &Path) -> std::process::Command {
        let mut command = std::process::Command::new(program);
        command.process_group(0);
        if self.dropped {
            // Sets the supplementary groups as well.
            command.uid(self.uid).gid(self.gid);
        }
        command
    }

    /// Checks that this user can pass through every folder above `path`. Parts that do not exist yet are skipped:
    /// whoever makes them decides about them.
    pub fn check_reachable(&self, path: &Path) -> Result<(), AccessError> {
        if !self.dropped {
            return Ok(());
        }
        let absolute = std::path::absolute(path).map_err(|source| io_error(path, source))?;
        for folder in absolute.ancestors().skip(1) {
            match fs::metadata(folder) {
                Ok(meta) if !self.may_enter(&meta) => {
                    return Err(AccessError::Closed { user: self.name.clone(), folder: folder.to_owned() });
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(io_error(folder, source)),
            }
        }
        Ok(())
    }

    fn may_enter(&self, meta: &fs::Metadata) -> bool {
        let bit = match (meta.uid() == self.uid, meta.gid() == self.gid) {
            (true, _) => 0o100,
            (false, true) => 0o010,
            (false, false) => 0o001,
        };
        meta.mode() & bit != 0
    }

    /// Makes `dir` (mode 0700, owned by this user) unless it exists.
    pub fn make_dir(&self, dir: &Path) -> Result<(), AccessError> {
        match DirBuilder::new().mode(0o700).create(dir) {
            Ok(()) => self.own(dir),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(source) => Err(io_error(dir, source)),
        }
    }

    /// Makes `dir` ours, unless it exists; this user may pass through it and no one else may even that.
    pub fn make_passage(&self, dir: &Path) -> Result<(), AccessError> {
        match DirBuilder::new().mode(0o700).recursive(true).create(dir) {
            Ok(()) if self.dropped => self.open_passage(dir),
            Ok(()) => Ok(()),
            Err(source) => Err(io_error(dir, source)),
        }
    }

    fn open_passage(&self, dir: &Path) -> Result<(), AccessError> {
        std::os::unix::fs::chown(dir, None, Some(self.gid)).map_err(|source| io_error(dir, source))?;
        fs::set_permissions(dir, Permissions::from_mode(0o710)).map_err(|source| io_error(dir, source))
    }

    /// Gives `path` to this user. Nothing to do unless we are root.
    pub fn own(&self, path: &Path) -> Result<(), AccessError> {
        if !self.dropped {
            return Ok(());
        }
        std::os::unix::fs::chown(path, Some(self.uid), Some(self.gid)).map_err(|source| io_error(path, source))
    }
}

fn io_error(path: &Path, source: io::Error) -> AccessError {
    AccessError::Io { path: path.to_owned(), source }
}

fn by_name(passwd: &str, wanted: &str) -> Option<RunAs> {
    passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, gid, ..] = fields.as_slice() else { return None };
        let (uid, gid) = (uid.parse().ok()?, gid.parse().ok()?);
        (*name == wanted && uid != 0).then(|| RunAs { name: wanted.to_owned(), uid, gid, dropped: true })
    })
}

fn name_of(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\npostgres:x:101:104::/var/lib/postgresql:/bin/bash\nbroken\n";

    #[test]
    fn users_are_read() {
        let postgres = by_name(PASSWD, "postgres").unwrap();
        assert_eq!((postgres.uid, postgres.gid), (101, 104));
        assert_eq!(by_name(PASSWD, "nobody"), None);
        assert_eq!(by_name(PASSWD, "root"), None);
        assert_eq!(name_of(PASSWD, 101).as_deref(), Some("postgres"));
    }

    #[test]
    fn a_closed_parent_is_named() {
        let root = tempfile::tempdir().unwrap();
        fs::set_permissions(root.path(), Permissions::from_mode(0o700)).unwrap();
        let stranger = RunAs { name: "someone".into(), uid: 4_000_001, gid: 4_000_001, dropped: true };
        let inner = root.path().join(".launchdb");
        match stranger.check_reachable(&inner) {
            Err(AccessError::Closed { user, folder }) => {
                assert_eq!((user.as_str(), folder.as_path()), ("someone", root.path()));
            }
            other => panic!("{other:?}"),
        }
        fs::set_permissions(root.path(), Permissions::from_mode(0o711)).unwrap();
        stranger.check_reachable(&inner).unwrap();
    }
}
