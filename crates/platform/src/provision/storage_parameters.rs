//! Storage parameters that slow autovacuum down (`0013_storage_parameters_seen.sql`).

use std::time::Duration;

use base::ProjectRef;
use tokio_postgres::{Client, Error};

use super::store::storage_parameters;
use super::{ADMIN_OPTIONS, ProvisionError, Provisioner};

/// The longest that all of it may take.
const WITHIN: Duration = Duration::from_secs(60);

impl Provisioner {
    /// Takes the parameters that a project's relations may not have. Where there were any, or have been since the last time, or
    /// that cannot be found out, autovacuum's workers in its database are ended: each keeps what it read. Gives how many. Waits
    /// for no lock.
    ///
    /// # Errors
    /// When the database cannot be reached, or does not answer in time.
    pub(crate) async fn take_storage_parameters(&self, id: &ProjectRef) -> Result<usize, ProvisionError> {
        let taking = async {
            let options = format!("{ADMIN_OPTIONS} -c lock_timeout=1s -c statement_timeout=20s");
            let database = self.connect(&self.admin_target(id.database()), &options).await?;
            let had_any = take(&database).await.unwrap_or_else(|error| {
                tracing::warn!(project.r#ref = %id, cause = ?error, "its tables may keep parameters that they may not have");
                true
            });
            // Only now: one that begins from here on finds none.
            Ok(if had_any { storage_parameters::autovacuum_end(&database).await? } else { 0 })
        };
        let late = |_| ProvisionError::Database("the project's database does not answer".into());
        tokio::time::timeout(WITHIN, taking).await.map_err(late)?
    }
}

async fn take(database: &Client) -> Result<bool, Error> {
    let relations = storage_parameters::relations_with_unwanted(database).await?;
    if !relations.is_empty() {
        storage_parameters::storage_parameters_take(database, &relations).await?;
    }
    let seen = storage_parameters::storage_parameters_forget(database).await?;
    Ok(!relations.is_empty() || seen > 0)
}
