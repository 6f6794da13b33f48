//! Storage parameters of a project's relations, as a superuser there.

use tokio_postgres::{Error, GenericClient};

/// Takes those that nothing may have; says whether there were any.
pub(in crate::provision) async fn storage_parameters_take(db: &impl GenericClient) -> Result<bool, Error> {
    const SQL: &str = "select count(*) > 0 from _launchdb.take_storage_parameters(of_this_transaction => false)";
    db.query_one(SQL, &[]).await.map(|row| row.get(0))
}
