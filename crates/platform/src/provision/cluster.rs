//! What the cluster needs before there can be projects: shared roles, closed databases, a template.

use base::random;
use base::sealed::SealContext;
use tokio_postgres::Client;

use super::store::{self, Marker};
use super::{ADMIN_OPTIONS, ProvisionError, Provisioner};
use crate::secrets;

/// Names for the role that owns what is in projects' databases, in order of preference. The first is Supabase's; where
/// a superuser has that name, projects must never become members of it.
const OWNER_ROLES: [&str; 2] = ["postgres", "launchdb_owner"];

/// Shared roles that projects are made members of, besides the owner role.
const GRANTED_ROLES: [&str; 5] =
    ["anon", "authenticated", "service_role", "supabase_auth_admin", "supabase_storage_admin"];

/// Those of both that pass row level security, as `cluster_roles.sql` makes them. One that was there before and does not
/// would let every sign-up and upload fail.
pub(super) const BYPASSING_ROLES: [&str; 5] =
    [OWNER_ROLES[0], OWNER_ROLES[1], "service_role", "supabase_auth_admin", "supabase_storage_admin"];

/// Serializes preparing among processes.
const PREPARE_LOCK: &str = "launchdb.prepare";

/// What is the same for every project of this cluster.
#[derive(Clone, Debug)]
pub(super) struct Cluster {
    /// Owns the tables of every project; see [`OWNER_ROLES`].
    pub(super) owner_role: String,
    /// Random id of this installation, part of every marker.
    pub(super) instance: String,
    /// Name of the template database.
    pub(super) template: String,
}

impl Cluster {
    pub(super) fn shared_roles(&self) -> Vec<&str> {
        let mut roles = vec![self.owner_role.as_str()];
        roles.extend(GRANTED_ROLES);
        roles
    }

    pub(super) fn marker(&self, subject: &str, state: &str) -> Marker {
        Marker { instance: self.instance.clone(), subject: subject.to_owned(), state: state.to_owned() }
    }

    /// What the comment of everything of this installation begins with.
    pub(super) fn marker_prefix(&self) -> String {
        let mut text = self.marker("", "").text();
        text.truncate(text.len() - 1);
        text
    }

    /// Whether a comment says that an object is this installation's and belongs to `subject`.
    pub(super) fn is_ours(&self, comment: Option<&str>, subject: &str) -> bool {
        comment
            .and_then(Marker::parse)
            .is_some_and(|marker| marker.instance == self.instance && marker.subject == subject)
    }
}

/// What preparing found that an operator should know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrepareReport {
    /// The role that owns what is in projects' databases.
    pub owner_role: String,
    /// Databases that are not ours and that every role of the server may connect to, so that owners of projects can.
    pub open_databases: Vec<String>,
}

impl Provisioner {
    /// Makes the cluster ready for projects: shared roles and what they can do, who may connect to the databases that
    /// belong to no project, the template. At every start; changes nothing where nothing is missing.
    ///
    /// # Errors
    /// [`ProvisionError::Unsupported`] when a shared role has powers that projects must not get.
    pub async fn prepare(&self) -> Result<PrepareReport, ProvisionError> {
        // The first time goes through the cell, as requests that come meanwhile do: whoever held the lock and then waited
        // for the cell would wait for one that holds the cell and waits for the lock.
        let again = self.0.cluster.initialized();
        let cluster = self.cluster().await?;
        let admin = self.admin().await?;
        if again {
            store::cluster::lock(&admin.client, PREPARE_LOCK).await?;
            self.prepare_cluster(&admin.client).await?;
        }
        let report = PrepareReport {
            owner_role: cluster.owner_role.clone(),
            open_databases: store::cluster::databases_open_to_all(&admin.client).await?,
        };
        if !report.open_databases.is_empty() {
            tracing::warn!(
                databases = report.open_databases.join(", "),
                "every role may connect to these databases, owners of projects too: REVOKE CONNECT ... FROM PUBLIC"
            );
        }
        Ok(report)
    }

