//! How often somebody may try: a bounded table of counters in fixed windows of time.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base::Clock;

use crate::error::Error;

/// Counters kept at most; beyond, those with the fewest attempts are forgotten.
const MOST_COUNTERS: usize = 20_000;

/// How many attempts in how many seconds.
#[derive(Clone, Copy)]
pub(crate) struct Allowance {
    pub(crate) attempts: u32,
    pub(crate) window: u64,
}

/// Logins from one client address.
pub(crate) const LOGINS_PER_IP: Allowance = Allowance { attempts: 60, window: 300 };
/// Failed logins with one e-mail address from one client address: who guesses locks out nobody elsewhere.
pub(crate) const LOGINS_PER_ADDRESS_AND_IP: Allowance = Allowance { attempts: 10, window: 300 };
/// Failed logins with one e-mail address from everywhere. So many need a hundred client addresses, and leave a password
/// of eight random characters safe for ages.
pub(crate) const LOGINS_PER_ADDRESS: Allowance = Allowance { attempts: 1000, window: 300 };
/// Sign-ups from one client address.
pub(crate) const SIGN_UPS_PER_IP: Allowance = Allowance { attempts: 20, window: 3600 };

/// Bodies that are read of strangers from one client address, for logins and sign-ups together.
pub(crate) const STRANGERS_BODIES_PER_IP: Allowance = Allowance { attempts: 120, window: 300 };

struct Counter {
    attempts: u32,
    ends: Instant,
}

/// The counters of one process.
pub(crate) struct Attempts {
    clock: Clock,
    counters: Mutex<HashMap<String, Counter>>,
}

impl Attempts {
    pub(crate) fn new(clock: Clock) -> Self {
        Self { clock, counters: Mutex::default() }
    }

    /// Counts an attempt of `who`, or refuses it.
    pub(crate) fn count(&self, who: &str, allowance: Allowance) -> Result<(), Error> {
        let now = self.clock.instant();
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        if counters.len() >= MOST_COUNTERS && !counters.contains_key(who) {
            counters.retain(|_, counter| counter.ends > now);
            if counters.len() >= MOST_COUNTERS {
                counters.retain(|_, counter| counter.attempts > 2);
            }
            if counters.len() >= MOST_COUNTERS {
                counters.clear();
            }
        }
        let counter = counters.entry(who.to_owned()).or_insert(Counter { attempts: 0, ends: now });
        if counter.ends <= now {
            *counter = Counter { attempts: 0, ends: now + Duration::from_secs(allowance.window) };
        }
        if counter.attempts >= allowance.attempts {
            return Err(Error::TooManyRequests((counter.ends - now).as_secs().max(1)));
        }
        counter.attempts += 1;
        Ok(())
    }

    /// Forgets what `who` tried.
    pub(crate) fn forget(&self, who: &str) {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner).remove(who);
    }
}

/// What an address counts as: one host of IPv4, one network of 64 bits of IPv6.
pub(crate) fn network(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
            Some(ip) => ip.to_string(),
            None => ip.segments()[..4].iter().map(|segment| format!("{segment:x}:")).collect(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_counted_until_their_window_ends() {
        let clock = Clock::system();
        let attempts = Attempts::new(clock.clone());
        let allowance = Allowance { attempts: 2, window: 60 };
        assert!(attempts.count("a", allowance).is_ok());
        assert!(attempts.count("a", allowance).is_ok());
        assert!(matches!(attempts.count("a", allowance), Err(Error::TooManyRequests(59..=60))));
        assert!(attempts.count("b", allowance).is_ok());
        clock.advance(61);
        assert!(attempts.count("a", allowance).is_ok());
        attempts.count("a", allowance).unwrap();
        attempts.forget("a");
        assert!(attempts.count("a", allowance).is_ok());
    }

    #[test]
    fn the_table_is_bounded() {
        let attempts = Attempts::new(Clock::system());
        for n in 0..MOST_COUNTERS * 2 {
            attempts.count(&n.to_string(), LOGINS_PER_IP).unwrap();
        }
        assert!(attempts.counters.lock().unwrap().len() <= MOST_COUNTERS);
    }

    #[test]
    fn an_ipv6_client_counts_as_its_network() {
        let name = |text: &str| network(text.parse().unwrap());
        assert_eq!(name("2001:db8:1:2:3:4:5:6"), name("2001:db8:1:2:ffff::"));
        assert_ne!(name("2001:db8:1:2::"), name("2001:db8:1:3::"));
        assert_eq!(name("::ffff:192.0.2.1"), "192.0.2.1");
    }
}
