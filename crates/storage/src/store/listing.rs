//! Statements that list a bucket as S3 does: in the order of bytes, perhaps with what is behind a delimiter folded.

use pg::Query;
use serde::Deserialize;

use super::{number, query, text};
use crate::key::BucketId;

/// An entry of a list: an object, or (without an id) the common beginning of some.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) id: Option<String>,
    pub(crate) version: Option<String>,
    #[serde(default)]
    pub(crate) metadata: Option<serde_json::Map<String, serde_json::Value>>,
    /// Unix seconds.
    pub(crate) modified: Option<i64>,
}

/// What the caller may see behind `after`, as one JSON array.
pub(crate) fn list_flat(bucket: &BucketId, prefix: &str, after: &str, limit: u64) -> Query {
    query(
        "select coalesce(json_agg(json_build_object('name', name, 'id', id, 'version', version, 'metadata', metadata,
             'modified', floor(extract(epoch from updated_at))::bigint)), '[]')::text
         from (
             select * from storage.objects
             where bucket_id = $1 and name collate \"C\" > $3 and name collate \"C\" >= $2 and starts_with(name, $2)
             order by name collate \"C\" limit $4::bigint
         ) as object",
        vec![text(bucket.as_str()), text(prefix), text(after), number(limit)],
    )
}

/// The same with everything behind the first `delimiter` after the prefix folded into one entry, whose name lacks the
/// delimiter.
pub(crate) fn list_folded(bucket: &BucketId, prefix: &str, delimiter: &str, after: &str, limit: u64) -> Query {
    query(
        "select coalesce(json_agg(json_build_object('name', listed.name, 'id', listed.id, 'version', object.version,
             'metadata', listed.metadata, 'modified', floor(extract(epoch from listed.updated_at))::bigint)
             order by listed.position), '[]')::text
         from storage.list_objects_with_delimiter($1, $2, $3, $5::integer, $4, '') with ordinality
             as listed (name, id, metadata, updated_at, created_at, last_accessed_at, position)
         left join storage.objects as object on object.id = listed.id",
        vec![text(bucket.as_str()), text(prefix), text(delimiter), text(after), number(limit)],
    )
}
