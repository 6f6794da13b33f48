//! Making a project: a spare that is handed out, or all steps one after the other.

use std::sync::atomic::Ordering;

use base::api_key::{self, ApiKeyKind};
use base::sealed::SealContext;
use base::{OwnerId, ProjectRef, ProjectStatus};
use postgres_protocol::password::scram_sha_256;
use serde_json::json;
use tokio_postgres::Client;

use super::cluster::{self, Cluster};
use super::store::project::{self, step};
use super::store::role::Login;
use super::store::{self, violated};
use super::turns::PATIENCE_TO_BUILD;
use super::{NewProject, ProvisionError, Provisioner};
use crate::api_keys::shown_prefix;
use crate::secrets::{self, kind};
use crate::store::api_key::{NewApiKey, api_key_insert};
use crate::store::audit::audit_insert;
use crate::store::secret::secret_map;

/// What a database's marker says once it was handed out.
pub(super) const STATE_PROJECT: &str = "project";
pub(super) const STATE_SPARE: &str = "spare";

impl Provisioner {
    /// Makes a project: a spare that is ready becomes it, or it is built now. An id of the operator's choice is always
    /// built.
    ///
    /// # Errors
    /// [`ProvisionError::NameTaken`], [`ProvisionError::IdTaken`]; with any other error nothing of the project stays.
    pub async fn create(&self, new: NewProject) -> Result<ProjectRef, ProvisionError> {
        if !self.0.write_gate.is_open() {
            return Err(ProvisionError::DiskNearlyFull);
        }
        if new.id.is_none()
            && let Some(id) = self.claim_spare(&new.owner_id, &new.name).await?
        {
            return Ok(id);
        }
        let id = new.id.unwrap_or_else(ProjectRef::generate);
        self.0.building_for_requests.fetch_add(1, Ordering::Relaxed);
        let made = self.make(&id, Some((&new.owner_id, &new.name))).await;
        self.0.building_for_requests.fetch_sub(1, Ordering::Relaxed);
        self.0.refill.notify_one();
        made.map(|()| id)
    }

    /// Takes a spare, as the platform's own role: no superuser acts on a request's behalf here.
    async fn claim_spare(&self, owner_id: &OwnerId, name: &str) -> Result<Option<ProjectRef>, ProvisionError> {
        let mut db = self.0.pool.get().await?;
        let tx = db.transaction().await?;
        let claimed = project::spare_claim(&*tx, owner_id, name, self.baseline_version()).await.map_err(|error| {
            if violated(&error) == Some(project::NAME_KEY) { ProvisionError::NameTaken } else { error.into() }
        })?;
        let Some(id) = claimed.and_then(|id| ProjectRef::parse(&id).ok()) else { return Ok(None) };
        audit_insert(&*tx, &self.1.entry(Some(&id), "project.create", json!({ "name": name }))).await?;
        tx.commit().await?;
        drop(db);
        self.0.refill.notify_one();
        let (provisioner, marked) = (self.clone(), id.clone());
        self.0.tasks.spawn(async move {
            // The reconciler does it too; until then the row alone keeps the database.
            if let Err(error) = provisioner.mark_handed_out(&marked).await {
                tracing::warn!(project.ref = %marked, cause = %error, "a database could not be marked as handed out");
            }
        });
        Ok(Some(id))
    }

    pub(super) async fn mark_handed_out(&self, id: &ProjectRef) -> Result<(), ProvisionError> {
        let comment = self.cluster().await?.marker(id.as_str(), STATE_PROJECT).text();
        let admin = self.admin().await?;
        Ok(store::database::database_comment(&admin.client, id.database(), &comment).await?)
    }

    /// Reserves and builds; takes everything back when that fails.
    pub(super) async fn make(&self, id: &ProjectRef, owner: Option<(&OwnerId, &str)>) -> Result<(), ProvisionError> {
        self.cluster().await?;
        self.reserve(id, owner).await?;
        let built = self.build(id).await;
        if let Err(error) = &built {
            tracing::error!(project.ref = %id, cause = ?error, "a project could not be made");
            if let Err(error) = self.abandon(id).await {
                tracing::warn!(project.ref = %id, cause = ?error, "what was made of it is left to the reconciler");
            }
        }
        built
    }

