//! Other processes, without the programs for it that a small machine lacks (Debian's procps).

use rustix::process::{Pid, Signal, kill_process};

/// Sends a signal (`TERM`, `KILL`, ...); false when there is no such process.
///
/// # Panics
/// When it is no signal that a test has sent before, or none may be sent to that process.
pub fn signal(pid: u32, name: &str) -> bool {
    let signal = match name {
        "HUP" => Signal::HUP,
        "INT" => Signal::INT,
        "KILL" => Signal::KILL,
        "TERM" => Signal::TERM,
        "USR1" => Signal::USR1,
        "USR2" => Signal::USR2,
        _ => panic!("{name} is no signal"),
    };
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).unwrap();
    match kill_process(pid, signal) {
        Ok(()) => true,
        Err(rustix::io::Errno::SRCH) => false,
        Err(error) => panic!("{name} to {pid:?}: {error}"),
    }
}

/// The first process with this text in its command line.
pub fn process_with(text: &str) -> Option<u32> {
    let folders = std::fs::read_dir("/proc").ok()?.flatten();
    let mut pids: Vec<u32> = folders.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    pids.into_iter().filter(|pid| *pid != std::process::id()).find(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).replace('\0', " ").contains(text)
    })
}
