//! Access keys of the S3 protocol.

use base::ProjectRef;
use base::sealed::Sealed;
use tokio_postgres::{Error, GenericClient, Row};

use crate::timestamp::Timestamp;

/// The constraint that keeps the names of a project's keys unique.
pub(crate) const NAME_KEY: &str = "s3_access_keys_project_name_key";

/// A key without its secret.
#[derive(Clone, Debug)]
pub(crate) struct S3Key {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) access_key_id: String,
    pub(crate) created_at: Timestamp,
}

impl S3Key {
    fn read(row: &Row) -> Self {
        Self { id: row.get(0), name: row.get(1), access_key_id: row.get(2), created_at: row.get(3) }
    }
}

/// The keys of a project, oldest first.
pub(crate) async fn s3_key_list(db: &impl GenericClient, project: &ProjectRef) -> Result<Vec<S3Key>, Error> {
    const SQL: &str =
        "select id, name, access_key_id, created_at from platform.s3_access_keys where project_id = $1 order by id";
    Ok(db.query(SQL, &[&project.as_str()]).await?.iter().map(S3Key::read).collect())
}

pub(crate) async fn s3_key_insert(
    db: &impl GenericClient,
    project: &ProjectRef,
    name: &str,
    access_key_id: &str,
    secret: &Sealed,
) -> Result<S3Key, Error> {
    const SQL: &str = "insert into platform.s3_access_keys (project_id, name, access_key_id, key_version, sealed)
        values ($1, $2, $3, $4, $5) returning id, name, access_key_id, created_at";
    db.query_one(SQL, &[&project.as_str(), &name, &access_key_id, &secret.key_version, &secret.bytes])
        .await
        .map(|row| S3Key::read(&row))
}

/// Forgets a key with its secret; nothing when the project has none with this number.
pub(crate) async fn s3_key_delete(
    db: &impl GenericClient,
    project: &ProjectRef,
    key_id: i64,
) -> Result<Option<S3Key>, Error> {
    const SQL: &str = "delete from platform.s3_access_keys where project_id = $1 and id = $2
        returning id, name, access_key_id, created_at";
    Ok(db.query_opt(SQL, &[&project.as_str(), &key_id]).await?.map(|row| S3Key::read(&row)))
}

/// Project, access key and sealed secret of all projects' keys, or of one's.
pub(crate) async fn s3_key_rows(
    db: &impl GenericClient,
    only: Option<&ProjectRef>,
) -> Result<Vec<(String, String, Sealed)>, Error> {
    const SQL: &str = "select project_id, access_key_id, sealed, key_version from platform.s3_access_keys
        where ($1::text is null or project_id = $1) order by id";
    let rows = db.query(SQL, &[&only.map(ProjectRef::as_str)]).await?;
    let keys = rows.iter().map(|row| (row.get(0), row.get(1), Sealed { bytes: row.get(2), key_version: row.get(3) }));
    Ok(keys.collect())
}
