//! `launchdb migrate ...`: files of `supabase/migrations`, applied through the platform API.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use base::Clock;
use base::calendar::civil_date;
use base::digest;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::output::{cell, print, table};
use super::project::project_path;
use super::{ReachArgs, discovery};
use crate::config::Source;
use crate::exit::{self, Exit, ResultExt as _};

pub const EXAMPLES: &str = "\
Examples:
  launchdb migrate new add_tasks
  launchdb migrate up --project shop --dry-run
  launchdb migrate up --project shop

The ledger is supabase_migrations.schema_migrations, which the Supabase CLI uses, too.";

/// Which files, and of which project.
#[derive(Debug, Args)]
pub struct MigrateTarget {
    /// Id or name of the project
    #[arg(long, value_name = "PROJECT")]
    pub project: String,
    /// Folder of the files <version>_<name>.sql
    #[arg(long, value_name = "DIR", default_value = "supabase/migrations")]
    pub dir: PathBuf,
    #[command(flatten)]
    pub reach: ReachArgs,
}

#[derive(Debug, Subcommand)]
pub enum MigrateCommand {
    /// Make an empty file, named after the time
    New {
        /// What it is about
        name: String,
        /// Folder of the files
        #[arg(long, value_name = "DIR", default_value = "supabase/migrations")]
        dir: PathBuf,
    },
    /// Apply the files that were not applied yet
    Up {
        #[command(flatten)]
        target: MigrateTarget,
        /// Apply all of them in one transaction and take it back
        #[arg(long)]
        dry_run: bool,
    },
    /// Say of every file whether it was applied
    Status(MigrateTarget),
    /// End with an error unless every file was applied and is as it was
    Verify(MigrateTarget),
}

/// Bytes of SQL in one call; the API takes somewhat more.
const MOST_BYTES: usize = 2 * 1024 * 1024;

/// One file of the folder.
struct LocalFile {
    path: PathBuf,
    version: String,
    name: String,
    sql: String,
}

/// Runs one command.
pub fn run(source: &Source, command: MigrateCommand) -> Result<(), Exit> {
    match command {
        MigrateCommand::New { name, dir } => new(&dir, &name),
        MigrateCommand::Up { target, dry_run } => up(source, &target, dry_run),
        MigrateCommand::Status(target) => status(source, &target),
        MigrateCommand::Verify(target) => verify(source, &target),
    }
}

/// Makes an empty file named after the time, as the Supabase CLI does.
fn new(dir: &Path, name: &str) -> Result<(), Exit> {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    let name: String = name.chars().map(plain).collect();
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display())).exit(exit::FAILURE)?;
    let path = dir.join(format!("{}_{name}.sql", version(Clock::system().unix_seconds())));
    let file = std::fs::OpenOptions::new().write(true).create_new(true).open(&path);
    file.with_context(|| format!("cannot make {}", path.display())).exit(exit::FAILURE)?;
    print(&path.display().to_string())
}

/// `YYYYMMDDHHMMSS` in UTC.
fn version(now: i64) -> String {
    let (year, month, day) = civil_date(now.div_euclid(86_400));
    let of_day = now.rem_euclid(86_400);
    format!("{year:04}{month:02}{day:02}{:02}{:02}{:02}", of_day / 3600, of_day / 60 % 60, of_day % 60)
}

