//! Backups against a real cluster, with the real pg_dump.

mod faults;
mod hostile;
mod platform;
mod round_trip;
mod routes;
mod schedule;

use std::path::{Path, PathBuf};

use base::Secret;
use procs::unprivileged::RunAs;
use tempfile::TempDir;
use test_support::TestCluster;
use tokio_util::task::TaskTracker;

use super::*;
use crate::provision::tests::World;

/// A folder for backups and a key, for any number of installations.
struct Store {
    dir: TempDir,
    key: Secret<String>,
}

impl Store {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), key: Secret::new(base::random::password()) }
    }

    fn config(&self) -> BackupConfig {
        BackupConfig {
            folder: BackupFolder::new(self.dir.path().join("backups")),
            key: Some(self.key.clone()),
            retention_days: 7,
            least_free_bytes: 0,
            spared_bytes: 0,
            search: Search { bin_dir: None, path: std::env::var_os("PATH") },
            run_as: RunAs::for_this_process().unwrap(),
        }
    }

    fn of(&self, world: &World) -> Backups {
        self.with(world, self.config())
    }

    fn limited(&self, world: &World, limits: Limits) -> Backups {
        Backups::with_limits(self.config(), world.provisioner.clone(), CancellationToken::new(), limits)
    }

    fn with(&self, world: &World, config: BackupConfig) -> Backups {
        let tasks = TaskTracker::new();
        Backups::standalone(world.config.clone(), config, tasks, CancellationToken::new()).unwrap()
    }
}

async fn backed_up(backups: &Backups, id: &ProjectRef) -> PathBuf {
    backups.run(&Subject::Project(id.clone()), &Progress::default()).await.unwrap().path
}

fn onto(id: &ProjectRef) -> RestoreTarget {
    RestoreTarget { project: id.to_string(), into: None, keep_keys: false }
}

async fn restore(backups: &Backups, file: &Path, target: &RestoreTarget) -> Result<Restored, BackupError> {
    backups.restore(file, target, &Progress::default()).await
}

/// The whole of a database as pg_dump shows it, but for what is of one run.
fn shape(cluster: &TestCluster, database: &str) -> String {
    let search = Search { bin_dir: None, path: std::env::var_os("PATH") };
    let output = std::process::Command::new(client_program::find(&search, "pg_dump", 15).unwrap())
        .args(["--exclude-schema=_launchdb", "--dbname", &cluster.database_url(database)])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter(|line| !line.starts_with('\\')).collect::<Vec<_>>().join("\n")
}

/// Names of databases of a project besides its own.
async fn others(world: &World, id: &ProjectRef) -> Vec<String> {
    const SQL: &str = "select datname::text from pg_database where datname like $1 || '\\_%'";
    world.admin.query(SQL, &[&id.as_str()]).await.unwrap().iter().map(|row| row.get(0)).collect()
}
