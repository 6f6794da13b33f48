//! `launchdb backup files ...`: backups of the storage service's files.

use std::path::{Path, PathBuf};

use base::{Clock, ProjectRef};
use clap::Subcommand;
use platform::Timestamp;
use serde_json::json;
use storage::backend::{SharedBackend, Staging};
use tokio_util::sync::CancellationToken;

use super::backup::{DataArgs, project_ref};
use super::output::{print, print_list};
use super::progress::{Bar, size};
use super::{direct, interruptible};
use crate::config::{Config, Source};
use crate::exit::{self, Exit, ResultExt as _};
use crate::files_backup::{FilesBackup, FilesError, FilesRun, ListName, RestoreFiles, RestoredFiles};
use crate::run::backups::{MoreBackups, is_backup};
use crate::run::files;

#[derive(Debug, Subcommand)]
pub enum FilesCommand {
    /// Back up the files of all projects, or of one: only what is new is read
    Run {
        /// One project
        #[arg(long, value_name = "ID")]
        project: Option<String>,
        /// Read every file again and compare
        #[arg(long)]
        checksum: bool,
        #[command(flatten)]
        data: DataArgs,
    },
    /// List the backups of files
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        data: DataArgs,
    },
    /// Read every content of the newest backups and compare it with its hash
    Verify {
        #[arg(long, value_name = "ID")]
        project: Option<String>,
        #[command(flatten)]
        data: DataArgs,
    },
    /// Put the files of a project back; what is there stays
    Restore {
        /// Id of the project that the backup is of
        #[arg(value_name = "PROJECT")]
        project: String,
        /// The project that gets the files, instead of that one
        #[arg(long, value_name = "OTHER")]
        into: Option<String>,
        /// Name of an older backup, as the list shows it
        #[arg(long, value_name = "FILE")]
        from: Option<PathBuf>,
        #[command(flatten)]
        data: DataArgs,
    },
}

/// What commands work with.
struct Work {
    backup: FilesBackup,
    backend: SharedBackend,
    staging: Staging,
    cancel: CancellationToken,
}

/// Runs one command.
pub fn run(source: &Source, command: FilesCommand) -> Result<(), Exit> {
    match command {
        FilesCommand::Run { project, checksum, data } => {
            let only = project.as_deref().map(project_ref).transpose()?;
            with_work(source, &data, async |work| make(work, only, checksum).await)
        }
        FilesCommand::List { json, data } => list(source, json, &data),
        FilesCommand::Verify { project, data } => {
            let only = project.as_deref().map(project_ref).transpose()?;
            with_work(source, &data, async |work| verify(work, only).await)
        }
        FilesCommand::Restore { project, into, from, data } => {
            let (project, into) = (project_ref(&project)?, into.as_deref().map(project_ref).transpose()?);
            let list = from.as_deref().map(list_name).transpose()?;
            with_work(source, &data, async |work| restore(work, project, into, list).await)
        }
    }
}

/// Copies the folder of backups to the bucket, or what is missing in the folder from it.
pub fn copy_off_site(source: &Source, data: &DataArgs, push: bool) -> Result<(), Exit> {
    let (config, folder) = direct::config(source, data.data.as_deref())?;
    let store = files::backup_store(&config)?;
    let store = store.ok_or_else(|| Exit::message(exit::CONFIG, "BACKUP_S3_BUCKET is not set"))?;
    let backups = config.backup.folder(folder.as_deref());
    interruptible::run(async |cancel| {
        let copying = async {
            match push {
                true => store.push_folder(&backups, is_backup).await,
                false => store.pull_folder(&backups, is_backup).await,
            }
        };
        // What was copied is there the next time.
        let copied = cancel.run_until_cancelled(copying).await;
        let copied = copied.ok_or_else(|| Exit::message(exit::FAILURE, "given up"))?.exit(exit::FAILURE)?;
        print(&format!(
            "{} files are on both sides; {} with {} were copied, {} removed",
            copied.files,
            copied.copied,
            size(copied.copied_bytes as f64),
            copied.removed
        ))
    })
}

/// The backups of files for a schedule in a process of its own.
pub fn more(source: &Source, data: &DataArgs) -> Result<MoreBackups, Exit> {
    let (files, config, folder) = open(source, data)?;
    Ok(MoreBackups {
        files,
        backend: files::backend(&config, folder.as_deref())?.0,
        retention_days: config.backup.retention_days,
        off_site: files::backup_store(&config)?,
        folder: config.backup.folder(folder.as_deref()),
        pitr: None,
        clock: Clock::system(),
    })
}

/// Removes backups of files that are old.
pub fn prune(source: &Source, data: &DataArgs) -> Result<(), Exit> {
    let (backup, config, _) = open(source, data)?;
    backup.prune(Clock::system().unix_seconds(), config.backup.retention_days).map_err(refused).map(drop)
}

fn list_name(path: &Path) -> Result<ListName, Exit> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    ListName::parse(&name)
        .ok_or_else(|| Exit::message(exit::USAGE, format!("{name} is no name of a backup of files (..._.files.gpg)")))
}

