//! Finishes or undoes what a crash left, and removes what has no project.

use std::collections::HashMap;
use std::time::Duration;

use base::{ProjectRef, ProjectStatus};

use super::build::{STATE_PROJECT, STATE_SPARE};
use super::cluster::Cluster;
use super::store::project::{self, ProjectRow, step};
use super::store::{self, Marker};
use super::{Admin, ProvisionError, Provisioner};

const INTERVAL: Duration = Duration::from_secs(60);
/// After a round that failed: PostgreSQL may just be starting.
const RETRY: Duration = Duration::from_secs(2);

/// How long one project waits for others to be made that somebody waits for.
const LONGEST_WAY: Duration = Duration::from_secs(10);

/// What a round did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReconcileReport {
    /// Projects that were under way and are active now.
    pub finished: Vec<ProjectRef>,
    /// Projects that are gone now: abandoned ones, and deleted ones at the end of their retention.
    pub purged: Vec<ProjectRef>,
    /// Databases and roles of ours without a project that were dropped.
    pub orphans: Vec<String>,
    /// Databases that once were handed out and have no row any more. They are never dropped: the platform database may
    /// have been restored from a backup older than they are.
    pub lost_databases: Vec<String>,
    /// Active projects whose database is not there.
    pub missing_databases: Vec<ProjectRef>,
    /// Projects that got a newer baseline.
    pub upgraded: Vec<ProjectRef>,
}

