//! Deleting objects: rows as the caller, in one transaction; the files follow ([`crate::sweep`]).

use axum::body::Body;
use axum::response::Response;
use serde::Deserialize;

use crate::download::find_as_caller;
use crate::error::Error;
use crate::key::BucketId;
use crate::request::{Cx, json_bytes, message, read_json};
use crate::route::ObjectPath;
use crate::store::changed;
use crate::store::object;

const OPERATION: &str = "storage.object.delete";
/// Names in one request.
const MOST_NAMES: usize = 1_000;

pub(crate) async fn delete_object(cx: &Cx, at: &ObjectPath) -> Result<Response, Error> {
    let delete = object::object_delete(&at.bucket, &at.key);
    let rows = cx.database.write(&cx.session(OPERATION), vec![delete]).await?;
    if rows.first().map_or(0, changed) == 0 {
        // Who may not see it is not told that it is there.
        let seen = find_as_caller(cx, &at.bucket, &at.key, OPERATION).await?;
        return Err(if seen.is_some() { Error::denied() } else { Error::NoSuchKey });
    }
    removed(cx);
    message("Successfully deleted")
}

#[derive(Deserialize)]
struct Names {
    prefixes: Vec<String>,
}

pub(crate) async fn delete_objects(cx: &Cx, bucket: &BucketId, body: Body) -> Result<Response, Error> {
    let names: Names = read_json(cx, body).await?;
    if names.prefixes.is_empty() {
        return Err(Error::InvalidRequest("body/prefixes must NOT have fewer than 1 items".into()));
    }
    if names.prefixes.len() > MOST_NAMES {
        return Err(Error::InvalidRequest(
            format!("Bulk object requests are limited to {MOST_NAMES} objects per request.").into(),
        ));
    }
    // No text of PostgreSQL's has a NUL, so that such a name is nobody's.
    let names = names.prefixes.iter().map(String::as_str).filter(|name| !name.contains('\0'));
    let delete = object::objects_delete(bucket, names);
    let rows = cx.database.write(&cx.session("storage.object.delete_many"), vec![delete]).await?;
    removed(cx);
    let list = rows.first().and_then(|rows| rows.rows.first()?.bytes(0));
    Ok(json_bytes(list.ok_or(Error::Internal("a list without a row"))?))
}

pub(crate) fn removed(cx: &Cx) {
    cx.shared.quotas.rows_went(&cx.project.project_ref);
    cx.shared.sweep(&cx.project.project_ref, &cx.database);
}

/// There is no cache in front of this server that could be purged: it is done.
pub(crate) fn purge_cache(cx: &Cx) -> Result<Response, Error> {
    if cx.is_service_role() { message("success") } else { Err(Error::denied()) }
}
