//! The storage service of this process: where files are, and what it shares with the other services.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use base::{Clock, WriteGate};
use pg::ServicePools;
use storage::backend::{FsBackend, Staging};
use storage::{Storage, StorageConfig};
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::config::files::SYSTEM_STORAGE_FOLDER;
use crate::exit::{self, Exit, ResultExt as _};

/// The folder of all projects' files.
fn folder(config: &Config, data: Option<&Path>) -> PathBuf {
    match (&config.files.path, data) {
        (Some(path), _) => path.clone(),
        (None, Some(data)) => data.join("storage"),
        (None, None) => PathBuf::from(SYSTEM_STORAGE_FOLDER),
    }
}

/// Makes the service; nothing is read or written yet but the folder made.
pub(super) fn open(
    config: &Config,
    data: Option<&Path>,
    public_url: &str,
    pools: &Arc<ServicePools>,
    write_gate: &WriteGate,
    tasks: &TaskTracker,
) -> Result<Storage, Exit> {
    let folder = folder(config, data);
    let backend = FsBackend::open(&folder)
        .with_context(|| format!("the folder for files, {}, cannot be used (STORAGE_PATH)", folder.display()))
        .exit(exit::CONFIG)?;
    Ok(Storage::new(StorageConfig {
        pools: pools.clone(),
        staging: Staging::new(backend.root()),
        backend: Arc::new(backend),
        disk_reserve: config.files.disk_reserve,
        write_gate: write_gate.clone(),
        public_url: public_url.to_owned(),
        signed_url_ttl: config.files.signed_url_ttl,
        max_uploads: config.files.max_uploads,
        max_uploads_per_project: config.files.max_uploads.div_ceil(2),
        tasks: tasks.clone(),
        clock: Clock::system(),
    }))
}
