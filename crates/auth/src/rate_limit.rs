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

/// Keys that are remembered of one project, and of all projects of a shard. A project that has used up its own counts whoever is
/// new there in crowds, a sixteenth as many as it may have keys, and no other project notices.
const CAPACITY_OF_ONE: usize = 8_192;
const NEWCOMERS_OF_A_CROWD: usize = 16;
const CAPACITY_OF_SHARD: usize = 65_536;
/// What a project has whatever the others hold.
const LEAST_CAPACITY: usize = 64;
const SHARDS: usize = 16;
/// Between two looks for keys of a full project whose time is past, in microseconds.
const SWEPT_EVERY: u64 = 1_000_000;

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
    /// Wrong tries of a code, by the address or number that it was sent to, whoever tries.
    VerifyAddress,
    /// Mails to one address.
    MailAddress,
    /// Messages to one number.
    SmsNumber,
    /// Tries of a second factor, by factor.
    FactorVerify,
    /// Wrong ones of those.
    FactorWrong,
    /// New accounts, by client address, in five minutes.
    Signup,
    /// Wrong passwords of one account, whoever tries.
    WrongPassword,
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
    shards: [Mutex<HashMap<u64, Counts>>; SHARDS],
}

/// The counts of one project: when each key's last arrival is over.
#[derive(Default)]
struct Counts {
    arrivals: HashMap<u64, u64>,
    swept_at: u64,
}

/// Who is counted: a project, what is counted, and of whom.
#[derive(Clone, Copy, Debug)]
struct Key {
    project: u64,
    subject: u64,
    /// The first of the crowds of those who find no room.
    crowd: u64,
}

/// What a look does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Count {
    Take,
    LookOnly,
    GiveBack,
}

impl RateLimiter {
    pub(crate) fn new(start: Instant) -> Self {
        Self { start, hasher: RandomState::new(), shards: Default::default() }
    }

    fn key(&self, project: &str, limit: Limit, subject: &str) -> Key {
        Key {
            project: self.hasher.hash_one(project),
            subject: self.hasher.hash_one((limit, subject)),
            crowd: self.hasher.hash_one((limit, "", "whoever finds no room")),
        }
    }

    /// Counts one; an error has the seconds after which one more may come.
    fn take(&self, key: Key, rate: Rate, now: Instant, count: Count) -> Result<(), u64> {
        let now = u64::try_from(now.saturating_duration_since(self.start).as_micros()).unwrap_or(u64::MAX);
        let micros = Duration::from_secs(rate.window).as_micros();
        let depth = u64::try_from(micros).unwrap_or(u64::MAX);
        let period = depth / rate.count.max(1);
        let shard = &self.shards[usize::try_from(key.project % SHARDS as u64).unwrap_or_default()];
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if shard.len() >= CAPACITY_OF_SHARD / LEAST_CAPACITY && !shard.contains_key(&key.project) {
            shard.retain(|_, counts| counts.arrivals.values().any(|arrival| *arrival > now));
        }
        let capacity = (CAPACITY_OF_SHARD / shard.len().max(1)).clamp(LEAST_CAPACITY, CAPACITY_OF_ONE);
        let counts = shard.entry(key.project).or_default();
        let crowds = (capacity / NEWCOMERS_OF_A_CROWD).max(1) as u64;
        let crowd = key.crowd.wrapping_add(key.subject % crowds);
        let subject = if counts.has_room(key.subject, capacity, now) { key.subject } else { crowd };
        let arrival = counts.arrivals.get(&subject).copied().unwrap_or_default();
        if count == Count::GiveBack {
            if let Some(arrival) = counts.arrivals.get_mut(&subject) {
                *arrival = arrival.saturating_sub(period);
            }
            return Ok(());
        }
        // No count reaches further ahead: one that does is from before the clock was moved back.
        let arrival = if arrival > now.saturating_add(depth + period) { now } else { arrival.max(now) };
        let next = arrival + period;
        // The last one may use the depth up to its end.
        if next - now > depth + period / 2 {
            return Err((next - now - depth).div_ceil(1_000_000).max(1));
        }
        if count == Count::Take {
            counts.arrivals.insert(subject, next);
        }
        Ok(())
    }
}

impl Counts {
    /// Whether a key is there or finds room; a key whose time is past is as good as none.
    fn has_room(&mut self, key: u64, capacity: usize, now: u64) -> bool {
        if self.arrivals.len() < capacity || self.arrivals.contains_key(&key) {
            return true;
        }
        if now.saturating_sub(self.swept_at) < SWEPT_EVERY {
            return false;
        }
        self.swept_at = now;
        self.arrivals.retain(|_, arrival| *arrival > now);
        self.arrivals.len() < capacity
    }
}

