//! Contents on their way in: received, counted and hashed on the local disk before they get a place.

use std::fs::File;
use std::io::{self, IoSlice, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::ProjectRef;
use base::random;
use bytes::Bytes;
use rustix::fs::{Mode, OFlags};
use tokio::sync::Semaphore;

use super::content_hash::{ContentHash, HashAlgorithm, Hasher};
use super::disk_usage::bytes_below;
use super::lane::{Crew, Lane};
use super::layout::{PARTS, RESTORED, RESUMABLE, STAGING};
use super::{BackendError, blocking};

/// Bytes that are written at once, at the most.
const PIECE: usize = 128 * 1024;
/// Bytes that wait to be written and hashed, of one content.
const WAITING: usize = 4 * PIECE;
/// Threads that write, of all contents together: disks take several at a time.
const WRITERS: usize = 8;
/// Behind this many bytes the disk is asked to begin, so that the sync at the end finds little left to do.
const WRITE_BEHIND: u64 = 8 * 1024 * 1024;

/// What is known of a whole content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digest {
    /// Bytes.
    pub size: u64,
    pub hash: ContentHash,
}

impl Digest {
    /// The entity tag with its quotes.
    pub fn etag(&self) -> String {
        format!("\"{}\"", self.hash.tag())
    }
}

/// What is free on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Free {
    pub(crate) bytes: u64,
    /// Files and folders that can be made; none where nothing limits them.
    pub(crate) inodes: Option<u64>,
}

/// Where contents are received: `<root>/<project>/%staging`.
#[derive(Clone)]
pub struct Staging {
    root: Arc<Path>,
    crews: Crews,
}

/// The threads that receive contents.
#[derive(Clone)]
struct Crews {
    writing: Arc<Crew>,
    hashing: Arc<Crew>,
}

impl Staging {
    /// `root` is the folder that the projects' folders are in.
    pub fn new(root: &Path) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let crews = Crews { writing: Crew::new(WRITERS), hashing: Crew::new(processors) };
        Self { root: root.into(), crews }
    }

    /// The folder that the projects' folders are in.
    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn folder(&self, project: &ProjectRef) -> PathBuf {
        self.root.join(project.as_str()).join(STAGING)
    }

    /// Projects that have something here.
    pub(crate) async fn projects(&self) -> Result<Vec<ProjectRef>, BackendError> {
        let root = self.root.clone();
        blocking(move || {
            let names = std::fs::read_dir(&root)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
            Ok(names.filter_map(|name| ProjectRef::parse(&name).ok()).collect())
        })
        .await
    }

    /// Notes that a project's database, or those of all, are being put back to an earlier day: what is in the folders now and
    /// no row means stays for a while, see [`crate::reconcile`].
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn note_restore(&self, project: Option<&ProjectRef>) -> io::Result<()> {
        let folder = project.map_or_else(|| self.root.to_path_buf(), |id| self.root.join(id.as_str()));
        // Who has no files has none to keep.
        if !folder.is_dir() {
            return Ok(());
        }
        let path = folder.join(RESTORED);
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mut file = File::from(rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?);
        // So that its time is now.
        file.write_all(b"restored\n")?;
        file.sync_all()?;
        File::open(folder)?.sync_all()
    }

    /// When that was, in Unix seconds.
    pub(crate) fn restored_at(&self, project: &ProjectRef) -> Option<i64> {
        use std::os::unix::fs::MetadataExt as _;
        let at = |folder: &Path| std::fs::symlink_metadata(folder.join(RESTORED)).ok().map(|found| found.mtime());
        at(&self.root).max(at(&self.root.join(project.as_str())))
    }

    /// Bytes of a project's uploads that wait for more: resumable ones and parts.
    pub(crate) async fn bytes(&self, project: &ProjectRef) -> Result<u64, BackendError> {
        let folders = [RESUMABLE, PARTS].map(|name| self.root.join(project.as_str()).join(name));
        blocking(move || {
            let mut bytes = 0_u64;
            for folder in folders {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
                match rustix::fs::open(&folder, flags, Mode::empty()) {
                    // What describes an upload is none of its content.
                    Ok(folder) => bytes = bytes.saturating_add(bytes_below(&folder, &|name| name.contains('.'))?),
                    Err(rustix::io::Errno::NOENT) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Ok(bytes)
        })
        .await
    }

    /// Removes everything of a project; that there is nothing is no error.
    pub(crate) async fn remove_project(&self, project: &ProjectRef) -> Result<(), BackendError> {
        let folder = self.root.join(project.as_str());
        blocking(move || match std::fs::remove_dir_all(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => Ok(other?),
        })
        .await
    }

    /// Size of the disk in bytes.
    ///
    /// # Errors
    /// What the system says when it cannot tell.
    pub fn disk_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(&*self.root)?;
        Ok(stat.f_blocks.saturating_mul(stat.f_frsize))
    }

    /// What is free for us on the disk.
    pub(crate) fn free(&self) -> io::Result<Free> {
        let stat = rustix::fs::statvfs(&*self.root)?;
        Ok(Free {
            bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
            // Some file systems make them as they are needed and count none.
            inodes: (stat.f_files > 0).then_some(stat.f_favail),
        })
    }

    /// A content that has no bytes yet. It has no file either until there are many.
    pub fn begin(&self, project: &ProjectRef, algorithm: HashAlgorithm) -> StagedFile {
        let path = self.folder(project).join(random::hex::<16>());
        self.receive(path, None, Hasher::new(algorithm), 0)
    }

    /// A content that is received in several requests into `path`, which `file` is. `state` is what
    /// [`StagedFile::digest_state`] gave at this size; without one the file is read again. Unless it gets a place, the file
    /// stays. Blocking.
    pub(crate) fn adopt(
        &self,
        path: PathBuf,
        mut file: File,
        state: &[u8],
        size: u64,
    ) -> Result<StagedFile, BackendError> {
        let hasher = match Hasher::of_state(state) {
            Some(hasher) => hasher,
            None => hash_again(&mut file)?,
        };
        let mut staged = self.receive(path, Some(file), hasher, size);
        staged.placed = true;
        Ok(staged)
    }

    fn receive(&self, path: PathBuf, file: Option<File>, hasher: Hasher, size: u64) -> StagedFile {
        StagedFile {
            path,
            file,
            hasher,
            size,
            waiting: Vec::new(),
            waiting_bytes: 0,
            crews: self.crews.clone(),
            lanes: None,
            room: Arc::new(Semaphore::new(WAITING)),
            may_exist: false,
            failed: false,
            placed: false,
        }
    }
}