/// The files `<digits>_<name>.sql` of a folder, by version.
fn local_files(dir: &Path) -> Result<Vec<LocalFile>, Exit> {
    let entries = std::fs::read_dir(dir);
    let entries = entries.with_context(|| format!("cannot read {}", dir.display())).exit(exit::NOT_FOUND)?;
    let mut files: Vec<LocalFile> = Vec::new();
    for entry in entries {
        let path = entry.exit(exit::FAILURE)?.path();
        let stem = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".sql"));
        let Some((version, name)) = stem.map(|stem| stem.split_once('_').unwrap_or((stem, ""))) else { continue };
        if version.is_empty() || !version.bytes().all(|b| b.is_ascii_digit()) {
            let note = format!("{} is left out: its name begins with no version", path.display());
            let _ = writeln!(std::io::stderr(), "{note}");
            continue;
        }
        let sql = std::fs::read_to_string(&path);
        let sql = sql.with_context(|| format!("cannot read {}", path.display())).exit(exit::FAILURE)?;
        files.push(LocalFile { version: version.to_owned(), name: name.to_owned(), path, sql });
    }
    files.sort_by(|a, b| a.version.cmp(&b.version));
    if let Some(pair) = files.windows(2).find(|pair| pair[0].version == pair[1].version) {
        let (a, b) = (pair[0].path.display(), pair[1].path.display());
        return Err(Exit::message(exit::REFUSED, format!("{a} and {b} have the same version: rename one of them")));
    }
    Ok(files)
}

struct Remote {
    client: super::client::Client,
    path: String,
    ledger: Vec<Value>,
}

fn remote(source: &Source, target: &MigrateTarget) -> Result<Remote, Exit> {
    let client = discovery::connect(source, &target.reach)?;
    let path = format!("{}/migrations", project_path(&client, &target.project)?);
    let mut answer = client.get(&path)?.json;
    let ledger = match answer["migrations"].take() {
        Value::Array(rows) => rows,
        _ => Vec::new(),
    };
    Ok(Remote { client, path, ledger })
}

impl Remote {
    fn row(&self, version: &str) -> Option<&Value> {
        self.ledger.iter().find(|row| row["version"] == version)
    }
}

fn up(source: &Source, target: &MigrateTarget, dry_run: bool) -> Result<(), Exit> {
    let files = local_files(&target.dir)?;
    let remote = remote(source, target)?;
    // Those that ran are sent along: the server says when one was changed.
    let mut applied = Vec::new();
    for batch in batches(&files, dry_run)? {
        let migrations: Vec<Value> =
            batch.iter().map(|file| json!({ "version": file.version, "name": file.name, "sql": file.sql })).collect();
        let body = json!({ "migrations": migrations, "dry_run": dry_run });
        let (status, text) = remote.client.send("POST", &remote.path, Some(&body))?;
        let answer: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        match (status, &answer["error"]) {
            (200..300, _) => {}
            (_, error) if error["code"] == "migration_failed" => return Err(failure(&files, error)),
            _ => return Err(super::client::refusal(status, &answer, &text)),
        }
        if let Value::Array(rows) = &answer["applied"] {
            applied.extend(rows.iter().cloned());
        }
    }
    if target.reach.json {
        return print(&json!({ "applied": applied, "dry_run": dry_run }).to_string());
    }
    let rows = applied
        .iter()
        .map(|row| vec![cell(&row["version"]), cell(&row["name"]), format!("{} ms", cell(&row["duration_ms"]))]);
    match (applied.len(), dry_run) {
        (0, _) => print("nothing to apply"),
        (_, false) => print(&table(&["applied", "name", "took"], rows)),
        (_, true) => {
            print(&format!("{}\nnothing was kept: this was a dry run", table(&["would apply", "name", "took"], rows)))
        }
    }
}

/// Files for one call each; a dry run has to see all of them together.
fn batches(files: &[LocalFile], dry_run: bool) -> Result<Vec<&[LocalFile]>, Exit> {
    let mut batches = Vec::new();
    let (mut begin, mut bytes) = (0, 0);
    for (at, file) in files.iter().enumerate() {
        if bytes + file.sql.len() > MOST_BYTES && at > begin {
            batches.push(&files[begin..at]);
            (begin, bytes) = (at, 0);
        }
        bytes += file.sql.len();
    }
    batches.push(&files[begin..]);
    if dry_run && batches.len() > 1 {
        return Err(Exit::message(exit::REFUSED, "the files are too large together for a dry run"));
    }
    Ok(batches)
}

