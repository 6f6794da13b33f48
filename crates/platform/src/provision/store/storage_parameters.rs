//! Storage parameters of a project's relations, as a superuser there.

use tokio_postgres::types::Oid;
use tokio_postgres::{Error, GenericClient};

/// Relations that have such as nothing may have, and the TOAST tables that go by theirs: those that autovacuum is at first, some
/// thousands at most.
pub(in crate::provision) async fn relations_with_unwanted(db: &impl GenericClient) -> Result<Vec<Oid>, Error> {
    let rows = db.query(include_str!("storage_parameters_unwanted.sql"), &[]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Takes them from some, without waiting for those whose rows somebody holds.
pub(in crate::provision) async fn storage_parameters_take(db: &impl GenericClient, from: &[Oid]) -> Result<(), Error> {
    db.execute(include_str!("storage_parameters_take.sql"), &[&from]).await.map(drop)
}

/// Cancels what autovacuum's workers do at some tables, and at any that asked for more than it may; gives how many that were.
pub(in crate::provision) async fn autovacuum_cancel(db: &impl GenericClient, at: &[Oid]) -> Result<usize, Error> {
    db.query(include_str!("autovacuum_cancel.sql"), &[&at]).await.map(|rows| rows.len())
}
