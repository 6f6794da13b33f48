//! One run of the `postgres` program: starting it, waiting until it is ready, finding one that still runs, ending it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::process::Child;

use super::ClusterError;
use super::server_log::ServerLog;
use crate::binaries::Binaries;
use crate::process::{self, ProcessId, Signal};
use crate::unprivileged::RunAs;

/// Added to the score by which the kernel chooses what it kills when memory is out: a backend before its postmaster, which
/// starts the others again, and before us.
const BACKEND_OOM_SCORE_ADJ: &str = "500";

/// What every run needs to know.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The cluster's files.
    pub(super) data: PathBuf,
    pub(super) log: Arc<ServerLog>,
    pub(super) binaries: Binaries,
    pub(super) run_as: RunAs,
    /// `cluster_name`, by which its processes are known.
    pub(super) name: String,
    /// RLIMIT_DATA of each backend, bytes.
    pub(super) backend_memory: Option<u64>,
}

/// A running postmaster.
#[derive(Debug)]
pub(super) struct Postmaster {
    id: ProcessId,
    /// None for one that an earlier LaunchDB started.
    child: Option<Child>,
}

/// The lines of `postmaster.pid` that matter here.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PidFile {
    pub(super) pid: u32,
    pub(super) port: u16,
    pub(super) ready: bool,
}

impl PidFile {
    pub(super) fn read(data: &Path) -> Option<Self> {
        Self::parse(&fs::read_to_string(data.join("postmaster.pid")).ok()?)
    }

    /// Lines: pid, data folder, start time, port, socket folder, address, shared memory, status.
    fn parse(text: &str) -> Option<Self> {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        Some(Self {
            pid: lines.first()?.parse().ok()?,
            port: lines.get(3).and_then(|port| port.parse().ok()).unwrap_or(0),
            ready: lines.get(7) == Some(&"ready"),
        })
    }
}

impl Place {
    /// The postmaster that runs on these files, verified by its user and arguments: a pid alone may be anybody's.
    pub(super) fn running(&self) -> Option<(Postmaster, PidFile)> {
        let file = PidFile::read(&self.data)?;
        let data = self.data.to_str()?;
        let ours = process::owner(file.pid) == Some(self.run_as.uid)
            && process::accept_arguments(file.pid, |arguments| {
                arguments.first().is_some_and(|program| program.ends_with("postgres"))
                    && arguments.windows(2).any(|pair| pair == ["-D", data])
            });
        let id = ProcessId::of(file.pid).filter(|_| ours)?;
        Some((Postmaster { id, child: None }, file))
    }

    /// As [`Place::running`], but waits for one that is still starting or stopping to become ready or to end.
    pub(super) async fn settled(&self, deadline: Duration) -> Option<(Postmaster, PidFile)> {
        let begin = Instant::now();
        loop {
            match self.running() {
                Some((_, file)) if !file.ready && begin.elapsed() < deadline => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                other => return other,
            }
        }
    }

    /// Ends processes that a killed postmaster left. They hold its shared memory, and a new one refuses to start beside
    /// them; an idle one goes by itself, one inside a long statement does not.
    pub(super) async fn end_orphans(&self) {
        let title = format!("postgres: {}:", self.name);
        let left = || process::find(self.run_as.uid, |arguments| arguments[0].starts_with(&title));
        for (signal, patience) in [(Signal::QUIT, 300), (Signal::KILL, 5_000)] {
            let orphans = left();
            if orphans.is_empty() {
                return;
            }
            tracing::warn!(count = orphans.len(), "ending processes that a killed PostgreSQL left");
            for orphan in &orphans {
                let _ = orphan.signal(signal);
            }
            for orphan in &orphans {
                orphan.ended_within(Duration::from_millis(patience)).await;
            }
        }
    }

