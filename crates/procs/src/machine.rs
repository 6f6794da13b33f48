//! What the machine has to give.

use std::fs;

/// Where a container's own limit is, in both versions of cgroups, as seen from inside it.
const CONTAINER_LIMITS: [&str; 2] = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];

/// Bytes of memory that this machine, or the container we are in, has. None when the kernel does not say.
pub fn memory_bytes() -> Option<u64> {
    let machine = meminfo_total(&fs::read_to_string("/proc/meminfo").ok()?)?;
    let limits = CONTAINER_LIMITS.iter().filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok());
    // A container without a limit says "max", or a number larger than any machine.
    Some(limits.fold(machine, u64::min))
}

fn meminfo_total(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_read_and_this_machine_has_one() {
        assert_eq!(meminfo_total("MemTotal:        2048 kB\nMemFree: 1 kB\n"), Some(2 * 1024 * 1024));
        assert_eq!(meminfo_total("MemFree: 1 kB\n"), None);
        assert!(memory_bytes().unwrap() > 64 * 1024 * 1024);
    }
}
