//! Ranges of rows: `limit`/`offset` parameters and the `Range` header (PostgREST `RangeQuery`).

/// Rows from `offset` on, at most `limit` of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowRange {
    pub offset: u64,
    /// None is without end; 0 is the deliberate `limit=0`.
    pub limit: Option<u64>,
}

impl RowRange {
    pub const ALL: Self = Self { offset: 0, limit: None };

    pub fn is_all(&self) -> bool {
        *self == Self::ALL
    }
}
