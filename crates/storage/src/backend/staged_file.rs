//! Contents on their way in: received, counted and digested on the local disk before they get a place.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::ProjectRef;
use base::random;
use bytes::Bytes;
use md5::Digest as _;
use md5::digest::common::hazmat::{SerializableState as _, SerializedState};
use rustix::fs::{Mode, OFlags};
use tokio::task::JoinHandle;

use super::layout::STAGING;
use super::{BackendError, blocking};

/// Bytes that are written at once.
const PIECE: usize = 256 * 1024;
/// Behind this many bytes the disk is asked to begin, so that the sync at the end finds little left to do.
const WRITE_BEHIND: u64 = 8 * 1024 * 1024;

/// What is known of a whole content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    /// Bytes.
    pub size: u64,
    /// MD5, which is what an S3 entity tag is and what finds a damaged file; it proves nothing against an attacker.
    pub md5: [u8; 16],
}

impl Digest {
    /// The entity tag with its quotes.
    pub fn etag(&self) -> String {
        format!("\"{}\"", random::to_hex(&self.md5))
    }
}

/// Where contents are received: `<root>/<project>/%staging`.
#[derive(Clone, Debug)]
pub struct Staging {
    root: Arc<Path>,
}

impl Staging {
    /// `root` is the folder that the projects' folders are in.
    pub fn new(root: &Path) -> Self {
        Self { root: root.into() }
    }

    /// The folder that the projects' folders are in.
    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn folder(&self, project: &ProjectRef) -> PathBuf {
        self.root.join(project.as_str()).join(STAGING)
    }

    /// Bytes that are free for us on the disk.
    pub(crate) fn free_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(&*self.root)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// A content that has no bytes yet. It has no file either until there are many.
    pub fn begin(&self, project: &ProjectRef) -> StagedFile {
        StagedFile {
            path: self.folder(project).join(random::hex::<16>()),
            file: None,
            md5: md5::Md5::new(),
            size: 0,
            waiting: Vec::new(),
            waiting_bytes: 0,
            writing: None,
            placed: false,
        }
    }
}

impl StagedFile {
    /// A content that is received in several requests into `path`, which `file` is. `state` is what
    /// [`Self::digest_state`] gave at this size; without one the file is read again. Unless it gets a place, the file stays.
    /// Blocking.
    pub(crate) fn adopt(path: PathBuf, mut file: File, state: &[u8], size: u64) -> Result<Self, BackendError> {
        let md5 = match SerializedState::<md5::Md5>::try_from(state).ok().map(|state| md5::Md5::deserialize(&state)) {
            Some(Ok(md5)) => md5,
            _ => digest_again(&mut file)?,
        };
        Ok(Self {
            path,
            file: Some(file),
            md5,
            size,
            waiting: Vec::new(),
            waiting_bytes: 0,
            writing: None,
            placed: true,
        })
    }

    /// The digest on its way, to go on with after a restart; what was received has been synced.
    pub(crate) async fn digest_state(&mut self) -> Result<Vec<u8>, BackendError> {
        self.settle().await?;
        Ok(self.md5.serialize().to_vec())
    }
}

fn digest_again(file: &mut File) -> Result<md5::Md5, BackendError> {
    let mut md5 = md5::Md5::new();
    let mut buffer = vec![0; PIECE];
    file.seek(SeekFrom::Start(0))?;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(md5),
            read => md5.update(&buffer[..read]),
        }
    }
}

/// The state of a file that moves between the writer's thread and here.
struct Open {
    file: File,
    md5: md5::Md5,
    written: u64,
}

/// A content that is being received. Dropping it throws it away.
pub struct StagedFile {
    path: PathBuf,
    file: Option<File>,
    md5: md5::Md5,
    /// Bytes received.
    size: u64,
    waiting: Vec<Bytes>,
    waiting_bytes: usize,
    /// The piece before is being written while the next one is received.
    writing: Option<JoinHandle<io::Result<Open>>>,
    placed: bool,
}

