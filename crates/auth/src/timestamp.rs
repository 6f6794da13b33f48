//! Points in time as rows and answers have them.

use std::fmt;

use base::{Clock, calendar};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400;

/// Microseconds since the Unix epoch. In JSON it is RFC 3339 in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Timestamp(i64);

impl Timestamp {
    /// PostgreSQL's `infinity`; shown as the last second of year 9999.
    const FOREVER: Self = Self(253_402_300_799 * SECOND);

    /// Now, as the clock says; whoever moves the clock moves this too.
    pub(crate) fn now(clock: &Clock) -> Self {
        let micros = i64::from(clock.since_epoch().subsec_micros());
        Self(clock.unix_seconds() * SECOND + micros)
    }

    pub(crate) fn unix_seconds(self) -> i64 {
        self.0.div_euclid(SECOND)
    }

    pub(crate) fn plus_seconds(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(seconds.saturating_mul(SECOND)).min(Self::FOREVER.0))
    }

    /// Whole seconds from `earlier` to this.
    pub(crate) fn seconds_since(self, earlier: Self) -> i64 {
        (self.0 - earlier.0).div_euclid(SECOND)
    }

    /// `2024-02-29T13:37:00.5+00:00`, as PostgreSQL's JSON has it in a session in UTC; without an offset it is UTC too.
    fn parse(text: &str) -> Option<Self> {
        if text == "infinity" {
            return Some(Self::FOREVER);
        }
        let text = text.strip_suffix("+00:00").or_else(|| text.strip_suffix('Z')).unwrap_or(text);
        let (date, time) = text.split_once(['T', ' '])?;
        let mut date = date.split('-').map(|part| part.parse::<i64>().ok());
        let (year, month, day) = (date.next()??, date.next()??, date.next()??);
        let (whole, fraction) = time.split_once('.').unwrap_or((time, "0"));
        let mut clock = whole.split(':').map(|part| part.parse::<i64>().ok());
        let (hours, minutes, seconds) = (clock.next()??, clock.next()??, clock.next()??);
        let fraction = format!("{fraction:0<6}").get(..6)?.parse::<i64>().ok()?;
        let seconds = calendar::days_of(year, month, day) * DAY + hours * 3600 + minutes * 60 + seconds;
        Some(Self(seconds * SECOND + fraction))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, micros) = (self.0.div_euclid(SECOND), self.0.rem_euclid(SECOND));
        let (year, month, day) = calendar::civil_date(seconds.div_euclid(DAY));
        let of_day = seconds.rem_euclid(DAY);
        let (hours, minutes, seconds) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}")?;
        if micros > 0 {
            let fraction = format!("{micros:06}");
            write!(f, ".{}", fraction.trim_end_matches('0'))?;
        }
        f.write_str("Z")
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("no timestamp"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_postgresql_writes_is_read_and_shown_in_utc() {
        let check = |text: &str, shown: &str| {
            assert_eq!(Timestamp::parse(text).map(|t| t.to_string()).as_deref(), Some(shown), "{text}");
        };
        check("2024-02-29T13:37:00.5+00:00", "2024-02-29T13:37:00.5Z");
        check("2026-11-26T02:17:00.123456+00:00", "2026-11-26T02:17:00.123456Z");
        check("1969-12-31T23:59:59", "1969-12-31T23:59:59Z");
        check("infinity", "9999-12-31T23:59:59Z");
        for bad in ["", "x", "2024-02-29", "2024-02-29T13:37", "T::"] {
            assert_eq!(Timestamp::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn the_clock_moves_it() {
        let clock = Clock::system();
        let before = Timestamp::now(&clock);
        clock.advance(3600);
        let distance = Timestamp::now(&clock).seconds_since(before);
        assert!((3600..3700).contains(&distance), "{distance}");
        assert_eq!(before.plus_seconds(5).seconds_since(before), 5);
    }
}
