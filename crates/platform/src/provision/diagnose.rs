//! What is wrong with the server's cluster, looked at without changing anything: for the command line's doctor.

use base::Secret;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::cluster::Cluster;
use super::{ProvisionError, Provisioner, store};
use crate::config::PlatformConfig;
use crate::{database, secrets};

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    pub subject: &'static str,
    /// What was found, in words.
    pub found: String,
    /// What to do about it; none when nothing is wrong.
    pub mend: Option<String>,
}

impl Diagnosis {
    fn fine(subject: &'static str, found: impl Into<String>) -> Self {
        Self { subject, found: found.into(), mend: None }
    }

    fn fault(subject: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { subject, found: found.into(), mend: Some(mend.into()) }
    }
}

/// Looks at shared roles, template and open databases of the cluster. Makes and changes nothing.
///
/// # Errors
/// [`ProvisionError::Database`] when the cluster cannot be reached as its administrator.
pub async fn diagnose(config: PlatformConfig) -> Result<Vec<Diagnosis>, ProvisionError> {
    let pool = database::pool(&config).map_err(ProvisionError::database)?;
    let tasks = TaskTracker::new();
    let found = Provisioner::new(config, pool, tasks.clone(), CancellationToken::new()).diagnose().await;
    tasks.close();
    tasks.wait().await;
    found
}

impl Provisioner {
    async fn diagnose(&self) -> Result<Vec<Diagnosis>, ProvisionError> {
        let admin = self.admin().await?;
        let admin = &admin.client;
        let mut found = vec![Diagnosis::fine("connection", "the administrator's connection works")];
        let sealed = crate::store::secret::secret_map(admin, "platform").await?.remove("instance_id");
        let Some(sealed) = sealed else {
            found.push(Diagnosis::fine("projects", "none can have been made yet"));
            return Ok(found);
        };
        let instance: Secret<String> =
            match secrets::open(&self.0.config.master_key, "platform", "instance_id", &sealed) {
                Ok(instance) => instance,
                Err(error) => {
                    found.push(Diagnosis::fault(
                        "master key",
                        error.to_string(),
                        "use the LAUNCHDB_MASTER_KEY with which this platform database was made",
                    ));
                    return Ok(found);
                }
            };
        found.push(Diagnosis::fine("master key", "fits the platform database"));
        let mut cluster =
            Cluster { owner_role: String::new(), instance: instance.expose().clone(), template: String::new() };
        cluster.owner_role = super::cluster::choose_owner_role(admin, &cluster.marker_prefix()).await?;

        let faults = store::cluster::role_faults(admin, &cluster.shared_roles()).await?;
        if faults.is_empty() {
            found.push(Diagnosis::fine(
                "shared roles",
                format!("are as projects need them; {} owns", cluster.owner_role),
            ));
        }
        for (role, fault) in faults {
            let mend = format!("mend it: ALTER ROLE \"{role}\" ... or REVOKE ... FROM \"{role}\"");
            found.push(Diagnosis::fault("shared roles", format!("role \"{role}\" {fault}"), mend));
        }

        let template = self.template_name(&cluster);
        found.push(if store::database::database_get(admin, &template).await?.is_some() {
            Diagnosis::fine("template", format!("{template} is there"))
        } else {
            Diagnosis::fault("template", format!("{template} is not there"), "the next start makes it")
        });

        let open = store::cluster::databases_open_to_all(admin).await?;
        found.push(if open.is_empty() {
            Diagnosis::fine("databases", "no other database is open to everybody")
        } else {
            let names = open.join(", ");
            let mend = "for each of them: REVOKE CONNECT ON DATABASE ... FROM PUBLIC";
            Diagnosis::fault("databases", format!("open to every role, owners of projects too: {names}"), mend)
        });
        Ok(found)
    }
}
