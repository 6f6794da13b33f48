//! A database from a backup: made beside the project's, loaded by its owner, and put in the other's place in one
//! transaction. Until then nothing of the project changes, and whatever fails leaves it as it was.

use std::collections::BTreeMap;
use std::time::Duration;

use base::project::DatabaseTarget;
use base::sealed::SealContext;
use base::{OwnerId, ProjectRef, ProjectStatus, Secret};
use serde_json::{Value, json};
use tokio_postgres::{Client, Transaction};

use super::build::STATE_PROJECT;
use super::cluster::{self, Cluster};
use super::extensions::OFFERED;
use super::logins;
use super::store::project::{self, step};
use super::store::restored::{self as store_restored, InternalTrigger};
use super::store::role::Login;
use super::store::{self, violated};
use super::turns::{PATIENCE, PATIENCE_TO_RESTORE};
use super::{Admin, ProvisionError, Provisioner};
use crate::baseline;
use crate::secrets::{self, kind};
use crate::store::audit::audit_insert;
use crate::store::secret::{secret_map, secret_put_in_tx};

/// What a database is made for; part of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To take the project's place.
    Restore,
    /// To see whether the backup can be restored.
    Verify,
}

impl Purpose {
    const ALL: [Self; 2] = [Self::Restore, Self::Verify];

    fn suffix(self) -> &'static str {
        match self {
            Self::Restore => "_restoring",
            Self::Verify => "_verifying",
        }
    }
}

/// How long another session of the owner's can stay in a database that is being loaded.
const ALONE: Duration = Duration::from_secs(1);

/// What the old database is called between its replacement and its end.
const REPLACED: &str = "_replaced";
/// PostgreSQL's database with nothing in it.
const EMPTY: &str = "template0";
/// State in the comment of databases that are not a project's own.
const STATE_SCRATCH: &str = "scratch";

/// A fresh database with the baseline that a backup was made with. Others wait for the project's lock meanwhile.
pub(crate) struct Scratch {
    admin: Admin,
    id: ProjectRef,
    database: String,
    purpose: Purpose,
    baseline_version: i32,
    /// What only a superuser installs; others come with the dump.
    extensions: Vec<String>,
    /// None for a project that is not there.
    status: Option<ProjectStatus>,
    owner_password: Secret<String>,
    /// What the baseline has put on the owner's tables, which the dump brings without it.
    triggers: Vec<InternalTrigger>,
    /// The session that works in it.
    session: Option<i32>,
}

/// What a project gets from its backup besides its database.
pub(crate) struct Belongings<'a> {
    /// For a project that is not there.
    pub(crate) owner: &'a OwnerId,
    pub(crate) name: &'a str,
    /// By kind; those of login roles are left out when the project is there.
    pub(crate) secrets: &'a BTreeMap<String, Secret<String>>,
    /// For the audit log.
    pub(crate) detail: Value,
}

