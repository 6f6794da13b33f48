//! Uploads on the way, by whom they belong to. They take room for a day without anybody seeing them, so that there is a
//! bound for each project and one for each owner: nobody keeps the others from uploading.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use base::ProjectRef;

use super::record::{Folder, Record};
use crate::backend::blocking;
use crate::error::Error;

/// Uploads that a project may have on the way, and one owner of those.
const OF_PROJECT: usize = 1_000;
const OF_OWNER: usize = 100;
/// Projects remembered before those without uploads are forgotten.
const MANY: usize = 1_024;

/// Whose an upload is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Owner {
    /// The project's own servers, bound by the project's limits alone.
    Service,
    User(String),
    /// Everybody without an account together.
    Nobody,
}

impl Owner {
    fn of(record: &Record) -> Self {
        match &record.owner {
            _ if record.by_service => Self::Service,
            Some(owner) => Self::User(owner.clone()),
            None => Self::Nobody,
        }
    }
}

#[derive(Clone, Debug)]
struct OpenUpload {
    owner: Owner,
    /// Bytes that it may become.
    bytes: u64,
    /// Unix seconds.
    expires: i64,
}

/// What is on the way, of all projects that somebody uploads to.
#[derive(Default)]
pub(crate) struct OpenUploads {
    /// None for those whose folder was not read yet.
    projects: Mutex<HashMap<ProjectRef, HashMap<String, OpenUpload>>>,
}

/// A new upload.
pub(crate) struct NewUpload<'a> {
    pub(crate) id: &'a str,
    pub(crate) record: &'a Record,
    /// Bytes of the largest file, which one of unknown length may become.
    pub(crate) largest: u64,
    /// Bytes that uploads of one owner may become together.
    pub(crate) room: u64,
    /// Unix seconds.
    pub(crate) now: i64,
}

impl OpenUploads {
    /// Admits an upload, which counts from now on.
    ///
    /// # Errors
    /// [`Error::TooManyUploads`] and [`Error::TooMuchUnfinished`].
    pub(crate) async fn admit(&self, project: &ProjectRef, folder: &Folder, new: &NewUpload<'_>) -> Result<(), Error> {
        if !self.lock().contains_key(project) {
            let folder = folder.clone();
            let found = blocking(move || folder.records()).await?;
            let found = found.into_iter().map(|(id, record)| (id, open_upload(&record, new.largest))).collect();
            let mut projects = self.lock();
            if projects.len() >= MANY {
                projects.retain(|_, uploads| !uploads.is_empty());
            }
            // Somebody else may have read it meanwhile, and have added to it.
            projects.entry(project.clone()).or_insert(found);
        }
        let mut projects = self.lock();
        let uploads = projects.entry(project.clone()).or_default();
        uploads.retain(|_, upload| upload.expires >= new.now);
        if uploads.len() >= OF_PROJECT {
            return Err(Error::TooManyUploads);
        }
        let upload = open_upload(new.record, new.largest);
        if upload.owner != Owner::Service {
            let own = || uploads.values().filter(|other| other.owner == upload.owner);
            let bytes = own().fold(upload.bytes, |sum, other| sum.saturating_add(other.bytes));
            // One file of the largest size may always come.
            if own().count() >= OF_OWNER || bytes > new.room.max(new.largest) {
                return Err(Error::TooMuchUnfinished);
            }
        }
        uploads.insert(new.id.to_owned(), upload);
        Ok(())
    }

    /// An upload lasts longer, or its length is known.
    pub(crate) fn change(&self, project: &ProjectRef, id: &str, record: &Record) {
        if let Some(upload) = self.lock().get_mut(project).and_then(|uploads| uploads.get_mut(id)) {
            upload.expires = record.expires;
            upload.bytes = record.length.unwrap_or(upload.bytes);
        }
    }

    /// An upload is finished, or given up.
    pub(crate) fn leave(&self, project: &ProjectRef, id: &str) {
        if let Some(uploads) = self.lock().get_mut(project) {
            uploads.remove(id);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ProjectRef, HashMap<String, OpenUpload>>> {
        self.projects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn open_upload(record: &Record, largest: u64) -> OpenUpload {
    OpenUpload { owner: Owner::of(record), bytes: record.length.unwrap_or(largest), expires: record.expires }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Staging;
    use crate::tus::header::announced;

    const METADATA: &str = "bucketName Yg==,objectName YQ==";

    fn record(owner: Option<&str>, by_service: bool, length: Option<u64>) -> Record {
        let mut record = Record::new(&announced(METADATA).unwrap(), METADATA, length, false);
        record.owner = owner.map(str::to_owned);
        record.by_service = by_service;
        record.expires = 100;
        record
    }

    /// What the admission of this many such uploads one after the other says at the end.
    async fn fill(uploads: &OpenUploads, prefix: &str, record: &Record, count: usize, now: i64) -> Result<(), Error> {
        let root = tempfile::tempdir().unwrap();
        let project = ProjectRef::parse("proj_abc").unwrap();
        let folder = Folder::new(&Staging::new(root.path()), &project);
        for number in 0..count {
            let id = format!("{prefix}{number}");
            let new = NewUpload { id: &id, record, largest: 1_000, room: 5_000, now };
            uploads.admit(&project, &folder, &new).await?;
        }
        Ok(())
    }

    #[tokio::test]
    async fn nobody_keeps_the_others_from_uploading() {
        let uploads = OpenUploads::default();
        let (a, b) = (record(Some("a"), false, Some(1)), record(Some("b"), false, Some(1)));
        fill(&uploads, "a", &a, OF_OWNER, 0).await.unwrap();
        assert!(matches!(fill(&uploads, "more", &a, 1, 0).await, Err(Error::TooMuchUnfinished)));
        fill(&uploads, "b", &b, 1, 0).await.unwrap();
        fill(&uploads, "nobody", &record(None, false, Some(1)), OF_OWNER, 0).await.unwrap();
        assert!(matches!(
            fill(&uploads, "more", &record(None, false, Some(1)), 1, 0).await,
            Err(Error::TooMuchUnfinished)
        ));
        let service = record(None, true, Some(1_000_000));
        fill(&uploads, "service", &service, OF_PROJECT - 2 * OF_OWNER - 1, 0).await.unwrap();
        assert!(matches!(fill(&uploads, "last", &service, 1, 0).await, Err(Error::TooManyUploads)));
        let project = ProjectRef::parse("proj_abc").unwrap();
        uploads.leave(&project, "a0");
        fill(&uploads, "last", &a, 1, 0).await.unwrap();
        // What has expired counts no more.
        fill(&uploads, "new", &b, 50, 101).await.unwrap();
    }

    #[tokio::test]
    async fn what_uploads_of_one_may_become_is_bounded() {
        let uploads = OpenUploads::default();
        // Of unknown length: as large as the largest file.
        let unknown = record(Some("a"), false, None);
        fill(&uploads, "a", &unknown, 5, 0).await.unwrap();
        assert!(matches!(fill(&uploads, "b", &unknown, 1, 0).await, Err(Error::TooMuchUnfinished)));
        uploads.change(&ProjectRef::parse("proj_abc").unwrap(), "a0", &record(Some("a"), false, Some(10)));
        fill(&uploads, "c", &record(Some("a"), false, Some(990)), 1, 0).await.unwrap();
        assert!(matches!(
            fill(&uploads, "d", &record(Some("a"), false, Some(1)), 1, 0).await,
            Err(Error::TooMuchUnfinished)
        ));
        fill(&uploads, "e", &record(Some("b"), false, Some(5_000)), 1, 0).await.unwrap();
    }
}
