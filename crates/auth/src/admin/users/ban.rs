//! How long a user is banned: Go's notation of durations (`24h`, `1h30m`), or `none`.

use crate::error::Error;

/// A hundred years and some: what is longer is for ever.
const LONGEST: f64 = 4_000_000_000.0;

/// Seconds; 0 ends a ban.
pub(super) fn seconds(text: &str) -> Result<i64, Error> {
    if text == "none" {
        return Ok(0);
    }
    let wrong = || Error::invalid(format!("invalid format for ban duration: {text:?}"));
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut total = 0.0;
    if rest.is_empty() {
        return Err(wrong());
    }
    if rest == "0" {
        return Ok(0);
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, unit) = rest.split_at(digits);
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let end = unit.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(unit.len());
        let (unit, more) = unit.split_at(end);
        let scale = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return Err(wrong()),
        };
        total += number * scale;
        rest = more;
    }
    #[expect(clippy::cast_possible_truncation, reason = "bounded, and fractions of a second do not matter")]
    Ok(total.min(LONGEST).ceil() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_does() {
        for (text, expected) in
            [("none", 0), ("24h", 86_400), ("1h30m", 5_400), ("1.5h", 5_400), ("300ms", 1), ("876000h", 3_153_600_000)]
        {
            assert_eq!(seconds(text).unwrap(), expected, "{text}");
        }
        for bad in ["", "h", "5", "1d", "-5h", "1h-5m", "x"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
