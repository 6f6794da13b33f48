//! Sealed secrets of projects.

use std::collections::HashMap;

use base::sealed::Sealed;
use tokio_postgres::{Error, GenericClient};

/// The newest version of each of a project's secrets, by kind.
pub(crate) async fn secret_map(db: &impl GenericClient, project_id: &str) -> Result<HashMap<String, Sealed>, Error> {
    const SQL: &str = "select distinct on (kind) kind, sealed, key_version from platform.secrets
        where project_id = $1 order by kind, version desc";
    let rows = db.query(SQL, &[&project_id]).await?;
    Ok(rows.iter().map(|row| (row.get(0), Sealed { bytes: row.get(1), key_version: row.get(2) })).collect())
}

/// Puts a secret in place of every older version of it.
pub(crate) async fn secret_put_in_tx(
    db: &impl GenericClient,
    project_id: &str,
    kind: &str,
    sealed: &Sealed,
) -> Result<(), Error> {
    const SQL: &str = "insert into platform.secrets (project_id, kind, version, key_version, sealed)
        select $1, $2, coalesce(max(version), 0) + 1, $3, $4
        from platform.secrets where project_id = $1 and kind = $2
        returning version";
    let version: i32 = db.query_one(SQL, &[&project_id, &kind, &sealed.key_version, &sealed.bytes]).await?.get(0);
    const OLDER: &str = "delete from platform.secrets where project_id = $1 and kind = $2 and version < $3";
    db.execute(OLDER, &[&project_id, &kind, &version]).await.map(drop)
}

pub(crate) async fn secret_delete(db: &impl GenericClient, project_id: &str, kind: &str) -> Result<(), Error> {
    const SQL: &str = "delete from platform.secrets where project_id = $1 and kind = $2";
    db.execute(SQL, &[&project_id, &kind]).await.map(drop)
}
