//! A folder of files and its copy in a bucket: what is missing on the other side goes there, whole files only.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path as FilePath, PathBuf};

use futures_util::TryStreamExt as _;
use http_body_util::BodyExt as _;
use object_store::ObjectStore as _;
use object_store::ObjectStoreExt as _;

use super::file_body::FileBody;
use super::s3::{FileOrBytes, S3Backend, parse};
use super::{BackendError, blocking};

/// What one run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mirrored {
    /// Files that are on both sides now.
    pub files: u64,
    /// Of those, how many were copied by this run, and their bytes.
    pub copied: u64,
    pub copied_bytes: u64,
    /// Files of the bucket that went, because the folder has them no longer.
    pub removed: u64,
}

/// Which files of a folder and what is below it take part; by their names.
pub type Takes = fn(&str) -> bool;

impl S3Backend {
    /// Brings the bucket to what the folder has. What went away in the folder goes in the bucket last, so that a run that
    /// is cut off leaves too much there and never too little.
    ///
    /// # Errors
    /// When a file cannot be read, or the store refuses.
    pub async fn push_folder(&self, folder: &FilePath, takes: Takes) -> Result<Mirrored, BackendError> {
        let root = folder.to_owned();
        let here = blocking(move || Ok(local_files(&root, takes)?)).await?;
        let there = self.remote_files(takes).await?;
        let mut done = Mirrored { files: here.len() as u64, ..Mirrored::default() };
        for (name, size) in &here {
            if there.get(name) == Some(size) {
                continue;
            }
            let path = folder.join(name);
            let file = blocking(move || Ok(File::open(path)?)).await?;
            let body = FileOrBytes::Staged(Some(FileBody::new(file, 0..*size)), Vec::new().into_iter());
            self.write(&self.key_of(name)?, *size, body).await?;
            done.copied += 1;
            done.copied_bytes += size;
        }
        for name in there.keys().filter(|name| !here.contains_key(*name)) {
            match self.store.delete(&self.key_of(name)?).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => done.removed += 1,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(done)
    }

    /// Brings into the folder what the bucket has and the folder has not. Nothing there is written over or removed.
    ///
    /// # Errors
    /// When a file cannot be written, or the store refuses.
    pub async fn pull_folder(&self, folder: &FilePath, takes: Takes) -> Result<Mirrored, BackendError> {
        let root = folder.to_owned();
        let here = blocking(move || Ok(local_files(&root, takes)?)).await?;
        let there = self.remote_files(takes).await?;
        let mut done = Mirrored { files: there.len() as u64, ..Mirrored::default() };
        for (name, size) in there.iter().filter(|(name, _)| !here.contains_key(*name)) {
            let mut body = self.open_whole(&self.key_of(name)?, None).await?;
            let to = folder.join(name);
            let (mut file, partial) = begin(&to)?;
            let mut written = 0;
            while let Some(frame) = body.frame().await {
                let data = frame.map_err(io::Error::other)?.into_data().unwrap_or_default();
                written += data.len() as u64;
                file = blocking(move || {
                    file.write_all(&data)?;
                    Ok(file)
                })
                .await?;
            }
            if written != *size {
                let _ = std::fs::remove_file(&partial);
                return Err(BackendError::Io(io::ErrorKind::UnexpectedEof.into()));
            }
            blocking(move || {
                file.sync_all()?;
                Ok(std::fs::rename(&partial, &to)?)
            })
            .await?;
            done.copied += 1;
            done.copied_bytes += size;
        }
        Ok(done)
    }

    fn key_of(&self, name: &str) -> Result<object_store::path::Path, BackendError> {
        match &*self.prefix {
            "" => parse(name),
            prefix => parse(&format!("{prefix}/{name}")),
        }
    }

    /// Names below the prefix, with their sizes.
    async fn remote_files(&self, takes: Takes) -> Result<BTreeMap<String, u64>, BackendError> {
        let mut found = BTreeMap::new();
        let mut listed = self.store.list(self.folder("")?.as_ref());
        while let Some(meta) = listed.try_next().await? {
            let path = meta.location.as_ref();
            let name = match &*self.prefix {
                "" => Some(path),
                prefix => path.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('/')),
            };
            // A name with dots could lead out of the folder.
            let is_plain = |name: &&str| name.split('/').all(|part| !matches!(part, "" | "." | ".."));
            if let Some(name) = name.filter(is_plain).filter(|name| takes(name)) {
                found.insert(name.to_owned(), meta.size);
            }
        }
        Ok(found)
    }
}

fn begin(to: &FilePath) -> Result<(File, PathBuf), BackendError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let folder = to.parent().unwrap_or(to);
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let partial = folder.join(format!(".partial-{}", base::random::hex::<8>()));
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
    Ok((file, partial))
}

/// Files of a folder and of what is below it, by their paths in it, with their sizes.
fn local_files(root: &FilePath, takes: Takes) -> io::Result<BTreeMap<String, u64>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        let entries = match std::fs::read_dir(root.join(&folder)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
            let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() && !name.starts_with('.') && takes(&path) {
                found.insert(path, entry.metadata()?.len());
            }
        }
    }
    Ok(found)
}