impl Provisioner {
    /// Makes a database for a backup of `baseline_version`, with those of `extensions` that owners cannot install. `secrets`
    /// are those of a project that is not there, whose roles are made with them.
    pub(crate) async fn scratch(
        &self,
        id: &ProjectRef,
        purpose: Purpose,
        baseline_version: i32,
        extensions: &[String],
        secrets: &BTreeMap<String, Secret<String>>,
    ) -> Result<Scratch, ProvisionError> {
        let cluster = self.cluster().await?;
        if !self.0.write_gate.is_open() {
            return Err(ProvisionError::DiskNearlyFull);
        }
        // Somebody waits for a restore, and a verification of the project's may be under way.
        let patience = if purpose == Purpose::Restore { PATIENCE_TO_RESTORE } else { PATIENCE };
        let mut admin = self.locked_within(id, patience, &self.0.loads).await?;
        let now = self.0.config.clock.unix_seconds();
        let row = project::project_row(&admin.client, id, now).await?;
        let status = row.as_ref().map(|row| row.status);
        match status {
            None | Some(ProjectStatus::Active | ProjectStatus::Suspended) => {}
            Some(status) => return Err(ProvisionError::WrongStatus { status }),
        }
        self.scratches_drop(&admin.client, cluster, id).await?;
        let database = format!("{id}{}", purpose.suffix());
        if let Some(found) = store::database::database_get(&admin.client, &database).await? {
            return Err(ProvisionError::Unsupported(format!("a database {} is there that is not ours", found.name)));
        }
        // Before the roles, which nobody takes for left over while it is there.
        let comment = cluster.marker(id.as_str(), STATE_SCRATCH).text();
        let limit = self.0.limits.database;
        let files = baseline::whole(self.0.files, baseline_version);
        // The template has all files; a database with fewer of them is made from the beginning.
        let template = if files.len() == self.0.files.len() { &cluster.template } else { EMPTY };
        let mut made = store_restored::scratch_create(&admin.client, &database, template, &comment, limit).await;
        if let Err(error) = &made
            && template != EMPTY
        {
            // For instance because the collations of the system changed under it, which is no reason to restore nothing.
            tracing::warn!(cause = %error, template, "a database is made without the template");
            self.scratches_drop(&admin.client, cluster, id).await?;
            made = store_restored::scratch_create(&admin.client, &database, EMPTY, &comment, limit).await;
        }
        made?;
        let roles = self.scratch_roles(&mut admin.client, cluster, id, row.is_some(), secrets).await;
        let owner_password = match roles {
            Ok(password) => password,
            Err(error) => {
                self.scratches_drop(&admin.client, cluster, id).await?;
                return Err(error);
            }
        };
        let extensions = extensions.iter().filter(|name| OFFERED.contains(&name.as_str())).cloned().collect();
        let id = id.clone();
        let triggers = Vec::new();
        let mut scratch = Scratch {
            admin,
            id,
            database,
            purpose,
            baseline_version,
            extensions,
            status,
            owner_password,
            triggers,
            session: None,
        };
        let made = self.scratch_fill(&mut scratch, cluster).await;
        match made {
            Ok(()) => Ok(scratch),
            Err(error) => {
                self.scratch_discard(scratch).await;
                Err(error)
            }
        }
    }

    /// The password with which the owner's role can log in; makes the roles when they are missing.
    async fn scratch_roles(
        &self,
        admin: &mut Client,
        cluster: &Cluster,
        id: &ProjectRef,
        has_row: bool,
        secrets: &BTreeMap<String, Secret<String>>,
    ) -> Result<Secret<String>, ProvisionError> {
        let kept = if has_row { secret_map(admin, id.as_str()).await? } else { Default::default() };
        let password = |kind: &str| match secrets::open_kind(&self.0.config.master_key, id, &kept, kind) {
            Ok(Some(password)) => Ok(password),
            Ok(None) => {
                secrets.get(kind).cloned().ok_or_else(|| ProvisionError::database(format!("there is no {kind}")))
            }
            Err(error) => Err(ProvisionError::database(error)),
        };
        let (owner, authenticator) = (password(kind::DB_PASSWORD)?, password(kind::AUTHENTICATOR_PASSWORD)?);
        let logins = [
            (id.owner_role().to_owned(), Login::Owner { owner_role: &cluster.owner_role }, self.0.limits.owner, &owner),
            (id.authenticator_role(), Login::Authenticator, self.0.limits.authenticator, &authenticator),
        ];
        let tx = admin.transaction().await?;
        cluster::check_shared_roles(&tx, &cluster.shared_roles()).await?;
        for (name, login, limit, password) in logins {
            let found = store::role::role_comment(&tx, &name).await?;
            if found.is_some() && !cluster.is_ours(found.as_deref(), id.as_str()) {
                return Err(ProvisionError::IdTaken);
            }
            let comment = cluster.marker(id.as_str(), "role").text();
            let verifier = logins::verifier_for(&tx, &name, password).await?;
            store::role::role_put_in_tx(&tx, id, login, limit, &verifier, &comment, found.is_some()).await?;
        }
        tx.commit().await?;
        Ok(owner)
    }

