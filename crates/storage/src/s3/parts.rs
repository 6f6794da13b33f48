//! Files of parts that wait for the rest of theirs: `<staging root>/<project>/%s3/<upload>/<version>`. They are on the
//! local disk whatever the backend, because a content gets its place only when all of it is there.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use base::ProjectRef;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use rustix::fs::{Mode, OFlags};

use crate::Shared;
use crate::backend::file_body::FileBody;
use crate::backend::layout::PARTS;
use crate::backend::{BackendError, StagedFile, blocking};
use crate::database::{Database, Session};
use crate::error::Error;
use crate::key::Version;
use crate::store;
use crate::store::multipart;

/// Seconds after which an upload that nobody completed is removed: a week, as the largest lifetime of its kind.
const LIFETIME: u64 = 7 * 24 * 3600;

/// Parts of one upload.
#[derive(Clone, Debug)]
pub(crate) struct PartFolder {
    path: PathBuf,
}

impl PartFolder {
    /// `upload_id` is the request's, of letters and digits only: what rows say never becomes a path, because rows are the
    /// project owner's to write.
    pub(crate) fn of(root: &Path, project: &ProjectRef, upload_id: &str) -> Self {
        Self { path: root.join(project.as_str()).join(PARTS).join(upload_id) }
    }

    pub(crate) fn file(&self, version: &Version) -> PathBuf {
        self.path.join(version.as_str())
    }

    /// Removes some files; that they are gone already is no error, and what is no version has none. Gives their bytes.
    pub(crate) async fn remove_files(&self, versions: Vec<String>) -> Result<u64, BackendError> {
        let folder = self.clone();
        blocking(move || {
            let mut bytes = 0;
            for version in versions.iter().filter_map(|version| Version::parse(version)) {
                bytes += remove_file(&folder.file(&version))?;
            }
            Ok(bytes)
        })
        .await
    }

    /// Removes everything; gives the bytes that went.
    pub(crate) async fn remove(&self) -> Result<u64, BackendError> {
        let path = self.path.clone();
        blocking(move || remove_folder(&path)).await
    }

    /// Appends a part to a content.
    pub(crate) async fn append(&self, version: &Version, size: u64, to: &mut StagedFile) -> Result<(), BackendError> {
        let path = self.file(version);
        let file = blocking(move || {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let file = File::from(rustix::fs::open(&path, flags, Mode::empty())?);
            if file.metadata()?.len() != size {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            Ok(file)
        })
        .await?;
        let mut body = FileBody::new(file, 0..size);
        let mut copied = 0;
        while let Some(frame) = body.frame().await {
            let piece: Bytes = frame.map_err(io::Error::other)?.into_data().unwrap_or_default();
            copied += piece.len() as u64;
            to.write(piece).await?;
        }
        if copied == size { Ok(()) } else { Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()) }
    }
}

fn remove_file(path: &Path) -> Result<u64, BackendError> {
    let bytes = std::fs::symlink_metadata(path).map_or(0, |found| found.len());
    match std::fs::remove_file(path) {
        Ok(()) => Ok(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error.into()),
    }
}

fn remove_folder(path: &Path) -> Result<u64, BackendError> {
    let mut bytes = 0;
    match std::fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error.into()),
        Ok(entries) => {
            for entry in entries {
                bytes += remove_file(&entry?.path())?;
            }
        }
    }
    ignore_missing(std::fs::remove_dir_all(path))?;
    Ok(bytes)
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Removes uploads that nobody completed in time, and folders that belong to no upload and did not change since `before`
/// (Unix seconds). Gives how many uploads went.
pub(crate) async fn remove_stale(
    shared: &Shared,
    project: &ProjectRef,
    database: &Database,
    before: i64,
) -> Result<u64, Error> {
    use std::os::unix::fs::MetadataExt as _;
    let root = shared.config.staging.root().to_path_buf();
    let folder = root.join(project.as_str()).join(PARTS);
    // Nobody ever made an upload in parts here: the database need not be asked.
    let present = blocking({
        let folder = folder.clone();
        move || match std::fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error.into()),
            Ok(entries) => {
                let names = entries.filter_map(|entry| {
                    let entry = entry.ok()?;
                    let old = entry.metadata().is_ok_and(|metadata| metadata.ctime() <= before);
                    Some((entry.file_name().into_string().ok()?, old))
                });
                Ok(names.collect())
            }
        }
    })
    .await?;
    let session = Session::admin("storage.s3.upload.expire");
    let expired = database.write(&session, vec![multipart::upload_expire(LIFETIME)]).await?;
    let expired: Vec<String> = match expired.first().and_then(|rows| rows.rows.first()) {
        Some(row) => store::json(row, 0)?.unwrap_or_default(),
        None => Vec::new(),
    };
    let rows = database.look_up(multipart::upload_ids()).await?;
    let known: HashSet<String> = match rows.rows.first() {
        Some(row) => store::json(row, 0)?.unwrap_or_default(),
        None => HashSet::new(),
    };
    for (name, old) in present {
        if expired.contains(&name) || (old && !known.contains(&name)) {
            let path = folder.join(name);
            let bytes = blocking(move || remove_folder(&path)).await?;
            shared.quotas.remove(project, bytes);
        }
    }
    Ok(expired.len() as u64)
}