/// What failed, with the file's path.
fn failure(files: &[LocalFile], error: &Value) -> Exit {
    let details = &error["details"];
    let file = files.iter().find(|file| details["version"] == file.version.as_str());
    let place = file.map_or_else(|| cell(&details["version"]), |file| file.path.display().to_string());
    let mut text = format!("{place}:{}: {}", cell(&details["line"]), cell(&error["message"]));
    for (name, label) in [("sqlstate", "SQLSTATE"), ("detail", "detail"), ("hint", "hint"), ("statement", "statement")]
    {
        if let Some(value) = details[name].as_str().filter(|value| !value.is_empty()) {
            text.push_str(&format!("\n  {label}: {value}"));
        }
    }
    let applied = details["applied"].as_array().map(Vec::len).unwrap_or_default();
    if applied > 0 {
        text.push_str(&format!("\n  {applied} files before it were applied"));
    }
    Exit::message(exit::REFUSED, text)
}

/// Each version with where it is.
fn status(source: &Source, target: &MigrateTarget) -> Result<(), Exit> {
    let files = local_files(&target.dir)?;
    let remote = remote(source, target)?;
    let mut versions: Vec<&str> = files.iter().map(|file| file.version.as_str()).collect();
    versions.extend(remote.ledger.iter().filter_map(|row| row["version"].as_str()));
    versions.sort_unstable();
    versions.dedup();
    let rows: Vec<Value> = versions
        .into_iter()
        .map(|version| {
            let file = files.iter().find(|file| file.version == version);
            let row = remote.row(version);
            let name = row.and_then(|row| row["name"].as_str()).or(file.map(|file| file.name.as_str()));
            let state = match (file, row) {
                (Some(file), Some(row)) => compared(file, row),
                (Some(_), None) => "pending",
                (None, _) => "applied, no file here",
            };
            json!({ "version": version, "name": name, "state": state })
        })
        .collect();
    if target.reach.json {
        return print(&json!({ "migrations": rows }).to_string());
    }
    let cells = |row: &Value| ["version", "name", "state"].map(|name| cell(&row[name])).to_vec();
    print(&table(&["version", "name", "state"], rows.iter().map(cells)))
}

const CHANGED: &str = "applied, CHANGED since";

fn compared(file: &LocalFile, row: &Value) -> &'static str {
    match row["checksum"].as_str() {
        Some(checksum) if checksum == digest::sha256_hex(file.sql.as_bytes()) => "applied",
        Some(_) => CHANGED,
        None => "applied by another tool",
    }
}

/// Ends with a failure unless every file was applied and is as it was.
fn verify(source: &Source, target: &MigrateTarget) -> Result<(), Exit> {
    let files = local_files(&target.dir)?;
    let remote = remote(source, target)?;
    let mut wrong = Vec::new();
    for file in &files {
        match remote.row(&file.version) {
            None => wrong.push(format!("{} was not applied", file.path.display())),
            Some(row) if compared(file, row) == CHANGED => {
                wrong.push(format!("{} was changed after it had been applied", file.path.display()));
            }
            Some(_) => {}
        }
    }
    for row in &remote.ledger {
        if !files.iter().any(|file| row["version"] == file.version.as_str()) {
            wrong.push(format!(
                "{} was applied, and there is no file of it in {}",
                cell(&row["version"]),
                target.dir.display()
            ));
        }
    }
    match wrong.is_empty() {
        true => print(&format!("{} files were applied and are as they were", files.len())),
        false => Err(Exit::message(exit::REFUSED, wrong.join("\n  "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_in_order() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["20240102000000_second.sql", "20240101000000_first.sql", "notes.md", "seed.sql"] {
            std::fs::write(dir.path().join(name), name).unwrap();
        }
        let files = local_files(dir.path()).unwrap();
        assert_eq!(files.iter().map(|file| file.name.as_str()).collect::<Vec<_>>(), ["first", "second"]);
        std::fs::write(dir.path().join("20240101000000_again.sql"), "").unwrap();
        assert_eq!(local_files(dir.path()).err().unwrap().code, exit::REFUSED);
        assert_eq!(version(1_701_396_000), "20231201020000");
    }
}
