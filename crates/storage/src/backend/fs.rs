//! Contents on a disk, laid out as [`super::layout`] says.
//!
//! A content gets its place by: rename into its folder, data to the disk (fdatasync), folder to the disk (fsync), and each
//! folder above that is new. Nobody looks for it before all that is done, so that the rename may come first: file systems then
//! write one journal for everything. Readers have open files, which a removal does not take from them.
//!
//! Nothing below the root is followed through a symbolic link: paths are opened beneath the root's descriptor
//! (`openat2`), or folder by folder where the system does not know that call.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use base::ProjectRef;
use futures_util::future::BoxFuture;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::disk_usage::bytes_below;
use super::file_body::FileBody;
use super::layout::{Location, is_way_in, key_of_folders, version_of_file};
use super::{Backend, BackendError, Found, Page, StagedFile, blocking};
use crate::key::BucketId;

/// How often a place is made anew when somebody removes the empty folder under it.
const MOST_TRIES: usize = 16;
/// Versions of one page of a listing.
const PAGE: usize = 1000;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);
const READ: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);

/// A folder on a local disk.
#[derive(Clone)]
pub struct FsBackend {
    inner: Arc<Inner>,
}

struct Inner {
    root: PathBuf,
    root_fd: OwnedFd,
    /// The system has `openat2`.
    resolves: AtomicBool,
    /// Folders that got a new one in them and are not synced yet, and how many wait for that.
    unsynced: Mutex<HashMap<String, usize>>,
}

/// Folders that somebody is about to sync; who finds what is new in them does so too, before it counts on it.
struct Unsynced<'a> {
    all: &'a Mutex<HashMap<String, usize>>,
    /// From the upper one down.
    own: Vec<String>,
}

impl Unsynced<'_> {
    fn enter(&mut self, path: String) {
        *self.all.lock().unwrap_or_else(PoisonError::into_inner).entry(path.clone()).or_default() += 1;
        self.own.push(path);
    }
}

impl Drop for Unsynced<'_> {
    fn drop(&mut self) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        for path in &self.own {
            if let Some(waiting) = all.get_mut(path) {
                *waiting -= 1;
                if *waiting == 0 {
                    all.remove(path);
                }
            }
        }
    }
}

impl FsBackend {
    /// Makes the root when it is not there, for its owner alone.
    pub fn open(root: &Path) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(root)?;
        let root = root.canonicalize()?;
        let root_fd = rustix::fs::open(&root, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let (resolves, unsynced) = (AtomicBool::new(true), Mutex::default());
        Ok(Self { inner: Arc::new(Inner { root, root_fd, resolves, unsynced }) })
    }

    /// The folder that the projects' folders are in.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, BackendError> + Send + 'static,
    ) -> Result<T, BackendError> {
        let inner = self.inner.clone();
        blocking(move || work(&inner)).await
    }
}

impl Inner {
    /// Opens what is at `path` below the root. With `cached`, only what needs no disk.
    fn open(&self, path: &str, flags: OFlags, cached: bool) -> Result<OwnedFd, Errno> {
        if self.resolves.load(Ordering::Relaxed) {
            let mut resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            if cached {
                resolve |= ResolveFlags::CACHED;
            }
            match rustix::fs::openat2(&self.root_fd, path, flags, Mode::empty(), resolve) {
                // Not there, or not allowed by a container's filter.
                Err(Errno::NOSYS | Errno::PERM) => self.resolves.store(false, Ordering::Relaxed),
                other => return other,
            }
        }
        if cached {
            return Err(Errno::AGAIN);
        }
        match path.rsplit_once('/') {
            Some((folders, name)) => {
                let folder = self.walk(folders.split('/'))?;
                rustix::fs::openat(&folder, name, flags, Mode::empty())
            }
            None => rustix::fs::openat(&self.root_fd, path, flags, Mode::empty()),
        }
    }

