//! Statements on `storage.s3_multipart_uploads` and their parts. All of them run as the service: nobody else has policies
//! there, and whether the caller may upload is asked on `storage.objects`.

use pg::Query;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Param, number, optional, query, text};
use crate::key::{BucketId, Version};
use crate::route::ObjectPath;

/// An upload in parts.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct MultipartUpload {
    pub(crate) id: String,
    pub(crate) key: String,
    pub(crate) owner_id: Option<String>,
    #[serde(default)]
    pub(crate) metadata: Option<Map<String, Value>>,
    #[serde(default)]
    pub(crate) user_metadata: Option<Value>,
    /// Unix seconds.
    pub(crate) created: i64,
}

/// A part that was received.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Part {
    pub(crate) number: u32,
    /// Bytes.
    pub(crate) size: u64,
    /// MD5 in hex.
    pub(crate) etag: String,
    /// The name of its file.
    pub(crate) version: String,
    /// Unix seconds.
    pub(crate) created: i64,
}

/// A row to insert.
pub(crate) struct NewUpload<'a> {
    pub(crate) id: &'a str,
    pub(crate) at: &'a ObjectPath,
    pub(crate) owner: Option<&'a str>,
    pub(crate) metadata: &'a Value,
    pub(crate) user_metadata: Option<&'a Value>,
}

fn json_param(value: &Value) -> Param {
    Some(bytes::Bytes::from(value.to_string()))
}

pub(crate) fn upload_insert(new: &NewUpload<'_>) -> Query {
    query(
        "insert into storage.s3_multipart_uploads (id, upload_signature, bucket_id, key, version, owner_id, metadata,
             user_metadata)
         values ($1, '', $2, $3, $1, $4, $5::jsonb, $6::jsonb)",
        vec![
            text(new.id),
            text(new.at.bucket.as_str()),
            text(new.at.key.as_str()),
            optional(new.owner),
            json_param(new.metadata),
            new.user_metadata.and_then(json_param),
        ],
    )
}

pub(crate) fn upload_find(id: &str, at: &ObjectPath) -> Query {
    query(
        "select json_build_object('id', id, 'key', key, 'owner_id', owner_id, 'metadata', metadata,
             'user_metadata', user_metadata, 'created', floor(extract(epoch from created_at))::bigint)::text
         from storage.s3_multipart_uploads where id = $1 and bucket_id = $2 and key = $3",
        vec![text(id), text(at.bucket.as_str()), text(at.key.as_str())],
    )
}

/// How uploads are listed.
pub(crate) struct UploadPage<'a> {
    pub(crate) bucket: &'a BucketId,
    pub(crate) prefix: &'a str,
    pub(crate) after_key: &'a str,
    /// Empty when whatever has the key `after_key` was listed.
    pub(crate) after_id: &'a str,
    /// Whose; none for everybody's.
    pub(crate) owner: Option<&'a str>,
    pub(crate) limit: u64,
}

/// A page of uploads in the order of their keys, as one JSON array.
pub(crate) fn upload_list(page: &UploadPage<'_>) -> Query {
    query(
        "select coalesce(json_agg(json_build_object('id', id, 'key', key, 'owner_id', owner_id,
             'created', floor(extract(epoch from created_at))::bigint)), '[]')::text
         from (
             select * from storage.s3_multipart_uploads
             where bucket_id = $1 and starts_with(key, $2) and ($5::text is null or owner_id = $5)
                 and (key > $3 or ($4 <> '' and key = $3 and id collate \"C\" > $4))
             order by key, id collate \"C\" limit $6::bigint
         ) as upload",
        vec![
            text(page.bucket.as_str()),
            text(page.prefix),
            text(page.after_key),
            text(page.after_id),
            optional(page.owner),
            number(page.limit),
        ],
    )
}

/// Forgets an upload and its parts; the command tag tells whether it was there.
pub(crate) fn upload_delete(id: &str) -> Query {
    query("delete from storage.s3_multipart_uploads where id = $1", vec![text(id)])
}

/// Forgets uploads that were begun more than `seconds` ago; gives their ids as one JSON array.
pub(crate) fn upload_expire(seconds: u64) -> Query {
    query(
        "with expired as (
             delete from storage.s3_multipart_uploads
             where created_at < now() - make_interval(secs => $1::double precision) returning id
         )
         select coalesce(json_agg(id), '[]')::text from expired",
        vec![number(seconds)],
    )
}

/// Ids of all uploads, as one JSON array.
pub(crate) fn upload_ids() -> Query {
    query("select coalesce(json_agg(id), '[]')::text from storage.s3_multipart_uploads", Vec::new())
}

/// A part that was received, in place of the one with its number. Gives the versions of those as a JSON array; no row when
/// there is no such upload any more.
pub(crate) fn part_put(upload_id: &str, at: &ObjectPath, part: &NewPart<'_>) -> Query {
    query(
        "with upload as (
             select id from storage.s3_multipart_uploads where id = $1 for update
         ), older as (
             delete from storage.s3_multipart_uploads_parts
             where upload_id = $1 and part_number = $2::integer returning version, size
         ), new as (
             insert into storage.s3_multipart_uploads_parts
                 (upload_id, part_number, bucket_id, key, size, etag, version, owner_id, created_at)
             select id, $2::integer, $3, $4, $5::bigint, $6, $7, $8, clock_timestamp() from upload
             returning upload_id
         ), grown as (
             update storage.s3_multipart_uploads
             set in_progress_size = greatest(0,
                 in_progress_size + $5::bigint - (select coalesce(sum(size), 0) from older)::bigint)
             where id = $1
         )
         select (select coalesce(json_agg(version), '[]') from older)::text from new",
        vec![
            text(upload_id),
            number(u64::from(part.number)),
            text(at.bucket.as_str()),
            text(at.key.as_str()),
            number(part.size),
            text(part.etag),
            text(part.version.as_str()),
            optional(part.owner),
        ],
    )
}

/// A part to note down.
pub(crate) struct NewPart<'a> {
    pub(crate) number: u32,
    pub(crate) size: u64,
    pub(crate) etag: &'a str,
    pub(crate) version: &'a Version,
    pub(crate) owner: Option<&'a str>,
}

/// Parts behind a number in their order, as one JSON array. Of several with one number the last one counts.
pub(crate) fn part_list(upload_id: &str, after: u32, limit: u64) -> Query {
    query(
        "select coalesce(json_agg(json_build_object('number', part_number, 'size', size, 'etag', etag, 'version', version,
             'created', floor(extract(epoch from created_at))::bigint)), '[]')::text
         from (
             select distinct on (part_number) * from storage.s3_multipart_uploads_parts
             where upload_id = $1 and part_number > $2::integer
             order by part_number, created_at desc limit $3::bigint
         ) as part",
        vec![text(upload_id), number(u64::from(after)), number(limit)],
    )
}