    /// The project's row with all its secrets and first keys, in one transaction.
    pub(super) async fn reserve(&self, id: &ProjectRef, owner: Option<(&OwnerId, &str)>) -> Result<(), ProvisionError> {
        let mut db = self.0.pool.get().await?;
        let tx = db.transaction().await?;
        project::project_insert_in_tx(&*tx, id, owner).await.map_err(|error| match violated(&error) {
            Some(project::NAME_KEY) => ProvisionError::NameTaken,
            Some(project::ID_KEY) => ProvisionError::IdTaken,
            _ => error.into(),
        })?;
        if let Some((_, name)) = owner {
            audit_insert(&*tx, &self.1.entry(Some(id), "project.create", json!({ "name": name }))).await?;
        }
        let now = self.0.config.clock.unix_seconds();
        let made = secrets::fresh(id, now);
        for (kind, key) in &made {
            // Names are unique among the keys of a project.
            let (name, kind) = match *kind {
                kind::PUBLISHABLE_KEY => ("default", ApiKeyKind::Publishable),
                kind::SECRET_KEY => ("default_secret", ApiKeyKind::Secret),
                _ => continue,
            };
            let new = NewApiKey {
                project_id: id.as_str(),
                name,
                kind,
                prefix: shown_prefix(key.expose(), kind),
                hash: &api_key::hash(key.expose()),
            };
            api_key_insert(&*tx, &new).await?;
        }
        for (kind, secret) in made {
            let cx = SealContext { owner: id.as_str(), kind };
            let sealed = self.0.config.master_key.seal(cx, secret.expose().as_bytes());
            project::secret_insert_in_tx(&*tx, id.as_str(), kind, &sealed).await?;
        }
        Ok(tx.commit().await?)
    }

    /// Carries a reserved project on to `active`, from wherever it is.
    pub(super) async fn build(&self, id: &ProjectRef) -> Result<(), ProvisionError> {
        let cluster = self.cluster().await?;
        let creating = self.0.creations.acquire().await.map_err(ProvisionError::database)?;
        let mut admin = self.locked_within(id, PATIENCE_TO_BUILD, &self.0.admin_connections).await?;
        self.build_locked(&mut admin.client, cluster, id).await?;
        drop(creating);
        Ok(())
    }

    /// As [`Provisioner::build`] for a caller that holds the project's lock.
    pub(super) async fn build_locked(
        &self,
        admin: &mut Client,
        cluster: &Cluster,
        id: &ProjectRef,
    ) -> Result<(), ProvisionError> {
        let now = self.0.config.clock.unix_seconds();
        let row = project::project_row(admin, id, now).await?.ok_or(ProvisionError::NotFound)?;
        if row.status != ProjectStatus::Provisioning {
            return Ok(());
        }
        if !row.steps.iter().any(|done| done == step::ROLES) {
            self.make_roles(admin, cluster, id).await?;
        }
        if store::database::database_get(admin, id.database()).await?.is_none() {
            let limit = self.0.limits.database;
            store::database::database_create(admin, id, &cluster.template, limit).await?;
        }
        let state = if row.is_spare { STATE_SPARE } else { STATE_PROJECT };
        let tx = admin.transaction().await?;
        let comment = cluster.marker(id.as_str(), state).text();
        store::database::database_open_in_tx(&tx, id, &cluster.owner_role, &comment).await?;
        project::step_insert(&tx, id, step::DATABASE).await?;
        project::project_activate_in_tx(&tx, id, self.baseline_version()).await?;
        Ok(tx.commit().await?)
    }

    pub(super) async fn make_roles(
        &self,
        admin: &mut Client,
        cluster: &Cluster,
        id: &ProjectRef,
    ) -> Result<(), ProvisionError> {
        let sealed = secret_map(admin, id.as_str()).await?;
        let password = |kind: &str| {
            secrets::open_kind(&self.0.config.master_key, id, &sealed, kind)
                .map_err(ProvisionError::database)?
                .ok_or_else(|| ProvisionError::database(format!("the project has no {kind}")))
        };
        let logins = [
            (Login::Owner { owner_role: &cluster.owner_role }, self.0.limits.owner, password(kind::DB_PASSWORD)?),
            (Login::Authenticator, self.0.limits.authenticator, password(kind::AUTHENTICATOR_PASSWORD)?),
        ];
        let tx = admin.transaction().await?;
        cluster::check_shared_roles(&tx, &cluster.shared_roles()).await?;
        // From here on the name is ours: what appears under it without a comment was left by a crash of ours.
        if store::database::database_get(&tx, id.database()).await?.is_some() {
            return Err(ProvisionError::IdTaken);
        }
        let comment = cluster.marker(id.as_str(), "role").text();
        for (login, limit, password) in logins {
            let name = match login {
                Login::Owner { .. } => id.owner_role().to_owned(),
                Login::Authenticator => id.authenticator_role(),
            };
            let found = store::role::role_comment(&tx, &name).await?;
            if found.is_some() && !cluster.is_ours(found.as_deref(), id.as_str()) {
                return Err(ProvisionError::IdTaken);
            }
            let verifier = scram_sha_256(password.expose().as_bytes());
            store::role::role_put_in_tx(&tx, id, login, limit, &verifier, &comment, found.is_some()).await?;
        }
        project::step_insert(&tx, id, step::ROLES).await?;
        Ok(tx.commit().await?)
    }

    /// Removes a project that could not be made. What this does not manage the reconciler does.
    async fn abandon(&self, id: &ProjectRef) -> Result<(), ProvisionError> {
        let mut admin = self.locked_within(id, PATIENCE_TO_BUILD, &self.0.admin_connections).await?;
        let tx = admin.client.transaction().await?;
        project::project_fail_in_tx(&tx, id, "the project could not be made").await?;
        project::step_insert(&tx, id, step::ABANDONED).await?;
        tx.commit().await?;
        self.purge_locked(&mut admin.client, id).await
    }
}
