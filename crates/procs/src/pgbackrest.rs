//! Point-in-time recovery of the embedded cluster through pgBackRest: whole backups of its files, and every piece of its
//! write-ahead log.
//!
//! In the folder it is given:
//!
//! ```text
//! pgbackrest.conf   written by us at every start of the server; PostgreSQL archives as long as it is there
//! repo/             the backups, encrypted; or wherever the configuration says
//! lock/ log/ run/   pgBackRest's, and the socket of a recovery
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use base::Secret;
use serde_json::Value;

use crate::binaries::Search;
use crate::postgres::postmaster_address;
use crate::private_file;
use crate::process::{ProcessId, Signal};
use crate::unprivileged::{AccessError, RunAs};

/// pgBackRest's name for the cluster.
const STANZA: &str = "launchdb";
/// A recovery is looked at so often.
const LOOK: Duration = Duration::from_millis(100);
/// Lines of a failed program that are shown.
const SHOWN_LINES: usize = 12;

/// Why something of it did not work.
#[derive(Debug, thiserror::Error)]
pub enum PgBackRestError {
    #[error("pgbackrest was not found: install it, on Debian and Ubuntu with: apt-get install pgbackrest")]
    NotFound,
    #[error("PostgreSQL does not run: start the server first")]
    NotRunning,
    #[error(transparent)]
    Access(#[from] AccessError),
    #[error("{}: {source}", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("pgbackrest {action} failed:\n{said}")]
    Failed { action: &'static str, said: String },
    #[error("what pgbackrest says is not understood: {0}")]
    Answer(String),
    #[error(
        "the cluster cannot be brought to that moment: it may be before the first backup, or after what was archived last.\n{log}"
    )]
    Recovery { log: String },
}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> PgBackRestError {
    let path = path.to_owned();
    move |source| PgBackRestError::Io { path, source }
}

/// Point-in-time recovery of one cluster.
#[derive(Clone, Debug)]
pub struct PgBackRest {
    program: PathBuf,
    /// Its own folder.
    dir: PathBuf,
    /// The cluster's files.
    data: PathBuf,
    run_as: RunAs,
}

/// What a whole backup takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackupKind {
    /// Everything.
    Full,
    /// What changed since the last one of everything.
    Diff,
}

/// What can be restored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PitrStatus {
    /// End of the oldest and of the newest backup; Unix seconds. Any moment since the first of them can be restored.
    pub oldest: Option<i64>,
    pub newest: Option<i64>,
    /// End of the newest one of everything; Unix seconds.
    pub newest_full: Option<i64>,
    pub backups: usize,
    /// Bytes in the repository of all backups, without the log.
    pub bytes: u64,
    /// The newest piece of the log that is in the repository.
    pub newest_wal: Option<String>,
}

impl PgBackRest {
    /// Where the configuration is in a data folder.
    pub fn dir(data_folder: &Path) -> PathBuf {
        data_folder.join("pitr")
    }

    /// Whether it was enabled there.
    pub fn is_enabled(data_folder: &Path) -> bool {
        Self::dir(data_folder).join("pgbackrest.conf").is_file()
    }

    /// Finds the program.
    pub fn find(data_folder: &Path, run_as: RunAs, search: &Search) -> Result<Self, PgBackRestError> {
        let folders = search.path.as_deref().map(|path| std::env::split_paths(path).collect::<Vec<_>>());
        let program = folders.into_iter().flatten().map(|folder| folder.join("pgbackrest"));
        let program =
            program.chain([PathBuf::from("/usr/bin/pgbackrest")]).find(|path| path.is_absolute() && path.is_file());
        let data_folder = data_folder.canonicalize().map_err(io_at(data_folder))?;
        Ok(Self {
            program: program.ok_or(PgBackRestError::NotFound)?,
            dir: Self::dir(&data_folder),
            data: data_folder.join("postgres").join("data"),
            run_as,
        })
    }

    fn conf(&self) -> PathBuf {
        self.dir.join("pgbackrest.conf")
    }

    /// What PostgreSQL runs for each piece of its log.
    pub fn archive_command(&self) -> String {
        self.archive_command_of(&self.data)
    }

    fn archive_command_of(&self, data: &Path) -> String {
        format!(
            "{} --config={} --stanza={STANZA} --pg1-path={} archive-push \"%p\"",
            shell(&self.program),
            shell(&self.conf()),
            shell(data)
        )
    }

    /// Writes the configuration. `passphrase` encrypts the repository; `repo` is its folder when it is elsewhere.
    pub fn enable(
        &self,
        passphrase: &Secret<String>,
        repo: Option<&Path>,
        keep_full: u32,
    ) -> Result<(), PgBackRestError> {
        self.run_as.make_passage(&self.dir)?;
        let own = self.dir.join("repo");
        let repo = repo.map_or(own.as_path(), |repo| repo);
        for folder in [repo, &self.dir.join("lock"), &self.dir.join("log"), &self.dir.join("run")] {
            self.run_as.make_dir(folder)?;
        }
        let text = render(&self.dir, &self.data, repo, passphrase, keep_full);
        private_file::write(&self.conf(), &text, Some(&self.run_as)).map_err(io_at(&self.conf()))
    }

