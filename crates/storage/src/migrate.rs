//! Moving contents from one backend to another, while the server goes on or stands still.
//!
//! Every content is copied, read back from its new place and compared: size, and the hash of what was read with that of what came
//! back. What is there already with the same size and hash is not copied again, so that a migration that was ended goes on
//! where it was. Nothing is removed at the old place.

use http_body_util::BodyExt as _;

use base::ProjectRef;

use crate::backend::{Backend, BackendError, Digest, Found, HashAlgorithm, Hasher, Location, Staging};

/// What is compared.
const HASH: HashAlgorithm = HashAlgorithm::Blake3;

/// How far a migration is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Contents that are at the new place now.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Of those files, how many had been there already.
    pub present: u64,
    /// Contents that went away while they were copied: their objects were deleted or replaced.
    pub gone: u64,
}

/// Why a migration ended early.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    #[error("the old place cannot be read: {object}")]
    Source { object: String, source: BackendError },
    #[error("the new place cannot be written or read: {object}")]
    Destination { object: String, source: BackendError },
    #[error("the content came back changed from the new place: {object}")]
    Changed { object: String },
    #[error("the contents cannot be listed")]
    List(#[source] BackendError),
}

/// Copies every content of a project. `progress` is told after each one.
pub async fn migrate_project(
    from: &dyn Backend,
    to: &dyn Backend,
    staging: &Staging,
    project: &ProjectRef,
    mut progress: impl FnMut(&Progress),
) -> Result<Progress, MigrateError> {
    let mut done = Progress::default();
    let mut next = None;
    loop {
        let page = from.list(project, next).await.map_err(MigrateError::List)?;
        for found in &page.found {
            match move_one(from, to, staging, found).await? {
                Outcome::Copied => {}
                Outcome::Present => done.present += 1,
                Outcome::Gone => {
                    done.gone += 1;
                    continue;
                }
            }
            done.files += 1;
            done.bytes += found.size;
            progress(&done);
        }
        match page.next {
            Some(from) => next = Some(from),
            None => return Ok(done),
        }
    }
}

enum Outcome {
    Copied,
    Present,
    Gone,
}

async fn move_one(
    from: &dyn Backend,
    to: &dyn Backend,
    staging: &Staging,
    found: &Found,
) -> Result<Outcome, MigrateError> {
    let at = &found.location;
    let object = || format!("{}/{}/{} {}", at.project, at.bucket, at.key, at.version.as_str());
    let source = |source| MigrateError::Source { object: object(), source };
    let destination = |source| MigrateError::Destination { object: object(), source };
    if to.size(at).await.ok() == Some(found.size) {
        let (there, here) = (digest(to, at, found.size).await, digest(from, at, found.size).await);
        match (there, here) {
            (Ok(there), Ok(here)) if there == here => return Ok(Outcome::Present),
            (_, Err(BackendError::Missing)) => return Ok(Outcome::Gone),
            (_, Err(error)) => return Err(source(error)),
            // Something else is there: it is written again.
            _ => {}
        }
    }
    let mut staged = staging.begin(&at.project, HASH);
    if found.size > 0 {
        let mut body = match from.open(at, 0..found.size).await {
            Err(BackendError::Missing) => return Ok(Outcome::Gone),
            body => body.map_err(source)?,
        };
        while let Some(frame) = body.frame().await {
            let piece = frame.map_err(|error| source(BackendError::Io(std::io::Error::other(error))))?;
            staged.write(piece.into_data().unwrap_or_default()).await.map_err(destination)?;
        }
    }
    let read = staged.digest().await.map_err(destination)?;
    if read.size != found.size {
        return Err(source(BackendError::Io(std::io::ErrorKind::UnexpectedEof.into())));
    }
    to.put(staged, at).await.map_err(destination)?;
    match digest(to, at, found.size).await.map_err(destination)? == read {
        true => Ok(Outcome::Copied),
        false => Err(MigrateError::Changed { object: object() }),
    }
}

/// Size and hash of a content, read from its place.
async fn digest(backend: &dyn Backend, at: &Location, size: u64) -> Result<Digest, BackendError> {
    let mut hasher = Hasher::new(HASH);
    let mut read = 0;
    if size > 0 {
        let mut body = backend.open(at, 0..size).await?;
        while let Some(frame) = body.frame().await {
            let piece = frame.map_err(std::io::Error::other)?.into_data().unwrap_or_default();
            read += piece.len() as u64;
            hasher.update(&piece);
        }
    }
    Ok(Digest { size: read, hash: hasher.finish() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::FsBackend;
    use crate::key::{BucketId, ObjectKey, Version};

    #[tokio::test]
    async fn contents_are_copied_once_and_compared() {
        let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (from, to) = (FsBackend::open(old.path()).unwrap(), FsBackend::open(new.path()).unwrap());
        let project = ProjectRef::parse("proj_abc").unwrap();
        let mut places = Vec::new();
        for (key, size) in [("a", 0), ("a/b", 5), ("c//d", 3_000_000)] {
            let at = Location {
                project: project.clone(),
                bucket: BucketId::parse("b").unwrap(),
                key: ObjectKey::parse(key).unwrap(),
                version: Version::generate(),
            };
            let mut staged = Staging::new(old.path()).begin(&project, HASH);
            staged.write(vec![7; size].into()).await.unwrap();
            from.put(staged, &at).await.unwrap();
            places.push((at, size as u64));
        }
        let staging = Staging::new(new.path());
        let mut told = 0;
        let done = migrate_project(&from, &to, &staging, &project, |_| told += 1).await.unwrap();
        assert_eq!((done, told), (Progress { files: 3, bytes: 3_000_005, present: 0, gone: 0 }, 3));
        for (at, size) in &places {
            assert_eq!(digest(&to, at, *size).await.unwrap(), digest(&from, at, *size).await.unwrap());
        }
        // What is damaged at the new place is written again, what is right is left.
        let damaged = new.path().join(places[1].0.path());
        std::fs::write(damaged, b"wrong").unwrap();
        let again = migrate_project(&from, &to, &staging, &project, |_| ()).await.unwrap();
        assert_eq!(again, Progress { files: 3, bytes: 3_000_005, present: 2, gone: 0 });
        assert_eq!(digest(&to, &places[1].0, 5).await.unwrap(), digest(&from, &places[1].0, 5).await.unwrap());
    }
}
