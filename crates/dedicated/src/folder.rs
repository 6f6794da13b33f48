//! The folder of configuration files: one of each instance, and beside it what is known of its process.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use base::ProjectRef;
use procs::private_file;
use procs::process::ProcessId;
use serde::{Deserialize, Serialize};

use crate::conf::{self, Conf};
use crate::error::Error;

/// Whose wish an instance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Origin {
    /// The project's setting; it goes with the setting.
    Setting,
    /// An operator's or the platform's request; it goes when it is deleted, or with its project.
    Request,
}

/// What is written down of an instance, for the next life of the manager.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Note {
    pub(crate) origin: Origin,
    /// An operator took down an instance that the project's setting asks for.
    #[serde(default)]
    pub(crate) held_off: bool,
    /// Process and start time.
    #[serde(default)]
    pub(crate) process: Option<(u32, u64)>,
}

impl Note {
    pub(crate) fn new(origin: Origin) -> Self {
        Self { origin, held_off: false, process: None }
    }

    pub(crate) fn process_id(&self) -> Option<ProcessId> {
        self.process.map(|(pid, started)| ProcessId::remembered(pid, started))
    }
}

/// The folder, locked for this process.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Makes it where it is missing (mode 0700) and takes it; two managers on one folder would undo each other's work.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let what = || format!("the folder {} (LAUNCHDB_POSTGREST_DIR)", path.display());
        DirBuilder::new().mode(0o700).recursive(true).create(path).map_err(Error::io(what()))?;
        let lock = fs::OpenOptions::new().create(true).truncate(false).write(true).open(path.join(".lock"));
        let lock = lock.map_err(Error::io(what()))?;
        match rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(_) => Err(Error::Io {
                what: what(),
                source: io::Error::other("another postgrest-manager works in it: one server has one"),
            }),
        }
    }

    pub(crate) fn conf(&self, id: &ProjectRef) -> PathBuf {
        self.path.join(format!("{id}.conf"))
    }

    fn note_file(&self, id: &ProjectRef) -> PathBuf {
        self.path.join(format!("{id}.json"))
    }

    /// Every project that something is written down of.
    pub(crate) fn projects(&self) -> Result<Vec<ProjectRef>, Error> {
        let entries = fs::read_dir(&self.path).map_err(Error::io(self.path.display().to_string()))?;
        let mut found: Vec<ProjectRef> = entries
            .filter_map(|entry| {
                let name = entry.ok()?.file_name().into_string().ok()?;
                let id = name.strip_suffix(".conf").or_else(|| name.strip_suffix(".json"))?;
                ProjectRef::parse(id).ok()
            })
            .collect();
        found.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        found.dedup();
        Ok(found)
    }

    /// The note of an instance; one that cannot be read counts as none, and a file without a note was put there by hand.
    pub(crate) fn note(&self, id: &ProjectRef) -> Option<Note> {
        let text = fs::read_to_string(self.note_file(id)).ok()?;
        serde_json::from_str(&text)
            .inspect_err(|error| tracing::warn!(project.r#ref = %id, %error, "a note is damaged"))
            .ok()
    }

    pub(crate) fn write_note(&self, id: &ProjectRef, note: &Note) -> Result<(), Error> {
        let path = self.note_file(id);
        let text = serde_json::to_string(note).map_err(io::Error::other);
        let written = text.and_then(|text| private_file::update(&path, &text, None));
        written.map(drop).map_err(Error::io(path.display().to_string()))
    }

    pub(crate) fn read_conf(&self, id: &ProjectRef) -> Option<String> {
        fs::read_to_string(self.conf(id)).ok()
    }

    /// Writes a configuration whole, with the operator's own part as it is. What was edited in ours is kept beside it.
    /// Whether anything changed.
    pub(crate) fn write_conf(&self, id: &ProjectRef, mut conf: Conf, before: Option<&Conf>) -> Result<bool, Error> {
        let path = self.conf(id);
        if let Some(present) = self.read_conf(id) {
            let (generated, own) = conf::split(&present);
            own.clone_into(&mut conf.own);
            let is_edited = before.is_some_and(|before| before.generated() != generated);
            if is_edited && conf.generated() != generated {
                let kept = path.with_extension("conf.edited");
                private_file::write(&kept, &present, None).map_err(Error::io(kept.display().to_string()))?;
                tracing::warn!(
                    project.r#ref = %id, kept = %kept.display(),
                    "a configuration was edited above the line for settings of one's own; it is written anew, the edited one kept"
                );
            }
        }
        private_file::update(&path, &conf.render(), None).map_err(Error::io(path.display().to_string()))
    }

    /// Removes what is known of an instance.
    pub(crate) fn forget(&self, id: &ProjectRef) -> Result<(), Error> {
        for path in [self.conf(id), self.note_file(id)] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::Io { what: path.display().to_string(), source: error });
                }
                _ => {}
            }
        }
        Ok(())
    }

    pub(crate) fn forget_conf(&self, id: &ProjectRef) {
        let _ = fs::remove_file(self.conf(id));
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn a_folder_has_one_manager_and_edits_are_not_lost() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("projects");
        let folder = Folder::open(&path).unwrap();
        let refused = Folder::open(&path).unwrap_err().to_string();
        assert!(refused.contains("another postgrest-manager"), "{refused}");

        let id = ProjectRef::parse("proj_abc123").unwrap();
        let conf = |port: u16| Conf { fixed: format!("server-port = {port}\n"), ..Conf::default() };
        assert!(folder.write_conf(&id, conf(1), None).unwrap());
        assert!(!folder.write_conf(&id, conf(1), Some(&conf(1))).unwrap());
        let mode = fs::metadata(folder.conf(&id)).unwrap().mode() & 0o777;
        assert_eq!(mode, 0o600);
        // An operator's hand: above the line, and below it.
        let text =
            folder.read_conf(&id).unwrap().replace("server-port = 1", "server-port = 9") + "log-level = \"info\"\n";
        fs::write(folder.conf(&id), &text).unwrap();
        assert!(folder.write_conf(&id, conf(2), Some(&conf(1))).unwrap());
        let now = folder.read_conf(&id).unwrap();
        assert!(now.contains("server-port = 2") && now.ends_with("log-level = \"info\"\n"), "{now}");
        assert_eq!(fs::read_to_string(folder.conf(&id).with_extension("conf.edited")).unwrap(), text);

        let note = Note { process: Some((1, 2)), ..Note::new(Origin::Request) };
        folder.write_note(&id, &note).unwrap();
        assert_eq!(folder.note(&id), Some(note));
        assert_eq!(folder.projects().unwrap(), std::slice::from_ref(&id));
        folder.forget(&id).unwrap();
        folder.forget(&id).unwrap();
        assert_eq!(folder.projects().unwrap(), []);
    }
}
