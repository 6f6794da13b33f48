//! Ranges of rows: `limit`/`offset` parameters and the `Range` header (PostgREST `RangeQuery`).

use http::StatusCode;

/// Rows from `offset` on, at most `limit` of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowRange {
    pub offset: u64,
    /// None is without end; 0 is the deliberate `limit=0`.
    pub limit: Option<u64>,
}

impl Default for RowRange {
    fn default() -> Self {
        Self::ALL
    }
}

impl RowRange {
    pub const ALL: Self = Self { offset: 0, limit: None };

    pub fn is_all(&self) -> bool {
        *self == Self::ALL
    }

    /// The same rows, but no more than `max_rows` (setting `db-max-rows`).
    pub fn restricted(self, max_rows: Option<u64>) -> Self {
        let limit = match (self.limit, max_rows) {
            (Some(limit), Some(max)) => Some(limit.min(max)),
            (limit, max) => limit.or(max),
        };
        Self { limit, ..self }
    }
}

/// `Content-Range` of rows `lower..=upper` of `total`; `*` when there are none, or the total is not known.
pub fn content_range(lower: i64, upper: i64, total: Option<i64>) -> String {
    let mut text = String::with_capacity(16);
    let mut digits = itoa::Buffer::new();
    if total != Some(0) && lower <= upper {
        text.push_str(digits.format(lower));
        text.push('-');
        text.push_str(digits.format(upper));
    } else {
        text.push('*');
    }
    text.push('/');
    text.push_str(total.map_or("*", |total| digits.format(total)));
    text
}

/// Status and `Content-Range` of an answer with `page` rows from `offset` on, of `total` when that was counted.
pub fn range_status(offset: u64, page: i64, total: Option<i64>) -> (StatusCode, String) {
    let lower = i64::try_from(offset).unwrap_or(i64::MAX);
    let upper = lower.saturating_add(page).saturating_sub(1);
    let status = match total {
        Some(total) if lower > total => StatusCode::RANGE_NOT_SATISFIABLE,
        Some(total) if page < total => StatusCode::PARTIAL_CONTENT,
        _ => StatusCode::OK,
    };
    (status, content_range(lower, upper, total))
}

/// Rows between two inclusive bounds while they are still being intersected: it may turn out empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub(crate) lower: i64,
    /// `i64::MAX` is without end.
    pub(crate) upper: i64,
}

impl Bounds {
    pub(crate) const ALL: Self = Self { lower: 0, upper: i64::MAX };
    /// What `limit=0` asks for.
    pub(crate) const LIMIT_ZERO: Self = Self { lower: 0, upper: -1 };

    pub(crate) fn intersection(self, other: Self) -> Self {
        Self { lower: self.lower.max(other.lower), upper: self.upper.min(other.upper) }
    }

    pub(crate) fn is_empty(self) -> bool {
        self.lower > self.upper
    }

    /// `limit=0` is recognised by its upper bound, so `limit=0` with an offset is an invalid range, as in PostgREST.
    pub(crate) fn is_limit_zero(self) -> bool {
        self.upper == Self::LIMIT_ZERO.upper
    }

    /// The range that a `limit` and an `offset` parameter of one level make together.
    pub(crate) fn from_limit_offset(limit: Option<i64>, offset: Option<i64>) -> Self {
        let lower = offset.unwrap_or(0);
        let upper = limit.map_or(i64::MAX, |limit| lower.saturating_add(limit).saturating_sub(1));
        Self { lower, upper }
    }

    /// `Range: 0-9`, `Range: 10-`; anything else is not a range of rows and is ignored.
    pub(crate) fn from_header(value: &str) -> Self {
        let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        let Some((lower, upper)) = value.split_once('-') else { return Self::ALL };
        if lower.is_empty() || !digits(lower) || !digits(upper) {
            return Self::ALL;
        }
        // Digits only, so what fails is too large.
        let lower = lower.parse().unwrap_or(i64::MAX);
        let upper = if upper.is_empty() { i64::MAX } else { upper.parse().unwrap_or(i64::MAX) };
        Self { lower, upper }
    }

    pub(crate) fn to_rows(self) -> RowRange {
        let offset = u64::try_from(self.lower).unwrap_or(0);
        let limit = (self.upper != i64::MAX)
            .then(|| u64::try_from(self.upper.saturating_sub(self.lower).saturating_add(1)).unwrap_or(0));
        RowRange { offset, limit }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_headers() {
        let check = |value: &str, lower: i64, upper: i64| {
            assert_eq!(Bounds::from_header(value), Bounds { lower, upper }, "{value}");
        };
        check("0-9", 0, 9);
        check("10-", 10, i64::MAX);
        check("1-0", 1, 0);
        check("-5", 0, i64::MAX);
        check("items=0-9", 0, i64::MAX);
        check("0-9,20-29", 0, i64::MAX);
        check("", 0, i64::MAX);
    }

    #[test]
    fn content_ranges_and_statuses() {
        let check = |offset: u64, page: i64, total: Option<i64>, status: u16, text: &str| {
            assert_eq!(range_status(offset, page, total), (StatusCode::from_u16(status).unwrap(), text.to_owned()));
        };
        check(0, 15, None, 200, "0-14/*");
        check(0, 0, None, 200, "*/*");
        check(0, 15, Some(15), 200, "0-14/15");
        check(0, 2, Some(15), 206, "0-1/15");
        check(14, 1, Some(15), 206, "14-14/15");
        check(15, 0, Some(15), 206, "*/15");
        check(16, 0, Some(15), 416, "*/15");
        check(0, 0, Some(0), 200, "*/0");
        check(1, 0, Some(0), 416, "*/0");
        assert_eq!(content_range(1, 0, None), "*/*");
        assert_eq!(content_range(0, 2, Some(3)), "0-2/3");
    }

    #[test]
    fn max_rows_restricts() {
        let range = RowRange { offset: 5, limit: Some(10) };
        assert_eq!(range.restricted(Some(2)), RowRange { offset: 5, limit: Some(2) });
        assert_eq!(range.restricted(Some(20)), range);
        assert_eq!(range.restricted(None), range);
        assert_eq!(RowRange::ALL.restricted(Some(2)).limit, Some(2));
    }
}
