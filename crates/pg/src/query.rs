//! Statements and their results on the pipelined driver.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::driver::LongValue;

/// A statement with its parameters. Parameters are sent in text format and without a type, so that PostgreSQL infers
/// it; results come back in binary format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    pub sql: Arc<str>,
    /// `None` is NULL.
    pub params: Vec<Option<Bytes>>,
}

/// One row: the bytes as they came from the socket, uncopied.
#[derive(Clone, Debug, Default)]
pub struct Row {
    bytes: Bytes,
    columns: Vec<Option<Range<usize>>>,
}

impl Row {
    pub(crate) fn new(bytes: Bytes, columns: Vec<Option<Range<usize>>>) -> Self {
        Self { bytes, columns }
    }

    pub fn len(&self) -> usize {
        self.columns.len()
    }

    pub fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    /// Column `index`; `None` for NULL or when there is no such column. Shares the socket's buffer.
    pub fn bytes(&self, index: usize) -> Option<Bytes> {
        let range = self.columns.get(index)?.clone()?;
        Some(self.bytes.slice(range))
    }

    /// Column `index` as UTF-8 text.
    pub fn text(&self, index: usize) -> Option<&str> {
        let range = self.columns.get(index)?.clone()?;
        std::str::from_utf8(&self.bytes[range]).ok()
    }

    /// Column `index` as a binary int8, int4 or int2.
    pub fn int(&self, index: usize) -> Option<i64> {
        let range = self.columns.get(index)?.clone()?;
        let raw = &self.bytes[range];
        match raw.len() {
            8 => raw.try_into().ok().map(i64::from_be_bytes),
            4 => raw.try_into().ok().map(|b| i64::from(i32::from_be_bytes(b))),
            2 => raw.try_into().ok().map(|b| i64::from(i16::from_be_bytes(b))),
            _ => None,
        }
    }

    /// Column `index` as a binary bool.
    pub fn bool(&self, index: usize) -> Option<bool> {
        let range = self.columns.get(index)?.clone()?;
        self.bytes[range].first().map(|b| *b != 0)
    }
}

/// The rows of one statement and its command tag (`SELECT 1`).
#[derive(Debug, Default)]
pub struct Rows {
    pub rows: Vec<Row>,
    pub tag: String,
    /// What is too long to be held in memory: the last value of the only row, which then has NULL there, or the rows as one
    /// array, of which `rows` then has the first. Only as [`Exchange::streams`](crate::Exchange::streams) says; the tag is
    /// not known yet.
    pub long: Option<LongValue>,
}
