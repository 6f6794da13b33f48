//! All SQL of the service. What it stores: a row of `storage.objects` for each object, with the version of its content,
//! and a row of `storage.buckets` for each bucket. What it does not store: contents, and which file belongs to no row
//! any more (`_launchdb.storage_removals` has that, written by a trigger in the transaction that changed the row).
//!
//! Rows come back as JSON texts; values are parameters in text form.

pub(crate) mod bucket;
pub(crate) mod object;
pub(crate) mod removal;

use bytes::Bytes;
use pg::{Query, Row, Rows};
use serde::de::DeserializeOwned;

use crate::error::Error;

/// A parameter.
pub(crate) type Param = Option<Bytes>;

pub(crate) fn text(value: &str) -> Param {
    Some(Bytes::copy_from_slice(value.as_bytes()))
}

pub(crate) fn optional(value: Option<&str>) -> Param {
    value.and_then(text)
}

pub(crate) fn number(value: u64) -> Param {
    Some(Bytes::from(value.to_string()))
}

/// Texts as a JSON array.
pub(crate) fn json_list<'a>(values: impl IntoIterator<Item = &'a str>) -> Param {
    let values: Vec<&str> = values.into_iter().collect();
    serde_json::to_vec(&values).ok().map(Bytes::from)
}

pub(crate) fn query(sql: &'static str, params: Vec<Param>) -> Query {
    Query { sql: sql.into(), params }
}

/// Column `index` of a row as the JSON it is.
pub(crate) fn json<T: DeserializeOwned>(row: &Row, index: usize) -> Result<Option<T>, Error> {
    match row.bytes(index) {
        None => Ok(None),
        Some(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|_| Error::Internal("a row of another form than asked for")),
    }
}

/// How many rows a statement changed, from its command tag (`DELETE 3`).
pub(crate) fn changed(rows: &Rows) -> u64 {
    rows.tag.rsplit(' ').next().and_then(|count| count.parse().ok()).unwrap_or_default()
}
