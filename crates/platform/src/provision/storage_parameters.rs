//! Storage parameters that no trigger was told of (`0013_storage_parameters_in_use.sql`).

use std::time::Duration;

use base::ProjectRef;

use super::{ADMIN_OPTIONS, ProvisionError, Provisioner, store::storage_parameters};

/// The longest that all of it may take.
const WITHIN: Duration = Duration::from_secs(60);

impl Provisioner {
    /// Takes the parameters that a project's tables may not have, and cancels what autovacuum does at such tables. Gives how many
    /// workers were at one. Waits for no lock.
    ///
    /// # Errors
    /// When the database cannot be reached, or does not answer in time. That nothing can be written is logged only, and keeps no worker.
    pub(crate) async fn take_storage_parameters(&self, id: &ProjectRef) -> Result<usize, ProvisionError> {
        let taking = async {
            let options = format!("{ADMIN_OPTIONS} -c lock_timeout=1s -c statement_timeout=20s");
            let database = self.connect(&self.admin_target(id.database()), &options).await?;
            let relations = storage_parameters::relations_with_unwanted(&database).await?;
            let taken = storage_parameters::storage_parameters_take(&database, &relations).await;
            // Only now: one that begins from here on finds none.
            let cancelled = storage_parameters::autovacuum_cancel(&database, &relations).await?;
            if let Err(error) = taken {
                tracing::warn!(project.r#ref = %id, cause = ?error, "its tables keep parameters that they may not have");
            }
            Ok(cancelled)
        };
        let late = |_| ProvisionError::Database("the project's database does not answer".into());
        tokio::time::timeout(WITHIN, taking).await.map_err(late)?
    }
}
