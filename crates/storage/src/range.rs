//! The `Range` header (RFC 9110, section 14). Pure.

/// What part of a content is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// All of it: there is no range, or one that may be ignored (another unit, several ranges, nonsense).
    Whole,
    /// From the first byte to before the last one.
    Part { start: u64, end: u64 },
    /// A range that lies outside of the content.
    Unsatisfiable,
}

/// What `header` asks for of a content of `size` bytes.
pub(crate) fn asked(header: &str, size: u64) -> Asked {
    let Some(range) = header.trim().strip_prefix("bytes=") else { return Asked::Whole };
    let Some((first, last)) = range.split_once('-') else { return Asked::Whole };
    let (first, last) = (first.trim(), last.trim());
    // A list is answered whole, which is allowed and what upstream does not do better.
    let number = |text: &str| match text.bytes().all(|b| b.is_ascii_digit()) {
        true if !text.is_empty() => Some(text.parse::<u64>().unwrap_or(u64::MAX)),
        _ => None,
    };
    match (number(first), number(last)) {
        (None, Some(suffix)) if first.is_empty() => match suffix {
            0 => Asked::Unsatisfiable,
            _ if size == 0 => Asked::Unsatisfiable,
            _ => Asked::Part { start: size.saturating_sub(suffix), end: size },
        },
        (Some(start), None) if last.is_empty() => part(start, u64::MAX, size),
        (Some(start), Some(last)) if start <= last => part(start, last, size),
        _ => Asked::Whole,
    }
}

fn part(start: u64, last: u64, size: u64) -> Asked {
    if start >= size {
        return Asked::Unsatisfiable;
    }
    Asked::Part { start, end: last.saturating_add(1).min(size) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_of_bytes() {
        let check = |header: &str, expected: Asked| assert_eq!(asked(header, 100), expected, "{header}");
        let part = |start, end| Asked::Part { start, end };
        check("bytes=0-9", part(0, 10));
        check("bytes=0-0", part(0, 1));
        check("bytes=90-", part(90, 100));
        check("bytes=90-1000", part(90, 100));
        check("bytes=-10", part(90, 100));
        check("bytes=-1000", part(0, 100));
        check(" bytes=5-6 ", part(5, 7));
        check("bytes=0-99999999999999999999999", part(0, 100));
        check("bytes=100-", Asked::Unsatisfiable);
        check("bytes=99999999999999999999999-", Asked::Unsatisfiable);
        check("bytes=-0", Asked::Unsatisfiable);
        for ignored in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=5",
            "bytes=9-5",
            "bytes=a-b",
            "bytes=0-1,5-6",
            "items=0-1",
            "bytes=+1-2",
        ] {
            check(ignored, Asked::Whole);
        }
        assert_eq!(asked("bytes=0-", 0), Asked::Unsatisfiable);
        assert_eq!(asked("bytes=-5", 0), Asked::Unsatisfiable);
    }

    /// What comes out lies within the content, whatever comes in.
    #[test]
    fn no_header_reaches_outside() {
        let mut seed = 7_u64;
        let mut next = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        const PARTS: [&str; 12] = ["bytes", "=", "-", "0", "1", "99", "18446744073709551615", " ", ",", "x", "-1", "5"];
        for _ in 0..20_000 {
            let count = next(8);
            let header: String = (0..count).map(|_| PARTS[usize::try_from(next(12)).unwrap()]).collect();
            let size = next(200);
            if let Asked::Part { start, end } = asked(&header, size) {
                assert!(start < end && end <= size, "{header} of {size}: {start}..{end}");
            }
        }
    }
}
