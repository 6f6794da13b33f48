//! Statements on `storage.objects`.

use bytes::Bytes;
use pg::Query;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Param, json_list, number, optional, query, text};
use crate::key::{BucketId, ObjectKey, Version};

/// A row, as much of it as reading an object takes.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Object {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) bucket_id: String,
    pub(crate) version: Option<String>,
    #[serde(default)]
    pub(crate) metadata: Option<Map<String, Value>>,
    #[serde(default)]
    pub(crate) user_metadata: Option<Value>,
    pub(crate) created_at: Value,
    pub(crate) updated_at: Value,
    /// Unix seconds of `updated_at`.
    pub(crate) modified: Option<i64>,
}

/// A row to insert, or to put in place of the one with the same name.
#[derive(Clone, Debug)]
pub(crate) struct NewObject<'a> {
    pub(crate) id: &'a str,
    pub(crate) bucket: &'a BucketId,
    pub(crate) key: &'a ObjectKey,
    pub(crate) version: &'a Version,
    /// The `sub` of the caller's token.
    pub(crate) owner: Option<&'a str>,
    pub(crate) metadata: &'a Value,
    pub(crate) user_metadata: Option<&'a Value>,
}

fn json_param(value: &Value) -> Param {
    Some(Bytes::from(value.to_string()))
}

/// The old column takes UUIDs only.
fn owner_params(owner: Option<&str>) -> [Param; 2] {
    [optional(owner.filter(|owner| crate::key::is_uuid(owner))), optional(owner)]
}

impl NewObject<'_> {
    fn params(&self) -> Vec<Param> {
        let [uuid, owner] = owner_params(self.owner);
        vec![
            text(self.id),
            text(self.bucket.as_str()),
            text(self.key.as_str()),
            uuid,
            owner,
            text(self.version.as_str()),
            json_param(self.metadata),
            self.user_metadata.and_then(json_param),
        ]
    }
}

/// Which content a new one may take the place of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Overwrite {
    Nothing,
    Anything,
    /// The one that has this entity tag (without quotes); whichever there is when there is no tag.
    Only(Option<String>),
}

impl Overwrite {
    pub(crate) fn if_wanted(upsert: bool) -> Self {
        if upsert { Self::Anything } else { Self::Nothing }
    }
}

/// The row of a new content. Gives the row's id where it takes the place of another, and with [`Overwrite::Only`] none when
/// there is none such.
pub(crate) fn object_write(new: &NewObject<'_>, overwrite: &Overwrite) -> Query {
    match overwrite {
        Overwrite::Nothing => object_insert(new),
        Overwrite::Anything => object_upsert(new),
        Overwrite::Only(etag) => object_replace(new, etag.as_deref()),
    }
}

fn object_replace(new: &NewObject<'_>, etag: Option<&str>) -> Query {
    let mut params = new.params();
    // The row keeps its id.
    params.remove(0);
    params.push(optional(etag));
    query(
        "update storage.objects
         set owner = $3::uuid, owner_id = $4, version = $5, metadata = $6::jsonb, user_metadata = $7::jsonb
         where bucket_id = $1 and name = $2
             and ($8::text is null or trim(both '\"' from coalesce(nullif(metadata ->> 'eTag', ''), version)) = $8)
         returning id::text",
        params,
    )
}

/// A new row. It returns nothing: who may insert need not be allowed to read.
fn object_insert(new: &NewObject<'_>) -> Query {
    query(
        "insert into storage.objects (id, bucket_id, name, owner, owner_id, version, metadata, user_metadata)
         values ($1::uuid, $2, $3, $4::uuid, $5, $6, $7::jsonb, $8::jsonb)",
        new.params(),
    )
}

/// A new row or a new content for the one that is there; gives the row's id.
fn object_upsert(new: &NewObject<'_>) -> Query {
    query(
        "insert into storage.objects (id, bucket_id, name, owner, owner_id, version, metadata, user_metadata)
         values ($1::uuid, $2, $3, $4::uuid, $5, $6, $7::jsonb, $8::jsonb)
         on conflict (bucket_id, name) do update set
             owner = excluded.owner, owner_id = excluded.owner_id, version = excluded.version,
             metadata = excluded.metadata, user_metadata = excluded.user_metadata
         returning id::text",
        new.params(),
    )
}

