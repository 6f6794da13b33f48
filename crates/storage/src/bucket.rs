//! Buckets: create, list, get, update, empty, delete. The caller's policies on `storage.buckets` decide.

use axum::body::Body;
use axum::response::Response;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::error::Error;
use crate::key::{BucketId, is_uuid};
use crate::mime;
use crate::request::{Cx, json, json_bytes, message, read_json};
use crate::store::bucket::{self, BucketFields, BucketOrder};
use crate::store::changed;

/// Buckets of one listing when nobody says.
const MOST_BUCKETS: u64 = 10_000;
/// Types in one list.
const MOST_TYPES: usize = 200;

/// A field that is missing, null, or there.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(deserializer).map(Some)
}

#[derive(Deserialize)]
struct BucketParams {
    id: Option<String>,
    name: Option<String>,
    public: Option<bool>,
    #[serde(default, deserialize_with = "given")]
    file_size_limit: Option<Option<Value>>,
    #[serde(default, deserialize_with = "given")]
    allowed_mime_types: Option<Option<Vec<String>>>,
    #[serde(rename = "type")]
    kind: Option<String>,
}

impl BucketParams {
    fn fields(self, cx: &Cx) -> Result<BucketFields, Error> {
        let file_size_limit = match self.file_size_limit {
            None => None,
            Some(None) => Some(None),
            Some(Some(limit)) => {
                let limit = file_size(&limit)?;
                if limit > cx.project.storage.file_size_limit {
                    return Err(Error::TooLarge { limit: cx.project.storage.file_size_limit });
                }
                Some(Some(limit))
            }
        };
        let allowed_mime_types = match self.allowed_mime_types {
            None => None,
            Some(None) => Some(None),
            Some(Some(list)) => {
                let list: Vec<String> = list.into_iter().filter(|mime| !mime.is_empty()).collect();
                if list.len() > MOST_TYPES {
                    return Err(Error::InvalidRequest(
                        format!("body/allowed_mime_types must have at most {MOST_TYPES} items").into(),
                    ));
                }
                mime::check_list(&list)?;
                Some(Some(list))
            }
        };
        Ok(BucketFields { public: self.public, file_size_limit, allowed_mime_types })
    }
}

/// A number of bytes, or a text like `1.5MB` (1,500,000 bytes).
fn file_size(value: &Value) -> Result<u64, Error> {
    const HINT: &str = "Invalid file size format, hint: use 20GB / 20MB / 30KB / 3B";
    let refused = || Error::InvalidRequest(HINT.into());
    let text = match value {
        Value::Number(number) => return number.as_u64().ok_or_else(refused),
        Value::String(text) => text.trim().to_ascii_lowercase(),
        _ => return Err(refused()),
    };
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &text[digits.len()..] {
        "gb" => 1e9,
        "mb" => 1e6,
        "kb" => 1e3,
        "b" | "" => 1.0,
        _ => return Err(refused()),
    };
    let plain = digits.bytes().all(|b| b.is_ascii_digit() || b == b'.') && !digits.starts_with('.');
    let number: f64 = digits.parse().ok().filter(|_| plain).ok_or_else(refused)?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a saturating cast of what is not negative"
    )]
    Ok((number * factor) as u64)
}

pub(crate) async fn list_buckets(cx: &Cx) -> Result<Response, Error> {
    let number = |name: &str| match cx.query(name).filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => text
            .parse::<u64>()
            .map(Some)
            .map_err(|_| Error::InvalidRequest(format!("querystring/{name} must be a whole number").into())),
    };
    let column = cx.query("sortColumn").filter(|column| !column.is_empty()).unwrap_or_else(|| "name".to_owned());
    if !matches!(&*column, "id" | "name" | "created_at" | "updated_at") {
        return Err(Error::InvalidRequest("querystring/sortColumn must be equal to one of the allowed values".into()));
    }
    let order = BucketOrder {
        limit: Some(number("limit")?.unwrap_or(MOST_BUCKETS).min(MOST_BUCKETS)),
        offset: number("offset")?.unwrap_or_default(),
        search: cx.query("search").unwrap_or_default(),
        column,
        descending: cx.query("sortOrder").is_some_and(|order| order.eq_ignore_ascii_case("desc")),
    };
    let rows = cx.database.read(&cx.session("storage.bucket.list"), vec![bucket::bucket_list(&order)]).await?;
    let list = rows.first().and_then(|rows| rows.rows.first()?.bytes(0));
    Ok(json_bytes(list.ok_or(Error::Internal("a list without a row"))?))
}