    /// Takes the configuration away; the repository stays.
    pub fn disable(&self) -> Result<(), PgBackRestError> {
        match fs::remove_file(self.conf()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_at(&self.conf())(error)),
            _ => Ok(()),
        }
    }

    fn command(&self, action: &'static str) -> Command {
        let mut command = self.run_as.command(&self.program);
        command.args([format!("--config={}", self.conf().display()), format!("--stanza={STANZA}")]);
        command.arg(action).current_dir("/").env_clear().env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
        command
    }

    /// Makes a backup of the running cluster; blocks. The first one is of everything, whatever is asked for.
    pub fn backup(&self, superuser: &str, password: &Secret<String>, kind: BackupKind) -> Result<(), PgBackRestError> {
        let (socket, port) = postmaster_address(&self.data).ok_or(PgBackRestError::NotRunning)?;
        let connected = |action| {
            let mut command = self.command(action);
            command.args([
                format!("--pg1-socket-path={}", socket.display()),
                format!("--pg1-port={port}"),
                format!("--pg1-user={superuser}"),
            ]);
            // Of this child only; nothing of it is written down.
            command.env("PGPASSWORD", password.expose());
            command
        };
        run("stanza-create", connected("stanza-create"))?;
        let mut backup = connected("backup");
        backup.arg(match kind {
            BackupKind::Full => "--type=full",
            BackupKind::Diff => "--type=diff",
        });
        run("backup", backup).map(drop)
    }

    /// What can be restored; blocks.
    pub fn status(&self) -> Result<PitrStatus, PgBackRestError> {
        let mut command = self.command("info");
        command.arg("--output=json");
        let output = run("info", command)?;
        let answer: Value =
            serde_json::from_slice(&output.stdout).map_err(|error| PgBackRestError::Answer(error.to_string()))?;
        Ok(parse_info(&answer))
    }

    /// Brings the stopped cluster to a moment, a timestamp as PostgreSQL reads it; blocks. The files are restored and
    /// recovered beside those that are there, and take their place at the end. Returns where the replaced ones are.
    pub fn restore(&self, postgres: &Path, at: &str, patience: Duration) -> Result<PathBuf, PgBackRestError> {
        let parent = self.data.parent().unwrap_or(&self.data).to_owned();
        let restoring = parent.join("data.restoring");
        remove_tree(&restoring)?;
        self.run_as.make_dir(&restoring)?;
        let restored = self.restore_into(&restoring, postgres, at, patience);
        if let Err(error) = restored {
            remove_tree(&restoring)?;
            return Err(error);
        }
        let replaced = parent.join("data.replaced");
        remove_tree(&replaced)?;
        if self.data.exists() {
            fs::rename(&self.data, &replaced).map_err(io_at(&self.data))?;
        }
        fs::rename(&restoring, &self.data).map_err(io_at(&restoring))?;
        fs::File::open(&parent).and_then(|folder| folder.sync_all()).map_err(io_at(&parent))?;
        Ok(replaced)
    }

    fn restore_into(&self, to: &Path, postgres: &Path, at: &str, patience: Duration) -> Result<(), PgBackRestError> {
        let mut restore = self.command("restore");
        restore.args(["--type=time", "--target-action=promote"]);
        restore.args([format!("--target={at}"), format!("--pg1-path={}", to.display())]);
        run("restore", restore).map_err(|error| match error {
            // There is no backup that ended before the moment.
            PgBackRestError::Failed { said, .. } if said.contains("unable to find backup set") => {
                PgBackRestError::Recovery { log: said }
            }
            other => other,
        })?;
        let log_path = self.dir.join("log").join("recovery.log");
        let log = fs::File::create(&log_path).map_err(io_at(&log_path))?;
        let errors = log.try_clone().map_err(io_at(&log_path))?;
        // Reachable for nobody else until it is whole.
        let mut command = self.run_as.command(postgres);
        command.arg("-D").arg(to).args(["-c", "listen_addresses="]);
        command.args(["-c", &format!("unix_socket_directories={}", self.dir.join("run").display())]);
        command.args(["-c", &format!("archive_command={}", self.archive_command_of(to)), "-c", "archive_mode=on"]);
        command.args(["-c", "log_min_messages=info", "-c", "hot_standby=off"]);
        command.current_dir("/").env_clear().stdin(Stdio::null()).stdout(log).stderr(errors);
        let mut child = command.spawn().map_err(io_at(postgres))?;
        let begun = Instant::now();
        let failed = |log_path: &Path| PgBackRestError::Recovery {
            log: last_lines(&fs::read_to_string(log_path).unwrap_or_default()),
        };
        while !is_ready(to) {
            if child.try_wait().map_err(io_at(postgres))?.is_some() {
                return Err(failed(&log_path));
            }
            if begun.elapsed() > patience {
                let _ = child.kill();
                let _ = child.wait();
                return Err(failed(&log_path));
            }
            std::thread::sleep(LOOK);
        }
        // A clean stop: a checkpoint, and what is left of the log goes to the repository.
        if let Some(id) = ProcessId::of(child.id()) {
            id.signal(Signal::INT).map_err(io_at(postgres))?;
        }
        let status = child.wait().map_err(io_at(postgres))?;
        if status.success() { Ok(()) } else { Err(failed(&log_path)) }
    }
}