    /// Removes the pid file of a postmaster that is gone. PostgreSQL does so itself unless the pid was given to another
    /// process meanwhile, which is usual after the restart of a container.
    pub(super) fn forget_dead(&self, socket_dir: &Path) {
        let _ = fs::remove_file(self.data.join("postmaster.pid"));
        for entry in fs::read_dir(socket_dir).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(".s.PGSQL.") {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// Starts `postgres` and waits until it accepts connections.
    pub(super) async fn start(&self, deadline: Duration) -> Result<Postmaster, ClusterError> {
        let log_start = self.log.end();
        let mut child = self.spawn()?;
        let pid = child.id().unwrap_or(0);
        let begin = Instant::now();
        loop {
            if let Some(status) = child.try_wait().map_err(|e| ClusterError::io(&self.data, e))? {
                return Err(ClusterError::Start { status: status.to_string(), log: self.log.since(log_start) });
            }
            if PidFile::read(&self.data).is_some_and(|file| file.pid == pid && file.ready)
                && let Some(id) = ProcessId::of(pid)
            {
                return Ok(Postmaster { id, child: Some(child) });
            }
            if begin.elapsed() > deadline {
                // Still recovering, most likely. Ending it immediately loses nothing: it would begin again.
                if let Some(id) = ProcessId::of(pid) {
                    let _ = id.signal(Signal::QUIT);
                }
                let _ = tokio::time::timeout(Duration::from_secs(5), child.wait()).await;
                let status = format!("not ready after {} s", deadline.as_secs());
                return Err(ClusterError::Start { status, log: self.log.since(log_start) });
            }
            let early = begin.elapsed() < Duration::from_millis(500);
            tokio::time::sleep(Duration::from_millis(if early { 2 } else { 20 })).await;
        }
    }

    fn spawn(&self) -> Result<Child, ClusterError> {
        let program = self.binaries.program("postgres");
        // A shell lowers the limit and becomes PostgreSQL: prlimit from outside needs a capability that root lacks in
        // most containers, and would come after the first forks.
        let script = match self.backend_memory {
            Some(bytes) => format!("ulimit -d {} 2>/dev/null; exec \"$0\" \"$@\"", bytes / 1024),
            None => "exec \"$0\" \"$@\"".to_owned(),
        };
        let mut command = self.run_as.command(Path::new("/bin/sh"));
        command
            .arg("-c")
            .arg(script)
            .arg(&program)
            .arg("-D")
            .arg(&self.data)
            .current_dir("/")
            // PGOPTIONS, PGDATA, LANG and the secrets of our own environment are none of its business.
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("LC_ALL", "C")
            .env("PG_OOM_ADJUST_FILE", "/proc/self/oom_score_adj")
            .env("PG_OOM_ADJUST_VALUE", BACKEND_OOM_SCORE_ADJ)
            .stdin(Stdio::null())
            .stdout(self.log.servers_end()?)
            .stderr(self.log.servers_end()?);
        tokio::process::Command::from(command).spawn().map_err(|e| ClusterError::io(&program, e))
    }
}

impl Postmaster {
    pub(super) fn pid(&self) -> u32 {
        self.id.pid
    }

    /// Waits for its end and says how it came.
    pub(super) async fn ended(&mut self) -> String {
        match &mut self.child {
            Some(child) => match child.wait().await {
                Ok(status) => status.to_string(),
                Err(error) => error.to_string(),
            },
            None => {
                while self.id.is_alive() {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                "it ended; how is unknown because an earlier LaunchDB started it".to_owned()
            }
        }
    }

    pub(super) fn reload(&self) {
        let _ = self.id.signal(Signal::HUP);
    }

    /// Ends it: sessions are cut off and a checkpoint is written (fast shutdown), after `deadline` without the checkpoint
    /// (immediate: the next start recovers), after five more seconds for good.
    pub(super) async fn stop(mut self, deadline: Duration) {
        for (signal, patience) in
            [(Signal::INT, deadline), (Signal::QUIT, Duration::from_secs(5)), (Signal::KILL, Duration::from_secs(5))]
        {
            if signal != Signal::INT {
                tracing::warn!(?signal, "PostgreSQL did not stop in time");
            }
            let _ = self.id.signal(signal);
            if tokio::time::timeout(patience, self.ended()).await.is_ok() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pid_file_is_read_at_every_stage() {
        let check = |text: &str, expected: Option<(u32, u16, bool)>| {
            assert_eq!(PidFile::parse(text).map(|f| (f.pid, f.port, f.ready)), expected, "{text:?}");
        };
        let full = "4711\n/data\n1700000000\n20017\n/data/socket\n127.0.0.1\n  123 4\nready   \n";
        check(full, Some((4711, 20017, true)));
        check(&full.replace("ready   ", "starting"), Some((4711, 20017, false)));
        check("4711\n/data\n", Some((4711, 0, false)));
        check("", None);
    }
}
