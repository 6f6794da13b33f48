//! From an encrypted file to the pieces of a dump, as a stream.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use pg::statements::{Piece, ScanError, StatementScanner};
use serde::Deserialize;

use super::error::BackupError;
use super::file_seal::FileOpener;
use super::hand_over::Giver;
use super::manifest::{self, End, FORMAT, Header, LONGEST_STATEMENT, Tally};

const CHUNK: usize = 256 * 1024;

/// What a loader is handed; data that goes with a statement follows it.
#[derive(Debug)]
pub(super) enum Loadable {
    Statement { text: String, line: u64, copies: bool },
    CopyData(Bytes),
    CopyEnd,
}

impl Loadable {
    /// What it takes of memory.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Statement { text, .. } => text.len(),
            Self::CopyData(data) => data.len(),
            Self::CopyEnd => 0,
        }
    }
}

/// The header of a backup.
pub(super) fn header(file: &Path, opener: &FileOpener) -> Result<Header, BackupError> {
    let mut found = None;
    let result = scan(file, opener, &mut |piece| match piece {
        Piece::Note(text) => match text.strip_prefix(manifest::HEADER) {
            Some(json) => {
                found = Some(json.to_owned());
                Err(Stop::Enough)
            }
            None => Ok(()),
        },
        _ => Err(Stop::Enough),
    });
    if let Err(error @ (BackupError::WrongKey { .. } | BackupError::NoBackup { .. } | BackupError::Unreadable { .. })) =
        result
    {
        return Err(error);
    }
    let Some(json) = found else {
        // Whatever stopped the reading before the header tells more than its absence.
        result?;
        let what = "it has no header, so LaunchDB did not make it".to_owned();
        return Err(BackupError::Damaged { file: file.to_owned(), what });
    };
    let header: Header = serde_json::from_str(&json)
        .map_err(|error| BackupError::Damaged { file: file.to_owned(), what: format!("its header: {error}") })?;
    if header.format > FORMAT {
        let what = format!("format {}, this one reads {FORMAT}", header.format);
        return Err(BackupError::Newer { file: file.to_owned(), what });
    }
    Ok(header)
}

/// Reads a whole backup; blocks. Fails unless it is whole and its end fits what was in it. With `loader`, statements and
/// data are handed to it, as fast as it takes them; `progress` counts bytes.
pub(super) fn whole(
    file: &Path,
    opener: &FileOpener,
    loader: Option<Giver>,
    progress: &AtomicU64,
) -> Result<End, BackupError> {
    let (mut tally, mut end) = (None::<Tally>, None);
    let damaged = |what: &str| BackupError::Damaged { file: file.to_owned(), what: what.to_owned() };
    scan(file, opener, &mut |piece| {
        let tally = match (&mut tally, &piece) {
            (Some(tally), _) => tally,
            (None, Piece::Note(text)) => {
                if let Some(json) = text.strip_prefix(manifest::HEADER) {
                    let header: Begun = serde_json::from_str(json).map_err(|error| Stop::Because(error.to_string()))?;
                    tally = Some(Tally::of_format(header.format));
                }
                return Ok(());
            }
            (None, _) => return Err(Stop::Because("it has no header".to_owned())),
        };
        tally.count(&piece);
        let loadable = match piece {
            Piece::Note(text) => {
                if let Some(json) = text.strip_prefix(manifest::END) {
                    end = Some(json.to_owned());
                }
                return Ok(());
            }
            // Written by pg_dump so that psql runs no other command of a dump; we run none at all.
            Piece::Meta { text, .. } if text.starts_with("\\restrict ") || text.starts_with("\\unrestrict ") => {
                return Ok(());
            }
            Piece::Meta { text, line } => {
                return Err(Stop::Because(format!(
                    "line {line}: {text} is a command of psql, which dumps do not have"
                )));
            }
            Piece::Statement { text, line, copies } => Loadable::Statement { text: text.to_owned(), line, copies },
            Piece::CopyData { bytes, .. } => {
                progress.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                Loadable::CopyData(Bytes::copy_from_slice(bytes))
            }
            Piece::CopyEnd => Loadable::CopyEnd,
        };
        match &loader {
            // A loader that is gone has failed, and tells of it itself.
            Some(loader) => loader.give(loadable).map_err(|_| Stop::Enough),
            None => Ok(()),
        }
    })?;
    let end: End = match end.as_deref().map(serde_json::from_str) {
        Some(Ok(end)) => end,
        Some(Err(_)) | None => return Err(damaged("it has no end")),
    };
    let counted = tally.map(Tally::finish).ok_or_else(|| damaged("it has no header"))?;
    let end = End { objects: counted.objects, ..end };
    if counted == end { Ok(end) } else { Err(damaged("its end does not fit what is in it")) }
}

/// What of a header says how the rest is read.
#[derive(Deserialize)]
struct Begun {
    format: u32,
}

/// Why reading stops before the end.
enum Stop {
    Enough,
    Because(String),
}

impl std::fmt::Display for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Enough => f.write_str("enough"),
            Self::Because(what) => f.write_str(what),
        }
    }
}

fn scan(
    path: &Path,
    opener: &FileOpener,
    sink: &mut impl FnMut(Piece<'_>) -> Result<(), Stop>,
) -> Result<(), BackupError> {
    let unreadable = |source| BackupError::Unreadable { file: path.to_owned(), source };
    let file = BufReader::with_capacity(CHUNK, File::open(path).map_err(unreadable)?);
    let mut plain = opener.open(file).map_err(|error| BackupError::opening(path, error))?;
    let mut scanner = StatementScanner::with_longest(LONGEST_STATEMENT);
    let stopped = |error: ScanError<Stop>| match error {
        ScanError::Sink(Stop::Enough) => Ok(()),
        error => Err(BackupError::Damaged { file: path.to_owned(), what: error.to_string() }),
    };
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = plain.read(&mut chunk).map_err(|error| BackupError::reading(path, &error))?;
        if read == 0 {
            return scanner.finish(sink).or_else(stopped);
        }
        if let Err(error) = scanner.feed(&chunk[..read], sink) {
            return stopped(error);
        }
    }
}
