//! `launchdb pooler ...`: what operators ask of PgBouncer, on the machine (or in the container) where it runs.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use base::ProjectRef;
use clap::Subcommand;
use platform::pooler::Wishes;

use super::discovery;
use super::output::print;
use crate::config::Source;
use crate::exit::{self, Exit, ResultExt as _};

/// How long the pooler may take to do what was asked.
const PATIENCE: Duration = Duration::from_secs(15);

#[derive(Debug, Subcommand)]
pub enum PoolerCommand {
    /// Set a project's pool sizes, and wait until PgBouncer has its entry
    AddProject {
        /// Id of the project (proj_...)
        #[arg(value_name = "ID", value_parser = ProjectRef::parse)]
        id: ProjectRef,
        /// Connections to PostgreSQL
        #[arg(value_name = "POOL_SIZE", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
        pool_size: u32,
        /// More of them when clients have waited
        #[arg(value_name = "RESERVE_POOL", default_value_t = 2, value_parser = clap::value_parser!(u32).range(0..=1000))]
        reserve_pool: u32,
    },
    /// Let a login role of PostgreSQL in, with the verifier that PostgreSQL has
    AddUser {
        /// Name of the role
        #[arg(value_name = "USER")]
        name: String,
    },
}

/// Runs one command.
pub fn run(source: &Source, command: &PoolerCommand) -> Result<(), Exit> {
    let folder = folder(source)?;
    let before = Wishes::read(&folder).with_context(|| folder.display().to_string()).exit(exit::FAILURE)?;
    let change = |change: &dyn Fn(&mut Wishes)| {
        let changed = Wishes::change(&folder, |wishes| change(wishes));
        changed.with_context(|| format!("{} cannot be written to", folder.display())).exit(exit::FAILURE)
    };
    match command {
        PoolerCommand::AddProject { id, pool_size, reserve_pool } => {
            let sizes = (*pool_size, *reserve_pool);
            change(&|wishes| {
                wishes.pools.insert(id.to_string(), sizes);
            })?;
            let wanted = format!(" pool_size={pool_size} reserve_pool={reserve_pool}");
            let start = format!("{id} = ");
            if is_there(&folder, "pgbouncer.ini", |line| line.starts_with(&start) && line.ends_with(&wanted)) {
                return print(&format!("{id} has {pool_size} connections and {reserve_pool} in reserve"));
            }
            change(&|wishes| {
                match before.pools.get(id.as_str()) {
                    Some(sizes) => wishes.pools.insert(id.to_string(), *sizes),
                    None => wishes.pools.remove(id.as_str()),
                };
            })?;
            Err(Exit::message(
                exit::NOT_FOUND,
                format!("there is no active project {id}, or PgBouncer does not run here"),
            ))
        }
        PoolerCommand::AddUser { name } => {
            change(&|wishes| wishes.users.push(name.clone()))?;
            let start = format!("\"{}\" ", name.replace('"', "\"\""));
            if is_there(&folder, "userlist.txt", |line| line.starts_with(&start)) {
                return print(&format!("{name} can connect"));
            }
            if !before.users.contains(name) {
                change(&|wishes| wishes.users.retain(|user| user != name))?;
            }
            let text = format!(
                "PostgreSQL has no login role {name} with a SCRAM password, it is a superuser, or PgBouncer does not run here"
            );
            Err(Exit::message(exit::NOT_FOUND, text))
        }
    }
}

fn folder(source: &Source) -> Result<PathBuf, Exit> {
    let named = source.get("LAUNCHDB_POOLER_DIR").map(PathBuf::from);
    let folder = match named {
        Some(folder) => folder,
        None => match discovery::find_data_folder(source, None)? {
            Some(data) => data.join("pooler"),
            None => PathBuf::from("/var/lib/launchdb/pooler"),
        },
    };
    match folder.is_dir() {
        true => Ok(folder),
        false => Err(Exit::message(
            exit::NOT_FOUND,
            format!("{} is missing: no pooler runs here (LAUNCHDB_POOLER_DIR)", folder.display()),
        )),
    }
}

/// Waits for a line of one of the pooler's files.
fn is_there(folder: &Path, file: &str, is_it: impl Fn(&str) -> bool) -> bool {
    let start = Instant::now();
    loop {
        let text = std::fs::read_to_string(folder.join(file)).unwrap_or_default();
        if text.lines().any(&is_it) {
            return true;
        }
        if start.elapsed() > PATIENCE {
            return false;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
