//! The list of a backup: which version of which object had which content. One JSON text a line, encrypted.

use std::fmt;
use std::fs::File;
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::path::Path;

use base::{ProjectRef, Secret};
use platform::backup::{BackupName, Encryptor, FileOpener, FileSealer};
use serde::{Deserialize, Serialize};
use storage::backend::Location;
use storage::{BucketId, ObjectKey, Version};

use super::FilesError;
use super::content::{self, Partial};

const SUFFIX: &str = ".files.gpg";
/// What names of databases' backups end with.
const DATABASE_SUFFIX: &str = ".sql.gpg";
/// The format that is written; no newer one is read.
const FORMAT: u32 = 1;

/// A list's name: project and Unix seconds of its beginning.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListName(pub BackupName);

impl ListName {
    /// None for anything that is no list.
    pub fn parse(name: &str) -> Option<Self> {
        BackupName::parse(&format!("{}{DATABASE_SUFFIX}", name.strip_suffix(SUFFIX)?)).map(Self)
    }
}

impl fmt::Display for ListName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.0.to_string();
        write!(f, "{}{SUFFIX}", name.strip_suffix(DATABASE_SUFFIX).unwrap_or(&name))
    }
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
enum Line {
    Begin {
        format: u32,
        project: String,
        /// Unix seconds.
        taken_at: i64,
    },
    File(Entry),
    /// Shows that the list is whole.
    End {
        files: u64,
    },
}

/// One version of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub bucket: String,
    pub key: String,
    pub version: String,
    /// Bytes.
    pub size: u64,
    /// Hex.
    pub sha256: String,
}

impl Entry {
    /// Where it is, or is put back; none when the storage service has no such names.
    pub(super) fn location(&self, project: &ProjectRef) -> Option<Location> {
        Some(Location {
            project: project.clone(),
            bucket: BucketId::parse(&self.bucket)?,
            key: ObjectKey::parse(&self.key)?,
            version: Version::parse(&self.version)?,
        })
    }
}

/// A list that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileList {
    pub project: String,
    pub taken_at: i64,
    pub entries: Vec<Entry>,
}

impl FileList {
    /// Reads a list to its end; blocks.
    pub(super) fn read(path: &Path, key: &Secret<String>) -> Result<Self, FilesError> {
        let damaged = |what: &str| FilesError::Damaged { path: path.to_owned(), what: what.to_owned() };
        let file = File::open(path).map_err(FilesError::at(path))?;
        let plain = FileOpener::new(key.clone()).open(BufReader::new(file));
        let plain = plain.map_err(|error| content::opening(path, error))?;
        let (mut list, mut ended) = (None::<Self>, false);
        for line in BufReader::new(plain).lines() {
            let line = line.map_err(|error| damaged(&error.to_string()))?;
            let line: Line = serde_json::from_str(&line).map_err(|error| damaged(&error.to_string()))?;
            match (line, &mut list) {
                (Line::Begin { format, .. }, None) if format > FORMAT => {
                    return Err(damaged("it was made by a newer LaunchDB"));
                }
                (Line::Begin { project, taken_at, .. }, None) => {
                    list = Some(Self { project, taken_at, entries: Vec::new() });
                }
                (Line::File(entry), Some(list)) if !ended => list.entries.push(entry),
                (Line::End { files }, Some(list)) if files == list.entries.len() as u64 => ended = true,
                _ => return Err(damaged("its lines do not follow each other as they should")),
            }
        }
        list.filter(|_| ended).ok_or_else(|| damaged("it ends too early"))
    }
}

/// A list that is being written.
pub(super) struct ListWriter {
    out: Encryptor<BufWriter<File>>,
    partial: Partial,
    files: u64,
}

impl ListWriter {
    pub(super) fn begin(folder: &Path, sealer: &FileSealer, name: &ListName) -> Result<Self, FilesError> {
        let (partial, file) = Partial::begin(folder)?;
        let out = sealer.seal(BufWriter::new(file)).map_err(FilesError::at(folder))?;
        let mut writer = Self { out, partial, files: 0 };
        let (project, taken_at) = (name.0.database.clone(), name.0.taken_at);
        writer.line(folder, &Line::Begin { format: FORMAT, project, taken_at })?;
        Ok(writer)
    }

    pub(super) fn add(&mut self, folder: &Path, entry: Entry) -> Result<(), FilesError> {
        self.files += 1;
        self.line(folder, &Line::File(entry))
    }

    fn line(&mut self, folder: &Path, line: &Line) -> Result<(), FilesError> {
        let text = serde_json::to_string(line).map_err(std::io::Error::from);
        text.and_then(|text| writeln!(self.out, "{text}")).map_err(FilesError::at(folder))
    }

    /// Gives the list its name.
    pub(super) fn keep(mut self, folder: &Path, name: &ListName) -> Result<(), FilesError> {
        let files = self.files;
        self.line(folder, &Line::End { files })?;
        let kept = || {
            let file = self.out.finish()?.into_inner().map_err(std::io::IntoInnerError::into_error)?;
            self.partial.keep(&file, &folder.join(name.to_string()))
        };
        kept().map_err(FilesError::at(folder))
    }
}
