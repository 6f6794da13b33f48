//! `launchdb storage ...`: work on the files of all projects, in a process of its own.

use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use base::ProjectRef;
use storage::backend::{Backend, Staging};
use storage::migrate::{Progress, migrate_project};
use tokio::runtime::Builder;

use super::output::print;
use super::{MigrateArgs, StorageCommand};
use crate::config::files::FilesBackend;
use crate::config::{Config, Invocation, Source};
use crate::exit::{self, Exit, ResultExt as _};
use crate::run::files;

/// How often progress is told.
const TELL: Duration = Duration::from_secs(1);

/// Runs one command.
pub fn run(source: &Source, command: StorageCommand) -> Result<(), Exit> {
    match command {
        StorageCommand::Migrate(args) => migrate(source, args),
        StorageCommand::Verify(args) => super::storage_verify::run(source, &args),
    }
}

fn migrate(source: &Source, args: MigrateArgs) -> Result<(), Exit> {
    let invocation = Invocation { serve: true, data: args.data, ..Invocation::default() };
    let config = Config::load(source, &invocation).exit(exit::CONFIG)?;
    let disk = files::disk(&config, config.data.as_deref())?;
    let staging = Staging::new(disk.root());
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().exit(exit::FAILURE)?;
    let only = args.project.map(|id| ProjectRef::parse(&id)).transpose().exit(exit::USAGE)?;
    let done = runtime.block_on(async {
        let store = files::store(&config)?;
        store.check().await.context("the store does not let us in").exit(exit::CONFIG)?;
        let (from, to): (&dyn Backend, &dyn Backend) = match args.to {
            FilesBackend::S3 => (&disk, &store),
            FilesBackend::Disk => (&store, &disk),
        };
        let projects = match only {
            Some(project) => vec![project],
            None => from.projects().await.context("the projects cannot be listed").exit(exit::FAILURE)?,
        };
        all(from, to, &staging, &projects).await
    })?;
    print(&format!(
        "{} files with {} bytes are there and compared; {} had been there already, {} went away meanwhile",
        done.files, done.bytes, done.present, done.gone
    ))
}

async fn all(
    from: &dyn Backend,
    to: &dyn Backend,
    staging: &Staging,
    projects: &[ProjectRef],
) -> Result<Progress, Exit> {
    let mut sum = Progress::default();
    let mut told = Instant::now();
    for (at, project) in projects.iter().enumerate() {
        let done = migrate_project(from, to, staging, project, |progress| {
            if told.elapsed() >= TELL {
                told = Instant::now();
                tell(&format!(
                    "project {} of {} ({project}): {} files, {} MiB",
                    at + 1,
                    projects.len(),
                    progress.files,
                    progress.bytes / (1024 * 1024)
                ));
            }
        })
        .await
        .exit(exit::FAILURE)?;
        sum.files += done.files;
        sum.bytes += done.bytes;
        sum.present += done.present;
        sum.gone += done.gone;
    }
    Ok(sum)
}

/// Progress goes to standard error, so that what is printed is the outcome alone.
fn tell(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
