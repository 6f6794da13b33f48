//! The storage service of this process: where files are, and what it shares with the other services.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use base::{Clock, WriteGate};
use pg::ServicePools;
use storage::backend::{BackendError, FsBackend, S3Backend, S3Config, SharedBackend, Staging};
use storage::{RenderLimits, Rounds, Storage, StorageConfig};
use tokio_util::task::TaskTracker;
use web::ApiKeyCheck;

use crate::config::Config;
use crate::config::files::{FilesBackend, SYSTEM_STORAGE_FOLDER, StoreConfig};
use crate::exit::{self, Exit, ResultExt as _};

/// The folder of all projects' files.
pub fn folder(config: &Config, data: Option<&Path>) -> PathBuf {
    match (&config.files.path, data) {
        (Some(path), _) => path.clone(),
        (None, Some(data)) => data.join("storage"),
        (None, None) => PathBuf::from(SYSTEM_STORAGE_FOLDER),
    }
}

/// The disk of all projects' files, made when it is missing.
pub fn disk(config: &Config, data: Option<&Path>) -> Result<FsBackend, Exit> {
    let folder = folder(config, data);
    FsBackend::open(&folder)
        .with_context(|| format!("the folder for files, {}, cannot be used (STORAGE_PATH)", folder.display()))
        .exit(exit::CONFIG)
}

/// The store that the configuration names.
pub fn store(config: &Config) -> Result<S3Backend, Exit> {
    let store = config.files.store.as_ref();
    let store = store.ok_or_else(|| Exit::message(exit::CONFIG, "STORAGE_S3_BUCKET is not set"))?;
    open_store(store).context("the store for files cannot be used (STORAGE_S3_...)").exit(exit::CONFIG)
}

/// The store that backups are copied to.
pub fn backup_store(config: &Config) -> Result<Option<S3Backend>, Exit> {
    let opened = config.backup.off_site.as_ref().map(open_store).transpose();
    opened.context("the store for backups cannot be used (BACKUP_S3_...)").exit(exit::CONFIG)
}

fn open_store(store: &StoreConfig) -> Result<S3Backend, BackendError> {
    S3Backend::open(&S3Config {
        bucket: store.bucket.clone(),
        endpoint: store.endpoint.clone(),
        region: store.region.clone(),
        access_key_id: store.access_key_id.clone(),
        secret_access_key: store.secret_access_key.clone(),
        session_token: store.session_token.clone(),
        path_style: store.path_style,
        prefix: store.prefix.clone(),
    })
}

/// Where contents are kept, and where they are received.
pub fn backend(config: &Config, data: Option<&Path>) -> Result<(SharedBackend, Staging), Exit> {
    let disk = disk(config, data)?;
    let staging = Staging::new(disk.root());
    let backend: SharedBackend = match config.files.backend {
        FilesBackend::Disk => Arc::new(disk),
        FilesBackend::S3 => Arc::new(store(config)?),
    };
    Ok((backend, staging))
}

/// Makes the service; nothing is read or written yet but the folder made.
pub(super) fn open(
    config: &Config,
    data: Option<&Path>,
    public_url: &str,
    pools: &Arc<ServicePools>,
    keys: &Arc<ApiKeyCheck>,
    write_gate: &WriteGate,
    tasks: &TaskTracker,
) -> Result<Storage, Exit> {
    let (backend, staging) = backend(config, data)?;
    // One project must not be able to take the disk from all others.
    let half_of_disk = || match config.files.backend {
        FilesBackend::Disk => staging.disk_bytes().unwrap_or_default() / 2,
        FilesBackend::S3 => 0,
    };
    let project_bytes = config.files.project_bytes.unwrap_or_else(half_of_disk);
    Ok(Storage::new(StorageConfig {
        pools: pools.clone(),
        staging,
        backend,
        disk_reserve: config.files.disk_reserve,
        project_bytes,
        write_gate: write_gate.clone(),
        public_url: public_url.to_owned(),
        signed_url_ttl: config.files.signed_url_ttl,
        max_uploads: config.files.max_uploads,
        max_uploads_per_project: config.files.max_uploads.div_ceil(2),
        keys: keys.clone(),
        render: RenderLimits {
            original_bytes: config.files.image_bytes,
            original_pixels: config.files.image_pixels,
            at_once: config.files.images_at_once,
            ..RenderLimits::default()
        },
        rounds: Rounds::default(),
        tasks: tasks.clone(),
        clock: Clock::system(),
    }))
}
