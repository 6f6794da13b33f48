//! Extensions that PostgreSQL lets only a superuser install: those of a short list are installed for a project.
//!
//! An extension's script runs as superuser with the target schema on its search path, so that whoever can make functions
//! and operators there could have them run (PostgreSQL docs, "Security Considerations for Extensions"). The script
//! therefore meets a fresh schema that nobody else can write to. An extension that can be moved goes to `extensions`
//! afterwards, where applications' SQL expects it; moving runs no code. Others stay in a schema of their own name.

use base::{ProjectRef, ProjectStatus};
use serde_json::json;
use tokio_postgres::error::SqlState;

use super::store::{extension, project};
use super::{ADMIN_OPTIONS, ProvisionError, Provisioner};
use crate::store::audit::audit_insert;

/// What may be installed. None of them reads files, opens connections, runs other languages, or shows other databases.
pub(crate) const OFFERED: &[&str] = &[
    "bloom",
    "h3",
    "hll",
    "hypopg",
    "ip4r",
    "jsquery",
    "pgrouting",
    "postgis",
    "roaringbitmap",
    "rum",
    "semver",
    "tdigest",
    "vector",
];

impl Provisioner {
    /// Installs an extension of [`OFFERED`] in a project's database; nothing happens when it is there.
    ///
    /// # Errors
    /// [`ProvisionError::Refused`] when PostgreSQL cannot install it, with its reason.
    pub(crate) async fn extension_install(&self, id: &ProjectRef, name: &str) -> Result<(), ProvisionError> {
        self.change_extension(id, name, "extension.install").await
    }

    /// Takes an extension of [`OFFERED`] away, unless something uses it.
    ///
    /// # Errors
    /// As [`Provisioner::extension_install`].
    pub(crate) async fn extension_remove(&self, id: &ProjectRef, name: &str) -> Result<(), ProvisionError> {
        self.change_extension(id, name, "extension.remove").await
    }

    async fn change_extension(&self, id: &ProjectRef, name: &str, action: &str) -> Result<(), ProvisionError> {
        if !OFFERED.contains(&name) {
            return Err(ProvisionError::Refused(format!("{name} is none of the extensions that are installed here")));
        }
        let mut admin = self.locked(id).await?;
        // The entry comes first, as for an owner's SQL: what is done in another database is in another transaction.
        let tx = admin.client.transaction().await?;
        match project::status_lock_in_tx(&tx, id).await?.ok_or(ProvisionError::NotFound)? {
            ProjectStatus::Active => {}
            status => return Err(ProvisionError::WrongStatus { status }),
        }
        audit_insert(&tx, &self.1.entry(Some(id), action, json!({ "extension": name }))).await?;
        tx.commit().await?;
        let options = format!("{ADMIN_OPTIONS} -c lock_timeout=5s -c statement_timeout=60s");
        let mut client = self.connect(&self.admin_target(id.database()), &options).await?;
        let tx = client.transaction().await?;
        if action == "extension.install" {
            let open = extension::requirements_in_open_schemas(&tx, name).await?;
            if let Some(needed) = open.first() {
                let what =
                    format!("{name} needs {needed}, which is in a schema of the project: install {needed} here first");
                return Err(ProvisionError::Refused(what));
            }
        }
        let changed = match action {
            "extension.install" => extension::extension_install_in_tx(&tx, name).await,
            _ => extension::extension_remove_in_tx(&tx, name).await,
        };
        changed.map_err(refused)?;
        tx.commit().await.map_err(refused)
    }
}

/// What PostgreSQL says of an extension is for the owner to know; everything else is a fault of ours.
fn refused(error: tokio_postgres::Error) -> ProvisionError {
    const REASONS: [SqlState; 6] = [
        SqlState::UNDEFINED_FILE,
        SqlState::UNDEFINED_OBJECT,
        SqlState::DEPENDENT_OBJECTS_STILL_EXIST,
        SqlState::DUPLICATE_OBJECT,
        SqlState::DUPLICATE_FUNCTION,
        SqlState::DUPLICATE_SCHEMA,
    ];
    match error.as_db_error() {
        Some(cause) if *cause.code() == SqlState::LOCK_NOT_AVAILABLE => {
            ProvisionError::Refused("a session of the project holds what the change needs".to_owned())
        }
        // Where PostgreSQL looked for it is nobody's business.
        Some(cause) if *cause.code() == SqlState::FEATURE_NOT_SUPPORTED => {
            ProvisionError::Refused(format!("{}: the server's operator has to install its package", cause.message()))
        }
        Some(cause) if REASONS.contains(cause.code()) => ProvisionError::Refused(match cause.detail() {
            Some(detail) => format!("{}: {detail}", cause.message()),
            None => cause.message().to_owned(),
        }),
        _ => error.into(),
    }
}
