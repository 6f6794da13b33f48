//! Rate limits by the generic cell rate algorithm: one number per key (the theoretical arrival time), no timers.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::rejection::Rejection;

/// A rate: an average, and what may come at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Nanoseconds that each request costs.
    period: u64,
    /// Nanoseconds of cost that may be outstanding.
    depth: u64,
}

impl Rate {
    /// `per_second` on average, and at once as many as one second allows plus `burst`. None when `per_second` is 0,
    /// which means no limit.
    pub fn new(per_second: u32, burst: u32) -> Option<Self> {
        let period = 1_000_000_000u64.checked_div(u64::from(per_second))?.max(1);
        Some(Self { period, depth: period * (u64::from(per_second) + u64::from(burst)) })
    }

    /// The next arrival time, or nanoseconds until one more is let in.
    fn next(self, arrival: u64, now: u64) -> Result<u64, u64> {
        let next = arrival.max(now) + self.period;
        let outstanding = next - now;
        if outstanding > self.depth { Err(outstanding - self.depth) } else { Ok(next) }
    }
}

fn limited(wait_nanos: u64) -> Rejection {
    Rejection::RateLimited { retry_after: wait_nanos.div_ceil(1_000_000_000).max(1) }
}

/// One bucket without a lock; a project has its own.
#[derive(Debug, Default)]
pub struct Bucket {
    arrival: AtomicU64,
}

impl Bucket {
    /// Lets one request in, or says how long to wait. `since` is the time since a fixed moment, in nanoseconds.
    pub fn take(&self, rate: Rate, since: u64) -> Result<(), Rejection> {
        let mut arrival = self.arrival.load(Ordering::Relaxed);
        loop {
            let next = rate.next(arrival, since).map_err(limited)?;
            match self.arrival.compare_exchange_weak(arrival, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(()),
                Err(present) => arrival = present,
            }
        }
    }
}

const SHARDS: usize = 16;

/// Buckets by client address, of bounded number. IPv6 clients are counted by their /64, because one client owns all of it.
pub struct IpRateLimiter {
    rate: Rate,
    start: Instant,
    shards: [Mutex<HashMap<u64, u64>>; SHARDS],
    hasher: RandomState,
    /// Addresses that one shard remembers.
    shard_capacity: usize,
    /// Shared by all addresses that find no room: under a flood from very many addresses the newcomers share one rate.
    overflow: Bucket,
}

impl IpRateLimiter {
    /// Remembers about `capacity` addresses, 32 bytes each.
    pub fn new(rate: Rate, capacity: usize, start: Instant) -> Self {
        Self {
            rate,
            start,
            shards: Default::default(),
            hasher: RandomState::new(),
            shard_capacity: capacity.div_ceil(SHARDS).max(1),
            overflow: Bucket::default(),
        }
    }

    /// Lets one request of `ip` in at `now`, or says how long to wait.
    pub fn take(&self, ip: IpAddr, now: Instant) -> Result<(), Rejection> {
        let since = nanos(self.start, now);
        let key = client_key(ip);
        let shard = &self.shards[self.hasher.hash_one(key) as usize % SHARDS];
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(arrival) = shard.get_mut(&key) {
            *arrival = self.rate.next(*arrival, since).map_err(limited)?;
            return Ok(());
        }
        if shard.len() >= self.shard_capacity {
            // A bucket whose time is past is as good as none.
            shard.retain(|_, arrival| *arrival > since);
        }
        if shard.len() >= self.shard_capacity {
            drop(shard);
            return self.overflow.take(self.rate, since);
        }
        let next = self.rate.next(0, since).map_err(limited)?;
        shard.insert(key, next);
        Ok(())
    }

    #[cfg(test)]
    fn remembered(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap().len()).sum()
    }
}

/// What a client is known by: its IPv4 address, or the /64 of its IPv6 address.
pub(crate) fn client_key(ip: IpAddr) -> u64 {
    match ip.to_canonical() {
        IpAddr::V4(ip) => u64::from(ip.to_bits()),
        // The upper half is never as small as an IPv4 address for a global address.
        IpAddr::V6(ip) => (ip.to_bits() >> 64) as u64,
    }
}

/// Nanoseconds from `start` to `now`.
pub fn nanos(start: Instant, now: Instant) -> u64 {
    u64::try_from(now.saturating_duration_since(start).as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_bucket_empties_and_fills() {
        let rate = Rate::new(10, 5).unwrap();
        let bucket = Bucket::default();
        let second = 1_000_000_000;
        let start = 7 * second;
        for n in 0..15 {
            assert!(bucket.take(rate, start).is_ok(), "{n}");
        }
        assert!(matches!(bucket.take(rate, start), Err(Rejection::RateLimited { retry_after: 1 })));
        assert!(bucket.take(rate, start + second / 10).is_ok());
        assert!(bucket.take(rate, start + second / 10).is_err());
        for n in 0..15 {
            assert!(bucket.take(rate, start + 10 * second).is_ok(), "{n}");
        }
        assert!(bucket.take(rate, start + 10 * second).is_err());
        assert_eq!(Rate::new(0, 5), None);
    }

    #[test]
    fn addresses_have_their_own_buckets() {
        let start = Instant::now();
        let limiter = IpRateLimiter::new(Rate::new(1, 0).unwrap(), 100, start);
        let take =
            |ip: &str, seconds: u64| limiter.take(ip.parse().unwrap(), start + Duration::from_secs(seconds)).is_ok();
        assert!(take("192.0.2.1", 0));
        assert!(!take("192.0.2.1", 0));
        assert!(!take("::ffff:192.0.2.1", 0));
        assert!(take("192.0.2.2", 0));
        assert!(take("192.0.2.1", 1));
        assert!(take("2001:db8::1", 0));
        assert!(!take("2001:db8::2", 0));
        assert!(take("2001:db8:0:1::1", 0));
    }

    #[test]
    fn memory_is_bounded_under_a_flood() {
        let start = Instant::now();
        let limiter = IpRateLimiter::new(Rate::new(1, 0).unwrap(), 64, start);
        let refused = (0..10_000u32).filter(|n| limiter.take(IpAddr::V4((*n).into()), start).is_err()).count();
        assert!(limiter.remembered() <= 64 + SHARDS);
        assert!(refused > 9_000, "{refused}");
        // Later the old ones make room.
        assert!(limiter.take("192.0.2.1".parse().unwrap(), start + Duration::from_secs(5)).is_ok());
        assert!(limiter.take("192.0.2.2".parse().unwrap(), start + Duration::from_secs(5)).is_ok());
    }
}
