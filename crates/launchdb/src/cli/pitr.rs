//! `launchdb backup pitr ...`: point-in-time recovery of the embedded cluster through pgBackRest.

use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;
use platform::Timestamp;
use procs::binaries::{Binaries, Search};
use procs::data_dir::{DataDir, DataDirError};
use procs::pgbackrest::{BackupKind, PgBackRest, PgBackRestError};
use procs::unprivileged::RunAs;
use serde_json::json;

use super::backup::DataArgs;
use super::output::print;
use super::progress::{Bar, size};
use super::{direct, discovery};
use crate::config::{Config, Invocation, Source, source};
use crate::exit::{self, Exit, ResultExt as _};

pub const EXAMPLES: &str = "\
Examples:
  launchdb backup pitr enable && systemctl restart launchdb
  launchdb backup pitr run                                   the first whole backup
  launchdb backup pitr status
  systemctl stop launchdb
  launchdb backup pitr restore --at \"2026-11-26 06:15:00 UTC\"

The whole cluster goes back: every project, and the platform's own database. For one project, use launchdb restore.";

/// How long a recovery may take.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);
/// Whole backups that are kept.
const KEPT_FULL: u32 = 2;

#[derive(Debug, Subcommand)]
pub enum PitrCommand {
    /// Archive the write-ahead log from the server's next start on
    Enable {
        /// Folder of the repository, on another disk perhaps [default: DATA/pitr/repo]
        #[arg(long, value_name = "DIR")]
        repo: Option<PathBuf>,
        #[command(flatten)]
        data: DataArgs,
    },
    /// Archive no more from the server's next start on; the repository stays
    Disable {
        #[command(flatten)]
        data: DataArgs,
    },
    /// Make a backup of the running cluster's files; the schedule does it, too
    Run {
        /// Of everything, instead of what changed since the last one of everything
        #[arg(long)]
        full: bool,
        #[command(flatten)]
        data: DataArgs,
    },
    /// Say which moments can be restored
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        data: DataArgs,
    },
    /// Bring the stopped cluster to a moment
    Restore {
        /// The moment, in UTC unless it names an offset: "2026-11-26 06:15:00"
        #[arg(long, value_name = "TIME")]
        at: String,
        #[command(flatten)]
        data: DataArgs,
    },
}

/// The data folder's settings.
struct Folder {
    path: PathBuf,
    config: Config,
    search: Search,
}

impl Folder {
    fn find(source: &Source, data: &DataArgs) -> Result<Self, Exit> {
        let path = discovery::find_data_folder(source, data.data.as_deref())?;
        let path =
            path.ok_or_else(|| Exit::message(exit::NOT_FOUND, "no data folder was found: name it with --data DIR"))?;
        let invocation = Invocation { data: Some(path.clone()), ..Invocation::default() };
        let config = Config::load(source, &invocation).exit(exit::CONFIG)?;
        if !config.is_embedded() {
            return Err(Exit::message(
                exit::CONFIG,
                "point-in-time recovery is for the PostgreSQL that LaunchDB runs itself: that of DATABASE_URL has its own",
            ));
        }
        let search = Search { bin_dir: config.database.bin_dir.clone(), path: source::executable_path() };
        Ok(Self { path, config, search })
    }

    fn pgbackrest(&self) -> Result<PgBackRest, Exit> {
        let run_as = RunAs::for_this_process().exit(exit::FAILURE)?;
        PgBackRest::find(&self.path, run_as, &self.search).map_err(refused)
    }

    /// As [`Folder::pgbackrest`] where it was enabled.
    fn enabled(&self) -> Result<PgBackRest, Exit> {
        match PgBackRest::is_enabled(&self.path) {
            true => self.pgbackrest(),
            false => Err(Exit::message(exit::NOT_FOUND, "it is not enabled: launchdb backup pitr enable")),
        }
    }
}

fn refused(error: PgBackRestError) -> Exit {
    let code = match &error {
        PgBackRestError::NotFound => exit::POSTGRES,
        PgBackRestError::NotRunning => exit::UNREACHABLE,
        PgBackRestError::Recovery { .. } => exit::REFUSED,
        _ => exit::FAILURE,
    };
    Exit::new(code, error)
}

/// Runs one command.
pub fn run(source: &Source, command: PitrCommand) -> Result<(), Exit> {
    match command {
        PitrCommand::Enable { repo, data } => enable(source, repo, &data),
        PitrCommand::Disable { data } => {
            Folder::find(source, &data)?.pgbackrest()?.disable().map_err(refused)?;
            print("disabled; restart the server")
        }
        PitrCommand::Run { full, data } => {
            let folder = Folder::find(source, &data)?;
            let pgbackrest = folder.enabled()?;
            let secrets = direct::secrets(&folder.config, Some(&folder.path))?;
            let password = secrets.get("POSTGRES_SUPERUSER_PASSWORD").cloned();
            let password =
                password.ok_or_else(|| Exit::message(exit::CONFIG, "POSTGRES_SUPERUSER_PASSWORD is missing"))?;
            let kind = if full { BackupKind::Full } else { BackupKind::Diff };
            let bar = Bar::begin("the whole cluster");
            pgbackrest.backup(&folder.config.database.superuser, &password, kind).map_err(refused)?;
            bar.end("backed up");
            status(&pgbackrest, false)
        }
        PitrCommand::Status { json, data } => status(&Folder::find(source, &data)?.enabled()?, json),
        PitrCommand::Restore { at, data } => restore(source, &at, &data),
    }
}