/// Addresses of one network that one customer usually has count as one.
pub(crate) fn network(ip: IpAddr) -> String {
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
            Self::Otp | Self::Passkey | Self::Signup => (settings.rate_limit_otp, FIVE_MINUTES),
            Self::SmsSent => (settings.rate_limit_sms_sent, HOUR),
            Self::TokenRefresh => (settings.rate_limit_token_refresh, FIVE_MINUTES),
            Self::Verify => (settings.rate_limit_verify, FIVE_MINUTES),
            // Of a million codes 240 a day: even odds after eight years.
            Self::VerifyAddress => (10, HOUR),
            Self::FactorVerify => (15, FIVE_MINUTES),
            // Three codes are good at a time: even odds after more than a year.
            Self::FactorWrong => (20, HOUR),
            // Twenty, and then one in a minute: of a password that one of a hundred thousand would be, half in a month.
            Self::WrongPassword => (20, 1200),
            // The row of who has the address knows longer waits; here they would take the room of others.
            Self::MailAddress => return Rate { count: 1, window: seconds(settings.smtp_max_frequency).min(HOUR) },
            Self::SmsNumber => return Rate { count: 1, window: seconds(settings.sms_max_frequency).min(HOUR) },
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
        self.limit(limit, &network(self.client_ip), Count::Take)
    }

    /// Counts something that is about `subject`, whoever asks; the project as a whole is "".
    pub(crate) fn limit_subject(&self, limit: Limit, subject: &str) -> Result<(), Error> {
        self.limit(limit, subject, Count::Take)
    }

    /// As [`Self::limit_subject`], but only looks.
    pub(crate) fn would_exceed(&self, limit: Limit, subject: &str) -> Result<(), Error> {
        self.limit(limit, subject, Count::LookOnly)
    }

    /// What was counted before it was known not to count: a try that turned out right.
    pub(crate) fn give_back(&self, limit: Limit, subject: &str) {
        // Giving back is never refused.
        self.limit(limit, subject, Count::GiveBack).ok();
    }

    fn limit(&self, limit: Limit, subject: &str, count: Count) -> Result<(), Error> {
        let rate = limit.rate(self);
        if rate.window == 0 {
            return Ok(());
        }
        let limiter = &self.shared.limiter;
        let key = limiter.key(self.project.project_ref.as_str(), limit, subject);
        let now = self.shared.config.clock.instant();
        limiter.take(key, rate, now, count).map_err(|wait| limit.error(wait))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(project: u64, subject: u64) -> Key {
        Key { project, subject: subject + 1, crowd: 0 }
    }

    #[test]
    fn a_window_is_used_up_and_fills_again() {
        let start = Instant::now();
        let limiter = RateLimiter::new(start);
        let rate = Rate { count: 3, window: 300 };
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let take = |subject: u64, seconds: u64, count: Count| limiter.take(of(1, subject), rate, at(seconds), count);
        for n in 0..3 {
            assert_eq!(take(1, 0, Count::Take), Ok(()), "{n}");
        }
        assert_eq!(take(1, 0, Count::Take), Err(100));
        assert_eq!(take(1, 0, Count::LookOnly), Err(100));
        assert_eq!(take(2, 0, Count::Take), Ok(()));
        assert_eq!(take(1, 0, Count::GiveBack), Ok(()));
        assert_eq!(take(1, 0, Count::Take), Ok(()));
        assert_eq!(take(1, 0, Count::Take), Err(100));
        assert_eq!(take(1, 101, Count::Take), Ok(()));
        assert!(take(1, 101, Count::Take).is_err());
        assert_eq!(take(1, 900, Count::LookOnly), Ok(()));
    }

    #[test]
    fn a_project_that_fills_its_room_takes_none_of_the_others() {
        let start = Instant::now();
        let limiter = RateLimiter::new(start);
        let rate = Rate { count: 1, window: 86_400 };
        for subject in 0..200_000u64 {
            let _ = limiter.take(of(16, subject), rate, start, Count::Take);
        }
        // Of the same shard, and with keys that are new.
        for subject in 0..100 {
            assert_eq!(limiter.take(of(32, subject), rate, start, Count::Take), Ok(()), "{subject}");
        }
        let held = || -> usize {
            let of = |shard: &Mutex<HashMap<u64, Counts>>| -> usize {
                shard.lock().unwrap().values().map(|counts| counts.arrivals.len()).sum()
            };
            limiter.shards.iter().map(of).sum()
        };
        assert!(held() <= CAPACITY_OF_ONE + CAPACITY_OF_ONE / NEWCOMERS_OF_A_CROWD + 100, "{}", held());
        // Who is new in the full one shares a count with others who are.
        assert!(limiter.take(of(16, 7_000_000), rate, start, Count::Take).is_err());
        assert_eq!(limiter.take(of(16, 7_000_000), rate, start + Duration::from_secs(200_000), Count::Take), Ok(()));
    }

    #[test]
    fn whoever_fills_a_projects_room_does_not_use_up_what_the_others_there_have() {
        let start = Instant::now();
        let limiter = RateLimiter::new(start);
        let rate = Rate { count: 20, window: 1200 };
        // Made-up accounts, of each of which one password is tried; then another thousand of them.
        for subject in 0..9_200u64 {
            let _ = limiter.take(of(16, subject), rate, start, Count::Take);
        }
        for subject in 20_000..20_512 {
            assert_eq!(limiter.take(of(16, subject), rate, start, Count::Take), Ok(()), "{subject}");
        }
    }

    #[test]
    fn memory_is_bounded_however_many_projects_there_are() {
        let start = Instant::now();
        let limiter = RateLimiter::new(start);
        let rate = Rate { count: 1, window: 10 };
        for project in 0..2_000u64 {
            for subject in 0..100u64 {
                let _ = limiter.take(of(project * 16, subject), rate, start, Count::Take);
            }
        }
        let held: usize = limiter.shards[0].lock().unwrap().values().map(|counts| counts.arrivals.len()).sum();
        assert!(held <= CAPACITY_OF_SHARD + 2_000 * (LEAST_CAPACITY + LEAST_CAPACITY / NEWCOMERS_OF_A_CROWD), "{held}");
    }
}