impl StagedFile {
    /// Bytes received so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Takes more bytes.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), BackendError> {
        self.size += bytes.len() as u64;
        self.waiting_bytes += bytes.len();
        self.waiting.push(bytes);
        if self.waiting_bytes >= PIECE { self.flush().await } else { Ok(()) }
    }

    /// Hands what waits to the writer, once it is done with the piece before.
    async fn flush(&mut self) -> Result<(), BackendError> {
        self.settle().await?;
        let pieces = std::mem::take(&mut self.waiting);
        self.waiting_bytes = 0;
        let path = self.path.clone();
        let file = self.file.take();
        let md5 = std::mem::take(&mut self.md5);
        let before = self.size - pieces.iter().map(|piece| piece.len() as u64).sum::<u64>();
        self.writing = Some(tokio::task::spawn_blocking(move || {
            let file = match file {
                Some(file) => file,
                None => create(&path)?,
            };
            let mut open = Open { file, md5, written: before };
            open.write(&pieces)?;
            Ok(open)
        }));
        Ok(())
    }

    async fn settle(&mut self) -> Result<(), BackendError> {
        if let Some(writing) = &mut self.writing {
            let done = writing.await;
            self.writing = None;
            let open = done.map_err(io::Error::other)??;
            self.file = Some(open.file);
            self.md5 = open.md5;
        }
        Ok(())
    }

    /// What was received, once all of it has.
    pub async fn digest(&mut self) -> Result<Digest, BackendError> {
        self.settle().await?;
        // What still waits was not digested yet.
        let mut md5 = self.md5.clone();
        for piece in &self.waiting {
            md5.update(piece);
        }
        Ok(Digest { size: self.size, md5: md5.finalize().into() })
    }

    /// The first bytes, at most `most`, for a look at what it is.
    pub async fn head(&mut self, most: usize) -> Result<Vec<u8>, BackendError> {
        self.settle().await?;
        let Some(file) = self.file.take() else {
            let head = self.waiting.iter().flat_map(|piece| piece.iter().copied());
            return Ok(head.take(most).collect());
        };
        let (file, head) = blocking(move || {
            let mut head = Vec::new();
            let mut reader = &file;
            reader.seek(SeekFrom::Start(0))?;
            reader.take(most as u64).read_to_end(&mut head)?;
            reader.seek(SeekFrom::End(0))?;
            Ok((file, head))
        })
        .await?;
        self.file = Some(file);
        Ok(head)
    }

    /// Makes what was received outlive a crash, unless it is so little that it is better written in one go with its place.
    pub async fn sync(&mut self) -> Result<(), BackendError> {
        self.settle().await?;
        if self.file.is_none() {
            return Ok(());
        }
        self.flush().await?;
        self.settle().await?;
        if let Some(file) = self.file.take() {
            self.file = Some(
                blocking(move || {
                    file.sync_data()?;
                    Ok(file)
                })
                .await?,
            );
        }
        Ok(())
    }

    /// The file with everything in it on the disk, for the thread that gives it its place. The file is the caller's from now
    /// on.
    pub(crate) async fn into_unsynced(mut self) -> Result<Unsynced, BackendError> {
        self.settle().await?;
        self.placed = true;
        Ok(Unsynced {
            path: self.path.clone(),
            file: self.file.take(),
            rest: std::mem::take(&mut self.waiting),
            written: self.size - self.waiting_bytes as u64,
        })
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        if self.placed {
            return;
        }
        match self.writing.take() {
            // The writer may be about to make the file.
            Some(writing) => {
                let path = std::mem::take(&mut self.path);
                if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                    let handle = runtime.clone();
                    runtime.spawn_blocking(move || {
                        // Ends soon: it is one write.
                        drop(handle.block_on(writing));
                        let _ = std::fs::remove_file(&path);
                    });
                }
            }
            None if self.file.is_some() => {
                let _ = std::fs::remove_file(&self.path);
            }
            None => {}
        }
    }
}

/// A content that has been received and not been synced. Blocking.
pub(crate) struct Unsynced {
    pub(crate) path: PathBuf,
    file: Option<File>,
    rest: Vec<Bytes>,
    written: u64,
}

impl Unsynced {
    /// Writes what is missing and syncs.
    pub(crate) fn complete(&mut self) -> Result<(), BackendError> {
        let file = match self.file.take() {
            Some(file) => file,
            None => create(&self.path)?,
        };
        let mut open = Open { file, md5: md5::Md5::default(), written: self.written };
        open.write(&std::mem::take(&mut self.rest))?;
        open.file.sync_data()?;
        Ok(())
    }
}

impl Open {
    fn write(&mut self, pieces: &[Bytes]) -> io::Result<()> {
        let before = self.written / WRITE_BEHIND;
        for piece in pieces {
            self.md5.update(piece);
            self.file.write_all(piece)?;
            self.written += piece.len() as u64;
        }
        let now = self.written / WRITE_BEHIND;
        if now > before {
            // Begins to write what is dirty and does not wait for it; a hint, so that nobody minds a failure.
            let start = before * WRITE_BEHIND;
            let length = std::num::NonZeroU64::new((now - before) * WRITE_BEHIND);
            let _ = rustix::fs::fadvise(&self.file, start, length, rustix::fs::Advice::DontNeed);
        }
        Ok(())
    }
}

/// A new file for its owner alone; its folder is made when it is missing.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    let open = || {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR).map(File::from).map_err(io::Error::from)
    };
    match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            open()
        }
        other => other,
    }
}
