//! `launchdb backup ...` and `launchdb restore`: in this process, with the server's own access to PostgreSQL.

use std::path::PathBuf;

use anyhow::Context as _;
use base::ProjectRef;
use clap::{Args, Subcommand};
use platform::Timestamp;
use platform::backup::{BackupError, BackupFile, Backups, RestoreTarget, Subject};
use serde_json::json;
use storage::backend::Staging;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::output::{print, print_list};
use super::progress::{Bar, size};
use super::{direct, interruptible};
use crate::config::Source;
use crate::exit::{self, Exit, ResultExt as _};

pub const EXAMPLES: &str = "\
Examples:
  launchdb backup run --all                     every project and the platform's own database
  launchdb backup verify                        restore the newest ones into scratch databases and compare
  gpg --decrypt proj_abc123_20231201_020000.sql.gpg | less

Files are encrypted with BACKUP_ENCRYPTION_KEY (OpenPGP, AES-256) and kept in DATA/backups, or LAUNCHDB_BACKUP_DIR.";

/// The subject that is no project.
const PLATFORM: &str = "platform";

pub const RESTORE_EXAMPLES: &str = "\
Examples:
  launchdb restore /backups/proj_abc123_20231201_020000.sql.gpg proj_abc123
  launchdb restore /backups/proj_abc123_20231201_020000.sql.gpg proj_abc123 --into proj_copy
  launchdb restore /backups/platform_20231201_020000.sql.gpg platform

The project's database is replaced at the very end, in one step; whatever fails before leaves it as it was.";

/// Where the server's data is, for commands that do not go through its API.
#[derive(Clone, Debug, Default, Args)]
pub struct DataArgs {
    /// Data folder of the server [default: ./.launchdb here or above, then /var/lib/launchdb]
    #[arg(long, value_name = "DIR", help_heading = "Server")]
    pub data: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum BackupCommand {
    /// Make backups
    #[command(group(clap::ArgGroup::new("what").required(true)))]
    Run {
        /// Every project and the platform's own database
        #[arg(long, group = "what")]
        all: bool,
        /// The platform's own database: owners, projects, sealed secrets
        #[arg(long, group = "what")]
        platform: bool,
        /// One project
        #[arg(long, value_name = "ID", group = "what")]
        project: Option<String>,
        #[command(flatten)]
        data: DataArgs,
    },
    /// List the backups there are
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        data: DataArgs,
    },
    /// Restore backups into scratch databases and compare every table
    Verify {
        /// The backups; without any, the newest of each database
        #[arg(value_name = "FILE")]
        files: Vec<PathBuf>,
        #[command(flatten)]
        data: DataArgs,
    },
    /// Remove backups older than BACKUP_RETENTION_DAYS; the newest of each database stays
    Prune {
        #[command(flatten)]
        data: DataArgs,
    },
    /// Back up the storage service's files; list, verify and restore such backups
    #[command(subcommand)]
    Files(super::files_backup::FilesCommand),
    /// Copy everything in the folder to the bucket BACKUP_S3_BUCKET
    Push {
        #[command(flatten)]
        data: DataArgs,
    },
    /// Bring what the bucket has, and the folder has not, into the folder
    Pull {
        #[command(flatten)]
        data: DataArgs,
    },
    /// Restore the whole cluster to any moment, through pgBackRest
    #[command(subcommand, after_help = super::pitr::EXAMPLES)]
    Pitr(super::pitr::PitrCommand),
    /// Make and verify backups by LAUNCHDB_BACKUP_SCHEDULE until this is ended, where the server does not
    Schedule {
        #[command(flatten)]
        data: DataArgs,
    },
}

#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// The backup
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Id of the project that the backup is of, or `platform` for the platform's own database
    #[arg(value_name = "PROJECT")]
    pub project: String,
    /// Make a copy under this id, with keys and passwords of its own, instead of putting the project back
    #[arg(long, value_name = "NEW")]
    pub into: Option<String>,
    /// Leave the project its present keys, settings and domains
    #[arg(long, conflicts_with = "into")]
    pub keep_keys: bool,
    /// With `platform`: go on when projects are here that the backup does not know; their databases stay
    #[arg(long)]
    pub forget_unknown: bool,
    #[command(flatten)]
    pub data: DataArgs,
}

