//! Putting a project's files back, and reading backups of files to their ends.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use base::ProjectRef;
use bytes::Bytes;
use platform::backup::{FileOpener, Progress};
use storage::backend::{Backend, HashAlgorithm, Staging};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::list::{Entry, FileList, ListName};
use super::{FilesBackup, FilesError, content};

const WAITING: usize = 8;

/// What one restore is about.
pub struct RestoreFiles<'a> {
    pub backend: &'a dyn Backend,
    pub staging: &'a Staging,
    pub project: &'a ProjectRef,
    /// Another project that gets the files.
    pub into: Option<&'a ProjectRef>,
    /// None is the newest.
    pub list: Option<&'a ListName>,
    /// Counts bytes.
    pub progress: &'a Progress,
    pub cancel: &'a CancellationToken,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestoredFiles {
    /// Files of the list that are at their places now.
    pub files: u64,
    pub bytes: u64,
    /// Of those, how many had been there already.
    pub present: u64,
    /// Unix seconds of the list.
    pub taken_at: i64,
    /// What could not be restored, and why; the rest was.
    pub failures: Vec<String>,
}

impl FilesBackup {
    /// Puts every file of a list to its place. What is there already with the same size stays: versions never change. A
    /// damaged content keeps none of the others from being restored.
    ///
    /// # Errors
    /// When there is no list, the key is another, or nothing can be written.
    pub async fn restore(&self, restore: &RestoreFiles<'_>) -> Result<RestoredFiles, FilesError> {
        let list = self.list(restore.project, restore.list).await?;
        let opener = Arc::new(FileOpener::new(self.key.clone()));
        let to = restore.into.unwrap_or(restore.project);
        let mut done = RestoredFiles { taken_at: list.taken_at, ..RestoredFiles::default() };
        for entry in &list.entries {
            if restore.cancel.is_cancelled() {
                return Err(FilesError::Cancelled);
            }
            let object = format!("{}/{}", entry.bucket, entry.key);
            let Some(at) = entry.location(to) else {
                done.failures.push(format!("{object}: no name that the storage service has"));
                continue;
            };
            let failed = |source| FilesError::Destination { object: object.clone(), source };
            if restore.backend.size(&at).await.ok() == Some(entry.size) {
                done.present += 1;
            } else {
                let mut staged = restore.staging.begin(to, HashAlgorithm::Blake3);
                let (sender, mut receiver) = mpsc::channel::<Bytes>(WAITING);
                let reading = self.reading(restore.project, entry, &opener, sender);
                while let Some(data) = receiver.recv().await {
                    restore.progress.fetch_add(data.len() as u64, Ordering::Relaxed);
                    staged.write(data).await.map_err(failed)?;
                }
                match reading.await {
                    Ok(Ok(_)) => restore.backend.put(staged, &at).await.map_err(failed)?,
                    // Damage at its beginning looks like another key, and the list has been opened by this one.
                    Ok(Err(error)) => {
                        done.failures.push(format!("{object}: {error}"));
                        continue;
                    }
                    Err(error) => {
                        done.failures.push(format!("{object}: {error}"));
                        continue;
                    }
                }
            }
            done.files += 1;
            done.bytes += entry.size;
        }
        Ok(done)
    }

    /// Reads every content of the newest list. Says how many files it has, how many bytes were read, and what is wrong.
    ///
    /// # Errors
    /// When there is no list, or the key is another.
    pub async fn verify(&self, project: &ProjectRef, progress: &Progress) -> Result<RestoredFiles, FilesError> {
        let list = self.list(project, None).await?;
        let opener = Arc::new(FileOpener::new(self.key.clone()));
        let mut done = RestoredFiles { taken_at: list.taken_at, ..RestoredFiles::default() };
        for entry in &list.entries {
            let (sender, mut receiver) = mpsc::channel::<Bytes>(WAITING);
            let reading = self.reading(project, entry, &opener, sender);
            while let Some(data) = receiver.recv().await {
                progress.fetch_add(data.len() as u64, Ordering::Relaxed);
            }
            match reading.await {
                Ok(Ok(size)) if size == entry.size => {
                    done.files += 1;
                    done.bytes += size;
                }
                Ok(Ok(size)) => {
                    done.failures.push(format!("{}/{}: {size} bytes, not {}", entry.bucket, entry.key, entry.size));
                }
                Ok(Err(error)) => done.failures.push(format!("{}/{}: {error}", entry.bucket, entry.key)),
                Err(error) => done.failures.push(format!("{}/{}: {error}", entry.bucket, entry.key)),
            }
        }
        Ok(done)
    }

    async fn list(&self, project: &ProjectRef, list: Option<&ListName>) -> Result<FileList, FilesError> {
        let name = match list {
            Some(name) => name.clone(),
            None => self.lists(project)?.pop().ok_or_else(|| FilesError::None(project.clone()))?,
        };
        let (this, project) = (self.clone(), project.clone());
        let read = tokio::task::spawn_blocking(move || this.read_list(&project, &name)).await;
        read.map_err(|error| FilesError::at(&self.root)(std::io::Error::other(error)))?
    }

    fn reading(
        &self,
        project: &ProjectRef,
        entry: &Entry,
        opener: &Arc<FileOpener>,
        sender: mpsc::Sender<Bytes>,
    ) -> tokio::task::JoinHandle<Result<u64, FilesError>> {
        let path: PathBuf = content::path(&self.project(project), &entry.sha256);
        let (sha256, opener) = (entry.sha256.clone(), opener.clone());
        tokio::task::spawn_blocking(move || {
            content::read(&path, &sha256, &opener, &mut |data| {
                // Whoever takes no more has a reason of its own.
                sender.blocking_send(Bytes::copy_from_slice(data)).map_err(|_| FilesError::Cancelled)
            })
        })
    }
}