fn enable(source: &Source, repo: Option<PathBuf>, data: &DataArgs) -> Result<(), Exit> {
    let folder = Folder::find(source, data)?;
    let secrets = direct::secrets(&folder.config, Some(&folder.path))?;
    let key = secrets.get("BACKUP_ENCRYPTION_KEY");
    let key = key.ok_or_else(|| Exit::new(exit::CONFIG, platform::backup::BackupError::NoKey))?;
    let repo = repo.map(|repo| std::path::absolute(repo).exit(exit::USAGE)).transpose()?;
    folder.pgbackrest()?.enable(key, repo.as_deref(), KEPT_FULL).map_err(refused)?;
    print("enabled; restart the server, then make the first backup: launchdb backup pitr run")
}

fn status(pgbackrest: &PgBackRest, as_json: bool) -> Result<(), Exit> {
    let status = pgbackrest.status().map_err(refused)?;
    let at = |seconds: Option<i64>| seconds.map(Timestamp::from_unix_seconds);
    if as_json {
        return print(
            &json!({
                "oldest": at(status.oldest), "newest": at(status.newest), "backups": status.backups,
                "bytes": status.bytes, "newest_wal": status.newest_wal,
            })
            .to_string(),
        );
    }
    print(&match at(status.oldest) {
        None => "there is no backup yet: launchdb backup pitr run".to_owned(),
        Some(oldest) => format!(
            "every moment since {oldest} can be restored\n{} backups with {}, the newest of {}\nlog archived up to {}",
            status.backups,
            size(status.bytes as f64),
            at(status.newest).map(|time| time.to_string()).unwrap_or_default(),
            status.newest_wal.unwrap_or_default()
        ),
    })
}

fn restore(source: &Source, at: &str, data: &DataArgs) -> Result<(), Exit> {
    let at = moment(at)?;
    let folder = Folder::find(source, data)?;
    let pgbackrest = folder.enabled()?;
    // Held to the end: no server starts meanwhile, and no other restore.
    let locked = DataDir::open(&folder.path).map_err(|error| match &error {
        DataDirError::Locked { .. } => Exit::message(
            exit::DATA_LOCKED,
            "the server runs, or somebody else restores: stop the server first, nothing was changed",
        ),
        _ => Exit::new(exit::DATA_REFUSED, error),
    })?;
    let files = locked.postgres_dir().join("data");
    if procs::postgres::is_running(&files) {
        return Err(Exit::message(
            exit::DATA_LOCKED,
            "PostgreSQL of a server that was killed still runs: start the server and stop it in order",
        ));
    }
    let version = std::fs::read_to_string(files.join("PG_VERSION")).exit(exit::DATA_REFUSED)?;
    let major = version.trim().parse().exit(exit::DATA_REFUSED)?;
    let postgres = Binaries::find_major(&folder.search, major).exit(exit::POSTGRES)?.program("postgres");
    // What was uploaded since stays for a while; its rows go.
    super::backup::note_restore(source, data, None)?;
    let bar = Bar::begin(format!("the whole cluster to {at}"));
    let replaced = pgbackrest.restore(&postgres, &at, PATIENCE).map_err(refused)?;
    bar.end("done");
    print(&format!(
        "the cluster is as it was at {at}; start the server. What was there is in {}: remove it when all is well",
        replaced.display()
    ))
}

/// A moment as PostgreSQL reads it, with an offset.
fn moment(text: &str) -> Result<String, Exit> {
    let wrong = || Exit::message(exit::USAGE, format!("\"{text}\" is no moment such as \"2026-11-26 06:15:00\""));
    let text = text.trim();
    let fits = text.len() >= 19
        && text.is_ascii()
        && text.bytes().take(19).zip("dddd-dd-dd dd:dd:dd".bytes()).all(|(found, wanted)| match wanted {
            b'd' => found.is_ascii_digit(),
            b' ' => matches!(found, b' ' | b'T'),
            other => found == other,
        });
    if !fits {
        return Err(wrong());
    }
    let (time, rest) = text.split_at(19);
    let digits = rest.strip_prefix('.').map_or(0, |rest| rest.bytes().take_while(u8::is_ascii_digit).count() + 1);
    let (fraction, offset) = rest.split_at(digits);
    let offset = match offset.trim() {
        "" | "Z" | "UTC" => "+00",
        offset if offset.starts_with(['+', '-']) && offset[1..].bytes().all(|b| b.is_ascii_digit() || b == b':') => {
            offset
        }
        _ => return Err(wrong()),
    };
    Ok(format!("{}{fraction}{offset}", time.replace('T', " ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_have_an_offset() {
        let check = |text: &str, expected: &str| assert_eq!(moment(text).unwrap(), expected);
        check("2026-11-26 06:15:00", "2026-11-26 06:15:00+00");
        check("2026-11-26T06:15:00.123Z", "2026-11-26 06:15:00.123+00");
        check("2026-11-26 06:15:00 UTC", "2026-11-26 06:15:00+00");
        check("2026-11-26 06:15:00+02:00", "2026-11-26 06:15:00+02:00");
        for bad in [
            "",
            "yesterday",
            "2026-11-26",
            "2026-11-26 06:15:00 CET",
            "2026-11-26 06:15:00' --x",
            "2026-11-26 06:15:00+0x",
        ] {
            assert_eq!(moment(bad).unwrap_err().code, exit::USAGE, "{bad}");
        }
    }
}
