//! The guard of the disk: closes the write gate before the disk is full, because a full one makes PostgreSQL panic.
//!
//! It asks nobody but the file system, so it works also while PostgreSQL does not answer. A ballast file lies on the
//! disk to be given up in the last moment, when what was under way goes on writing all the same.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base::WriteGate;
use base::write_gate::WritesRefused;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use tokio_util::sync::CancellationToken;
use web::health::HealthPart;

const MIB: u64 = 1024 * 1024;
const BALLAST: &str = "ballast";
const HEALTH_PART: &str = "disk";

/// The disk that PostgreSQL writes to, when it is one of this machine. Sizes are in bytes.
#[derive(Clone, Debug)]
pub struct DiskConfig {
    /// A folder on it, where the ballast file is kept.
    pub data_folder: PathBuf,
    /// With less than this free, writes are refused.
    pub low_bytes: u64,
    /// The same as a percentage of the disk; the larger of both counts.
    pub low_percent: u64,
    /// The most that `low_percent` may ask for: what can be written between two looks does not grow with the disk.
    pub low_percent_most: u64,
    /// So much more must be free before writes are allowed again, or it would flap.
    pub recovery_bytes: u64,
    /// With less than this free, the ballast is given up.
    pub critical_bytes: u64,
    /// Size of the ballast; 0 for none.
    pub ballast_bytes: u64,
    /// Between two looks.
    pub interval: Duration,
}

impl DiskConfig {
    /// The sizes for an ordinary server.
    pub fn new(data_folder: PathBuf) -> Self {
        Self {
            data_folder,
            low_bytes: 256 * MIB,
            low_percent: 2,
            low_percent_most: 2048 * MIB,
            recovery_bytes: 128 * MIB,
            critical_bytes: 64 * MIB,
            ballast_bytes: 64 * MIB,
            interval: Duration::from_secs(1),
        }
    }

    fn low(&self, total: u64) -> u64 {
        self.low_bytes.max((total / 100).saturating_mul(self.low_percent).min(self.low_percent_most))
    }
}

/// Room on a disk, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskSpace {
    /// What an unprivileged process can still write.
    pub free: u64,
    pub total: u64,
}

/// Where the figures come from; tests have disks of their own.
pub type SpaceSource = Arc<dyn Fn() -> io::Result<DiskSpace> + Send + Sync>;

/// What the last look found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskState {
    Enough,
    /// Writes are refused.
    Low,
    /// Writes are refused, and the ballast was given up.
    Critical,
}

/// Watches one disk. Clones are the same guard.
#[derive(Clone)]
pub struct DiskGuard(Arc<Inner>);

struct Inner {
    config: DiskConfig,
    gate: WriteGate,
    space: SpaceSource,
    seen: Mutex<Seen>,
}

#[derive(Clone, Copy)]
struct Seen {
    state: DiskState,
    /// So that a fault that stays is logged once.
    unmeasured: bool,
    no_ballast: bool,
}

impl DiskGuard {
    /// A guard of the disk that `config.data_folder` is on. Nothing is looked at before [`DiskGuard::look`].
    pub fn new(config: DiskConfig, gate: WriteGate) -> Self {
        let folder = config.data_folder.clone();
        Self::with_source(config, gate, Arc::new(move || measure(&folder)))
    }

    /// As [`DiskGuard::new`], with figures from elsewhere.
    pub fn with_source(config: DiskConfig, gate: WriteGate, space: SpaceSource) -> Self {
        let seen = Seen { state: DiskState::Enough, unmeasured: false, no_ballast: false };
        Self(Arc::new(Inner { config, gate, space, seen: Mutex::new(seen) }))
    }

    /// Whether anything may be written; also what services read from the [`WriteGate`].
    pub fn writes_allowed(&self) -> bool {
        self.0.gate.is_open()
    }

    /// What the last look found.
    pub fn state(&self) -> DiskState {
        self.0.seen.lock().unwrap_or_else(PoisonError::into_inner).state
    }

    /// The disk as a part of the process' health.
    pub fn health(&self) -> HealthPart {
        health_part(self.state() == DiskState::Enough)
    }

