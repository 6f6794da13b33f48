//! When the built-in schedule runs: the five fields of crontab(5), in UTC.

use std::fmt;
use std::str::FromStr;

use base::calendar::civil_date;

/// A schedule such as `0 2 * * *`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    text: String,
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    /// Bit 0 is Sunday.
    weekdays: u64,
    /// When both are restricted, a day has to fit one of them.
    either_day: bool,
}

/// Why a text is no schedule.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a schedule has five fields (minute, hour, day of month, month, day of week), for instance \"0 2 * * *\"")]
pub struct InvalidCron;

/// Within so many minutes every schedule that ever fits does: eight years, for 29 February.
const HORIZON: i64 = 8 * 366 * 24 * 60;

impl Cron {
    /// The first minute after `after` (Unix seconds) that fits; none for a date that does not exist.
    pub fn next_after(&self, after: i64) -> Option<i64> {
        let first = after.div_euclid(60) + 1;
        let mut minute = first;
        while minute < first + HORIZON {
            let (day, of_day) = (minute.div_euclid(1440), minute.rem_euclid(1440));
            if !self.fits_day(day) {
                minute = (day + 1) * 1440;
            } else if !has(self.hours, of_day / 60) {
                minute += 60 - of_day % 60;
            } else if !has(self.minutes, of_day % 60) {
                minute += 1;
            } else {
                return Some(minute * 60);
            }
        }
        None
    }

    fn fits_day(&self, days: i64) -> bool {
        let (_, month, day) = civil_date(days);
        // 1970-01-01 was a Thursday.
        let (of_month, of_week) = (has(self.days, day), has(self.weekdays, (days + 4).rem_euclid(7)));
        has(self.months, month) && if self.either_day { of_month || of_week } else { of_month && of_week }
    }
}

fn has(set: u64, value: i64) -> bool {
    u32::try_from(value).ok().and_then(|value| set.checked_shr(value)).is_some_and(|set| set & 1 == 1)
}

impl FromStr for Cron {
    type Err = InvalidCron;

    fn from_str(text: &str) -> Result<Self, InvalidCron> {
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = fields.as_slice() else { return Err(InvalidCron) };
        let week = field(weekdays, 0, 7)?;
        Ok(Self {
            text: fields.join(" "),
            minutes: field(minutes, 0, 59)?,
            hours: field(hours, 0, 23)?,
            days: field(days, 1, 31)?,
            months: field(months, 1, 12)?,
            // 7 is Sunday, too.
            weekdays: (week | week >> 7) & 0x7f,
            either_day: !days.starts_with('*') && !weekdays.starts_with('*'),
        })
    }
}

/// `*`, `*/5`, `1`, `1-5`, `0-30/10`, and lists of them, as a set of bits.
fn field(text: &str, least: u32, most: u32) -> Result<u64, InvalidCron> {
    let number = |text: &str| text.parse::<u32>().ok().filter(|n| (least..=most).contains(n)).ok_or(InvalidCron);
    let mut set = 0;
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, step.parse::<usize>().ok().filter(|step| *step > 0).ok_or(InvalidCron)?),
            None => (part, 1),
        };
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (least, most),
            Some((from, to)) => (number(from)?, number(to)?),
            None => (number(range)?, if step > 1 { most } else { number(range)? }),
        };
        if from > to {
            return Err(InvalidCron);
        }
        (from..=to).step_by(step).for_each(|value| set |= 1 << value);
    }
    Ok(set)
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_time_is_found() {
        // 2023-12-01 02:00:00, a Friday.
        const FRIDAY: i64 = 1_701_396_000;
        let check = |text: &str, expected: Option<i64>| {
            let cron: Cron = text.parse().unwrap();
            assert_eq!(cron.next_after(FRIDAY).map(|at| at - FRIDAY), expected, "{text}");
        };
        check("0 2 * * *", Some(86_400));
        check("1 2 * * *", Some(60));
        check("*/15 * * * *", Some(900));
        check("30 4 * * 0", Some(2 * 86_400 + 9_000));
        check("30 4 * * 7", Some(2 * 86_400 + 9_000));
        check("0 0 1 1 *", Some(31 * 86_400 - 7_200));
        check("0 0 15 * 6", Some(86_400 - 7_200));
        check("0 1-3,5 2 12 *", Some(23 * 3_600));
        check("0 0 29 2 *", Some(90 * 86_400 - 7_200));
        check("0 0 31 2 *", None);
        for bad in ["", "* * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "a * * * *", "5-1 * * * *", "*/0 * * * *"] {
            assert_eq!(bad.parse::<Cron>(), Err(InvalidCron), "{bad}");
        }
    }
}
