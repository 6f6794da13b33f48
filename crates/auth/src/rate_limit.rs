//! Limits per project and address, by the generic cell rate algorithm: one number per key, no timers, bounded memory.
//!
//! They are kept in memory of this process. What has to hold across restarts (the time between two mails to one address)
//! is in the user's row too.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::cx::Cx;
use crate::error::{Error, ErrorCode};

/// Keys that are remembered.
const CAPACITY: usize = 131_072;
const SHARDS: usize = 16;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Limit {
    /// New anonymous users, by client address, in an hour.
    AnonymousUsers,
    /// Mails of the project, in an hour.
    EmailSent,
    /// Requests that may send a code, by client address, in five minutes.
    Otp,
    /// Ceremonies of passkeys that begin, by client address or user, in five minutes.
    Passkey,
    /// Messages of the project, in an hour.
    SmsSent,
    /// Requests for tokens, by client address, in five minutes.
    TokenRefresh,
    /// Tries of a code, by client address, in five minutes.
    Verify,
    /// Tries of a code, by the address or number that it was sent to, whoever tries.
    VerifyAddress,
    /// Mails to one address.
    MailAddress,
    /// Messages to one number.
    SmsNumber,
    /// Tries of a second factor, by factor.
    FactorVerify,
}

/// `count` in `window` seconds, which may all come at once.
#[derive(Clone, Copy, Debug)]
struct Rate {
    count: u64,
    window: u64,
}

const FIVE_MINUTES: u64 = 300;
const HOUR: u64 = 3600;

/// The counts of all projects.
pub(crate) struct RateLimiter {
    start: Instant,
    hasher: RandomState,
    shards: [Mutex<HashMap<u64, u64>>; SHARDS],
}

impl RateLimiter {
    pub(crate) fn new(start: Instant) -> Self {
        Self { start, hasher: RandomState::new(), shards: Default::default() }
    }

    /// Counts one; an error has the seconds after which one more may come. `count` is false for a look only.
    fn take(&self, key: u64, rate: Rate, now: Instant, count: bool) -> Result<(), u64> {
        let now = u64::try_from(now.saturating_duration_since(self.start).as_micros()).unwrap_or(u64::MAX);
        let micros = Duration::from_secs(rate.window).as_micros();
        let depth = u64::try_from(micros).unwrap_or(u64::MAX);
        let period = depth / rate.count.max(1);
        let shard = &self.shards[usize::try_from(key % SHARDS as u64).unwrap_or_default()];
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let arrival = shard.get(&key).copied().unwrap_or_default();
        // No count reaches further ahead: one that does is from before the clock was moved back.
        let arrival = if arrival > now.saturating_add(depth + period) { now } else { arrival.max(now) };
        let next = arrival + period;
        // The last one may use the depth up to its end.
        if next - now > depth + period / 2 {
            return Err((next - now - depth).div_ceil(1_000_000).max(1));
        }
        if !count {
            return Ok(());
        }
        if shard.len() >= CAPACITY / SHARDS && !shard.contains_key(&key) {
            // A key whose time is past is as good as none.
            shard.retain(|_, arrival| *arrival > now);
            if shard.len() >= CAPACITY / SHARDS {
                return Err(1);
            }
        }
        shard.insert(key, next);
        Ok(())
    }
}

/// Addresses of one network that one customer usually has count as one.
fn network(ip: IpAddr) -> String {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("{:x}", ip.to_bits() >> 64),
    }
}

impl Limit {
    fn rate(self, cx: &Cx) -> Rate {
        let settings = cx.settings();
        let (count, window) = match self {
            Self::AnonymousUsers => (settings.rate_limit_anonymous_users, HOUR),
            Self::EmailSent => (settings.rate_limit_email_sent, HOUR),
            Self::Otp | Self::Passkey => (settings.rate_limit_otp, FIVE_MINUTES),
            Self::SmsSent => (settings.rate_limit_sms_sent, HOUR),
            Self::TokenRefresh => (settings.rate_limit_token_refresh, FIVE_MINUTES),
            Self::Verify => (settings.rate_limit_verify, FIVE_MINUTES),
            // A code of six digits withstands this for years.
            Self::VerifyAddress => (settings.rate_limit_verify.clamp(5, 30), FIVE_MINUTES),
            Self::FactorVerify => (15, FIVE_MINUTES),
            Self::MailAddress => return Rate { count: 1, window: seconds(settings.smtp_max_frequency) },
            Self::SmsNumber => return Rate { count: 1, window: seconds(settings.sms_max_frequency) },
        };
        Rate { count: u64::from(count), window }
    }

