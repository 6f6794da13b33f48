//! What happens to a project after it was made: suspend, resume, delete, restore, purge, new passwords.

use base::sealed::SealContext;
use base::{ProjectRef, ProjectStatus, random};
use postgres_protocol::password::scram_sha_256;
use serde_json::json;
use tokio_postgres::Client;

use super::store::project::{self, step};
use super::store::{self, violated};
use super::{ProvisionError, Provisioner};
use crate::secrets::kind;
use crate::store::audit::audit_insert;
use crate::store::secret::secret_put_in_tx;

impl Provisioner {
    /// Closes the project's database and ends its sessions; data stays.
    pub async fn suspend(&self, id: &ProjectRef) -> Result<(), ProvisionError> {
        self.change(id, "project.suspend", &[ProjectStatus::Active], ProjectStatus::Suspended, None).await
    }

    /// Opens a suspended project again, upgraded to the present baseline.
    pub async fn resume(&self, id: &ProjectRef) -> Result<(), ProvisionError> {
        self.change(id, "project.resume", &[ProjectStatus::Suspended], ProjectStatus::Active, None).await?;
        self.catch_up(id).await;
        Ok(())
    }

    /// Closes the project and gives its name free. It can be restored until the retention period is over.
    pub async fn delete(&self, id: &ProjectRef) -> Result<(), ProvisionError> {
        let retention = i64::try_from(self.0.config.retention.as_secs()).unwrap_or(i64::MAX / 2);
        let purge_after = self.0.config.clock.unix_seconds().saturating_add(retention);
        let from = [ProjectStatus::Active, ProjectStatus::Suspended, ProjectStatus::Failed];
        self.change(id, "project.delete", &from, ProjectStatus::Deleted, Some(purge_after)).await
    }

    /// Brings a deleted project back.
    ///
    /// # Errors
    /// [`ProvisionError::NameTaken`] when another project has got its name meanwhile.
    pub async fn restore(&self, id: &ProjectRef) -> Result<(), ProvisionError> {
        self.change(id, "project.restore", &[ProjectStatus::Deleted], ProjectStatus::Active, None).await?;
        self.catch_up(id).await;
        Ok(())
    }

    /// Removes a deleted or failed project for good: replication slots, database, roles, secrets, row.
    pub async fn purge(&self, id: &ProjectRef) -> Result<(), ProvisionError> {
        let mut admin = self.locked(id).await?;
        let now = self.0.config.clock.unix_seconds();
        let row = project::project_row(&admin.client, id, now).await?.ok_or(ProvisionError::NotFound)?;
        match row.status {
            ProjectStatus::Deleted | ProjectStatus::Failed => self.purge_locked(&mut admin.client, id).await,
            status => Err(ProvisionError::WrongStatus { status }),
        }
    }

    /// Gives both login roles fresh passwords and tells the services. Sessions that are open stay.
    pub async fn rotate_database_passwords(&self, id: &ProjectRef) -> Result<(), ProvisionError> {
        let mut admin = self.locked(id).await?;
        let tx = admin.client.transaction().await?;
        match project::status_lock_in_tx(&tx, id).await?.ok_or(ProvisionError::NotFound)? {
            ProjectStatus::Active | ProjectStatus::Suspended => {}
            status => return Err(ProvisionError::WrongStatus { status }),
        }
        let logins =
            [(kind::DB_PASSWORD, id.owner_role().to_owned()), (kind::AUTHENTICATOR_PASSWORD, id.authenticator_role())];
        for (kind, role) in logins {
            let password = random::password();
            let sealed = self.0.config.master_key.seal(SealContext { owner: id.as_str(), kind }, password.as_bytes());
            secret_put_in_tx(&tx, id.as_str(), kind, &sealed).await?;
            store::role::role_password_put(&tx, &role, &scram_sha_256(password.as_bytes())).await?;
        }
        project::revision_bump_in_tx(&tx, id).await?;
        audit_insert(&tx, &self.1.entry(Some(id), "project.rotate_database_passwords", json!({}))).await?;
        Ok(tx.commit().await?)
    }

    /// Upgrades a project that was closed while others were upgraded; its owner has to be able to connect for that.
    pub(super) async fn catch_up(&self, id: &ProjectRef) {
        if let Err(error) = self.upgrade(id).await {
            tracing::warn!(project.ref = %id, cause = ?error, "a project keeps its older baseline for now");
        }
    }

    /// Status, privilege and the log's entry in one transaction, then the sessions. After a crash in between, the
    /// reconciler ends them.
    async fn change(
        &self,
        id: &ProjectRef,
        action: &str,
        from: &[ProjectStatus],
        to: ProjectStatus,
        purge_after: Option<i64>,
    ) -> Result<(), ProvisionError> {
        let mut admin = self.locked(id).await?;
        let tx = admin.client.transaction().await?;
        let status = project::status_lock_in_tx(&tx, id).await?.ok_or(ProvisionError::NotFound)?;
        if !from.contains(&status) {
            return Err(ProvisionError::WrongStatus { status });
        }
        project::status_put_in_tx(&tx, id, to, purge_after).await.map_err(|error| {
            if violated(&error) == Some(project::NAME_KEY) { ProvisionError::NameTaken } else { error.into() }
        })?;
        let exists = store::database::database_get(&tx, id.database()).await?.is_some();
        if exists {
            if to == ProjectStatus::Active {
                self.mend_locked(&tx, id).await?;
            }
            store::database::connect_allow_in_tx(&tx, id, to == ProjectStatus::Active).await?;
        } else if to == ProjectStatus::Active {
            return Err(ProvisionError::database("the project's database is missing"));
        }
        audit_insert(&tx, &self.1.entry(Some(id), action, json!({}))).await?;
        tx.commit().await?;
        if to != ProjectStatus::Active {
            store::database::sessions_end(&admin.client, id.database()).await?;
        }
        Ok(())
    }

    /// Removes whatever there is of a project, the row last. Drops only what this installation made.
    pub(super) async fn purge_locked(&self, admin: &mut Client, id: &ProjectRef) -> Result<(), ProvisionError> {
        let cluster = self.cluster().await?;
        let now = self.0.config.clock.unix_seconds();
        let row = project::project_row(admin, id, now).await?;
        let status = row.as_ref().map(|row| row.status.name());
        let steps = row.map(|row| row.steps).unwrap_or_default();
        if let Some(database) = store::database::database_get(admin, id.database()).await? {
            // A crash between making a database and marking it leaves a closed one without a comment.
            let unmarked = database.comment.is_none()
                && !database.allows_connections
                && steps.iter().any(|done| done == step::ROLES);
            if unmarked || cluster.is_ours(database.comment.as_deref(), id.as_str()) {
                store::database::slots_drop(admin, id.database()).await?;
                store::database::database_drop(admin, id.database()).await?;
            } else {
                tracing::warn!(project.ref = %id, "a database of this name is not ours and stays");
            }
        }
        for name in [id.owner_role().to_owned(), id.authenticator_role()] {
            let comment = store::role::role_comment(admin, &name).await?;
            if cluster.is_ours(comment.as_deref(), id.as_str()) {
                store::role::role_drop(admin, &name).await?;
            }
        }
        let tx = admin.transaction().await?;
        // Spares belong to nobody and are nobody's business.
        if let Some((owner_id, name)) = project::project_delete_in_tx(&tx, id).await? {
            let detail = json!({ "name": name, "owner_id": owner_id, "status": status });
            audit_insert(&tx, &self.1.entry(Some(id), "project.purge", detail)).await?;
        }
        Ok(tx.commit().await?)
    }
}
