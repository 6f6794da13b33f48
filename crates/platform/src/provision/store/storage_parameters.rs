//! Storage parameters of a project's relations, as a superuser there.

use tokio_postgres::{Error, GenericClient};

/// Whether a table, or one that it is the TOAST table of, has parameters that it may not have.
pub(in crate::provision) async fn storage_parameters_exist(db: &impl GenericClient, table: u32) -> Result<bool, Error> {
    const SQL: &str = "select exists (
        select from _launchdb.unwanted_storage_parameters() unwanted join pg_class c on c.oid = unwanted.relation
        where not unwanted.is_index and (c.oid = $1 or c.reltoastrelid = $1))";
    db.query_one(SQL, &[&table]).await.map(|row| row.get(0))
}

/// Takes those that nothing may have.
pub(in crate::provision) async fn storage_parameters_take(db: &impl GenericClient) -> Result<(), Error> {
    db.batch_execute("select from _launchdb.take_storage_parameters(of_this_transaction => false)").await
}
