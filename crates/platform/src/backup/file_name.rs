//! Names of backups: `<database>_<YYYYMMDD>_<HHMMSS>.sql.gpg`, in UTC.

use std::fmt;

use base::calendar::civil_date;

const SUFFIX: &str = ".sql.gpg";

/// Which database, and when. Orders by database, then by time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BackupName {
    pub database: String,
    /// Unix seconds of the backup's beginning.
    pub taken_at: i64,
}

impl BackupName {
    /// Reads a file's name; none for anything that is no backup.
    pub fn parse(file_name: &str) -> Option<Self> {
        let stem = file_name.strip_suffix(SUFFIX)?;
        let (rest, time) = stem.rsplit_once('_')?;
        let (database, date) = rest.rsplit_once('_')?;
        let digits = |text: &str, length| text.len() == length && text.bytes().all(|b| b.is_ascii_digit());
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        if !digits(date, 8) || !digits(time, 6) || database.is_empty() || !database.bytes().all(plain) {
            return None;
        }
        let number = |text: &str| text.parse::<i64>().ok();
        let days = days_from_civil(number(&date[..4])?, number(&date[4..6])?, number(&date[6..])?)?;
        let (hour, minute, second) = (number(&time[..2])?, number(&time[2..4])?, number(&time[4..])?);
        if hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        Some(Self { database: database.to_owned(), taken_at: days * 86_400 + hour * 3600 + minute * 60 + second })
    }
}

impl fmt::Display for BackupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = civil_date(self.taken_at.div_euclid(86_400));
        let of_day = self.taken_at.rem_euclid(86_400);
        let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
        write!(f, "{}_{year:04}{month:02}{day:02}_{hour:02}{minute:02}{second:02}{SUFFIX}", self.database)
    }
}

/// Days since 1970-01-01 of a date; none when there is no such day.
fn days_from_civil(year: i64, month: i64, day: i64) -> Option<i64> {
    // The first guess is right up to a few days, which the calendar's own function then counts.
    let guess = (year - 1970) * 365 + (year - 1969).div_euclid(4) + (month - 1) * 30 + day - 1;
    (guess - 40..guess + 40).find(|days| civil_date(*days) == (year, month, day))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_specifications() {
        let check = |text: &str, database: &str, taken_at: i64| {
            let name = BackupName { database: database.to_owned(), taken_at };
            assert_eq!(name.to_string(), text);
            assert_eq!(BackupName::parse(text), Some(name));
        };
        check("proj_abc123_20231201_020000.sql.gpg", "proj_abc123", 1_701_396_000);
        check("platform_20240229_235959.sql.gpg", "platform", 1_709_251_199);
        check("proj_abc_20991231_000000.sql.gpg", "proj_abc", 4_102_358_400);
        for other in [
            "proj_abc123_20231201_020000.sql",
            "proj_abc123_20230229_020000.sql.gpg",
            "proj_abc123_20231201_240000.sql.gpg",
            "proj_abc123_2023121_020000.sql.gpg",
            "_20231201_020000.sql.gpg",
            "../x_20231201_020000.sql.gpg",
            ".proj_abc_20231201_020000.sql.gpg.partial-0011",
            "x",
        ] {
            assert_eq!(BackupName::parse(other), None, "{other}");
        }
    }
}