/// One object, as the caller may see it.
pub(crate) fn object_find(bucket: &BucketId, key: &ObjectKey) -> Query {
    query(
        "select json_build_object('id', id, 'name', name, 'bucket_id', bucket_id, 'version', version,
             'metadata', metadata, 'user_metadata', user_metadata, 'created_at', created_at, 'updated_at', updated_at,
             'modified', floor(extract(epoch from updated_at))::bigint)::text
         from storage.objects where bucket_id = $1 and name = $2",
        vec![text(bucket.as_str()), text(key.as_str())],
    )
}

/// By the service: whether the bucket is public, and the object when there is one. No row without the bucket.
pub(crate) fn object_find_with_bucket(bucket: &BucketId, key: &ObjectKey) -> Query {
    query(
        "select coalesce(bucket.public, false), case when object.id is not null then json_build_object('id', object.id,
             'name', object.name, 'bucket_id', object.bucket_id, 'version', object.version,
             'metadata', object.metadata, 'user_metadata', object.user_metadata, 'created_at', object.created_at,
             'updated_at', object.updated_at,
             'modified', floor(extract(epoch from object.updated_at))::bigint)::text end
         from storage.buckets as bucket
         left join storage.objects as object on object.bucket_id = bucket.id and object.name = $2
         where bucket.id = $1",
        vec![text(bucket.as_str()), text(key.as_str())],
    )
}

/// Those of some names that the caller may see, as one JSON array of names.
pub(crate) fn objects_find<'a>(bucket: &BucketId, names: impl IntoIterator<Item = &'a str>) -> Query {
    query(
        "select coalesce(json_agg(name), '[]')::text from storage.objects
         where bucket_id = $1 and name = any (array(select jsonb_array_elements_text($2::jsonb)))",
        vec![text(bucket.as_str()), json_list(names)],
    )
}

/// The command tag tells whether there was such an object for the caller.
pub(crate) fn object_delete(bucket: &BucketId, key: &ObjectKey) -> Query {
    query(
        "delete from storage.objects where bucket_id = $1 and name = $2",
        vec![text(bucket.as_str()), text(key.as_str())],
    )
}

/// The same for the content with this entity tag (without quotes), or whichever there is.
pub(crate) fn object_delete_only(bucket: &BucketId, key: &ObjectKey, etag: Option<&str>) -> Query {
    query(
        "delete from storage.objects where bucket_id = $1 and name = $2
             and ($3::text is null or trim(both '\"' from coalesce(nullif(metadata ->> 'eTag', ''), version)) = $3)",
        vec![text(bucket.as_str()), text(key.as_str()), optional(etag)],
    )
}

/// Deletes those of some names that the caller may delete; gives them as one JSON array.
pub(crate) fn objects_delete<'a>(bucket: &BucketId, names: impl IntoIterator<Item = &'a str>) -> Query {
    query(
        "with deleted as (
             delete from storage.objects
             where bucket_id = $1 and name = any (array(select jsonb_array_elements_text($2::jsonb)))
             returning id, name, bucket_id, owner, owner_id, version, metadata, user_metadata, created_at, updated_at,
                 last_accessed_at
         )
         select coalesce(json_agg(json_build_object('name', name, 'bucket_id', bucket_id,
             'owner', coalesce(owner::text, ''), 'owner_id', coalesce(owner_id, ''), 'version', version, 'id', id,
             'updated_at', updated_at, 'created_at', created_at, 'last_accessed_at', last_accessed_at,
             'metadata', metadata, 'user_metadata', user_metadata)), '[]')::text
         from deleted",
        vec![text(bucket.as_str()), json_list(names)],
    )
}

/// Where an object goes.
pub(crate) struct Move<'a> {
    pub(crate) from: (&'a BucketId, &'a ObjectKey),
    /// The content that is there, so that one that came meanwhile is not lost.
    pub(crate) version: &'a Version,
    pub(crate) to: (&'a BucketId, &'a ObjectKey),
    pub(crate) new_version: &'a Version,
    pub(crate) owner: Option<&'a str>,
}

/// Moves a row; gives its id when the caller may and it still has that version.
pub(crate) fn object_move(moved: &Move<'_>) -> Query {
    let [uuid, owner] = owner_params(moved.owner);
    query(
        "update storage.objects
         set bucket_id = $4, name = $5, version = $6, owner = $7::uuid, owner_id = $8
         where bucket_id = $1 and name = $2 and version = $3
         returning id::text",
        vec![
            text(moved.from.0.as_str()),
            text(moved.from.1.as_str()),
            text(moved.version.as_str()),
            text(moved.to.0.as_str()),
            text(moved.to.1.as_str()),
            text(moved.new_version.as_str()),
            uuid,
            owner,
        ],
    )
}