    /// Measures once, opens or closes the gate, and gives the ballast up or makes it again. Blocks on the disk.
    pub fn look(&self) -> DiskState {
        let Inner { config, gate, space, seen } = &*self.0;
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        let space = match space() {
            Ok(space) => space,
            Err(error) => {
                // Nothing is known, so nothing is changed.
                if !seen.unmeasured {
                    tracing::warn!(cause = %error, "the room on the disk cannot be measured");
                }
                seen.unmeasured = true;
                return seen.state;
            }
        };
        seen.unmeasured = false;
        let (before, low) = (seen.state, config.low(space.total));
        let enough = low.saturating_add(config.recovery_bytes);
        let is_low = space.free < if before == DiskState::Enough { low } else { enough };
        let ballast = config.data_folder.join(BALLAST);
        seen.state = match (is_low, space.free < config.critical_bytes) {
            (false, _) => DiskState::Enough,
            (true, true) => DiskState::Critical,
            // Until it has recovered: giving the ballast up is what made room just now.
            (true, false) if before == DiskState::Critical => DiskState::Critical,
            (true, false) => DiskState::Low,
        };
        gate.set_open(!is_low);
        if before != seen.state {
            report(seen.state, space);
        }
        if space.free < config.critical_bytes {
            give_up(&ballast);
        } else if !is_low && space.free >= enough.saturating_add(config.ballast_bytes) {
            let kept = keep(&ballast, config.ballast_bytes);
            if let Err(error) = &kept
                && !seen.no_ballast
            {
                tracing::warn!(cause = %error, file = %ballast.display(), "the ballast file cannot be made");
            }
            seen.no_ballast = kept.is_err();
        }
        seen.state
    }

    /// Gives the ballast up because what must be written finds no room; whether there was one. Blocks on the disk.
    pub fn make_room(&self) -> bool {
        let Inner { config, seen, .. } = &*self.0;
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.state == DiskState::Low {
            seen.state = DiskState::Critical;
        }
        let ballast = config.data_folder.join(BALLAST);
        let had = ballast.exists();
        give_up(&ballast);
        had
    }

    /// Looks until `shutdown`.
    pub async fn run(&self, shutdown: CancellationToken) {
        loop {
            let guard = self.clone();
            // A disk that does not answer must not hold the runtime up.
            let looked = tokio::task::spawn_blocking(move || guard.look());
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = looked => {}
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(self.0.config.interval) => {}
            }
        }
    }
}

/// The disk as a part of a process' health.
pub(crate) fn health_part(writes_allowed: bool) -> HealthPart {
    if writes_allowed {
        HealthPart::ok(HEALTH_PART)
    } else {
        HealthPart::limited(HEALTH_PART, WritesRefused.to_string())
    }
}

fn report(state: DiskState, space: DiskSpace) {
    let free_mb = space.free / MIB;
    match state {
        DiskState::Enough => tracing::info!(free_mb, "there is room on the disk again: writes are allowed"),
        DiskState::Low => tracing::error!(free_mb, "{WritesRefused}"),
        DiskState::Critical => tracing::error!(free_mb, "{WritesRefused}, and the ballast file is given up"),
    }
}

fn measure(folder: &Path) -> io::Result<DiskSpace> {
    let stat = rustix::fs::statvfs(folder)?;
    Ok(DiskSpace {
        free: stat.f_bavail.saturating_mul(stat.f_frsize),
        total: stat.f_blocks.saturating_mul(stat.f_frsize),
    })
}

fn give_up(path: &Path) {
    match fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => tracing::error!(cause = %error, file = %path.display(), "the ballast file cannot be removed"),
    }
}

/// Makes the ballast unless it is there whole.
fn keep(path: &Path, bytes: u64) -> io::Result<()> {
    if bytes == 0 || fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() == bytes) {
        return Ok(());
    }
    give_up(path);
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).and_then(|mut file| {
        match fallocate(&file, FallocateFlags::empty(), 0, bytes) {
            // Not every file system can; some of those compress, so zeros would take no room.
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => write_noise(&mut file, bytes),
            other => other.map_err(io::Error::from),
        }
    });
    if made.is_err() {
        // Half a ballast would be taken for none next time, and its room is wanted now.
        let _ = fs::remove_file(path);
    }
    made
}

