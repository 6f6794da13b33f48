//! Storage parameters that slow autovacuum down (`0013_storage_parameters_seen.sql`).

use std::time::Duration;

use base::ProjectRef;
use tokio_postgres::{Client, Error};

use super::store::storage_parameters;
use super::{ADMIN_OPTIONS, ProvisionError, Provisioner};

/// The longest that the look may take, and ending the workers.
const LOOK_WITHIN: Duration = Duration::from_secs(30);
const END_WITHIN: Duration = Duration::from_secs(10);

impl Provisioner {
    /// Takes the parameters that a project's relations may not have. Where there were any, or may have been since the last time, or
    /// that cannot be found out in time, autovacuum's workers in its database are ended: each keeps what it read. Gives how many.
    /// Waits for no lock.
    ///
    /// # Errors
    /// When the database cannot be reached to end them.
    pub(crate) async fn take_storage_parameters(&self, id: &ProjectRef) -> Result<usize, ProvisionError> {
        let connect = async || {
            let options = format!("{ADMIN_OPTIONS} -c lock_timeout=1s -c statement_timeout=20s");
            self.connect(&self.admin_target(id.database()), &options).await
        };
        let late = |_| ProvisionError::Database("the project's database does not answer".into());
        let looked = tokio::time::timeout(LOOK_WITHIN, async { Ok(take(&connect().await?).await?) }).await;
        let seen = match looked.map_err(late).flatten() {
            Ok(Found { relations: 0, seen: None }) => return Ok(0),
            Ok(found) => found.seen,
            Err(error) => {
                let error: ProvisionError = error;
                tracing::warn!(project.r#ref = %id, cause = ?error, "its tables may keep parameters that they may not have");
                None
            }
        };
        // Only now: one that begins from here on finds none. What was seen is forgotten when they are ended.
        let ending = async {
            let database = connect().await?;
            let ended = storage_parameters::autovacuum_end(&database).await?;
            if let Some(seen) = seen {
                storage_parameters::storage_parameters_forget(&database, seen).await?;
            }
            Ok(ended)
        };
        tokio::time::timeout(END_WITHIN, ending).await.map_err(late)?
    }
}

struct Found {
    relations: usize,
    seen: Option<i64>,
}

async fn take(database: &Client) -> Result<Found, Error> {
    let relations = storage_parameters::relations_with_unwanted(database).await?;
    let seen = storage_parameters::storage_parameters_seen(database).await?;
    if !relations.is_empty() {
        storage_parameters::storage_parameters_take(database, &relations).await?;
    }
    Ok(Found { relations: relations.len(), seen })
}