/// The backups of files as the settings say; asks nobody.
fn open(source: &Source, data: &DataArgs) -> Result<(FilesBackup, Config, Option<PathBuf>), Exit> {
    let (config, folder) = direct::config(source, data.data.as_deref())?;
    let key = direct::secrets(&config, folder.as_deref())?.get("BACKUP_ENCRYPTION_KEY").cloned();
    let key = key.ok_or_else(|| Exit::new(exit::CONFIG, platform::backup::BackupError::NoKey))?;
    let backup = FilesBackup::new(&config.backup.folder(folder.as_deref()), key, config.platform.disk_reserve);
    Ok((backup, config, folder))
}

fn with_work(source: &Source, data: &DataArgs, work: impl AsyncFnOnce(Work) -> Result<(), Exit>) -> Result<(), Exit> {
    let (backup, config, folder) = open(source, data)?;
    interruptible::run(async |cancel| {
        let (backend, staging) = files::backend(&config, folder.as_deref())?;
        work(Work { backup, backend, staging, cancel }).await
    })
}

fn refused(error: FilesError) -> Exit {
    let code = match &error {
        FilesError::WrongKey { .. } => exit::CONFIG,
        FilesError::None(_) => exit::NOT_FOUND,
        FilesError::Busy { .. } | FilesError::Damaged { .. } => exit::REFUSED,
        _ => exit::FAILURE,
    };
    Exit::new(code, error)
}

async fn make(work: Work, only: Option<ProjectRef>, checksum: bool) -> Result<(), Exit> {
    let projects = match only {
        Some(project) => vec![project],
        None => work.backend.projects().await.exit(exit::FAILURE)?,
    };
    let clock = Clock::system();
    let mut last = None;
    for project in &projects {
        let bar = Bar::begin(project.as_str());
        let run = FilesRun {
            backend: &*work.backend,
            project,
            checksum,
            now: clock.unix_seconds(),
            progress: bar.bytes(),
            cancel: &work.cancel,
        };
        match work.backup.run(&run).await {
            Ok(done) => bar.end(&format!(
                "{} files with {}; {} contents with {} are new",
                done.files,
                size(done.bytes as f64),
                done.new,
                size(done.new_bytes as f64)
            )),
            Err(error) => {
                let exit = refused(error);
                bar.end(&format!("FAILED: {}", exit.text()));
                let ends = work.cancel.is_cancelled() || exit.code == exit::REFUSED;
                last = Some(exit);
                if ends {
                    break;
                }
            }
        }
    }
    match last {
        None => print(&format!("the files of {} projects are backed up", projects.len())),
        Some(exit) => Err(exit),
    }
}

async fn verify(work: Work, only: Option<ProjectRef>) -> Result<(), Exit> {
    let projects = match only {
        Some(project) => vec![project],
        None => work.backup.projects().map_err(refused)?,
    };
    let mut bad = 0;
    for project in &projects {
        let bar = Bar::begin(project.as_str());
        let done = work.backup.verify(project, bar.bytes()).await.map_err(refused)?;
        bar.end(&format!("{} files of {} are right", done.files, Timestamp::from_unix_seconds(done.taken_at)));
        bad += told(&done);
    }
    match bad {
        0 => print(&format!("the backups of files of {} projects are good", projects.len())),
        bad => Err(Exit::message(exit::REFUSED, format!("{bad} files cannot be restored, see above"))),
    }
}

async fn restore(
    work: Work,
    project: ProjectRef,
    into: Option<ProjectRef>,
    list: Option<ListName>,
) -> Result<(), Exit> {
    let bar = Bar::begin(project.as_str());
    let restore = RestoreFiles {
        backend: &*work.backend,
        staging: &work.staging,
        project: &project,
        into: into.as_ref(),
        list: list.as_ref(),
        progress: bar.bytes(),
        cancel: &work.cancel,
    };
    let done = work.backup.restore(&restore).await.map_err(refused)?;
    bar.end(&format!(
        "{} files with {} of {} are there; {} had been there already",
        done.files,
        size(done.bytes as f64),
        Timestamp::from_unix_seconds(done.taken_at),
        done.present
    ));
    match told(&done) {
        0 => print(into.as_ref().unwrap_or(&project).as_str()),
        bad => Err(Exit::message(exit::REFUSED, format!("{bad} files cannot be restored, see above"))),
    }
}

/// Says what is wrong; how much it is.
fn told(done: &RestoredFiles) -> usize {
    use std::io::Write as _;
    for failure in &done.failures {
        let _ = writeln!(std::io::stderr(), "  {failure}");
    }
    done.failures.len()
}

fn list(source: &Source, as_json: bool, data: &DataArgs) -> Result<(), Exit> {
    let (backup, ..) = open(source, data)?;
    let mut lists = Vec::new();
    for project in backup.projects().map_err(refused)? {
        lists.extend(backup.lists(&project).map_err(refused)?);
    }
    let at = |list: &ListName| Timestamp::from_unix_seconds(list.0.taken_at).to_string();
    let view = |list: &ListName| json!({ "file": list.to_string(), "project": list.0.database, "taken_at": at(list) });
    print_list(as_json, "backups", &lists, view, &["file", "taken"], |list| vec![list.to_string(), at(list)])
}