fn write_noise(file: &mut File, bytes: u64) -> io::Result<()> {
    const BLOCK: u64 = 64 * 1024;
    let mut left = bytes;
    while left > 0 {
        let block = base::random::hex::<{ BLOCK as usize / 2 }>();
        let part = left.min(BLOCK);
        file.write_all(&block.as_bytes()[..usize::try_from(part).unwrap_or(block.len())])?;
        left -= part;
    }
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// A disk of 10 GiB with as much free as the test says, less what the ballast takes.
    struct Disk {
        folder: test_support::ScratchDir,
        used_up_to: Arc<AtomicU64>,
        guard: DiskGuard,
        gate: WriteGate,
    }

    const UNKNOWN: u64 = u64::MAX;

    impl Disk {
        fn new() -> Self {
            let folder = test_support::ScratchDir::new();
            let config = DiskConfig {
                low_bytes: 100 * MIB,
                low_percent: 2,
                low_percent_most: 150 * MIB,
                recovery_bytes: 20 * MIB,
                critical_bytes: 10 * MIB,
                ballast_bytes: MIB,
                ..DiskConfig::new(folder.path().to_owned())
            };
            let used_up_to = Arc::new(AtomicU64::new(0));
            let (room, ballast) = (used_up_to.clone(), folder.path().join(BALLAST));
            let source = Arc::new(move || {
                let free = room.load(Ordering::Relaxed);
                if free == UNKNOWN {
                    return Err(io::Error::other("no figures"));
                }
                let ballast = fs::metadata(&ballast).map_or(0, |meta| meta.len());
                Ok(DiskSpace { free: free.saturating_sub(ballast), total: 10 * 1024 * MIB })
            });
            let gate = WriteGate::new();
            Self { guard: DiskGuard::with_source(config, gate.clone(), source), folder, used_up_to, gate }
        }

        /// Looks with so much free (in MiB, with a ballast of 1 MiB counted as free); none for a disk that does not say.
        fn check(&self, free: Option<u64>, state: DiskState, ballast: bool) {
            self.used_up_to.store(free.map_or(UNKNOWN, |mib| mib * MIB), Ordering::Relaxed);
            assert_eq!(self.guard.look(), state, "{free:?}");
            let open = state == DiskState::Enough;
            assert_eq!((self.gate.is_open(), self.guard.writes_allowed()), (open, open), "{free:?}");
            assert_eq!(self.folder.path().join(BALLAST).exists(), ballast, "{free:?}");
            let problem = (!open).then(|| "disk nearly full: writes are refused".to_owned());
            assert_eq!(self.guard.health(), HealthPart { name: "disk", problem, serves: true });
        }
    }

    #[test]
    fn the_gate_closes_before_the_disk_is_full_and_opens_with_some_room_to_spare() {
        use DiskState::{Critical, Enough, Low};
        let disk = Disk::new();
        disk.check(Some(1000), Enough, true);
        // Its ballast is counted: 150 MiB are asked for, the cap of the 2 % of this disk.
        disk.check(Some(151), Enough, true);
        disk.check(Some(150), Low, true);
        disk.check(None, Low, true);
        disk.check(Some(170), Low, true);
        disk.check(Some(171), Enough, true);
        disk.check(None, Enough, true);
        disk.check(Some(160), Enough, true);
        disk.check(Some(9), Critical, false);
        disk.check(Some(100), Critical, false);
        disk.check(Some(170), Enough, false);
        disk.check(Some(171), Enough, true);
        disk.check(Some(0), Critical, false);
    }

    #[test]
    fn a_ballast_takes_up_room_and_one_that_was_cut_off_is_made_again() {
        use std::os::unix::fs::MetadataExt as _;
        let disk = Disk::new();
        let path = disk.folder.path().join(BALLAST);
        fs::write(&path, "half").unwrap();
        disk.check(Some(1000), DiskState::Enough, true);
        let meta = fs::metadata(&path).unwrap();
        assert_eq!(meta.len(), MIB);
        assert!(meta.blocks() * 512 >= MIB, "{} blocks", meta.blocks());
        let mut noise = File::create(disk.folder.path().join("noise")).unwrap();
        write_noise(&mut noise, 100_001).unwrap();
        assert_eq!(noise.metadata().unwrap().len(), 100_001);
    }

    #[tokio::test]
    async fn the_figures_of_a_real_disk_are_plausible() {
        let folder = test_support::ScratchDir::new();
        let space = measure(folder.path()).unwrap();
        assert!(space.free > 0 && space.free <= space.total, "{space:?}");
        assert!(measure(&folder.path().join("missing")).is_err());
        let config = DiskConfig { low_bytes: u64::MAX / 4, ..DiskConfig::new(folder.path().to_owned()) };
        let guard = DiskGuard::new(config, WriteGate::new());
        let shutdown = CancellationToken::new();
        let ends = async {
            test_support::eventually("closed", async || (!guard.writes_allowed()).then_some(())).await;
            shutdown.cancel();
        };
        tokio::join!(guard.run(shutdown.clone()), ends);
    }
}
