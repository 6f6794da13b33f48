//! Starting and ending the scratch cluster that all test processes of one run share.
//!
//! `cargo nextest` starts every test in a process of its own, `cargo test` every test binary; in both cases the tests of a
//! run are children of one process. That parent names the run: two runs never share a cluster, and when the parent is gone,
//! however it went, a small watcher stops PostgreSQL and removes the folder.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use base::Secret;
use procs::binaries::{Binaries, Search};
use procs::initdb::Initdb;
use procs::postgres_conf::{PostgresConf, render_hba};
use procs::unprivileged::RunAs;

use crate::watcher::{Watched, start_time};

/// The superuser's name in scratch clusters, as in LaunchDB's own.
pub(crate) const SUPERUSER: &str = "supabase_admin";

/// The longest that a cluster may take to come up, with the machine busy building.
const START_DEADLINE: Duration = Duration::from_secs(60);

/// Where a running scratch cluster is.
#[derive(Clone, Debug)]
pub(crate) struct Located {
    pub(crate) dir: PathBuf,
    pub(crate) port: u16,
    pub(crate) password: String,
}

/// The cluster of this run, started by whichever process comes first.
pub(crate) fn locate() -> Result<Located, String> {
    let run_as = RunAs::for_this_process().map_err(|e| e.to_string())?;
    let root = root_dir(&run_as)?;
    let parent = Watched::parent()?;
    let dir = root.join(format!("{}-{}", parent.pid, parent.started));
    // Held while starting; every process of the run takes it once.
    let lock_path = root.join(format!("{}-{}.lock", parent.pid, parent.started));
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&lock_path)
        .map_err(|e| format!("cannot open {}: {e}", lock_path.display()))?;
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).map_err(|e| e.to_string())?;
    if let Some(located) = read_ready(&dir) {
        return Ok(located);
    }
    sweep(&root);
    start(&dir, &parent, &run_as)
}

fn root_dir(run_as: &RunAs) -> Result<PathBuf, String> {
    let uid = rustix::process::geteuid().as_raw();
    let name = format!("launchdb-test-{uid}");
    let preferred = std::env::temp_dir().join(&name);
    let root = if run_as.check_reachable(&preferred).is_ok() { preferred } else { Path::new("/tmp").join(name) };
    make_passage(&root).map_err(|e| format!("cannot make {}: {e}", root.display()))?;
    Ok(root)
}

/// A folder of ours that PostgreSQL's user can pass through, but not list.
pub(crate) fn make_passage(dir: &Path) -> std::io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o711).create(dir)?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o711))
}

/// Removes what a run left whose watcher was killed as well (a container that was stopped, for instance).
fn sweep(root: &Path) {
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some((pid, started)) = name.trim_end_matches(".lock").split_once('-') else { continue };
        if pid.parse().ok().and_then(start_time).is_some_and(|now| now == started) {
            continue;
        }
        if name.ends_with(".lock") {
            let _ = fs::remove_file(entry.path());
        } else if !entry.path().join("data/postmaster.pid").exists() {
            // With a postmaster.pid, either the watcher is at work or the machine lost it: then only disk is lost.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn read_ready(dir: &Path) -> Option<Located> {
    let text = fs::read_to_string(dir.join("ready")).ok()?;
    let (port, password) = text.trim().split_once(' ')?;
    let located = Located { dir: dir.to_owned(), port: port.parse().ok()?, password: password.to_owned() };
    postmaster_ready(&dir.join("data"), located.port).then_some(located)
}

/// Whether `postmaster.pid` says that the server accepts connections on `port`, and its process is there.
fn postmaster_ready(data: &Path, port: u16) -> bool {
    let text = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines.get(7).is_some_and(|status| status.trim() == "ready")
        && lines.get(3).is_some_and(|p| *p == port.to_string())
        && lines.first().is_some_and(|pid| Path::new("/proc").join(pid).exists())
}

fn start(dir: &Path, parent: &Watched, run_as: &RunAs) -> Result<Located, String> {
    if dir.exists() {
        fs::remove_dir_all(dir).map_err(|e| format!("cannot remove {}: {e}", dir.display()))?;
    }
    make_passage(dir).map_err(|e| format!("cannot make {}: {e}", dir.display()))?;
    let search = Search { bin_dir: None, path: std::env::var_os("PATH") };
    let binaries = Binaries::find(&search).map_err(|e| e.to_string())?;
    let password = Secret::new(base::random::password());
    let data = dir.join("data");
    let initdb = Initdb { binaries: &binaries, run_as, superuser: SUPERUSER, password: &password, durable: false };
    initdb.create(&data).map_err(|e| e.to_string())?;
    let port = crate::free_port();
    let mut conf = PostgresConf::new(port, dir.to_owned(), format!("launchdb-test-{}", parent.pid));
    conf.durable = false;
    // Rounds of autovacuum over hundreds of test databases would only take the tests' CPU.
    conf.autovacuum_naptime_seconds = 3600;
    conf.max_connections = 400;
    let socket_dir = dir.join("socket");
    run_as.make_dir(&socket_dir).map_err(|e| e.to_string())?;
    conf.socket_dir = socket_dir;
    write(&data.join("postgresql.conf"), &conf.render(), run_as)?;
    write(&data.join("pg_hba.conf"), &render_hba(SUPERUSER), run_as)?;
    let log = File::create(dir.join("postgresql.log")).map_err(|e| e.to_string())?;
    let program = binaries.program("postgres");
    run_as
        .command(&program)
        .arg("-D")
        .arg(&data)
        .current_dir("/")
        .env_clear()
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(|e| e.to_string())?)
        .stderr(log)
        .spawn()
        .map_err(|e| format!("cannot start {}: {e}", program.display()))?;
    parent.watch(dir)?;
    let deadline = Instant::now() + START_DEADLINE;
    while !postmaster_ready(&data, port) {
        if Instant::now() > deadline {
            let log = fs::read_to_string(dir.join("postgresql.log")).unwrap_or_default();
            return Err(format!("the scratch PostgreSQL did not start:\n{log}"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    write(&dir.join("ready"), &format!("{port} {}", password.expose()), run_as)?;
    Ok(Located { dir: dir.to_owned(), port, password: password.expose().clone() })
}

fn write(path: &Path, text: &str, run_as: &RunAs) -> Result<(), String> {
    let _ = fs::remove_file(path);
    let mut file = OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(|e| format!("cannot write {}: {e}", path.display()))?;
    file.write_all(text.as_bytes()).map_err(|e| format!("cannot write {}: {e}", path.display()))?;
    run_as.own(path).map_err(|e| e.to_string())
}
