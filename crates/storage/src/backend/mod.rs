//! Where the contents of objects are kept. A backend knows nothing of rows and policies: it keeps versions, which never
//! change, under their [`Location`].
//!
//! Whatever the backend, a content is first received into a [`StagedFile`] on the local disk, so that its size and
//! checksum are known and nothing half-received ever gets a place.

mod content_hash;
mod disk_usage;
pub(crate) mod file_body;
pub mod fs;
mod lane;
pub mod layout;
mod mirror;
pub mod s3;
mod staged_file;

use std::io;
use std::ops::Range;
use std::sync::Arc;

use axum::body::Body;
use base::ProjectRef;
use futures_util::future::BoxFuture;

pub(crate) use self::content_hash::Hasher;
pub use self::content_hash::{ContentHash, HashAlgorithm};
pub use self::fs::FsBackend;
pub use self::layout::Location;
pub use self::mirror::{Mirrored, Takes};
pub use self::s3::{S3Backend, S3Config};
pub use self::staged_file::{Digest, StagedFile, Staging};
pub(crate) use self::staged_file::{Free, create, digest_of_state};

/// Why a backend could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// There is no such version.
    #[error("there is no such file")]
    Missing,
    /// The disk has no room, or not for this user.
    #[error("the disk is full")]
    Full(#[source] io::Error),
    #[error("the file cannot be read or written")]
    Io(#[source] io::Error),
    /// What a store on the network says.
    #[error("the object store refused: {0}")]
    Store(String),
}

impl From<io::Error> for BackendError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full(error),
            _ => Self::Io(error),
        }
    }
}

impl From<rustix::io::Errno> for BackendError {
    fn from(error: rustix::io::Errno) -> Self {
        io::Error::from(error).into()
    }
}

/// What every listing answers: one page of versions, in no particular order, and where to go on.
#[derive(Debug, Default)]
pub struct Page {
    pub found: Vec<Found>,
    /// For [`Backend::list`] again; none at the end.
    pub next: Option<String>,
}

/// One version that a backend has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub location: Location,
    /// Bytes.
    pub size: u64,
    /// Unix seconds at which it was made.
    pub modified: i64,
}

/// A place for contents. Every operation may be repeated: putting what is there and removing what is gone succeed.
pub trait Backend: Send + Sync {
    /// Gives a received content its place. When this returns, it outlives a crash.
    fn put<'a>(&'a self, staged: StagedFile, to: &'a Location) -> BoxFuture<'a, Result<(), BackendError>>;

    /// The bytes of `range`, which lies within the content, as a body that makes no more than is taken. Its length is not
    /// part of its size hint: it is the caller's to announce.
    fn open<'a>(&'a self, at: &'a Location, range: Range<u64>) -> BoxFuture<'a, Result<Body, BackendError>>;

    /// The size of a version in bytes.
    fn size<'a>(&'a self, at: &'a Location) -> BoxFuture<'a, Result<u64, BackendError>>;

    /// Makes another version with the same content. When this returns, it outlives a crash. Gives its bytes.
    fn copy<'a>(&'a self, from: &'a Location, to: &'a Location) -> BoxFuture<'a, Result<u64, BackendError>>;

    /// Removes a version; that it is gone already is no error. Gives the bytes that went.
    fn remove<'a>(&'a self, at: &'a Location) -> BoxFuture<'a, Result<u64, BackendError>>;

    /// Some of a project's versions, from where the page before ended.
    fn list<'a>(&'a self, project: &'a ProjectRef, from: Option<String>) -> BoxFuture<'a, Result<Page, BackendError>>;

    /// Bytes of all of a project's versions together. Copies count like what they are copies of.
    fn bytes<'a>(&'a self, project: &'a ProjectRef) -> BoxFuture<'a, Result<u64, BackendError>>;

    /// Projects that have files.
    fn projects(&self) -> BoxFuture<'_, Result<Vec<ProjectRef>, BackendError>>;

    /// Removes everything of a project.
    fn remove_project<'a>(&'a self, project: &'a ProjectRef) -> BoxFuture<'a, Result<(), BackendError>>;
}

/// Any backend.
pub type SharedBackend = Arc<dyn Backend>;

/// Runs what blocks on the disk where it may.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BackendError> + Send + 'static,
) -> Result<T, BackendError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(BackendError::Io(io::Error::other(error))),
    }
}