/// How one level of a bucket is listed.
#[derive(Clone, Debug)]
pub(crate) struct Search {
    /// Empty, or with a slash at its end.
    pub(crate) prefix: String,
    pub(crate) limit: u64,
    pub(crate) offset: u64,
    pub(crate) search: String,
    pub(crate) column: String,
    pub(crate) order: String,
}

/// What the caller may see of one level, as one JSON array.
pub(crate) fn object_search(bucket: &BucketId, search: &Search) -> Query {
    let levels = search.prefix.split('/').count() as u64;
    query(
        "select coalesce(json_agg(json_build_object('name', name, 'id', id, 'updated_at', updated_at,
             'created_at', created_at, 'last_accessed_at', last_accessed_at, 'metadata', metadata)), '[]')::text
         from storage.search($1, $2, $3::integer, $4::integer, $5::integer, $6, $7, $8)",
        vec![
            text(&search.prefix),
            text(bucket.as_str()),
            number(search.limit),
            number(levels),
            number(search.offset),
            text(&search.search),
            text(&search.column),
            text(&search.order),
        ],
    )
}

/// How pages of a bucket are listed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Paging {
    pub(crate) prefix: String,
    /// Rows, one more than are shown so that the end is known.
    pub(crate) limit: u64,
    /// Fold what is behind the next slash into one entry.
    pub(crate) delimited: bool,
    /// `name`, `created_at` or `updated_at`.
    pub(crate) column: String,
    /// `asc` or `desc`.
    pub(crate) order: String,
    /// The last name of the page before; empty at the beginning.
    pub(crate) after: String,
    /// Its time, when times are the order.
    pub(crate) after_time: String,
}

/// A page of what the caller may see, as one JSON array.
pub(crate) fn object_page(bucket: &BucketId, paging: &Paging) -> Query {
    let params = || {
        vec![
            text(bucket.as_str()),
            text(&paging.prefix),
            number(paging.limit),
            text(&paging.after),
            text(&paging.order),
            text(&paging.column),
            text(&paging.after_time),
        ]
    };
    if paging.delimited {
        let levels = paging.prefix.split('/').count() as u64;
        let mut params = params();
        params.push(number(levels));
        return query(
            "select coalesce(json_agg(json_build_object('key', key, 'name', name, 'id', id, 'updated_at', updated_at,
                 'created_at', created_at, 'last_accessed_at', last_accessed_at, 'metadata', metadata)), '[]')::text
             from storage.search_v2($2, $1, $3::integer, $8::integer, $4, $5, $6, $7)",
            params,
        );
    }
    query(
        "select coalesce(json_agg(json_build_object('name', name, 'id', id, 'updated_at', updated_at,
             'created_at', created_at, 'last_accessed_at', last_accessed_at, 'metadata', metadata)), '[]')::text
         from (
             select * from storage.objects as object
             where bucket_id = $1 and starts_with(name, $2)
                 and case
                     when $4 = '' then true
                     when $6 = 'name' and $5 = 'desc' then name collate \"C\" < $4
                     when $6 = 'name' then name collate \"C\" > $4
                     when $5 = 'desc' then
                         (date_trunc('milliseconds', case $6 when 'created_at' then created_at else updated_at end),
                             name collate \"C\") < (nullif($7, '')::timestamptz, $4)
                     else (date_trunc('milliseconds', case $6 when 'created_at' then created_at else updated_at end),
                             name collate \"C\") > (nullif($7, '')::timestamptz, $4)
                 end
             order by
                 case when $6 <> 'name' and $5 = 'asc' then
                     date_trunc('milliseconds', case $6 when 'created_at' then created_at else updated_at end) end asc,
                 case when $6 <> 'name' and $5 = 'desc' then
                     date_trunc('milliseconds', case $6 when 'created_at' then created_at else updated_at end) end desc,
                 case when $5 = 'asc' then name collate \"C\" end asc,
                 case when $5 = 'desc' then name collate \"C\" end desc
             limit $3::integer
         ) as object",
        params(),
    )
}

/// By the service: bytes of all objects together, and of the parts that wait for the rest of theirs.
pub(crate) fn total_size() -> Query {
    query(
        "select (coalesce(sum(case when metadata ->> 'size' ~ '^[0-9]{1,18}$'
             then (metadata ->> 'size')::bigint else 0 end), 0)
             + (select coalesce(sum(in_progress_size), 0) from storage.s3_multipart_uploads))::bigint
         from storage.objects",
        Vec::new(),
    )
}
