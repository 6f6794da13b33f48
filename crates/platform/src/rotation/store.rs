//! Where sealed secrets are, whatever they belong to.

use base::sealed::Sealed;
use tokio_postgres::{Error, GenericClient};

/// A table with sealed secrets.
#[derive(Clone, Copy, Debug)]
pub(super) enum Table {
    Secrets,
    S3AccessKeys,
}

pub(super) const TABLES: [Table; 2] = [Table::Secrets, Table::S3AccessKeys];

/// Which secret; in this order they are gone through.
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
    /// A project's id, or `platform`.
    pub(super) owner: String,
    pub(super) kind: String,
    version: i32,
}

/// Secrets behind `after` that another key than that of `version` sealed, at most `most`. They are locked; those that
/// somebody changes just now are left out.
pub(super) async fn sealed_by_others_in_tx(
    db: &impl GenericClient,
    table: Table,
    version: i32,
    after: &Place,
    most: i64,
) -> Result<Vec<(Place, Sealed)>, Error> {
    const SECRETS: &str = "select project_id, kind, version, sealed, key_version from platform.secrets
        where key_version <> $1 and (project_id, kind, version) > ($2, $3, $4)
        order by project_id, kind, version limit $5 for update skip locked";
    const S3_KEYS: &str = "select project_id, 's3:' || access_key_id, $4::integer, sealed, key_version
        from platform.s3_access_keys
        where key_version <> $1 and (project_id, 's3:' || access_key_id) > ($2, $3)
        order by project_id, access_key_id limit $5 for update skip locked";
    let sql = match table {
        Table::Secrets => SECRETS,
        Table::S3AccessKeys => S3_KEYS,
    };
    let rows = db.query(sql, &[&version, &after.owner, &after.kind, &after.version, &most]).await?;
    let read = |row: &tokio_postgres::Row| {
        let place = Place { owner: row.get(0), kind: row.get(1), version: row.get(2) };
        (place, Sealed { bytes: row.get(3), key_version: row.get(4) })
    };
    Ok(rows.iter().map(read).collect())
}

/// Puts the same secret, sealed anew, in its place.
pub(super) async fn sealed_put_in_tx(
    db: &impl GenericClient,
    table: Table,
    place: &Place,
    sealed: &Sealed,
) -> Result<(), Error> {
    const SECRETS: &str = "update platform.secrets set sealed = $4, key_version = $5
        where project_id = $1 and kind = $2 and version = $3";
    const S3_KEYS: &str = "update platform.s3_access_keys set sealed = $4, key_version = $5
        where project_id = $1 and 's3:' || access_key_id = $2 and $3::integer = 0";
    let sql = match table {
        Table::Secrets => SECRETS,
        Table::S3AccessKeys => S3_KEYS,
    };
    let (bytes, version) = (&sealed.bytes, &sealed.key_version);
    db.execute(sql, &[&place.owner, &place.kind, &place.version, bytes, version]).await.map(drop)
}

/// How many secrets another key than that of `version` sealed.
pub(super) async fn sealed_by_others_count(db: &impl GenericClient, version: i32) -> Result<u64, Error> {
    const SQL: &str = "select (select count(*) from platform.secrets where key_version <> $1)
        + (select count(*) from platform.s3_access_keys where key_version <> $1)";
    let count: i64 = db.query_one(SQL, &[&version]).await?.get(0);
    Ok(count.unsigned_abs())
}