impl Provisioner {
    pub(super) async fn reconcile_periodically(self) {
        while !self.0.shutdown.is_cancelled() {
            let pause = match self.reconcile().await {
                Ok(report) => {
                    if report != ReconcileReport::default() {
                        tracing::info!(?report, "projects were reconciled");
                    }
                    self.0.refill.notify_one();
                    INTERVAL
                }
                Err(error) => {
                    tracing::warn!(cause = ?error, "projects could not be reconciled");
                    RETRY
                }
            };
            tokio::select! {
                () = self.0.shutdown.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// One round over everything. A project that somebody works on is left alone; a project that fails does not keep
    /// the others from being looked at.
    pub async fn reconcile(&self) -> Result<ReconcileReport, ProvisionError> {
        let cluster = self.cluster().await?;
        let mut report = ReconcileReport::default();
        let rows = {
            let admin = self.admin().await?;
            let rows = project::project_rows(&admin.client, self.0.config.clock.unix_seconds()).await?;
            self.sweep_shared_roles(&admin, cluster).await?;
            project::secrets_sweep(&admin.client).await?;
            rows
        };
        for row in &rows {
            if self.0.shutdown.is_cancelled() {
                return Ok(report);
            }
            if let Err(error) = self.reconcile_project(cluster, row, &mut report).await {
                tracing::warn!(project.ref = %row.id, cause = ?error, "a project could not be reconciled");
            }
        }
        self.silence_databases(cluster).await?;
        self.scratches_sweep(cluster).await?;
        self.reconcile_databases(cluster, &mut report).await?;
        self.remove_orphan_roles(cluster, &mut report).await?;
        Ok(report)
    }

    async fn reconcile_project(
        &self,
        cluster: &Cluster,
        row: &ProjectRow,
        report: &mut ReconcileReport,
    ) -> Result<(), ProvisionError> {
        let abandoned = row.status == ProjectStatus::Failed && row.steps.iter().any(|done| done == step::ABANDONED);
        let expired = row.status == ProjectStatus::Deleted && row.is_expired;
        if row.status == ProjectStatus::Provisioning || abandoned || expired {
            self.give_way(LONGEST_WAY).await;
            let creating = self.0.creations.acquire().await.map_err(ProvisionError::database)?;
            let mut admin = self.admin().await?;
            if !store::cluster::try_lock(&admin.client, row.id.as_str()).await? {
                return Ok(());
            }
            let now = self.0.config.clock.unix_seconds();
            // It may have changed before the lock was ours.
            let Some(present) = project::project_row(&admin.client, &row.id, now).await? else { return Ok(()) };
            if present.status != row.status || present.is_expired != row.is_expired {
                return Ok(());
            }
            if row.status == ProjectStatus::Provisioning {
                self.build_locked(&mut admin.client, cluster, &row.id).await?;
                report.finished.push(row.id.clone());
            } else {
                self.purge_locked(&mut admin.client, &row.id).await?;
                report.purged.push(row.id.clone());
            }
            drop(creating);
        } else if row.status == ProjectStatus::Active
            && row.baseline_version < self.baseline_version()
            && self.upgrade_if_free(&row.id).await?
        {
            report.upgraded.push(row.id.clone());
        }
        Ok(())
    }

    /// What an earlier version made gets the settings of today.
    async fn silence_databases(&self, cluster: &Cluster) -> Result<(), ProvisionError> {
        let admin = self.admin().await?;
        for database in store::database::databases_loud(&admin.client, &cluster.marker_prefix()).await? {
            if let Err(error) = store::database::database_silence(&admin.client, &database).await {
                tracing::warn!(database, cause = ?error, "a project's messages cannot be kept out of the server's log");
            }
        }
        Ok(())
    }

    /// Compares the databases that carry our mark with the rows of projects.
    async fn reconcile_databases(&self, cluster: &Cluster, report: &mut ReconcileReport) -> Result<(), ProvisionError> {
        let admin = self.admin().await?;
        // Databases before rows: one that is made meanwhile has its row already, so it cannot look like an orphan.
        let databases = store::database::databases_marked(&admin.client, &cluster.marker_prefix()).await?;
        let rows = project::project_rows(&admin.client, self.0.config.clock.unix_seconds()).await?;
        let rows: HashMap<&str, &ProjectRow> = rows.iter().map(|row| (row.id.as_str(), row)).collect();
        for database in &databases {
            let Some(marker) = database.comment.as_deref().and_then(Marker::parse) else { continue };
            if marker.subject != database.name {
                continue;
            }
            match rows.get(database.name.as_str()) {
                Some(row) if !row.is_spare && marker.state != STATE_PROJECT => {
                    let comment = cluster.marker(&database.name, STATE_PROJECT).text();
                    store::database::database_comment(&admin.client, &database.name, &comment).await?;
                }
                Some(row) if matches!(row.status, ProjectStatus::Suspended | ProjectStatus::Deleted) => {
                    // A crash between closing it and this.
                    store::database::sessions_end(&admin.client, &database.name).await?;
                }
                Some(_) => {}
                None if marker.state == STATE_SPARE => {
                    store::database::slots_drop(&admin.client, &database.name).await?;
                    store::database::database_drop(&admin.client, &database.name).await?;
                    report.orphans.push(database.name.clone());
                }
                None => {
                    tracing::error!(database = database.name, "a project's database has no project any more; it stays");
                    report.lost_databases.push(database.name.clone());
                }
            }
        }
        for row in rows.values().filter(|row| row.status == ProjectStatus::Active) {
            if store::database::database_get(&admin.client, row.id.database()).await?.is_none() {
                tracing::error!(project.ref = %row.id, "the project's database is missing");
                report.missing_databases.push(row.id.clone());
            }
        }
        Ok(())
    }

    async fn remove_orphan_roles(&self, cluster: &Cluster, report: &mut ReconcileReport) -> Result<(), ProvisionError> {
        let admin = self.admin().await?;
        let roles = store::role::project_roles(&admin.client).await?;
        for (name, comment) in roles {
            let subject = name.strip_suffix("_authenticator").unwrap_or(&name);
            if !cluster.is_ours(Some(&comment), subject) {
                continue;
            }
            let Ok(id) = ProjectRef::parse(subject) else { continue };
            let now = self.0.config.clock.unix_seconds();
            // The role of a database that was kept stays with it.
            if project::project_row(&admin.client, &id, now).await?.is_none()
                && store::database::database_get(&admin.client, id.database()).await?.is_none()
                && !self.has_scratch(&admin.client, &id).await?
            {
                store::role::role_drop(&admin.client, &name).await?;
                report.orphans.push(name);
            }
        }
        Ok(())
    }

    /// Takes away what somebody who acts as a shared role can do to it from SQL: settings in other databases, and a
    /// password. Neither has an effect; neither stays.
    pub(crate) async fn sweep_roles(&self) -> Result<(), ProvisionError> {
        let cluster = self.cluster().await?;
        self.sweep_shared_roles(&self.admin().await?, cluster).await
    }

    async fn sweep_shared_roles(&self, admin: &Admin, cluster: &Cluster) -> Result<(), ProvisionError> {
        let db = &admin.client;
        let shared = cluster.shared_roles();
        for (role, database) in store::cluster::shared_role_settings(db, &shared).await? {
            tracing::warn!(role, database, "settings of a shared role were taken away");
            store::cluster::role_settings_reset(db, &role, database.as_deref()).await?;
        }
        for role in store::cluster::shared_role_passwords(db, &shared).await? {
            tracing::warn!(role, "the password of a shared role was taken away");
            store::cluster::role_password_remove(db, &role).await?;
        }
        Ok(())
    }
}
