//! Listings of a bucket: one level (`list`), or pages behind a cursor (`list-v2`).

use axum::body::Body;
use axum::response::Response;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::error::Error;
use crate::key::{BucketId, LONGEST_KEY};
use crate::request::{Cx, json as json_answer, json_bytes, read_json};
use crate::store;
use crate::store::object::{self, Paging, Search};

const DEFAULT_LIMIT: u64 = 100;
/// Entries of one listing.
const MOST_ENTRIES: u64 = 1_000;
const MOST_LEVEL_ENTRIES: u64 = 1_500;

#[derive(Deserialize)]
struct SortBy {
    column: Option<String>,
    order: Option<String>,
}

#[derive(Deserialize)]
struct ListParams {
    prefix: Option<String>,
    limit: Option<u64>,
    offset: Option<u64>,
    search: Option<String>,
    #[serde(rename = "sortBy")]
    sort_by: Option<SortBy>,
}

fn one_of(value: Option<String>, allowed: &[&str], name: &str) -> Result<String, Error> {
    match value.filter(|value| !value.is_empty()) {
        None => Ok(allowed.first().copied().unwrap_or_default().to_owned()),
        Some(value) if allowed.contains(&&*value) => Ok(value),
        Some(_) => {
            Err(Error::InvalidRequest(format!("body/sortBy/{name} must be equal to one of the allowed values").into()))
        }
    }
}

/// A prefix or search text: not what a key can be, and perhaps nothing.
fn fragment(text: Option<String>, name: &str) -> Result<String, Error> {
    let text = text.unwrap_or_default();
    if text.len() > LONGEST_KEY || text.contains('\0') {
        return Err(Error::InvalidRequest(format!("body/{name} must be a text of at most {LONGEST_KEY} bytes").into()));
    }
    Ok(text)
}

pub(crate) async fn list_objects(cx: &Cx, bucket: &BucketId, body: Body) -> Result<Response, Error> {
    let params: ListParams = read_json(cx, body).await?;
    let mut prefix = fragment(params.prefix, "prefix")?;
    // A prefix is a folder.
    if !prefix.is_empty() && !prefix.ends_with('/') {
        prefix.push('/');
    }
    let (column, order) = params.sort_by.map_or((None, None), |sort| (sort.column, sort.order));
    let limit = params.limit.unwrap_or(DEFAULT_LIMIT);
    if limit == 0 {
        return Err(Error::InvalidRequest("body/limit must be >= 1".into()));
    }
    let search = Search {
        prefix,
        limit: limit.min(MOST_LEVEL_ENTRIES),
        offset: params.offset.unwrap_or_default().min(u64::from(i32::MAX.unsigned_abs())),
        search: fragment(params.search, "search")?,
        column: one_of(column, &["name", "updated_at", "created_at", "last_accessed_at"], "column")?,
        order: one_of(order, &["asc", "desc"], "order")?,
    };
    let query = object::object_search(bucket, &search);
    let rows = cx.database.read(&cx.session("storage.object.list"), vec![query]).await?;
    let list = rows.first().and_then(|rows| rows.rows.first()?.bytes(0));
    Ok(json_bytes(list.ok_or(Error::Internal("a list without a row"))?))
}

#[derive(Deserialize)]
struct PageParams {
    prefix: Option<String>,
    limit: Option<u64>,
    cursor: Option<String>,
    with_delimiter: Option<bool>,
    #[serde(rename = "sortBy")]
    sort_by: Option<SortBy>,
}

/// Where a page ended, as the client carries it: JSON in base64.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Cursor {
    after: String,
    order: String,
    column: String,
    #[serde(default)]
    time: String,
}

impl Cursor {
    fn encode(&self) -> String {
        BASE64_STANDARD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    fn decode(text: &str) -> Option<Self> {
        let cursor: Self = serde_json::from_slice(&BASE64_STANDARD.decode(text).ok()?).ok()?;
        let fits = cursor.after.len() <= LONGEST_KEY + 1
            && !cursor.after.contains('\0')
            && matches!(&*cursor.order, "asc" | "desc")
            && matches!(&*cursor.column, "name" | "created_at" | "updated_at")
            && cursor.time.len() <= 40
            && cursor.time.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b':' | b'.' | b'T' | b'+' | b'Z'));
        fits.then_some(cursor)
    }
}

pub(crate) async fn list_objects_v2(cx: &Cx, bucket: &BucketId, body: Body) -> Result<Response, Error> {
    let params: PageParams = read_json(cx, body).await?;
    let limit = params.limit.unwrap_or(MOST_ENTRIES);
    if limit == 0 {
        return Err(Error::InvalidRequest("body/limit must be >= 1".into()));
    }
    let limit = limit.min(MOST_ENTRIES);
    let cursor = match params.cursor.filter(|cursor| !cursor.is_empty()) {
        Some(text) => Some(Cursor::decode(&text).ok_or(Error::InvalidParameter("Invalid Parameter cursor".into()))?),
        None => None,
    };
    let (column, order) = params.sort_by.map_or((None, None), |sort| (sort.column, sort.order));
    let cursor = match cursor {
        Some(cursor) => cursor,
        None => Cursor {
            column: one_of(column, &["name", "updated_at", "created_at"], "column")?,
            order: one_of(order, &["asc", "desc"], "order")?,
            ..Cursor::default()
        },
    };
    let paging = Paging {
        prefix: fragment(params.prefix, "prefix")?,
        limit: limit + 1,
        delimited: params.with_delimiter.unwrap_or_default(),
        column: cursor.column,
        order: cursor.order,
        after: cursor.after,
        after_time: cursor.time,
    };
    let query = object::object_page(bucket, &paging);
    let rows = cx.database.read(&cx.session("storage.object.list_v2"), vec![query]).await?;
    let mut entries: Vec<Map<String, Value>> = match rows.first().and_then(|rows| rows.rows.first()) {
        Some(row) => store::json(row, 0)?.unwrap_or_default(),
        None => Vec::new(),
    };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let has_next = entries.len() > limit;
    entries.truncate(limit);
    let mut answer = json!({"hasNext": has_next});
    if has_next && let Some(last) = entries.last() {
        let text = |name: &str| last.get(name).and_then(Value::as_str).unwrap_or_default();
        let after = text("name").to_owned();
        let time = if paging.column == "name" { "" } else { text(&paging.column) };
        let cursor = Cursor { after: after.clone(), order: paging.order, column: paging.column, time: time.to_owned() };
        answer["nextCursor"] = cursor.encode().into();
        answer["nextCursorKey"] = after.into();
    }
    let (mut folders, mut objects) = (Vec::new(), Vec::new());
    for mut entry in entries {
        if !entry.get("id").is_none_or(Value::is_null) {
            objects.push(entry);
            continue;
        }
        if let Some(Value::String(name)) = entry.get_mut("name")
            && !name.ends_with('/')
        {
            name.push('/');
        }
        folders.push(entry);
    }
    answer["folders"] = json!(folders);
    answer["objects"] = json!(objects);
    json_answer(&answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_come_back_as_they_went_or_not_at_all() {
        let cursor = Cursor { after: "a/b".into(), order: "asc".into(), column: "name".into(), time: String::new() };
        assert_eq!(Cursor::decode(&cursor.encode()), Some(cursor));
        for bad in ["", "x", "e30=", "!!!"] {
            assert_eq!(Cursor::decode(bad), None, "{bad}");
        }
        let bad = Cursor { after: "a".into(), order: "asc; drop".into(), column: "name".into(), time: String::new() };
        assert_eq!(Cursor::decode(&bad.encode()), None);
    }
}
