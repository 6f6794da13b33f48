//! Storage parameters of a project's relations, as a superuser there.

use tokio_postgres::types::Oid;
use tokio_postgres::{Error, GenericClient};

/// Relations that have such as nothing may have, some thousands at most.
pub(in crate::provision) async fn relations_with_unwanted(db: &impl GenericClient) -> Result<Vec<Oid>, Error> {
    let rows = db.query(include_str!("storage_parameters_unwanted.sql"), &[]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Takes them from some, without waiting for those whose rows somebody holds.
pub(in crate::provision) async fn storage_parameters_take(db: &impl GenericClient, from: &[Oid]) -> Result<(), Error> {
    db.execute(include_str!("storage_parameters_take.sql"), &[&from]).await.map(drop)
}

/// When the database's own triggers last saw such, in microseconds since the Unix epoch.
pub(in crate::provision) async fn storage_parameters_seen(db: &impl GenericClient) -> Result<Option<i64>, Error> {
    const SQL: &str = "select (extract(epoch from max(at)) * 1000000)::int8 from _launchdb.storage_parameters_seen";
    db.query_one(SQL, &[]).await.map(|row| row.get(0))
}

/// Forgets what they saw until then.
pub(in crate::provision) async fn storage_parameters_forget(db: &impl GenericClient, until: i64) -> Result<(), Error> {
    const SQL: &str =
        "delete from _launchdb.storage_parameters_seen where (extract(epoch from at) * 1000000)::int8 <= $1";
    db.execute(SQL, &[&until]).await.map(drop)
}

/// Ends autovacuum's workers in the database; gives how many there were.
pub(in crate::provision) async fn autovacuum_end(db: &impl GenericClient) -> Result<usize, Error> {
    db.query(include_str!("autovacuum_end.sql"), &[]).await.map(|rows| rows.len())
}
