//! Opaque keys of projects.

use base::ProjectRef;
use base::api_key::{ApiKeyHash, ApiKeyKind};
use tokio_postgres::{Error, GenericClient, Row};

use crate::timestamp::Timestamp;

/// The index that keeps the names of a project's keys in use unique.
pub(crate) const NAME_KEY: &str = "api_keys_project_name_key";

pub(crate) struct NewApiKey<'a> {
    pub(crate) project_id: &'a str,
    pub(crate) name: &'a str,
    pub(crate) kind: ApiKeyKind,
    /// The first characters of the key.
    pub(crate) prefix: &'a str,
    pub(crate) hash: &'a ApiKeyHash,
}

#[derive(Clone, Debug)]
pub(crate) struct ApiKey {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) prefix: String,
    pub(crate) hash: Vec<u8>,
    pub(crate) created_at: Timestamp,
    pub(crate) revoked_at: Option<Timestamp>,
    pub(crate) last_used_at: Option<Timestamp>,
}

impl ApiKey {
    fn read(row: &Row) -> Self {
        Self {
            id: row.get(0),
            name: row.get(1),
            kind: row.get(2),
            prefix: row.get(3),
            hash: row.get(4),
            created_at: row.get(5),
            revoked_at: row.get(6),
            last_used_at: row.get(7),
        }
    }
}

/// Every key of a project, revoked ones too, oldest first.
pub(crate) async fn api_key_list(db: &impl GenericClient, id: &ProjectRef) -> Result<Vec<ApiKey>, Error> {
    const SQL: &str = "select id, name, kind, prefix, hash, created_at, revoked_at, last_used_at
        from platform.api_keys where project_id = $1 order by id";
    Ok(db.query(SQL, &[&id.as_str()]).await?.iter().map(ApiKey::read).collect())
}

/// How many keys of a project are in use.
pub(crate) async fn api_key_count(db: &impl GenericClient, id: &ProjectRef) -> Result<i64, Error> {
    const SQL: &str = "select count(*) from platform.api_keys where project_id = $1 and revoked_at is null";
    db.query_one(SQL, &[&id.as_str()]).await.map(|row| row.get(0))
}

pub(crate) async fn api_key_insert(db: &impl GenericClient, new: &NewApiKey<'_>) -> Result<ApiKey, Error> {
    const SQL: &str = "insert into platform.api_keys (project_id, name, kind, prefix, hash) values ($1, $2, $3, $4, $5)
        returning id, name, kind, prefix, hash, created_at, revoked_at, last_used_at";
    let hash = new.hash.as_slice();
    db.query_one(SQL, &[&new.project_id, &new.name, &new.kind.name(), &new.prefix, &hash])
        .await
        .map(|row| ApiKey::read(&row))
}

/// Revokes a key; nothing when the project has no such key in use.
pub(crate) async fn api_key_revoke(
    db: &impl GenericClient,
    project: &ProjectRef,
    key_id: i64,
) -> Result<Option<ApiKey>, Error> {
    const SQL: &str = "update platform.api_keys set revoked_at = now()
        where project_id = $1 and id = $2 and revoked_at is null
        returning id, name, kind, prefix, hash, created_at, revoked_at, last_used_at";
    Ok(db.query_opt(SQL, &[&project.as_str(), &key_id]).await?.map(|row| ApiKey::read(&row)))
}

/// Writes down when keys were last used (Unix seconds).
#[expect(clippy::cast_precision_loss, reason = "seconds fit a double exactly for millions of years")]
pub(crate) async fn api_key_used(db: &impl GenericClient, uses: &[(i64, i64)]) -> Result<(), Error> {
    const SQL: &str = "update platform.api_keys k set last_used_at = to_timestamp(u.at)
        from unnest($1::bigint[], $2::float8[]) u (id, at)
        where k.id = u.id and (k.last_used_at is null or k.last_used_at < to_timestamp(u.at))";
    let (ids, times): (Vec<i64>, Vec<f64>) = uses.iter().map(|(id, at)| (*id, *at as f64)).unzip();
    db.execute(SQL, &[&ids, &times]).await.map(drop)
}