    /// The prepared cluster; prepares it when nobody has yet.
    pub(super) async fn cluster(&self) -> Result<&Cluster, ProvisionError> {
        self.0
            .cluster
            .get_or_try_init(async || {
                let admin = self.admin().await?;
                store::cluster::lock(&admin.client, PREPARE_LOCK).await?;
                self.prepare_cluster(&admin.client).await
            })
            .await
    }

    async fn prepare_cluster(&self, admin: &Client) -> Result<Cluster, ProvisionError> {
        let instance = self.instance(admin).await?;
        let mut cluster = Cluster { owner_role: String::new(), instance, template: String::new() };
        // The shared roles may be another installation's too: what changes them is serialized in a database that all of
        // them have, and no project can connect to.
        let everybody = self.connect(&self.0.config.admin, ADMIN_OPTIONS).await?;
        store::cluster::lock(&everybody, PREPARE_LOCK).await?;
        cluster.owner_role = choose_owner_role(admin, &cluster.marker_prefix()).await?;
        check_shared_roles(admin, &cluster.shared_roles()).await?;
        store::cluster::shared_roles_put(&everybody, &cluster.owner_role).await?;
        let closed = ["postgres", "template1", &self.0.config.database.database];
        store::cluster::databases_close(&everybody, &closed).await?;
        drop(everybody);
        cluster.template = self.prepare_template(admin, &cluster).await?;
        Ok(cluster)
    }

    /// This installation's id. In the platform database and sealed, so that a backup restored elsewhere brings it along
    /// and a database made by somebody else's LaunchDB is not taken for ours.
    async fn instance(&self, admin: &Client) -> Result<String, ProvisionError> {
        const OWNER: &str = secrets::PLATFORM;
        const KIND: &str = secrets::INSTANCE_ID;
        let key = &self.0.config.master_key;
        let found = crate::store::secret::secret_map(admin, OWNER).await?;
        if let Some(sealed) = found.get(KIND) {
            return match secrets::open(key, OWNER, KIND, sealed) {
                Ok(instance) => Ok(instance.expose().clone()),
                Err(error) => Err(ProvisionError::Unsupported(format!(
                    "the master key does not fit this platform database: {error}"
                ))),
            };
        }
        let instance = random::hex::<8>();
        let sealed = key.seal(SealContext { owner: OWNER, kind: KIND }, instance.as_bytes());
        store::project::secret_insert_in_tx(admin, OWNER, KIND, &sealed).await?;
        Ok(instance)
    }
}

/// The owner role of projects that are there, or else the first name whose role is harmless or free.
pub(super) async fn choose_owner_role(admin: &Client, marker_prefix: &str) -> Result<String, ProvisionError> {
    if let Some(role) = store::cluster::owner_role_in_use(admin, &OWNER_ROLES, marker_prefix).await? {
        return Ok(role);
    }
    let mut faults = Vec::new();
    for role in OWNER_ROLES {
        faults = store::cluster::role_faults(admin, &[role]).await?;
        if faults.is_empty() {
            return Ok(role.to_owned());
        }
    }
    Err(unsupported(&faults))
}

/// Refuses when a shared role has grown powers or lacks the one it needs. At every start and before every grant.
pub(super) async fn check_shared_roles(
    db: &impl tokio_postgres::GenericClient,
    roles: &[&str],
) -> Result<(), ProvisionError> {
    let faults = store::cluster::role_faults(db, roles).await?;
    if faults.is_empty() { Ok(()) } else { Err(unsupported(&faults)) }
}

fn unsupported(faults: &[(String, String)]) -> ProvisionError {
    let faults: Vec<String> = faults.iter().map(|(role, fault)| format!("role \"{role}\" {fault}")).collect();
    ProvisionError::Unsupported(format!(
        "roles that all projects share are not as projects need them on this server (mend with ALTER ROLE or REVOKE): {}",
        faults.join("; ")
    ))
}
