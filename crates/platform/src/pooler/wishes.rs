//! What operators ask of the pooler beyond what follows from the projects: pool sizes, and roles that may connect. A small
//! file beside the pooler's own, written by `launchdb pooler` and read at each look.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use procs::private_file;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

/// Everything that was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Wishes {
    /// Connections of a project, and how many more when clients have waited.
    pub pools: BTreeMap<String, (u32, u32)>,
    /// Login roles of PostgreSQL beside the projects' owners.
    pub users: Vec<String>,
}

fn file(folder: &Path) -> PathBuf {
    folder.join("wishes.json")
}

impl Wishes {
    /// Those of a pooler's folder.
    ///
    /// # Errors
    /// When the file cannot be read, or is damaged.
    pub fn read(folder: &Path) -> io::Result<Self> {
        match fs::read_to_string(file(folder)) {
            Ok(text) => serde_json::from_str(&text).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    /// Changes them; one operator after the other.
    ///
    /// # Errors
    /// When the folder cannot be written to, or the file is damaged.
    pub fn change(folder: &Path, change: impl FnOnce(&mut Self)) -> io::Result<()> {
        let lock: File =
            OpenOptions::new().create(true).truncate(false).write(true).open(folder.join(".wishes.lock"))?;
        flock(&lock, FlockOperation::LockExclusive)?;
        let mut wishes = Self::read(folder)?;
        change(&mut wishes);
        wishes.users.sort();
        wishes.users.dedup();
        private_file::write(&file(folder), &serde_json::to_string(&wishes)?, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_are_kept_and_many_operators_lose_none() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Wishes::read(folder.path()).unwrap(), Wishes::default());
        std::thread::scope(|scope| {
            for number in 0..8 {
                let path = folder.path();
                scope.spawn(move || {
                    Wishes::change(path, |wishes| {
                        wishes.pools.insert(format!("proj_{number}"), (number, 1));
                        wishes.users.push("reporting".to_owned());
                    })
                    .unwrap();
                });
            }
        });
        let wishes = Wishes::read(folder.path()).unwrap();
        assert_eq!((wishes.pools.len(), wishes.users), (8, vec!["reporting".to_owned()]));
        fs::write(file(folder.path()), "{").unwrap();
        assert!(Wishes::read(folder.path()).is_err());
    }
}