/// Whether the postmaster of these files says that it takes commands that write.
fn is_ready(data: &Path) -> bool {
    let text = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
    text.lines().nth(7).map(str::trim) == Some("ready")
}

fn run(action: &'static str, mut command: Command) -> Result<Output, PgBackRestError> {
    let output = command.output().map_err(io_at(Path::new("pgbackrest")))?;
    if output.status.success() {
        return Ok(output);
    }
    let said = [output.stdout.as_slice(), &output.stderr].concat();
    Err(PgBackRestError::Failed { action, said: last_lines(&String::from_utf8_lossy(&said)) })
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
}

fn remove_tree(path: &Path) -> Result<(), PgBackRestError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_at(path)(error)),
        _ => Ok(()),
    }
}

/// A path as a word of a shell's command line.
fn shell(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', "'\\''"))
}

fn render(dir: &Path, data: &Path, repo: &Path, passphrase: &Secret<String>, keep_full: u32) -> String {
    let path = |path: &Path| path.display().to_string();
    format!(
        "# Written by LaunchDB; changes made here are lost.\n\
         [global]\n\
         repo1-path={}\n\
         repo1-cipher-type=aes-256-cbc\n\
         repo1-cipher-pass={}\n\
         repo1-retention-full={keep_full}\n\
         lock-path={}\n\
         log-path={}\n\
         log-level-file=off\n\
         log-level-console=warn\n\
         compress-type=lz4\n\
         start-fast=y\n\
         [{STANZA}]\n\
         pg1-path={}\n",
        path(repo),
        passphrase.expose(),
        path(&dir.join("lock")),
        path(&dir.join("log")),
        path(data),
    )
}

fn parse_info(answer: &Value) -> PitrStatus {
    let stanza = &answer[0];
    let backups = stanza["backup"].as_array().map_or(&[][..], Vec::as_slice);
    let stop = |backup: Option<&Value>| backup.and_then(|backup| backup["timestamp"]["stop"].as_i64());
    let archives = stanza["archive"].as_array().map_or(&[][..], Vec::as_slice);
    PitrStatus {
        oldest: stop(backups.first()),
        newest: stop(backups.last()),
        newest_full: stop(backups.iter().rfind(|backup| backup["type"] == "full")),
        backups: backups.len(),
        bytes: backups.iter().filter_map(|backup| backup["info"]["repository"]["delta"].as_u64()).sum(),
        newest_wal: archives.iter().filter_map(|archive| archive["max"].as_str()).max().map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pgbackrest_says_is_read() {
        let answer = serde_json::json!([{
            "archive": [{ "id": "15-1", "max": "000000010000000000000009", "min": "000000010000000000000001" }],
            "backup": [
                { "type": "full", "timestamp": { "start": 5, "stop": 7 }, "info": { "repository": { "delta": 100, "size": 100 } } },
                { "type": "diff", "timestamp": { "start": 15, "stop": 17 }, "info": { "repository": { "delta": 3, "size": 103 } } },
            ],
        }]);
        let status = parse_info(&answer);
        assert_eq!((status.oldest, status.newest, status.backups, status.bytes), (Some(7), Some(17), 2, 103));
        assert_eq!(status.newest_full, Some(7));
        assert_eq!(status.newest_wal.as_deref(), Some("000000010000000000000009"));
        assert_eq!(parse_info(&serde_json::json!([])), PitrStatus::default());
    }

    #[test]
    fn paths_are_words_of_the_shell() {
        assert_eq!(shell(Path::new("/srv/it's here")), "'/srv/it'\\''s here'");
        let text = render(Path::new("/d/pitr"), Path::new("/d/pg"), Path::new("/r"), &Secret::new("key".into()), 2);
        for line in ["repo1-path=/r", "repo1-cipher-pass=key", "pg1-path=/d/pg", "lock-path=/d/pitr/lock"] {
            assert!(text.lines().any(|found| found == line), "{line}");
        }
    }
}