    fn error(self, wait: u64) -> Error {
        let code = match self {
            Self::EmailSent | Self::MailAddress => ErrorCode::OverEmailSendRateLimit,
            Self::SmsSent | Self::SmsNumber => ErrorCode::OverSmsSendRateLimit,
            _ => ErrorCode::OverRequestRateLimit,
        };
        let error = match self {
            Self::EmailSent => Error::new(code, "email rate limit exceeded"),
            Self::SmsSent => Error::new(code, "sms rate limit exceeded"),
            Self::MailAddress | Self::SmsNumber => too_soon(code, wait),
            _ => Error::new(code, "Request rate limit reached"),
        };
        error.retry_after(wait)
    }
}

fn seconds(setting: i64) -> u64 {
    u64::try_from(setting).unwrap_or_default()
}

/// What asks for a second mail too soon is told; the words are GoTrue's, which clients show.
pub(crate) fn too_soon(code: ErrorCode, wait: u64) -> Error {
    Error::new(code, format!("For security purposes, you can only request this after {wait} seconds."))
}

impl Cx {
    /// Counts a request of this client.
    pub(crate) fn limit_client(&self, limit: Limit) -> Result<(), Error> {
        self.limit(limit, &network(self.client_ip), true)
    }

    /// Counts something that is about `subject`, whoever asks; the project as a whole is "".
    pub(crate) fn limit_subject(&self, limit: Limit, subject: &str) -> Result<(), Error> {
        self.limit(limit, subject, true)
    }

    /// As [`Self::limit_subject`], but only looks.
    pub(crate) fn would_exceed(&self, limit: Limit, subject: &str) -> Result<(), Error> {
        self.limit(limit, subject, false)
    }

    fn limit(&self, limit: Limit, subject: &str, count: bool) -> Result<(), Error> {
        let rate = limit.rate(self);
        if rate.window == 0 {
            return Ok(());
        }
        let limiter = &self.shared.limiter;
        let key = limiter.hasher.hash_one((self.project.project_ref.as_str(), limit, subject));
        let now = self.shared.config.clock.instant();
        limiter.take(key, rate, now, count).map_err(|wait| limit.error(wait))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_used_up_and_fills_again() {
        let start = Instant::now();
        let limiter = RateLimiter::new(start);
        let rate = Rate { count: 3, window: 300 };
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        for n in 0..3 {
            assert_eq!(limiter.take(1, rate, at(0), true), Ok(()), "{n}");
        }
        assert_eq!(limiter.take(1, rate, at(0), true), Err(100));
        assert_eq!(limiter.take(1, rate, at(0), false), Err(100));
        assert_eq!(limiter.take(2, rate, at(0), true), Ok(()));
        assert_eq!(limiter.take(1, rate, at(101), true), Ok(()));
        assert!(limiter.take(1, rate, at(101), true).is_err());
        assert_eq!(limiter.take(1, rate, at(900), false), Ok(()));
    }

    #[test]
    fn memory_is_bounded() {
        let start = Instant::now();
        let limiter = RateLimiter::new(start);
        let rate = Rate { count: 1, window: 10 };
        let refused =
            (0..200_000u64).filter(|key| limiter.take(key.wrapping_mul(31), rate, start, true).is_err()).count();
        let held: usize = limiter.shards.iter().map(|shard| shard.lock().unwrap().len()).sum();
        assert!(held <= CAPACITY && refused >= 200_000 - CAPACITY, "{held} {refused}");
        assert_eq!(limiter.take(7, rate, start + Duration::from_secs(60), true), Ok(()));
    }
}