pub(crate) async fn get_bucket(cx: &Cx, id: &BucketId) -> Result<Response, Error> {
    let rows = cx.database.read(&cx.session("storage.bucket.get"), vec![bucket::bucket_view(id)]).await?;
    let view = rows.first().and_then(|rows| rows.rows.first()?.bytes(0));
    Ok(json_bytes(view.ok_or(Error::NoSuchBucket)?))
}

pub(crate) async fn create_bucket(cx: &Cx, body: Body) -> Result<Response, Error> {
    let params: BucketParams = read_json(cx, body).await?;
    let name = match (&params.name, &params.id) {
        (Some(name), _) | (None, Some(name)) => name.clone(),
        (None, None) => return Err(Error::InvalidRequest("body must have required property 'name'".into())),
    };
    let id = params.id.clone().unwrap_or_else(|| name.clone());
    for text in [&id, &name] {
        if BucketId::parse(text).is_none() || text.trim() != text {
            return Err(Error::InvalidBucketName);
        }
    }
    if params.kind.as_deref().is_some_and(|kind| kind != "STANDARD") {
        return Err(Error::NotBuilt("A bucket of another type than STANDARD"));
    }
    let fields = params.fields(cx)?;
    let owner = cx.owner.as_deref();
    let insert = bucket::bucket_insert(&id, &name, owner, owner.filter(|owner| is_uuid(owner)), &fields);
    cx.database.write(&cx.session("storage.bucket.create"), vec![insert]).await?;
    json(&serde_json::json!({"name": name}))
}

pub(crate) async fn update_bucket(cx: &Cx, id: &BucketId, body: Body) -> Result<Response, Error> {
    let params: BucketParams = read_json(cx, body).await?;
    if params.public.is_none() && params.file_size_limit.is_none() && params.allowed_mime_types.is_none() {
        return Err(Error::InvalidRequest("body must have one of public, file_size_limit, allowed_mime_types".into()));
    }
    let update = bucket::bucket_update(id, &params.fields(cx)?);
    let rows = cx.database.write(&cx.session("storage.bucket.update"), vec![update]).await?;
    match rows.first().map(changed) {
        Some(1..) => message("Successfully updated"),
        _ => Err(Error::NoSuchBucket),
    }
}

pub(crate) async fn delete_bucket(cx: &Cx, id: &BucketId) -> Result<Response, Error> {
    // Also what the caller may not see keeps a bucket; only who may delete it is told.
    let delete = bucket::bucket_delete(id);
    let rows = cx.database.write(&cx.session("storage.bucket.delete"), vec![delete]).await.map_err(not_empty)?;
    match rows.first().map(changed) {
        Some(1..) => message("Successfully deleted"),
        _ => Err(Error::NoSuchBucket),
    }
}

/// Objects refer to their bucket.
fn not_empty(error: Error) -> Error {
    match error {
        Error::Referenced(message) if !message.contains("multipart") => Error::BucketNotEmpty,
        other => other,
    }
}

pub(crate) async fn empty_bucket(cx: &Cx, id: &BucketId) -> Result<Response, Error> {
    let session = cx.session("storage.bucket.empty");
    let rows = cx.database.read(&session, vec![bucket::bucket_view(id)]).await?;
    if rows.first().is_none_or(|rows| rows.rows.is_empty()) {
        return Err(Error::NoSuchBucket);
    }
    // In pieces, so that no statement takes longer than it may. What the caller may not delete stays.
    loop {
        let rows = cx.database.write(&session, vec![bucket::bucket_empty(id)]).await?;
        if rows.first().map_or(0, changed) == 0 {
            break;
        }
        cx.shared.sweep(&cx.project.project_ref, &cx.database);
    }
    message("Successfully emptied")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sizes_are_numbers_or_texts_with_a_unit() {
        let check = |value: Value, expected: Option<u64>| assert_eq!(file_size(&value).ok(), expected, "{value}");
        check(json!(5), Some(5));
        check(json!("5"), Some(5));
        check(json!("1MB"), Some(1_000_000));
        check(json!("1.5mb"), Some(1_500_000));
        check(json!("20 GB"), None);
        check(json!("20GB"), Some(20_000_000_000));
        check(json!("30kb"), Some(30_000));
        check(json!("3b"), Some(3));
        for bad in [json!(-1), json!(1.5), json!("x"), json!(""), json!("MB"), json!("-1MB"), json!("1e9"), json!([1])]
        {
            check(bad, None);
        }
    }
}
