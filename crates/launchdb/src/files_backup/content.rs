//! One content: a file under the hash of what is in it, whole from the moment it has its name.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use platform::backup::{FileOpener, FileSealer, NotReadable};
use ring::digest::{Context, SHA256};
use tokio::sync::mpsc;

use super::{FilesError, PARTIAL, make_folder};

pub(super) const FOLDER: &str = "content";
pub(super) const SUFFIX: &str = ".gpg";
const CHUNK: usize = 256 * 1024;

/// Where a content is in a project's folder.
pub(super) fn path(project: &Path, sha256: &str) -> PathBuf {
    project.join(FOLDER).join(sha256.get(..2).unwrap_or_default()).join(format!("{sha256}{SUFFIX}"))
}

/// What a content comes in.
pub(super) enum Piece {
    Data(Bytes),
    /// It was whole.
    End,
}

/// What was written.
pub(super) struct Written {
    pub(super) sha256: String,
    pub(super) bytes: u64,
    /// Whether it is new.
    pub(super) is_new: bool,
}

/// A file under a name of its own until it is kept; removed otherwise.
pub(super) struct Partial {
    path: PathBuf,
    kept: bool,
}

impl Partial {
    pub(super) fn begin(folder: &Path) -> Result<(Self, File), FilesError> {
        make_folder(folder)?;
        let path = folder.join(format!("{PARTIAL}{}", base::random::hex::<8>()));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(FilesError::at(&path))?;
        Ok((Self { path, kept: false }, file))
    }

    /// Syncs the file and gives it its name.
    pub(super) fn keep(mut self, file: &File, to: &Path) -> io::Result<()> {
        file.sync_all()?;
        fs::rename(&self.path, to)?;
        self.kept = true;
        to.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.kept {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Writes what comes; blocks. None when it ends without [`Piece::End`]. What is there already stays; with `opener` only when it
/// can be read to its end.
pub(super) fn write(
    project: &Path,
    sealer: &FileSealer,
    opener: Option<&FileOpener>,
    mut pieces: mpsc::Receiver<Piece>,
) -> Result<Option<Written>, FilesError> {
    let folder = project.join(FOLDER);
    let failed = |error| FilesError::at(&folder)(error);
    let (partial, file) = Partial::begin(&folder)?;
    let mut out = sealer.seal(BufWriter::with_capacity(CHUNK, file)).map_err(failed)?;
    let (mut hash, mut bytes, mut whole) = (Context::new(&SHA256), 0, false);
    while let Some(piece) = pieces.blocking_recv() {
        match piece {
            Piece::Data(data) => {
                hash.update(&data);
                bytes += data.len() as u64;
                out.write_all(&data).map_err(failed)?;
            }
            Piece::End => whole = true,
        }
    }
    if !whole {
        return Ok(None);
    }
    let sha256 = base::random::to_hex(hash.finish().as_ref());
    let to = path(project, &sha256);
    if to.exists() && opener.is_none_or(|opener| read(&to, &sha256, opener, &mut |_| Ok(())).is_ok()) {
        return Ok(Some(Written { sha256, bytes, is_new: false }));
    }
    let buffer = out.finish().map_err(failed)?;
    let file = buffer.into_inner().map_err(|error| failed(error.into_error()))?;
    to.parent().map_or(Ok(()), make_folder)?;
    partial.keep(&file, &to).map_err(failed)?;
    Ok(Some(Written { sha256, bytes, is_new: true }))
}

/// Reads a content to its end and hands its pieces on as fast as they are taken; blocks. What was handed on counts only
/// when this returns well: the content is whole and has the hash that it is named by.
pub(super) fn read(
    path: &Path,
    sha256: &str,
    opener: &FileOpener,
    sink: &mut dyn FnMut(&[u8]) -> Result<(), FilesError>,
) -> Result<u64, FilesError> {
    let damaged = |what: String| FilesError::Damaged { path: path.to_owned(), what };
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(damaged("it is missing".to_owned())),
        file => file.map_err(FilesError::at(path))?,
    };
    let mut plain = opener.open(BufReader::with_capacity(CHUNK, file)).map_err(|error| opening(path, error))?;
    let (mut hash, mut bytes, mut chunk) = (Context::new(&SHA256), 0, vec![0; CHUNK]);
    loop {
        let read = plain.read(&mut chunk).map_err(|error| damaged(error.to_string()))?;
        if read == 0 {
            break;
        }
        hash.update(&chunk[..read]);
        bytes += read as u64;
        sink(&chunk[..read])?;
    }
    match base::random::to_hex(hash.finish().as_ref()) == sha256 {
        true => Ok(bytes),
        false => Err(damaged("its content is another than its name says".to_owned())),
    }
}

pub(super) fn opening(path: &Path, error: NotReadable) -> FilesError {
    match error {
        NotReadable::WrongKey => FilesError::WrongKey { path: path.to_owned() },
        NotReadable::NoMessage(error) => FilesError::Damaged { path: path.to_owned(), what: error.to_string() },
    }
}
