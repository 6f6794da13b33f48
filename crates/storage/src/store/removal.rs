//! Statements on `_launchdb.storage_removals`, the files that no row means any more, and those that compare rows with files.

use pg::Query;
use serde::Deserialize;

use super::{json_list, number, query, text};

/// A file to remove.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Removal {
    pub(crate) id: u64,
    pub(crate) bucket_id: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) version: String,
    /// A row with this version is there again.
    pub(crate) wanted: bool,
}

/// The oldest removals, as one JSON array.
pub(crate) fn removal_list(limit: u64) -> Query {
    query(
        "select coalesce(json_agg(json_build_object('id', removal.id, 'bucket_id', removal.bucket_id, 'name', removal.name,
             'version', removal.version, 'wanted', exists (
                 select from storage.objects as object
                 where object.bucket_id = removal.bucket_id and object.name = removal.name
                     and object.version = removal.version
             ))), '[]')::text
         from (select * from _launchdb.storage_removals order by id limit $1::bigint) as removal",
        vec![number(limit)],
    )
}

/// Forgets removals that are done.
pub(crate) fn removal_delete(ids: &[u64]) -> Query {
    let ids: Vec<String> = ids.iter().map(u64::to_string).collect();
    query(
        "delete from _launchdb.storage_removals
         where id = any (array(select jsonb_array_elements_text($1::jsonb)::bigint))",
        vec![json_list(ids.iter().map(String::as_str))],
    )
}

/// A row as it is compared with files.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Recorded {
    pub(crate) bucket_id: String,
    pub(crate) name: String,
    pub(crate) version: Option<String>,
    #[serde(default)]
    pub(crate) size: Option<u64>,
    /// An MD5, if it is no other entity tag.
    #[serde(default)]
    pub(crate) etag: Option<String>,
    #[serde(default)]
    pub(crate) blake3: Option<String>,
}

/// Rows behind (bucket, name) in their order, as one JSON array.
pub(crate) fn recorded_page(bucket: &str, name: &str, limit: u64) -> Query {
    query(
        "select coalesce(json_agg(json_build_object('bucket_id', bucket_id, 'name', name, 'version', version,
             'size', case when metadata ->> 'size' ~ '^[0-9]{1,18}$' then (metadata ->> 'size')::bigint end,
             'etag', coalesce(metadata ->> 'contentMd5', metadata ->> 'eTag'), 'blake3', metadata ->> 'contentBlake3')), '[]')::text
         from (
             select * from storage.objects where bucket_id is not null and name is not null
                 and (bucket_id collate \"C\", name collate \"C\") > ($1, $2)
             order by bucket_id collate \"C\", name collate \"C\" limit $3::bigint
         ) as object",
        vec![text(bucket), text(name), number(limit)],
    )
}

/// Those of some files (bucket, name, version: three JSON arrays) that rows mean, as a JSON array of versions.
pub(crate) fn recorded_versions<'a>(files: &[(&'a str, &'a str, &'a str)]) -> Query {
    query(
        "select coalesce(json_agg(object.version), '[]')::text
         from rows from (
             jsonb_array_elements_text($1::jsonb), jsonb_array_elements_text($2::jsonb), jsonb_array_elements_text($3::jsonb)
         ) as file (bucket_id, name, version)
         join storage.objects as object
             on object.bucket_id = file.bucket_id and object.name = file.name and object.version = file.version",
        vec![
            json_list(files.iter().map(|file| file.0)),
            json_list(files.iter().map(|file| file.1)),
            json_list(files.iter().map(|file| file.2)),
        ],
    )
}
