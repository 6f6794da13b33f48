//! A log file of bounded size: what a child says, which outsiders can make it say.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// Bytes of the file after which a new one is begun; the one before is kept as `NAME.1`.
const MOST: u64 = 8 * 1024 * 1024;
/// Longest line, in bytes.
const LONGEST: usize = 4096;

/// Lines go to the end of a file until it is full.
#[derive(Debug)]
pub struct BoundedLog {
    path: PathBuf,
    file: File,
    written: u64,
    most: u64,
}

impl BoundedLog {
    /// Goes on behind what is there.
    ///
    /// # Errors
    /// When the folder cannot be written to.
    pub fn open(folder: &Path, name: &str) -> io::Result<Self> {
        Self::with_most(folder.join(name), MOST)
    }

    fn with_most(path: PathBuf, most: u64) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(&path)?;
        let written = file.metadata()?.len();
        Ok(Self { path, file, written, most })
    }

    /// Appends one line. That it cannot be written is no reason to stop.
    pub fn write(&mut self, line: &str) {
        let mut text = line.as_bytes().get(..LONGEST).unwrap_or(line.as_bytes()).to_vec();
        text.push(b'\n');
        let length = text.len() as u64;
        if self.written > 0 && self.written + length > self.most {
            self.begin_anew();
        }
        if self.file.write_all(&text).is_ok() {
            self.written += length;
        }
    }

    fn begin_anew(&mut self) {
        let mut old = self.path.clone().into_os_string();
        old.push(".1");
        let renamed = fs::rename(&self.path, old);
        if let Ok(next) = renamed.and_then(|()| Self::with_most(self.path.clone(), self.most)) {
            *self = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file_is_kept_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.log");
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap_or_default();
        let mut log = BoundedLog::with_most(path.clone(), 10).unwrap();
        for line in ["one", "two", "three"] {
            log.write(line);
        }
        assert_eq!((read("x.log.1"), read("x.log")), ("one\ntwo\n".to_owned(), "three\n".to_owned()));
        drop(log);
        let mut log = BoundedLog::with_most(path, 10).unwrap();
        log.write("4");
        log.write(&"é".repeat(LONGEST));
        assert_eq!(read("x.log.1"), "three\n4\n");
        assert_eq!(read("x.log").len(), LONGEST + 1);
    }
}
