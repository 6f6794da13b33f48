//! Statements on `storage.buckets`.

use pg::Query;
use serde::Deserialize;

use super::{Param, json_list, number, optional, query, text};
use crate::key::BucketId;

/// What the service itself has to know of a bucket.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Bucket {
    /// Bytes.
    pub(crate) file_size_limit: Option<u64>,
    pub(crate) allowed_mime_types: Option<Vec<String>>,
}

/// What a bucket is made of. A field that is not given stays as it is, or gets its default.
#[derive(Clone, Debug, Default)]
pub(crate) struct BucketFields {
    pub(crate) public: Option<bool>,
    pub(crate) file_size_limit: Option<Option<u64>>,
    pub(crate) allowed_mime_types: Option<Option<Vec<String>>>,
}

impl BucketFields {
    fn limit(&self) -> Param {
        self.file_size_limit.flatten().and_then(number)
    }

    fn mime_types(&self) -> Param {
        let list = self.allowed_mime_types.as_ref()?.as_ref()?;
        json_list(list.iter().map(String::as_str))
    }
}

fn flag(value: bool) -> Param {
    text(if value { "t" } else { "f" })
}

/// By the service: what it has to know.
pub(crate) fn bucket_find(id: &BucketId) -> Query {
    query(
        "select json_build_object('file_size_limit', file_size_limit,
             'allowed_mime_types', allowed_mime_types)::text
         from storage.buckets where id = $1",
        vec![text(id.as_str())],
    )
}

/// What clients see of a bucket.
pub(crate) fn bucket_view(id: &BucketId) -> Query {
    query(
        "select json_build_object('id', id, 'name', name, 'owner', coalesce(owner::text, owner_id, ''), 'public', public,
             'type', type, 'file_size_limit', file_size_limit, 'allowed_mime_types', allowed_mime_types,
             'created_at', created_at, 'updated_at', updated_at)::text
         from storage.buckets where id = $1",
        vec![text(id.as_str())],
    )
}

/// How a list of buckets is asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct BucketOrder {
    pub(crate) limit: Option<u64>,
    pub(crate) offset: u64,
    pub(crate) search: String,
    /// One of `id`, `name`, `created_at`, `updated_at`.
    pub(crate) column: String,
    pub(crate) descending: bool,
}

/// All buckets that the caller may see, as one JSON array.
pub(crate) fn bucket_list(order: &BucketOrder) -> Query {
    query(
        "select coalesce(json_agg(json_build_object('id', id, 'name', name, 'owner', coalesce(owner::text, owner_id, ''),
             'public', public, 'type', type, 'file_size_limit', file_size_limit,
             'allowed_mime_types', allowed_mime_types, 'created_at', created_at, 'updated_at', updated_at)), '[]')::text
         from (
             select * from storage.buckets
             where position(lower($3) in lower(name)) > 0 or $3 = ''
             order by
                 case when $5 = 'f' then case $4 when 'id' then id when 'name' then name end end asc,
                 case when $5 = 't' then case $4 when 'id' then id when 'name' then name end end desc,
                 case when $5 = 'f' then case $4 when 'created_at' then created_at when 'updated_at' then updated_at end end asc,
                 case when $5 = 't' then case $4 when 'created_at' then created_at when 'updated_at' then updated_at end end desc,
                 id
             limit $1::bigint offset $2::bigint
         ) as bucket",
        vec![
            order.limit.and_then(number),
            number(order.offset),
            text(&order.search),
            text(&order.column),
            flag(order.descending),
        ],
    )
}

/// A new bucket. The values that nobody gave are those of the table.
pub(crate) fn bucket_insert(
    id: &str,
    name: &str,
    owner: Option<&str>,
    uuid: Option<&str>,
    fields: &BucketFields,
) -> Query {
    query(
        "insert into storage.buckets (id, name, owner, owner_id, public, file_size_limit, allowed_mime_types)
         values ($1, $2, $3::uuid, $4, coalesce($5::boolean, false), $6::bigint,
             case when $7::jsonb is not null then array(select jsonb_array_elements_text($7::jsonb)) end)",
        vec![
            text(id),
            text(name),
            optional(uuid),
            optional(owner),
            fields.public.and_then(flag),
            fields.limit(),
            fields.mime_types(),
        ],
    )
}

/// Changes what is given; the command tag tells whether there was such a bucket for the caller.
pub(crate) fn bucket_update(id: &BucketId, fields: &BucketFields) -> Query {
    query(
        "update storage.buckets set
             public = coalesce($2::boolean, public),
             file_size_limit = case when $3::boolean then $4::bigint else file_size_limit end,
             allowed_mime_types = case
                 when $5::boolean then case when $6::jsonb is not null then array(select jsonb_array_elements_text($6::jsonb)) end
                 else allowed_mime_types
             end,
             updated_at = now()
         where id = $1",
        vec![
            text(id.as_str()),
            fields.public.and_then(flag),
            flag(fields.file_size_limit.is_some()),
            fields.limit(),
            flag(fields.allowed_mime_types.is_some()),
            fields.mime_types(),
        ],
    )
}

/// The command tag tells whether there was such a bucket for the caller.
pub(crate) fn bucket_delete(id: &BucketId) -> Query {
    query("delete from storage.buckets where id = $1", vec![text(id.as_str())])
}

/// Deletes some of the objects of a bucket that the caller may delete; the command tag tells how many.
pub(crate) fn bucket_empty(id: &BucketId) -> Query {
    query(
        "delete from storage.objects
         where id in (select id from storage.objects where bucket_id = $1 limit 1000)",
        vec![text(id.as_str())],
    )
}

/// Buckets behind a name that begin with `prefix` and that the caller may see, as one JSON array of ids and times.
pub(crate) fn bucket_page(prefix: &str, after: &str, limit: u64) -> Query {
    query(
        "select coalesce(json_agg(json_build_object('id', id,
             'created', floor(extract(epoch from created_at))::bigint)), '[]')::text
         from (
             select id, created_at from storage.buckets
             where starts_with(id, $1) and id collate \"C\" > $2 and type = 'STANDARD'
             order by id collate \"C\" limit $3::bigint
         ) as bucket",
        vec![text(prefix), text(after), number(limit)],
    )
}
