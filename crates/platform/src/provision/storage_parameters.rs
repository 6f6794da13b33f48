//! Storage parameters that no trigger was told of (`0012_storage_parameters.sql`).

use base::ProjectRef;

use super::{ADMIN_OPTIONS, ProvisionError, Provisioner, store::storage_parameters};

impl Provisioner {
    /// Whether a table of a project, or one that it is the TOAST table of, has parameters that it may not have. Waits for nobody.
    ///
    /// # Errors
    /// When the database cannot be reached.
    pub(crate) async fn storage_parameters_of(&self, id: &ProjectRef, table: u32) -> Result<bool, ProvisionError> {
        let options = format!("{ADMIN_OPTIONS} -c statement_timeout=2s");
        let database = self.connect(&self.admin_target(id.database()), &options).await?;
        Ok(storage_parameters::storage_parameters_exist(&database, table).await?)
    }

    /// Takes them from all relations of a project, in a task of its own: whoever holds their rows of the catalog is waited for
    /// briefly.
    pub(crate) fn take_storage_parameters(&self, id: ProjectRef) {
        let this = self.clone();
        self.0.tasks.spawn(async move {
            let options = format!("{ADMIN_OPTIONS} -c lock_timeout=1s -c statement_timeout=30s");
            let target = this.admin_target(id.database());
            let taken = async { storage_parameters::storage_parameters_take(&this.connect(&target, &options).await?).await };
            if let Err(error) = taken.await {
                tracing::warn!(project.r#ref = %id, cause = %error, "its tables keep parameters that they may not have");
            }
        });
    }
}