    async fn scratch_fill(&self, scratch: &mut Scratch, cluster: &Cluster) -> Result<(), ProvisionError> {
        let options = baseline::session_options(&cluster.owner_role);
        let mut client = self.connect(&self.admin_target(&scratch.database), &options).await?;
        // A dump has nothing of what a mend changes, so that it fits.
        let files = baseline::whole(self.0.files, scratch.baseline_version);
        // There is no owner's object in it yet, as in a template. Of a copy of ours nothing is missing.
        baseline::apply(&mut client, None, true, files).await.map_err(ProvisionError::database)?;
        scratch.baseline_version = baseline::version(files);
        for name in &scratch.extensions {
            let tx = client.transaction().await?;
            let installed = store::extension::extension_install_in_tx(&tx, name).await;
            installed.map_err(|error| {
                let what = error.as_db_error().map_or_else(|| error.to_string(), |db| db.message().to_owned());
                ProvisionError::Refused(format!(
                    "the extension {name}, which the backup needs, cannot be installed: {what}"
                ))
            })?;
            tx.commit().await?;
        }
        scratch.triggers = store_restored::internal_triggers(&client).await?;
        drop(client);
        let admin = &scratch.admin.client;
        store_restored::scratch_open_in_tx(admin, &scratch.database, &scratch.id, &cluster.owner_role).await?;
        Ok(())
    }

    /// A session of the project's owner in the new database; the one that stays when others are ended.
    pub(crate) async fn scratch_session(&self, scratch: &mut Scratch) -> Result<Client, ProvisionError> {
        let target = DatabaseTarget {
            user: scratch.id.owner_role().to_owned(),
            password: scratch.owner_password.clone(),
            ..self.admin_target(&scratch.database)
        };
        // Hundreds of statements, none of which has to outlive a crash before the last: that one waits for the disk.
        let client = self.connect(&target, "-c client_min_messages=warning -c synchronous_commit=off").await?;
        scratch.session = Some(store_restored::session_pid(&client).await?);
        Ok(client)
    }

    /// Ends whatever other sessions its owner opens in the new database, until it is dropped: they could hold what is loaded
    /// for as long as they like. Returns only when that fails.
    pub(crate) async fn scratch_keep_alone(&self, scratch: &Scratch) -> ProvisionError {
        loop {
            tokio::time::sleep(ALONE).await;
            let (admin, database) = (&scratch.admin.client, &scratch.database);
            let owner = scratch.id.owner_role();
            if let Err(error) = store_restored::sessions_end_but(admin, database, owner, scratch.session).await {
                return error.into();
            }
        }
    }

    /// Puts what is the superuser's on the owner's tables, after these were loaded.
    ///
    /// # Errors
    /// [`ProvisionError::Refused`] when one of the tables is another than the baseline's.
    pub(crate) async fn scratch_complete(&self, scratch: &Scratch) -> Result<(), ProvisionError> {
        let cluster = self.cluster().await?;
        let options = format!("{} -c lock_timeout=10s", baseline::session_options(&cluster.owner_role));
        let mut client = self.connect(&self.admin_target(&scratch.database), &options).await?;
        for trigger in &scratch.triggers {
            let tx = client.transaction().await?;
            if !store_restored::internal_trigger_put_in_tx(&tx, trigger).await? {
                let what = format!("the backup's table {} has columns of other types than LaunchDB's", trigger.table);
                return Err(ProvisionError::Refused(what));
            }
            tx.commit().await?;
        }
        Ok(())
    }

