//! How much room the disk has, and the ballast that is thrown off when it has none.

use std::fs;
use std::io;
use std::path::Path;

use base::WriteGate;

use super::DiskConfig;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DiskVerdict {
    Enough,
    BecameLow,
    StillLow,
    /// There is enough room again. Said until [`DiskGuard::recovered`], and at the start: the process before may have
    /// ended while the disk was low.
    Recovered,
}

pub(super) struct DiskGuard {
    config: DiskConfig,
    gate: WriteGate,
    must_recover: bool,
}

const BALLAST: &str = "ballast";

impl DiskGuard {
    pub(super) fn new(config: DiskConfig, gate: WriteGate) -> Self {
        Self { config, gate, must_recover: true }
    }

    /// Measures; keeps or gives up the ballast.
    pub(super) async fn look(&mut self) -> DiskVerdict {
        let config = self.config.clone();
        let was_low = !self.gate.is_open();
        let looked = tokio::task::spawn_blocking(move || {
            let free = free_bytes(&config.data_folder)?;
            // Some room above the limit before writing goes on, or it would flap.
            let limit = if was_low { config.low_bytes.saturating_add(config.low_bytes / 2) } else { config.low_bytes };
            let low = free < limit;
            if let Err(error) = keep_ballast(&config, free, low) {
                tracing::warn!(cause = %error, "the ballast file could not be kept");
            }
            Ok::<bool, io::Error>(low)
        });
        let low = match looked.await {
            Ok(Ok(low)) => low,
            Ok(Err(error)) => {
                tracing::warn!(cause = %error, "the room on the disk could not be measured");
                return if was_low { DiskVerdict::StillLow } else { DiskVerdict::Enough };
            }
            Err(_) => return DiskVerdict::Enough,
        };
        self.gate.set_open(!low);
        match (was_low, low) {
            (false, true) => DiskVerdict::BecameLow,
            (true, true) => DiskVerdict::StillLow,
            (true, false) => {
                self.must_recover = true;
                DiskVerdict::Recovered
            }
            (false, false) if self.must_recover => DiskVerdict::Recovered,
            (false, false) => DiskVerdict::Enough,
        }
    }

    /// What [`DiskVerdict::Recovered`] asks for was done.
    pub(super) fn recovered(&mut self) {
        self.must_recover = false;
    }
}

/// Bytes that an unprivileged process can still write.
fn free_bytes(folder: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(folder)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Makes the ballast while there is room for it above the limit, and gives it up at a quarter of the limit.
fn keep_ballast(config: &DiskConfig, free: u64, low: bool) -> io::Result<()> {
    let path = config.data_folder.join(BALLAST);
    let there = path.try_exists()?;
    if there && free < config.low_bytes / 4 {
        tracing::error!("the disk runs full: the ballast file is given up");
        fs::remove_file(&path)?;
    } else if !there && !low && free > config.low_bytes.saturating_mul(2).saturating_add(config.ballast_bytes) {
        let file = fs::File::create(&path)?;
        let flags = rustix::fs::FallocateFlags::empty();
        if let Err(error) = rustix::fs::fallocate(&file, flags, 0, config.ballast_bytes) {
            // A file without blocks is no ballast.
            fs::remove_file(&path)?;
            return Err(error.into());
        }
    }
    Ok(())
}
