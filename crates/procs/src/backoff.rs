//! How long to wait before a child that ended is started again.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(10);
/// A child that ran this long was healthy: its next end counts as the first.
const HEALTHY: Duration = Duration::from_secs(30);

/// Doubles from 100 ms to 10 s while a child keeps ending.
#[derive(Debug, Default)]
pub struct Backoff {
    ends: u32,
}

impl Backoff {
    /// The wait after a child that ran for `ran`.
    pub fn after(&mut self, ran: Duration) -> Duration {
        if ran >= HEALTHY {
            self.ends = 0;
        }
        let wait = FIRST.saturating_mul(2u32.saturating_pow(self.ends)).min(LONGEST);
        self.ends = self.ends.saturating_add(1);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_and_start_over_after_health() {
        let mut backoff = Backoff::default();
        let waits: Vec<u128> = (0..9).map(|_| backoff.after(Duration::ZERO).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        assert_eq!(backoff.after(HEALTHY), FIRST);
    }
}