    /// Puts the database in place of the project's, with what belongs to it, in one transaction. `more` adds to it.
    pub(crate) async fn scratch_install(
        &self,
        mut scratch: Scratch,
        belongings: &Belongings<'_>,
        more: impl AsyncFnOnce(&Transaction<'_>) -> Result<(), tokio_postgres::Error>,
    ) -> Result<(), ProvisionError> {
        debug_assert_eq!(scratch.purpose, Purpose::Restore);
        let installed = self.scratch_swap(&mut scratch, belongings, more).await;
        if let Err(error) = installed {
            let admin = &scratch.admin.client;
            if store::database::database_get(admin, scratch.id.database()).await?.is_some() {
                store_restored::database_allow_connections(admin, scratch.id.database(), true).await?;
            }
            self.scratch_discard(scratch).await;
            return Err(error);
        }
        // What does not go now goes with the next restore, or when projects are reconciled.
        if let Err(error) = self.scratches_drop(&scratch.admin.client, self.cluster().await?, &scratch.id).await {
            tracing::warn!(project.ref = %scratch.id, cause = ?error, "the replaced database is still there");
        }
        let id = scratch.id.clone();
        drop(scratch);
        self.catch_up(&id).await;
        Ok(())
    }

    async fn scratch_swap(
        &self,
        scratch: &mut Scratch,
        belongings: &Belongings<'_>,
        more: impl AsyncFnOnce(&Transaction<'_>) -> Result<(), tokio_postgres::Error>,
    ) -> Result<(), ProvisionError> {
        let cluster = self.cluster().await?;
        let (admin, id) = (&mut scratch.admin.client, &scratch.id);
        let old = store::database::database_get(admin, id.database()).await?;
        if let Some(old) = &old {
            if !cluster.is_ours(old.comment.as_deref(), id.as_str()) {
                return Err(ProvisionError::IdTaken);
            }
            store::database::slots_drop(admin, id.database()).await?;
        }
        for database in old.iter().map(|old| old.name.as_str()).chain([scratch.database.as_str()]) {
            store_restored::database_allow_connections(admin, database, false).await?;
            store::database::sessions_end_and_wait(admin, database).await?;
        }
        let tx = admin.transaction().await?;
        let status = match scratch.status {
            Some(_) => project::status_lock_in_tx(&tx, id).await?.ok_or(ProvisionError::NotFound)?,
            None => {
                let (owner, name, version) = (belongings.owner, belongings.name, scratch.baseline_version);
                store_restored::project_insert_restored_in_tx(&tx, id, owner, name, version).await.map_err(
                    |error| match violated(&error) {
                        Some(project::NAME_KEY) => ProvisionError::NameTaken,
                        Some(project::ID_KEY) => ProvisionError::IdTaken,
                        _ => error.into(),
                    },
                )?;
                project::step_insert(&tx, id, step::ROLES).await?;
                project::step_insert(&tx, id, step::DATABASE).await?;
                ProjectStatus::Active
            }
        };
        for (kind, secret) in belongings.secrets {
            let is_login = [kind::DB_PASSWORD, kind::AUTHENTICATOR_PASSWORD].contains(&kind.as_str());
            if is_login && scratch.status.is_some() {
                continue;
            }
            let cx = SealContext { owner: id.as_str(), kind };
            let sealed = self.0.config.master_key.seal(cx, secret.expose().as_bytes());
            secret_put_in_tx(&tx, id.as_str(), kind, &sealed).await?;
        }
        more(&tx).await?;
        project::baseline_version_put(&tx, id, scratch.baseline_version).await?;
        let replaced = format!("{id}{REPLACED}");
        let scratch_comment = cluster.marker(id.as_str(), STATE_SCRATCH).text();
        let replaced = old.is_some().then_some((replaced.as_str(), scratch_comment.as_str()));
        let comment = cluster.marker(id.as_str(), STATE_PROJECT).text();
        store_restored::database_swap_in_tx(&tx, id, &scratch.database, replaced, &comment, status).await?;
        let detail = belongings.detail.clone();
        audit_insert(&tx, &self.1.entry(Some(id), "project.restore_backup", detail)).await?;
        Ok(tx.commit().await?)
    }

    /// Takes the database away again, and the roles of a project that never came to be.
    pub(crate) async fn scratch_discard(&self, scratch: Scratch) {
        let discarded = async {
            let (cluster, admin) = (self.cluster().await?, &scratch.admin.client);
            self.scratches_drop(admin, cluster, &scratch.id).await?;
            if scratch.status.is_none() {
                for role in [scratch.id.owner_role().to_owned(), scratch.id.authenticator_role()] {
                    if cluster.is_ours(store::role::role_comment(admin, &role).await?.as_deref(), scratch.id.as_str()) {
                        store::role::role_drop(admin, &role).await?;
                    }
                }
            }
            Ok::<_, ProvisionError>(())
        };
        if let Err(error) = discarded.await {
            tracing::warn!(project.ref = %scratch.id, cause = ?error, "what a restore made is left to the reconciler");
        }
    }

    /// Drops the databases that restores of a project left. The caller holds the project's lock.
    pub(super) async fn scratches_drop(
        &self,
        admin: &Client,
        cluster: &Cluster,
        id: &ProjectRef,
    ) -> Result<(), ProvisionError> {
        for suffix in Purpose::ALL.map(Purpose::suffix).into_iter().chain([REPLACED]) {
            let name = format!("{id}{suffix}");
            let Some(found) = store::database::database_get(admin, &name).await? else { continue };
            // Without a comment it was only begun, which nobody can see from outside.
            let begun = found.comment.is_none() && !found.allows_connections;
            if begun || cluster.is_ours(found.comment.as_deref(), id.as_str()) {
                store::database::database_drop(admin, &name).await?;
            }
        }
        Ok(())
    }

    /// Puts right what a restore left that was killed: databases of its own go, and one that it had closed is opened.
    pub(super) async fn scratches_sweep(&self, cluster: &Cluster) -> Result<(), ProvisionError> {
        let admin = self.admin().await?;
        let databases = store::database::databases_marked(&admin.client, &cluster.marker_prefix()).await?;
        for database in databases {
            let scratch = Purpose::ALL.map(Purpose::suffix).into_iter().chain([REPLACED]);
            let of_scratch = scratch.into_iter().find_map(|suffix| database.name.strip_suffix(suffix));
            let is_closed = !database.allows_connections;
            let Ok(id) = ProjectRef::parse(of_scratch.unwrap_or(&database.name)) else { continue };
            if of_scratch.is_none() && !is_closed || !cluster.is_ours(database.comment.as_deref(), id.as_str()) {
                continue;
            }
            // Whoever restores holds it.
            if !store::cluster::try_lock(&admin.client, id.as_str()).await? {
                continue;
            }
            self.scratches_drop(&admin.client, cluster, &id).await?;
            let row = project::project_row(&admin.client, &id, self.0.config.clock.unix_seconds()).await?;
            let has_database = row.is_some_and(|row| row.steps.iter().any(|done| done == step::DATABASE));
            let closed = store::database::database_get(&admin.client, id.database()).await?;
            if has_database && closed.is_some_and(|database| !database.allows_connections) {
                store_restored::database_allow_connections(&admin.client, id.database(), true).await?;
            }
            store::cluster::unlock(&admin.client, id.as_str()).await?;
            tracing::warn!(project.ref = %id, "what a restore that was cut off had left was put right");
        }
        Ok(())
    }

    /// Names of the extensions that a project's database has, in the order in which they were installed.
    pub(crate) async fn installed_extensions(&self, id: &ProjectRef) -> Result<Vec<String>, ProvisionError> {
        let client = self.connect(&self.admin_target(id.database()), super::ADMIN_OPTIONS).await?;
        Ok(store_restored::extension_names(&client).await?)
    }

    /// How many tables a project's database has that a dump of it locks.
    pub(crate) async fn table_count(&self, id: &ProjectRef) -> Result<i64, ProvisionError> {
        let client = self.connect(&self.admin_target(id.database()), super::ADMIN_OPTIONS).await?;
        Ok(store_restored::table_count(&client).await?)
    }

    /// Whether a database is being loaded for a project that may not be there yet.
    pub(super) async fn has_scratch(&self, admin: &Client, id: &ProjectRef) -> Result<bool, ProvisionError> {
        for purpose in Purpose::ALL {
            if store::database::database_get(admin, &format!("{id}{}", purpose.suffix())).await?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// For the audit log.
pub(crate) fn restore_detail(file: &str, taken_at: i64) -> Value {
    json!({ "file": file, "taken_at": taken_at })
}
