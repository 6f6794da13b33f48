//! Storage parameters that no trigger was told of.

use base::ProjectRef;

use super::{ADMIN_OPTIONS, ProvisionError, Provisioner, store};

impl Provisioner {
    /// Takes from a project's tables and indexes what they may not have (`0012_storage_parameters.sql`). Says whether there was
    /// any. Waits briefly for who holds their rows of the catalog.
    ///
    /// # Errors
    /// When the database cannot be reached, or somebody holds such a row.
    pub(crate) async fn take_storage_parameters(&self, id: &ProjectRef) -> Result<bool, ProvisionError> {
        let options = format!("{ADMIN_OPTIONS} -c lock_timeout=1s -c statement_timeout=5s");
        let database = self.connect(&self.admin_target(id.database()), &options).await?;
        Ok(store::storage_parameters::storage_parameters_take(&database).await?)
    }
}
