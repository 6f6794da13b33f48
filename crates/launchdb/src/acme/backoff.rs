//! When a name that no certificate could be got for is tried again.

use serde::{Deserialize, Serialize};

/// After the authority said no. It counts failed validations (Let's Encrypt: five an hour and name), and a name that does
/// not lead here yet may not for days.
const REFUSED: (i64, i64) = (300, 12 * 3600);
/// After it could not be reached, which costs nothing there.
const UNREACHABLE: (i64, i64) = (5, 600);

/// What a try came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    Refused,
    Unreachable,
}

/// Tries that failed since the last one that did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Backoff {
    failures: u32,
    /// Seconds since the Unix epoch.
    not_before: i64,
}

impl Backoff {
    /// Seconds to wait still, 0 when there is none. A clock that was set back does not make it longer than the longest.
    pub(super) fn seconds_left(&self, now: i64) -> i64 {
        (self.not_before - now).clamp(0, REFUSED.1)
    }

    /// After one more.
    pub(super) fn failed(&self, failure: Failure, now: i64) -> Self {
        let (first, longest) = match failure {
            Failure::Refused => REFUSED,
            Failure::Unreachable => UNREACHABLE,
        };
        let doubled = 1i64.checked_shl(self.failures.min(20)).unwrap_or(i64::MAX);
        let wait = first.saturating_mul(doubled).min(longest);
        Self { failures: self.failures.saturating_add(1), not_before: now.saturating_add(wait) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_and_end_somewhere() {
        let waits = |failure, count: usize| -> Vec<i64> {
            let mut backoff = Backoff::default();
            let mut next = || {
                backoff = backoff.failed(failure, 1000);
                backoff.seconds_left(1000)
            };
            (0..count).map(|_| next()).collect()
        };
        assert_eq!(waits(Failure::Unreachable, 9), [5, 10, 20, 40, 80, 160, 320, 600, 600]);
        assert_eq!(waits(Failure::Refused, 9), [300, 600, 1200, 2400, 4800, 9600, 19_200, 38_400, 43_200]);
        assert_eq!(waits(Failure::Refused, 100).last(), Some(&43_200));
        assert_eq!(Backoff::default().seconds_left(0), 0);
        let later = Backoff::default().failed(Failure::Refused, 1_000_000);
        assert_eq!(later.seconds_left(0), 43_200, "a clock that was set back");
        assert_eq!(later.seconds_left(1_000_300), 0);
    }
}
