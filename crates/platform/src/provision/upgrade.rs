//! Brings databases of an older baseline up to the present one.

use std::time::{Duration, Instant};

use base::project::DatabaseTarget;
use base::{ProjectRef, ProjectStatus};
use tokio_postgres::GenericClient;

use super::logins;
use super::store;
use super::store::project;
use super::turns::PATIENCE;
use super::{ProvisionError, Provisioner};
use crate::baseline::{self, ApplyError, RunAs};
use crate::secrets::{self, kind};
use crate::store::secret::secret_map;

/// How long the reconciler waits for one project: as long as a session that has ended here needs to end there.
const IF_FREE: Duration = Duration::from_millis(500);

/// One file of the baseline, and how long it took if it ran now.
pub(crate) struct UpgradedFile {
    pub(crate) name: &'static str,
    /// SHA-256, hex.
    pub(crate) checksum: String,
    pub(crate) took: Option<Duration>,
}

/// What an upgrade did.
pub(crate) struct UpgradeReport {
    pub(crate) files: Vec<UpgradedFile>,
    pub(crate) took: Duration,
    /// The file that failed.
    pub(crate) failed: Option<&'static str>,
}

impl Provisioner {
    /// Applies the baseline files that an active project's database lacks; does nothing when it has them all. Can be stopped
    /// anywhere and done again: each file and its line in the ledger are one transaction.
    ///
    /// # Errors
    /// [`ProvisionError::Database`] also when a file cannot get its locks within a few seconds because the owner's own
    /// sessions hold them; the reconciler tries again.
    pub async fn upgrade(&self, id: &ProjectRef) -> Result<(), ProvisionError> {
        self.upgrade_reported(id).await.map(drop).map_err(|(error, _)| error)
    }

    /// The same for a caller with other projects to look at: one that is worked on is left for another time.
    pub(super) async fn upgrade_if_free(&self, id: &ProjectRef) -> Result<bool, ProvisionError> {
        match self.upgrade_locked(id, IF_FREE).await {
            Err(ProvisionError::Busy) => Ok(false),
            upgraded => upgraded.map(|_| true),
        }
    }

    /// The same, told file by file; with a failure that PostgreSQL had, what was applied before it.
    pub(crate) async fn upgrade_reported(
        &self,
        id: &ProjectRef,
    ) -> Result<UpgradeReport, (ProvisionError, Option<UpgradeReport>)> {
        let started = Instant::now();
        let report = |ran: &[(&'static str, Duration)], failed| {
            let took = |name: &str| ran.iter().find(|(ran, _)| *ran == name).map(|(_, took)| *took);
            let files = self.0.files.iter();
            let files =
                files.map(|file| UpgradedFile { name: file.name, checksum: file.checksum(), took: took(file.name) });
            UpgradeReport { files: files.collect(), took: started.elapsed(), failed }
        };
        match self.upgrade_locked(id, PATIENCE).await {
            Ok(ran) => Ok(report(&ran, None)),
            Err(error) => {
                let failed = match &error {
                    ProvisionError::Database(cause) => match cause.downcast_ref::<ApplyError>() {
                        Some(ApplyError::Failed { name, .. }) => Some(*name),
                        _ => None,
                    },
                    _ => None,
                };
                // Which files ran before it, the ledger knows; here they are only not said to have failed.
                let told = matches!(error, ProvisionError::Database(_)).then(|| {
                    let mut told = report(&[], failed);
                    told.files.truncate(self.0.files.iter().position(|file| Some(file.name) == failed).unwrap_or(0));
                    told
                });
                Err((error, told))
            }
        }
    }

    async fn upgrade_locked(
        &self,
        id: &ProjectRef,
        patience: Duration,
    ) -> Result<Vec<(&'static str, Duration)>, ProvisionError> {
        let admin = self.locked_within(id, patience, &self.0.admin_connections).await?;
        let now = self.0.config.clock.unix_seconds();
        let row = project::project_row(&admin.client, id, now).await?.ok_or(ProvisionError::NotFound)?;
        let version = self.baseline_version();
        if row.baseline_version == version || row.status != ProjectStatus::Active {
            return Ok(Vec::new());
        }
        let options = self.upgrade_options().await?;
        let mut superuser = self.connect(&self.admin_target(id.database()), &options).await?;
        let needs_owner =
            self.0.files.iter().any(|file| file.version > row.baseline_version && file.run_as() == RunAs::Owner);
        let owner = if needs_owner {
            let sealed = secret_map(&admin.client, id.as_str()).await?;
            let password = secrets::open_kind(&self.0.config.master_key, id, &sealed, kind::DB_PASSWORD)
                .map_err(ProvisionError::database)?
                .ok_or_else(|| ProvisionError::database("the project has no database password"))?;
            // The owner may have given its role another password; ours is the one that is shown and kept.
            let verifier = logins::verifier_for(&admin.client, id.owner_role(), &password).await?;
            store::role::role_password_put(&admin.client, id.owner_role(), &verifier).await?;
            let target =
                DatabaseTarget { user: id.owner_role().to_owned(), password, ..self.admin_target(id.database()) };
            Some(self.connect(&target, &options).await?)
        } else {
            None
        };
        let applied = baseline::apply(&mut superuser, owner.as_ref(), false, self.0.files)
            .await
            .map_err(ProvisionError::database)?;
        project::baseline_version_put(&admin.client, id, version).await?;
        let files = applied.len();
        tracing::info!(project.ref = %id, applied = files, version, "the project's database has the present baseline");
        Ok(applied)
    }

    /// Gives a closed database what mends its baseline, before its owner can connect to it again. The caller holds the
    /// project's lock, and knows that the database is there.
    pub(super) async fn mend_locked(&self, admin: &impl GenericClient, id: &ProjectRef) -> Result<(), ProvisionError> {
        let options = self.upgrade_options().await?;
        let mut superuser = self.connect(&self.admin_target(id.database()), &options).await?;
        let mended = match baseline::mend(&mut superuser, self.0.files).await {
            // It has what we know of, and more.
            Err(ApplyError::Newer(_)) => None,
            mended => mended.map_err(ProvisionError::database)?,
        };
        if let Some(version) = mended {
            project::baseline_version_put(admin, id, version).await?;
        }
        Ok(())
    }

    /// Of sessions in a database that has an owner: the owner's own locks cannot keep them for long.
    async fn upgrade_options(&self) -> Result<String, ProvisionError> {
        let options = baseline::session_options(&self.cluster().await?.owner_role);
        Ok(format!("{options} -c lock_timeout=5s -c statement_timeout=60s"))
    }
}
