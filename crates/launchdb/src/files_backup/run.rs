//! Making a backup of a project's files.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use base::ProjectRef;
use http_body_util::BodyExt as _;
use platform::backup::{FileOpener, FileSealer, Progress};
use storage::backend::{Backend, BackendError, Found};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::content::{self, Piece, Written};
use super::list::{Entry, ListWriter};
use super::{FilesBackup, FilesError, list_name, make_folder};

/// Pieces that wait between reading and writing.
const WAITING: usize = 8;
/// The disk is looked at each time so many bytes were written.
const DISK_LOOK: u64 = 64 * 1024 * 1024;

/// What one run is about.
pub struct FilesRun<'a> {
    pub backend: &'a dyn Backend,
    pub project: &'a ProjectRef,
    /// Read every content again, also of versions that the list before has, and what there is of it in the backup.
    pub checksum: bool,
    /// Unix seconds.
    pub now: i64,
    /// Counts bytes that were read.
    pub progress: &'a Progress,
    pub cancel: &'a CancellationToken,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FilesDone {
    pub files: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Contents that were not there before, or damaged.
    pub new: u64,
    pub new_bytes: u64,
}

impl FilesBackup {
    /// Backs up one project. What is complete when it fails stays, and the next run need not read it again.
    ///
    /// # Errors
    /// When a file cannot be read, or a backup not be written.
    pub async fn run(&self, run: &FilesRun<'_>) -> Result<FilesDone, FilesError> {
        let _alone = self.alone()?;
        let folder = self.project(run.project);
        make_folder(&folder)?;
        let known = self.known(run).await?;
        let key = self.key.clone();
        let sealer = tokio::task::spawn_blocking(move || FileSealer::new(&key)).await;
        let sealer = Arc::new(sealer.map_err(|error| FilesError::at(&folder)(std::io::Error::other(error)))?);
        let opener = run.checksum.then(|| Arc::new(FileOpener::new(self.key.clone())));
        let name = list_name(run.project, run.now);
        let mut list = ListWriter::begin(&folder, &sealer, &name)?;
        let (mut done, mut next, mut looked_at) = (FilesDone::default(), None, 0);
        loop {
            let page = run.backend.list(run.project, next).await.map_err(|source| self.source(run, source))?;
            for found in &page.found {
                if run.cancel.is_cancelled() {
                    return Err(FilesError::Cancelled);
                }
                if done.new_bytes >= looked_at {
                    looked_at = done.new_bytes + DISK_LOOK;
                    self.check_disk()?;
                }
                let version = found.location.version.as_str();
                let kept = known.get(version).filter(|hash| content::path(&folder, hash).exists());
                let sha256 = match kept {
                    Some(sha256) if !run.checksum => sha256.clone(),
                    _ => {
                        let Some(written) = self.copy(run, &sealer, opener.as_ref(), found).await? else { continue };
                        if written.is_new {
                            done.new += 1;
                            done.new_bytes += written.bytes;
                        }
                        written.sha256
                    }
                };
                done.files += 1;
                done.bytes += found.size;
                let at = &found.location;
                let (bucket, key) = (at.bucket.as_str().to_owned(), at.key.as_str().to_owned());
                let version = version.to_owned();
                list.add(&folder, Entry { bucket, key, version, size: found.size, sha256 })?;
            }
            next = page.next;
            if next.is_none() {
                break;
            }
        }
        list.keep(&folder, &name)?;
        Ok(done)
    }

    fn source(&self, run: &FilesRun<'_>, source: BackendError) -> FilesError {
        FilesError::Source { project: run.project.clone(), source }
    }

    /// Versions of the newest list with their hashes. One that cannot be read is no reason to make no new one.
    async fn known(&self, run: &FilesRun<'_>) -> Result<HashMap<String, String>, FilesError> {
        let Some(newest) = self.lists(run.project)?.pop() else { return Ok(HashMap::new()) };
        let (this, project) = (self.clone(), run.project.clone());
        match tokio::task::spawn_blocking(move || this.read_list(&project, &newest)).await {
            Ok(Ok(list)) => Ok(list.entries.into_iter().map(|entry| (entry.version, entry.sha256)).collect()),
            Ok(Err(error)) => {
                tracing::warn!(project.r#ref = %run.project, cause = %error, "every file is read again");
                Ok(HashMap::new())
            }
            Err(error) => Err(FilesError::at(&self.root)(std::io::Error::other(error))),
        }
    }

    /// None for a file that went away meanwhile: its object was deleted or replaced.
    async fn copy(
        &self,
        run: &FilesRun<'_>,
        sealer: &Arc<FileSealer>,
        opener: Option<&Arc<FileOpener>>,
        found: &Found,
    ) -> Result<Option<Written>, FilesError> {
        let (sender, receiver) = mpsc::channel(WAITING);
        let (folder, sealer, opener) = (self.project(run.project), sealer.clone(), opener.cloned());
        let root = self.root.clone();
        let writing =
            tokio::task::spawn_blocking(move || content::write(&folder, &sealer, opener.as_deref(), receiver));
        let read = read(run, found, &sender).await;
        drop(sender);
        let written = writing.await.map_err(|error| FilesError::at(&root)(std::io::Error::other(error)))?;
        match read {
            Err(BackendError::Missing) => Ok(None),
            // A writer that failed stops the reading, so its reason comes first.
            read => {
                let written = written?;
                read.map_err(|source| self.source(run, source))?;
                Ok(written)
            }
        }
    }
}

async fn read(run: &FilesRun<'_>, found: &Found, sender: &mpsc::Sender<Piece>) -> Result<(), BackendError> {
    let mut left = found.size;
    if left > 0 {
        let mut body = run.backend.open(&found.location, 0..found.size).await?;
        while let Some(frame) = body.frame().await {
            let data = frame.map_err(std::io::Error::other)?.into_data().unwrap_or_default();
            left = left.saturating_sub(data.len() as u64);
            run.progress.fetch_add(data.len() as u64, Ordering::Relaxed);
            if sender.send(Piece::Data(data)).await.is_err() {
                return Ok(());
            }
        }
    }
    if left > 0 {
        return Err(BackendError::Io(std::io::ErrorKind::UnexpectedEof.into()));
    }
    let _ = sender.send(Piece::End).await;
    Ok(())
}