    fn walk<'a>(&self, names: impl Iterator<Item = &'a str>) -> Result<OwnedFd, Errno> {
        let mut folder = rustix::fs::openat(&self.root_fd, ".", FOLDER, Mode::empty())?;
        for name in names {
            folder = rustix::fs::openat(&folder, name, FOLDER, Mode::empty())?;
        }
        Ok(folder)
    }

    /// The folder with this path, made where it is missing; those that get a new one in them are noted before it is there.
    fn make_folders(&self, names: &[String], unsynced: &mut Unsynced<'_>) -> Result<OwnedFd, Errno> {
        if let Ok(folder) = self.open(&names.join("/"), FOLDER, false) {
            return Ok(folder);
        }
        let mut folder = rustix::fs::openat(&self.root_fd, ".", FOLDER, Mode::empty())?;
        for (at, name) in names.iter().enumerate() {
            let below = match rustix::fs::openat(&folder, name.as_str(), FOLDER, Mode::empty()) {
                Err(Errno::NOENT) => {
                    unsynced.enter(names[..at].join("/"));
                    match rustix::fs::mkdirat(&folder, name.as_str(), Mode::RWXU) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(error) => return Err(error),
                    }
                    rustix::fs::openat(&folder, name.as_str(), FOLDER, Mode::empty())?
                }
                other => other?,
            };
            folder = below;
        }
        Ok(folder)
    }

    /// Lets `place` put a file into the folder of a location, and makes that outlive a crash, with what `data` has.
    fn place(
        &self,
        to: &Location,
        data: Option<&File>,
        place: impl Fn(&OwnedFd, &str) -> Result<(), Errno>,
    ) -> Result<(), BackendError> {
        let (folders, name) = (to.folders(), to.file_name());
        let mut unsynced = Unsynced { all: &self.unsynced, own: Vec::new() };
        let mut tries = 0;
        loop {
            tries += 1;
            let placed = self.make_folders(&folders, &mut unsynced).and_then(|folder| {
                place(&folder, &name)?;
                Ok(folder)
            });
            match placed {
                Ok(folder) => {
                    if let Some(file) = data {
                        file.sync_data()?;
                    }
                    rustix::fs::fsync(&folder)?;
                    drop(folder);
                    return self.sync_above(&folders);
                }
                // Somebody removed the folder because it was empty.
                Err(Errno::NOENT) if tries < MOST_TRIES => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Syncs those folders above a new one that somebody, perhaps another, has noted. None is held open beside another: a
    /// name may have many.
    fn sync_above(&self, folders: &[String]) -> Result<(), BackendError> {
        for depth in (0..folders.len()).rev() {
            let path = folders[..depth].join("/");
            if !self.unsynced.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&path) {
                continue;
            }
            match depth {
                0 => rustix::fs::fsync(&self.root_fd)?,
                _ => rustix::fs::fsync(self.open(&path, FOLDER, false)?)?,
            }
        }
        Ok(())
    }

    fn remove(&self, at: &Location) -> Result<u64, BackendError> {
        let mut bytes = 0;
        match self.open(&at.folders().join("/"), FOLDER, false) {
            Ok(folder) => {
                let stat = rustix::fs::statat(&folder, at.file_name(), AtFlags::SYMLINK_NOFOLLOW);
                match rustix::fs::unlinkat(&folder, at.file_name(), AtFlags::empty()) {
                    // Of two who remove it, one tells.
                    Ok(()) => bytes = stat.map_or(0, |stat| u64::try_from(stat.st_size).unwrap_or_default()),
                    Err(Errno::NOENT) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(error) => return Err(error.into()),
        }
        self.remove_empty(at.folders())?;
        Ok(bytes)
    }

    /// Removes folders from the last one up as long as they are empty, but not the project's.
    fn remove_empty(&self, mut folders: Vec<String>) -> Result<(), BackendError> {
        while folders.len() > 1 {
            let Some(name) = folders.pop() else { break };
            let above = match self.open(&folders.join("/"), FOLDER, false) {
                Ok(above) => above,
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(error.into()),
            };
            match rustix::fs::unlinkat(&above, name.as_str(), AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(Errno::NOTEMPTY | Errno::EXIST) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn list(&self, project: &ProjectRef, from: Option<&str>) -> Result<Page, BackendError> {
        let mut page = Page::default();
        let mut walk = Walk { after: from.map(|from| from.split('/').map(str::to_owned).collect()), page: &mut page };
        let folder = match self.open(project.as_str(), FOLDER, false) {
            Ok(folder) => folder,
            Err(Errno::NOENT) => return Ok(page),
            Err(error) => return Err(error.into()),
        };
        walk.folder(project, &folder, &mut Vec::new())?;
        Ok(page)
    }
}

/// A walk through a project's folders in the order of names, which goes on behind a path.
struct Walk<'a> {
    after: Option<Vec<String>>,
    page: &'a mut Page,
}

impl Walk<'_> {
    /// Looks at everything in a folder; false when the page is full.
    fn folder(&mut self, project: &ProjectRef, folder: &OwnedFd, path: &mut Vec<String>) -> Result<bool, BackendError> {
        let mut names: Vec<String> = Vec::new();
        for entry in rustix::fs::Dir::read_from(folder)? {
            // What is not ours may have any name.
            if let Ok(name) = entry?.file_name().to_str()
                && !matches!(name, "." | "..")
            {
                names.push(name.to_owned());
            }
        }
        names.sort_unstable();
        for name in names {
            if path.is_empty() && is_way_in(&name) {
                continue;
            }
            if let Some(after) = self.after.as_ref().and_then(|after| after.get(path.len()))
                && name < *after
            {
                continue;
            }
            let same = self.after.as_ref().is_some_and(|after| after.get(path.len()) == Some(&name));
            if !same {
                // From here on everything is behind.
                self.after = None;
            }
            match rustix::fs::openat(folder, name.as_str(), FOLDER, Mode::empty()) {
                Ok(below) => {
                    path.push(name);
                    let goes_on = self.folder(project, &below, path)?;
                    path.pop();
                    if !goes_on {
                        return Ok(false);
                    }
                }
                Err(Errno::NOTDIR) if same => self.after = None,
                Err(Errno::NOTDIR) => {
                    if !self.file(project, folder, &name, path)? {
                        return Ok(false);
                    }
                }
                // Gone meanwhile, or a link that is none of ours.
                Err(Errno::NOENT | Errno::LOOP) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    fn file(
        &mut self,
        project: &ProjectRef,
        folder: &OwnedFd,
        name: &str,
        path: &[String],
    ) -> Result<bool, BackendError> {
        let Some((bucket, key)) = path.split_first() else { return Ok(true) };
        let (bucket, key) = (BucketId::parse(bucket), key_of_folders(key.iter().map(String::as_str)));
        let (Some(bucket), Some(key), Some(version)) = (bucket, key, version_of_file(name)) else { return Ok(true) };
        let stat = match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(true),
            Err(error) => return Err(error.into()),
        };
        self.page.found.push(Found {
            location: Location { project: project.clone(), bucket, key, version },
            size: u64::try_from(stat.st_size).unwrap_or_default(),
            // Not when its bytes were written: a copy gets its place later.
            modified: stat.st_ctime,
        });
        if self.page.found.len() < PAGE {
            return Ok(true);
        }
        let next = path.iter().map(String::as_str).chain([name]).collect::<Vec<_>>().join("/");
        self.page.next = Some(next);
        Ok(false)
    }
}

impl Backend for FsBackend {
    fn put<'a>(&'a self, staged: StagedFile, to: &'a Location) -> BoxFuture<'a, Result<(), BackendError>> {
        Box::pin(async move {
            let mut unsynced = staged.into_unsynced().await?;
            let to = to.clone();
            self.with(move |inner| {
                let from = unsynced.path.clone();
                let rename = |folder: &OwnedFd, name: &str| rustix::fs::renameat(CWD, &from, folder, name);
                let placed = unsynced.complete().and_then(|file| inner.place(&to, Some(&file), rename));
                if placed.is_err() {
                    // What was received is of no more use.
                    let _ = std::fs::remove_file(&from);
                }
                placed
            })
            .await
        })
    }

    fn open<'a>(&'a self, at: &'a Location, range: Range<u64>) -> BoxFuture<'a, Result<Body, BackendError>> {
        Box::pin(async move {
            let path = at.path();
            // What was read a moment ago is there without the disk, and without another thread.
            let file = match self.inner.open(&path, READ, true) {
                Ok(file) => file,
                Err(Errno::AGAIN) => self.with(move |inner| Ok(inner.open(&path, READ, false)?)).await?,
                Err(error) => return Err(error.into()),
            };
            Ok(Body::new(FileBody::new(File::from(file), range)))
        })
    }

    fn size<'a>(&'a self, at: &'a Location) -> BoxFuture<'a, Result<u64, BackendError>> {
        let path = at.path();
        Box::pin(self.with(move |inner| {
            let file = inner.open(&path, READ, false)?;
            Ok(u64::try_from(rustix::fs::fstat(file.as_fd())?.st_size).unwrap_or_default())
        }))
    }

    fn copy<'a>(&'a self, from: &'a Location, to: &'a Location) -> BoxFuture<'a, Result<u64, BackendError>> {
        let (from, to) = (from.clone(), to.clone());
        Box::pin(self.with(move |inner| {
            let source = inner.open(&from.folders().join("/"), FOLDER, false)?;
            // Versions never change, so that two names for one file are two copies.
            let link = |folder: &OwnedFd, name: &str| {
                match rustix::fs::linkat(&source, from.file_name(), folder, name, AtFlags::empty()) {
                    Err(Errno::EXIST) => Ok(()),
                    // A file system without links, or a file with too many.
                    Err(Errno::MLINK | Errno::PERM | Errno::OPNOTSUPP | Errno::XDEV) => {
                        copy_bytes(&source, &from.file_name(), folder, name)
                    }
                    other => other,
                }
            };
            // Not to be mistaken for a missing folder of the destination.
            let stat = rustix::fs::statat(&source, from.file_name(), AtFlags::SYMLINK_NOFOLLOW)?;
            inner.place(&to, None, link)?;
            Ok(u64::try_from(stat.st_size).unwrap_or_default())
        }))
    }

    fn remove<'a>(&'a self, at: &'a Location) -> BoxFuture<'a, Result<u64, BackendError>> {
        let at = at.clone();
        Box::pin(self.with(move |inner| inner.remove(&at)))
    }

    fn list<'a>(&'a self, project: &'a ProjectRef, from: Option<String>) -> BoxFuture<'a, Result<Page, BackendError>> {
        let project = project.clone();
        Box::pin(self.with(move |inner| inner.list(&project, from.as_deref())))
    }

    fn bytes<'a>(&'a self, project: &'a ProjectRef) -> BoxFuture<'a, Result<u64, BackendError>> {
        let project = project.clone();
        Box::pin(self.with(move |inner| match inner.open(project.as_str(), FOLDER, false) {
            Ok(folder) => bytes_below(&folder, &is_way_in),
            Err(Errno::NOENT) => Ok(0),
            Err(error) => Err(error.into()),
        }))
    }

    fn projects(&self) -> BoxFuture<'_, Result<Vec<ProjectRef>, BackendError>> {
        Box::pin(self.with(|inner| {
            let names = std::fs::read_dir(&inner.root)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
            Ok(names.filter_map(|name| ProjectRef::parse(&name).ok()).collect())
        }))
    }

    fn remove_project<'a>(&'a self, project: &'a ProjectRef) -> BoxFuture<'a, Result<(), BackendError>> {
        let project = project.clone();
        Box::pin(self.with(move |inner| match std::fs::remove_dir_all(inner.root.join(OsStr::new(project.as_str()))) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => Ok(other?),
        }))
    }
}

/// A copy under a name that nobody knows yet.
fn copy_bytes(source: &OwnedFd, from: &str, folder: &OwnedFd, to: &str) -> Result<(), Errno> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mut reader = File::from(rustix::fs::openat(source, from, READ, Mode::empty())?);
    let mut writer = File::from(rustix::fs::openat(folder, to, flags, Mode::RUSR | Mode::WUSR)?);
    let copied = io::copy(&mut reader, &mut writer).and_then(|_| writer.sync_data());
    copied.map_err(|error| {
        let _ = rustix::fs::unlinkat(folder, to, AtFlags::empty());
        Errno::from_io_error(&error).unwrap_or(Errno::IO)
    })
}