/// Runs one command.
pub fn run(source: &Source, command: BackupCommand) -> Result<(), Exit> {
    match command {
        BackupCommand::Run { all, platform, project, data } => {
            let subject = match (all, platform, project) {
                (_, true, _) => Some(Subject::Platform),
                (_, _, Some(project)) => Some(Subject::Project(project_ref(&project)?)),
                _ => None,
            };
            with_backups(source, &data, async |backups| make(backups, subject).await)
        }
        BackupCommand::List { json, data } => list(source, json, &data),
        BackupCommand::Verify { files, data } => {
            with_backups(source, &data, async |backups| verify(backups, files).await)
        }
        BackupCommand::Prune { data } => with_backups(source, &data, async |backups| {
            let removed = backups.prune().map_err(refused)?;
            print(&removed.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
        })
        .and_then(|()| super::files_backup::prune(source, &data)),
        BackupCommand::Push { data } => super::files_backup::copy_off_site(source, &data, true),
        BackupCommand::Pull { data } => super::files_backup::copy_off_site(source, &data, false),
        BackupCommand::Pitr(command) => super::pitr::run(source, command),
        BackupCommand::Files(command) => super::files_backup::run(source, command),
        BackupCommand::Schedule { data } => {
            let settings = direct::find(source, data.data.as_deref())?.settings;
            if settings.schedule.run.is_none() && settings.schedule.verify.is_none() {
                return Err(Exit::message(
                    exit::CONFIG,
                    "there is no schedule: set LAUNCHDB_BACKUP_SCHEDULE, for instance to \"0 2 * * *\"",
                ));
            }
            let log = crate::config::Config::load(source, &Default::default()).exit(exit::CONFIG)?.log;
            crate::run::logging::start(&log)?;
            let more = super::files_backup::more(source, &data)?;
            with_cancel(source, &data, async |backups, shutdown| {
                let more = &more;
                let also = |cancel: CancellationToken| async move { more.run(&cancel).await };
                backups.follow(settings.schedule, also, shutdown).await;
                Ok(())
            })
        }
    }
}

/// Restores a project from a file.
pub fn restore(source: &Source, args: RestoreArgs) -> Result<(), Exit> {
    if args.project == PLATFORM {
        return restore_platform(source, &args);
    }
    let into = args.into.as_deref().map(project_ref).transpose()?;
    // What was uploaded since the backup stays for a while; its rows go.
    let replaced = if into.is_none() { Some(project_ref(&args.project)?) } else { None };
    let note = || replaced.as_ref().map_or(Ok(()), |id| note_restore(source, &args.data, Some(id)));
    note()?;
    let target = RestoreTarget { project: args.project, into, keep_keys: args.keep_keys };
    with_backups(source, &args.data, async |backups| {
        let bar = Bar::begin(args.file.display().to_string());
        let restored = backups.restore(&args.file, &target, bar.bytes()).await.map_err(refused)?;
        let taken_at = Timestamp::from_unix_seconds(restored.taken_at);
        bar.end(&format!(
            "{} is as it was at {taken_at}: {} tables, {} rows",
            restored.project, restored.tables, restored.rows
        ));
        // Once more for what came meanwhile.
        note()?;
        print(restored.project.as_str())
    })
}

pub(super) fn project_ref(text: &str) -> Result<ProjectRef, Exit> {
    ProjectRef::parse(text).map_err(|error| Exit::message(exit::USAGE, format!("\"{text}\": {error}")))
}

fn restore_platform(source: &Source, args: &RestoreArgs) -> Result<(), Exit> {
    if args.into.is_some() || args.keep_keys {
        return Err(Exit::message(exit::USAGE, "--into and --keep-keys are for projects"));
    }
    with_backups(source, &args.data, async |backups| {
        let bar = Bar::begin(args.file.display().to_string());
        let restored = backups.restore_platform(&args.file, args.forget_unknown, bar.bytes()).await.map_err(refused)?;
        let taken_at = Timestamp::from_unix_seconds(restored.taken_at);
        bar.end(&format!(
            "the platform is as it was at {taken_at}: {} tables, {} rows; restart the server now",
            restored.tables, restored.rows
        ));
        let (missing, unknown) = (&restored.without_database, &restored.unknown);
        let say = |what: &str, projects: &[String]| {
            if !projects.is_empty() {
                bar_note(&format!("{what}: {}", projects.join(", ")));
            }
        };
        say("to be restored from their own files", missing);
        say("their databases stay, but no project has them", unknown);
        print(PLATFORM)
    })
}

fn bar_note(text: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "  {text}");
}

fn refused(error: BackupError) -> Exit {
    use platform::provision::ProvisionError;
    let code = match &error {
        BackupError::Provision(ProvisionError::Refused(_)) => exit::REFUSED,
        BackupError::NoSuchProject(_) | BackupError::Unreadable { .. } => exit::NOT_FOUND,
        BackupError::NoKey | BackupError::WrongKey { .. } => exit::CONFIG,
        BackupError::NoPgDump(_) => exit::POSTGRES,
        BackupError::WrongTarget { .. }
        | BackupError::Refused(_)
        | BackupError::Newer { .. }
        | BackupError::NoBackup { .. }
        | BackupError::Damaged { .. }
        | BackupError::Load { .. } => exit::REFUSED,
        _ => exit::FAILURE,
    };
    Exit::new(code, error)
}

