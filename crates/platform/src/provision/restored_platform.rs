//! The platform's own database from a backup: made beside the present one, loaded by the role that owns it, completed, and
//! put in the other's place in one transaction.

use base::project::DatabaseTarget;
use base::sealed::SealContext;
use serde_json::Value;
use tokio_postgres::Client;

use super::store::restored as store_restored;
use super::{ADMIN_OPTIONS, ProvisionError, Provisioner, store};
use crate::database;
use crate::secrets;
use crate::store::audit::audit_insert;
use crate::store::bootstrap;
use crate::store::secret::{secret_map, secret_put_in_tx};

/// What the databases are called that are not the platform's yet, or any more.
const SCRATCH: &str = "_restoring";
const REPLACED: &str = "_replaced";
/// State in the comments of both.
const STATE_SCRATCH_PLATFORM: &str = "scratch";
/// Held in the maintenance database, since the platform's own is what changes; its name follows.
const LOCK: &str = "launchdb.restore_platform ";

/// A database that is to become the platform's. Others that restore it are refused meanwhile.
pub(crate) struct PlatformScratch {
    maintenance: Client,
    database: String,
}

/// How the backup fits this server.
#[derive(Debug, Default)]
pub(crate) struct PlatformFit {
    pub(crate) without_database: Vec<String>,
    pub(crate) unknown: Vec<String>,
}

impl Provisioner {
    /// An empty database, owned by the role of the platform's.
    pub(crate) async fn platform_scratch(&self) -> Result<PlatformScratch, ProvisionError> {
        let cluster = self.cluster().await?;
        if !self.0.write_gate.is_open() {
            return Err(ProvisionError::DiskNearlyFull);
        }
        let (platform, admin) = (&self.0.config.database, &self.0.config.admin);
        if platform.database == admin.database {
            return Err(ProvisionError::Unsupported(format!(
                "the administrator's connection leads to {}, which is to be replaced: let LAUNCHDB_ADMIN_DATABASE_URL \
                 lead to another database, such as postgres",
                admin.database
            )));
        }
        let maintenance = self.connect(admin, ADMIN_OPTIONS).await?;
        if !store::cluster::try_lock(&maintenance, &self.platform_lock()).await? {
            return Err(ProvisionError::Refused("somebody else restores the platform's database just now".to_owned()));
        }
        let database = format!("{}{SCRATCH}", platform.database);
        let replaced = format!("{}{REPLACED}", platform.database);
        for name in [&database, &replaced] {
            match store::database::database_get(&maintenance, name).await? {
                Some(found) if cluster.is_ours(found.comment.as_deref(), &platform.database) => {
                    store::database::database_drop(&maintenance, name).await?;
                }
                Some(_) => {
                    return Err(ProvisionError::Unsupported(format!("a database {name} is there that is not ours")));
                }
                None => {}
            }
        }
        bootstrap::database_create(&maintenance, &database, &platform.user).await?;
        let comment = cluster.marker(&platform.database, STATE_SCRATCH_PLATFORM).text();
        store::database::database_comment(&maintenance, &database, &comment).await?;
        bootstrap::database_close(&maintenance, &database).await?;
        Ok(PlatformScratch { maintenance, database })
    }

    /// A session of the role that owns the platform's database, in the new one.
    pub(crate) async fn platform_scratch_session(&self, scratch: &PlatformScratch) -> Result<Client, ProvisionError> {
        let target = DatabaseTarget { database: scratch.database.clone(), ..self.0.config.direct_database() };
        Ok(self.connect(&target, "-c client_min_messages=warning").await?)
    }