impl StagedFile {
    /// The digest on its way, to go on with after a restart; what was received has been synced.
    pub(crate) async fn digest_state(&mut self) -> Result<Vec<u8>, BackendError> {
        self.settle().await?;
        Ok(self.hasher.state())
    }
}

/// What [`StagedFile::digest_state`] was told of, when it was the whole content.
pub(crate) fn digest_of_state(state: &[u8], size: u64) -> Option<Digest> {
    Some(Digest { size, hash: Hasher::of_state(state)?.finish() })
}

fn hash_again(file: &mut File) -> Result<Hasher, BackendError> {
    let mut hasher = Hasher::new(HashAlgorithm::Md5);
    let mut buffer = vec![0; PIECE];
    file.seek(SeekFrom::Start(0))?;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher),
            read => hasher.update(&buffer[..read]),
        }
    }
}

/// A file that is written; made with the first piece.
struct Open {
    path: PathBuf,
    file: Option<File>,
    written: u64,
}

/// Pieces are written and hashed side by side, while the next ones are received.
struct Lanes {
    writing: Lane<Open>,
    hashing: Lane<Hasher>,
}

/// A content that is being received. Dropping it throws it away.
pub struct StagedFile {
    path: PathBuf,
    file: Option<File>,
    hasher: Hasher,
    /// Bytes received.
    size: u64,
    waiting: Vec<Bytes>,
    waiting_bytes: usize,
    crews: Crews,
    lanes: Option<Lanes>,
    room: Arc<Semaphore>,
    /// A file may be at the path.
    may_exist: bool,
    /// A piece was lost.
    failed: bool,
    /// The file is somebody else's from now on.
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

    /// Hands in what waits, once there is room.
    async fn flush(&mut self) -> Result<(), BackendError> {
        if self.failed {
            return self.settle().await;
        }
        let before = self.size - self.waiting_bytes as u64;
        self.waiting_bytes = 0;
        self.may_exist = true;
        let lanes = self.lanes.get_or_insert_with(|| Lanes {
            writing: Lane::new(
                &self.crews.writing,
                Open { path: self.path.clone(), file: self.file.take(), written: before },
                |open, piece| open.write(std::slice::from_ref(piece)),
            ),
            hashing: Lane::new(&self.crews.hashing, self.hasher.clone(), |hasher, piece| {
                hasher.update(piece);
                Ok(())
            }),
        });
        for mut bytes in std::mem::take(&mut self.waiting) {
            while !bytes.is_empty() {
                let piece = bytes.split_to(bytes.len().min(PIECE));
                let needed = u32::try_from(piece.len()).unwrap_or(u32::MAX);
                let room = self.room.clone().acquire_many_owned(needed).await.map_err(io::Error::other)?;
                let room = Arc::new(room);
                lanes.hashing.push(piece.clone(), room.clone());
                lanes.writing.push(piece, room);
            }
        }
        if lanes.writing.has_failed() {
            self.settle().await?;
        }
        Ok(())
    }