/// Runs `work`; Ctrl-C gives it up in order.
fn with_backups(
    source: &Source,
    data: &DataArgs,
    work: impl AsyncFnOnce(Backups) -> Result<(), Exit>,
) -> Result<(), Exit> {
    with_cancel(source, data, async |backups, _| work(backups).await)
}

fn with_cancel(
    source: &Source,
    data: &DataArgs,
    work: impl AsyncFnOnce(Backups, CancellationToken) -> Result<(), Exit>,
) -> Result<(), Exit> {
    let direct = direct::find(source, data.data.as_deref())?;
    interruptible::run(async |cancel| {
        let tasks = TaskTracker::new();
        let backups = Backups::standalone(direct.platform, direct.backup, tasks.clone(), cancel.clone());
        let result = work(backups.map_err(refused)?, cancel).await;
        tasks.close();
        result
    })
}

async fn make(backups: Backups, subject: Option<Subject>) -> Result<(), Exit> {
    let subjects = match subject {
        Some(subject) => vec![subject],
        None => backups.subjects().await.map_err(refused)?,
    };
    let (mut failures, mut last) = (0, None);
    for subject in &subjects {
        let bar = Bar::begin(subject.name());
        match backups.run(subject, bar.bytes()).await {
            Ok(file) => {
                bar.end(&format!("{} of file", size(file.bytes as f64)));
                print(&file.path.display().to_string())?;
            }
            Err(error) => {
                // The others are backed up all the same.
                let exit = refused(error);
                bar.end(&format!("FAILED: {}", exit.text()));
                failures += 1;
                last = Some(exit);
            }
        }
    }
    match last {
        None => Ok(()),
        Some(exit) if subjects.len() == 1 => Err(exit),
        Some(exit) => {
            Err(Exit::message(exit.code, format!("{failures} of {} backups failed, see above", subjects.len())))
        }
    }
}

async fn verify(backups: Backups, files: Vec<PathBuf>) -> Result<(), Exit> {
    let files = match files.is_empty() {
        false => files,
        true => {
            let newest = backups.folder().newest().exit(exit::FAILURE)?;
            newest.into_iter().map(|file| file.path).collect()
        }
    };
    let mut failed = None;
    for file in &files {
        let bar = Bar::begin(file.display().to_string());
        match backups.verify(file, bar.bytes()).await {
            Ok(verified) => {
                let how = if verified.restored { "restored and compared" } else { "read to its end" };
                bar.end(&format!("good, {how}: {} tables, {} rows", verified.tables, verified.rows));
            }
            Err(error) => {
                let exit = refused(error);
                bar.end(&format!("BAD: {}", exit.text()));
                failed = Some(exit);
            }
        }
    }
    match failed {
        None => print(&format!("{} backups are good", files.len())),
        Some(exit) => Err(Exit::message(exit.code, "a backup cannot be restored, see above")),
    }
}

fn list(source: &Source, as_json: bool, data: &DataArgs) -> Result<(), Exit> {
    let files = super::direct::backup_folder(source, data.data.as_deref())?.list().exit(exit::FAILURE)?;
    let at = |seconds: i64| Timestamp::from_unix_seconds(seconds).to_string();
    let view = |file: &BackupFile| {
        json!({
            "file": file.path,
            "database": file.name.database,
            "taken_at": at(file.name.taken_at),
            "bytes": file.bytes,
            "verified_at": file.verified_at.map(at),
        })
    };
    let cells = |file: &BackupFile| {
        let verified = file.verified_at.map_or_else(|| "no".to_owned(), at);
        vec![file.path.display().to_string(), at(file.name.taken_at), size(file.bytes as f64), verified]
    };
    print_list(as_json, "backups", &files, view, &["file", "taken", "size", "verified"], cells)
}

/// Notes in the folder of files that a project goes back to an earlier day, or all of them.
pub(super) fn note_restore(source: &Source, data: &DataArgs, project: Option<&ProjectRef>) -> Result<(), Exit> {
    let (config, folder) = direct::config(source, data.data.as_deref())?;
    let files = crate::run::files::folder(&config, folder.as_deref());
    let noted = Staging::new(&files).note_restore(project);
    noted.with_context(|| format!("{} cannot be written, nothing was restored", files.display())).exit(exit::CONFIG)
}
