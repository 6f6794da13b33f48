//! A small shell process that outlives the tests and cleans up after them, however they ended.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Waits for the end of the process `$2` that started at `$3`; then ends the servers on data folders below `$1`, first
/// LaunchDB so that it starts no PostgreSQL again, and removes `$1`. Only shell built-ins run while waiting.
const SCRIPT: &str = r#"
same_process() {
    wanted=$2
    { read -r line < "/proc/$1/stat"; } 2>/dev/null || return 1
    set -- ${line##*) }
    [ "${20}" = "$wanted" ]
}
# A zombie is gone: where nobody reaps, kill -0 would find it for ever.
lives() {
    { read -r line < "/proc/$1/stat"; } 2>/dev/null || return 1
    set -- ${line##*) }
    [ "$1" != Z ]
}
end_process() {
    { read -r pid < "$1" && read -r name < "/proc/$pid/comm"; } 2>/dev/null || return 0
    [ "$name" = "$2" ] || return 0
    kill "-$3" "$pid" 2>/dev/null
    tries=0
    while lives "$pid" && [ "$tries" -lt 100 ]; do sleep 0.1; tries=$((tries + 1)); done
}
while same_process "$2" "$3"; do sleep 0.5; done
for file in "$1"/launchdb.lock "$1"/*/launchdb.lock "$1"/*/*/launchdb.lock; do end_process "$file" launchdb KILL; done
for file in "$1"/data/postmaster.pid "$1"/*/data/postmaster.pid "$1"/*/*/data/postmaster.pid \
    "$1"/*/*/*/data/postmaster.pid; do end_process "$file" postgres QUIT; done
rm -rf "$1" "$1.lock"
"#;

/// A process whose end is the end of what is watched.
pub(crate) struct Watched {
    pub(crate) pid: u32,
    /// Start time in clock ticks since boot; with it a pid that was given out again is not mistaken.
    pub(crate) started: String,
}

impl Watched {
    /// The process that runs the tests: nextest or cargo.
    pub(crate) fn parent() -> Result<Self, String> {
        Self::of(std::os::unix::process::parent_id())
    }

    /// This test process.
    pub(crate) fn this() -> Result<Self, String> {
        Self::of(std::process::id())
    }

    fn of(pid: u32) -> Result<Self, String> {
        let started = start_time(pid).ok_or_else(|| format!("cannot read /proc/{pid}/stat; is /proc mounted?"))?;
        Ok(Self { pid, started })
    }

    /// Cleans `dir` up after this process's end.
    pub(crate) fn watch(&self, dir: &Path) -> Result<(), String> {
        command(dir, &self.pid.to_string(), &self.started)
            .spawn()
            .map(|_| ())
            .map_err(|e| format!("cannot start the watcher of {}: {e}", dir.display()))
    }
}

/// Ends what runs below `dir` and removes it, now.
pub(crate) fn clean_up(dir: &Path) {
    // No process has the pid 0, so there is nothing to wait for. A failure leaves a folder in the system's temporary one.
    let _ = command(dir, "0", "0").status();
}

fn command(dir: &Path, pid: &str, started: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", SCRIPT, "launchdb-test-watcher"])
        .arg(dir)
        .args([pid, started])
        .current_dir("/")
        // Out of the terminal's process group, so that a Ctrl-C that ends the run leaves the watcher to clean up.
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// When the process started, in clock ticks since boot.
pub(crate) fn start_time(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses and may hold anything; field 22 is the start time.
    Some(stat.rsplit_once(") ")?.1.split(' ').nth(19)?.to_owned())
}
