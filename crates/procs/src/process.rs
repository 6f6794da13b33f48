//! Looking at and signalling processes that are not, or no longer, our children.

use std::fs;
use std::time::{Duration, Instant};

pub use rustix::process::Signal;

/// A process as it was when we looked: its pid and when it started, because pids are given out again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessId {
    pub pid: u32,
    /// Clock ticks since boot.
    started: u64,
}

impl ProcessId {
    /// The living process with this pid. A zombie is dead: where nobody reaps (a container without an init) it stays.
    pub fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (state, started) = parse_stat(&stat)?;
        (!matches!(state, 'Z' | 'X')).then_some(Self { pid, started })
    }

    /// A process as it was written down: [`Self::of`] and [`Self::started`] of another day.
    pub fn remembered(pid: u32, started: u64) -> Self {
        Self { pid, started }
    }

    /// When it started, in clock ticks since boot.
    pub fn started(&self) -> u64 {
        self.started
    }

    /// Whether it still lives.
    pub fn is_alive(&self) -> bool {
        Self::of(self.pid).as_ref() == Some(self)
    }

    /// Sends `signal`; that the process is gone is no error.
    pub fn signal(&self, signal: Signal) -> std::io::Result<()> {
        let pid = i32::try_from(self.pid).ok().and_then(rustix::process::Pid::from_raw);
        match pid {
            Some(pid) if self.is_alive() => match rustix::process::kill_process(pid, signal) {
                Err(rustix::io::Errno::SRCH) | Ok(()) => Ok(()),
                Err(error) => Err(error.into()),
            },
            _ => Ok(()),
        }
    }

    /// Waits for its end, looking every 20 ms; false when `deadline` passes first.
    pub async fn ended_within(&self, deadline: Duration) -> bool {
        let start = Instant::now();
        while self.is_alive() {
            if start.elapsed() > deadline {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        true
    }
}

/// Every process of user `uid` whose arguments `accept`. Arguments can be read without any right to trace the process,
/// which root lacks in most containers.
pub fn find(uid: u32, accept: impl Fn(&[&str]) -> bool) -> Vec<ProcessId> {
    pids().filter(|pid| owner(*pid) == Some(uid) && accept_arguments(*pid, &accept)).filter_map(ProcessId::of).collect()
}

/// The effective user of a process.
pub fn owner(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Whether `accept` agrees with the arguments of process `pid`.
pub fn accept_arguments(pid: u32, accept: impl Fn(&[&str]) -> bool) -> bool {
    let text = arguments(pid);
    accept(&text.trim_end_matches('\0').split('\0').collect::<Vec<_>>())
}

/// A process's arguments, each with a zero byte behind it; what a program shows as its title stands there too.
pub fn arguments(pid: u32) -> String {
    let raw = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&raw).into_owned()
}

/// The children of a process that has one thread, as a postmaster has.
pub fn children(pid: u32) -> Vec<u32> {
    match fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")) {
        Ok(text) => text.split_whitespace().filter_map(|child| child.parse().ok()).collect(),
        // Not every kernel has that file; then everybody is asked for their parent.
        Err(_) => pids().filter(|child| parent(*child) == Some(pid)).collect(),
    }
}

/// Bytes that a process has taken for itself alone, swapped out or not: what RLIMIT_DATA counts. None when it is gone.
pub fn data_bytes(pid: u32) -> Option<u64> {
    let pages: u64 = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?.split(' ').nth(5)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// State and start time of `/proc/<pid>/stat`. The second field is the program's name in parentheses and may hold anything.
fn parse_stat(stat: &str) -> Option<(char, u64)> {
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_whatever_the_name_holds() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20 21";
        assert_eq!(parse_stat(&format!("42 (a) Z (b) {rest}")), Some(('S', 4711)));
        assert_eq!(parse_stat("42 (a) S"), None);
    }

    #[tokio::test]
    async fn a_process_is_found_and_its_end_is_seen() {
        let mut child = std::process::Command::new("sleep").arg("61.25").spawn().unwrap();
        let uid = rustix::process::geteuid().as_raw();
        let accept = |arguments: &[&str]| arguments == ["sleep", "61.25"];
        let mut found = find(uid, accept);
        // Between fork and exec the child still carries our own arguments.
        while found.is_empty() {
            found = find(uid, accept);
        }
        assert_eq!(found.iter().map(|p| p.pid).collect::<Vec<_>>(), [child.id()]);
        // The thread that runs this test may not be the process' first, whose children the kernel's file lists.
        assert_eq!(parent(child.id()), Some(std::process::id()));
        assert!(data_bytes(child.id()).unwrap() > 0);
        assert!(!found[0].ended_within(Duration::from_millis(1)).await);
        found[0].signal(Signal::KILL).unwrap();
        // Not reaped yet: a zombie counts as dead.
        assert!(found[0].ended_within(Duration::from_secs(10)).await);
        child.wait().unwrap();
        found[0].signal(Signal::KILL).unwrap();
    }
}