    /// Brings what was loaded up to this version, and makes it this server's.
    pub(crate) async fn platform_scratch_complete(
        &self,
        scratch: &PlatformScratch,
        detail: Value,
        forget_unknown: bool,
    ) -> Result<PlatformFit, ProvisionError> {
        let cluster = self.cluster().await?;
        let mut client = self.platform_scratch_session(scratch).await?;
        let migrated = database::migrate(&mut client).await;
        migrated.map_err(|error| {
            ProvisionError::Refused(format!("the backup's platform database cannot be used by this version: {error}"))
        })?;
        let key = &self.0.config.master_key;
        let (owner, kind) = (secrets::PLATFORM, secrets::INSTANCE_ID);
        let sealed = secret_map(&client, owner).await?;
        let opens = sealed.get(kind).is_some_and(|sealed| secrets::open(key, owner, kind, sealed).is_ok());
        if !opens {
            return Err(ProvisionError::Refused(
                "LAUNCHDB_MASTER_KEY is not the one of the day of the backup: set it to that one, or that one as \
                 LAUNCHDB_MASTER_KEY_PREVIOUS"
                    .to_owned(),
            ));
        }
        let here = {
            let admin = self.admin().await?;
            store_restored::project_names(&admin.client).await?
        };
        let there = store_restored::project_names(&client).await?;
        let mut fit = PlatformFit::default();
        fit.unknown.extend(here.iter().filter(|here| !there.iter().any(|there| there.0 == here.0)).map(shown));
        if !fit.unknown.is_empty() && !forget_unknown {
            return Err(ProvisionError::Refused(format!(
                "the backup does not know these projects, which nobody could reach any more: {}; back them up and say \
                 --forget-unknown (their databases stay)",
                fit.unknown.join(", ")
            )));
        }
        for project in &there {
            if store::database::database_get(&scratch.maintenance, &project.0).await?.is_none() {
                fit.without_database.push(shown(project));
            }
        }
        let tx = client.transaction().await?;
        // What is here carries this server's mark.
        let cx = SealContext { owner, kind };
        secret_put_in_tx(&tx, owner, kind, &key.seal(cx, cluster.instance.as_bytes())).await?;
        // Made ahead on the other server; this one makes its own.
        store_restored::spares_forget_in_tx(&tx).await?;
        audit_insert(&tx, &self.1.entry(None, "platform.restore_backup", detail)).await?;
        tx.commit().await?;
        Ok(fit)
    }

    /// Puts the database in the platform's place. Whoever is connected to either has to connect again.
    pub(crate) async fn platform_scratch_install(&self, scratch: PlatformScratch) -> Result<(), ProvisionError> {
        let cluster = self.cluster().await?;
        let platform = self.0.config.database.database.clone();
        let replaced = format!("{platform}{REPLACED}");
        let PlatformScratch { mut maintenance, database } = scratch;
        let swapped = async {
            for name in [&platform, &database] {
                store_restored::database_allow_connections(&maintenance, name, false).await?;
                store::database::sessions_end_and_wait(&maintenance, name).await?;
            }
            let comment = cluster.marker(&platform, STATE_SCRATCH_PLATFORM).text();
            let tx = maintenance.transaction().await?;
            store_restored::platform_swap_in_tx(&tx, &platform, &database, &replaced, &comment).await?;
            tx.commit().await
        };
        if let Err(error) = swapped.await {
            store_restored::database_allow_connections(&maintenance, &platform, true).await?;
            self.platform_scratch_discard(PlatformScratch { maintenance, database }).await;
            return Err(error.into());
        }
        // What does not go now goes with the next restore.
        if let Err(error) = store::database::database_drop(&maintenance, &replaced).await {
            tracing::warn!(cause = ?error, "the replaced platform database is still there");
        }
        self.platform_unlock(&maintenance).await;
        Ok(())
    }

    pub(crate) async fn platform_scratch_discard(&self, scratch: PlatformScratch) {
        if let Err(error) = store::database::database_drop(&scratch.maintenance, &scratch.database).await {
            tracing::warn!(cause = ?error, "what a restore made is left to the next one");
        }
        self.platform_unlock(&scratch.maintenance).await;
    }

    fn platform_lock(&self) -> String {
        format!("{LOCK}{}", self.0.config.database.database)
    }

    /// The session's end would do it too, but at a time that nobody waits for: who tries again at once would be refused.
    async fn platform_unlock(&self, maintenance: &Client) {
        if let Err(error) = store::cluster::unlock(maintenance, &self.platform_lock()).await {
            tracing::warn!(cause = ?error, "the lock of the restore goes with its session");
        }
    }
}

fn shown(project: &(String, String)) -> String {
    format!("{} ({})", project.0, project.1)
}