    /// Waits until what was handed in is on the disk and hashed. Given up half-way, it can be called again.
    async fn settle(&mut self) -> Result<(), BackendError> {
        if let Some(lanes) = &self.lanes {
            lanes.writing.idle().await;
            lanes.hashing.idle().await;
        }
        if let Some(Lanes { writing, hashing }) = self.lanes.take() {
            match writing.into_value().and_then(|open| Ok((open, hashing.into_value()?))) {
                Ok((open, hasher)) => (self.file, self.hasher) = (open.file, hasher),
                Err(error) => {
                    self.failed = true;
                    return Err(error.into());
                }
            }
        }
        // What was lost then is not there now.
        if self.failed { Err(io::Error::other("a part of the content could not be written").into()) } else { Ok(()) }
    }

    /// What was received, once all of it has.
    pub async fn digest(&mut self) -> Result<Digest, BackendError> {
        self.settle().await?;
        // What still waits was not hashed yet.
        let mut hasher = self.hasher.clone();
        for piece in &self.waiting {
            hasher.update(piece);
        }
        Ok(Digest { size: self.size, hash: hasher.finish() })
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

    /// Keeps what was received at `path` on the same disk, where it outlives a crash; the folder is made when it is missing.
    pub(crate) async fn keep(self, path: PathBuf) -> Result<(), BackendError> {
        let mut unsynced = self.into_unsynced().await?;
        blocking(move || {
            let kept = unsynced.complete().and_then(|file| {
                file.sync_data()?;
                let folder = path.parent().ok_or(io::ErrorKind::InvalidInput).map_err(io::Error::from)?;
                std::fs::create_dir_all(folder)?;
                std::fs::rename(&unsynced.path, &path)?;
                Ok(File::open(folder)?.sync_all()?)
            });
            if kept.is_err() {
                let _ = std::fs::remove_file(&unsynced.path);
            }
            kept
        })
        .await
    }

    /// What was received, to be read from its beginning.
    pub(crate) async fn into_readable(mut self) -> Result<Readable, BackendError> {
        self.settle().await?;
        self.placed = true;
        let file = self.file.take();
        let temporary = file.is_some().then(|| Temporary(std::mem::take(&mut self.path)));
        Ok(Readable {
            file,
            temporary,
            written: self.size - self.waiting_bytes as u64,
            rest: std::mem::take(&mut self.waiting),
        })
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
        if let Some(lanes) = &self.lanes {
            lanes.hashing.abandon();
            lanes.writing.abandon();
        }
        if self.placed || !self.may_exist {
            return;
        }
        let path = std::mem::take(&mut self.path);
        match (self.lanes.take(), tokio::runtime::Handle::try_current()) {
            // The writer may be about to make the file.
            (Some(lanes), Ok(runtime)) => {
                runtime.spawn(async move {
                    lanes.writing.idle().await;
                    let _ = blocking(move || Ok(std::fs::remove_file(&path)?)).await;
                });
            }
            _ => {
                let _ = std::fs::remove_file(&path);
            }
        }
    }
}

/// A content that has been received, for a backend that is not on this disk.
pub(crate) struct Readable {
    /// Holds the first `written` bytes, when there were many.
    pub(crate) file: Option<File>,
    pub(crate) written: u64,
    pub(crate) rest: Vec<Bytes>,
    /// Removes the file when it is dropped.
    #[expect(dead_code, reason = "only dropped")]
    temporary: Option<Temporary>,
}

struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
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
    /// Writes what is missing; gives the file, which has to be synced.
    pub(crate) fn complete(&mut self) -> Result<File, BackendError> {
        let mut open = Open { path: self.path.clone(), file: self.file.take(), written: self.written };
        open.write(&std::mem::take(&mut self.rest))?;
        Ok(open.open()?)
    }
}

impl Open {
    /// The file, also when nothing was written.
    fn open(mut self) -> io::Result<File> {
        match self.file.take() {
            Some(file) => Ok(file),
            None => create(&self.path),
        }
    }

    fn write(&mut self, pieces: &[Bytes]) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            missing => missing.insert(create(&self.path)?),
        };
        let before = self.written / WRITE_BEHIND;
        let mut slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        let mut left = &mut slices[..];
        IoSlice::advance_slices(&mut left, 0);
        while !left.is_empty() {
            match file.write_vectored(left) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.written += written as u64;
                    IoSlice::advance_slices(&mut left, written);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let now = self.written / WRITE_BEHIND;
        if now > before {
            // Begins to write what is dirty and does not wait for it; a hint, so that nobody minds a failure.
            let start = before * WRITE_BEHIND;
            let length = std::num::NonZeroU64::new((now - before) * WRITE_BEHIND);
            let _ = rustix::fs::fadvise(&*file, start, length, rustix::fs::Advice::DontNeed);
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

#[cfg(test)]
mod tests;
