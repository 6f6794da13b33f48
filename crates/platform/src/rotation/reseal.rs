//! Sealing everything anew under the present master key, online.

use std::time::Duration;

use base::sealed::SealContext;
use serde_json::json;

use super::store::Place;
use super::{InstallationKey, KeyFileError, store};
use crate::audit::Actor;
use crate::error::Error;
use crate::platform::Platform;
use crate::store::audit::audit_insert;

/// Secrets of one transaction.
const BATCH: i64 = 100;
/// After a round that did not get through, because the database failed or another process wrote with the old key.
const PAUSE: Duration = Duration::from_secs(5);

/// What a round came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resealed {
    /// Secrets that were sealed anew.
    pub done: u64,
    /// Secrets that no key opens; they are left as they are.
    pub unreadable: u64,
    /// Secrets that are still sealed by another key, those included.
    pub left: u64,
}

impl Platform {
    /// One round over every secret that the present key did not seal. Every batch is a transaction of its own, so that
    /// whatever was done stays done; a secret that changes meanwhile is left to whoever changes it.
    ///
    /// # Errors
    /// When the platform's database fails.
    pub async fn reseal(&self) -> Result<Resealed, Error> {
        let key = &self.config().master_key;
        let mut resealed = Resealed::default();
        for table in store::TABLES {
            let mut after = Place::default();
            loop {
                let mut db = self.db().await?;
                let tx = db.transaction().await?;
                let batch = store::sealed_by_others_in_tx(&*tx, table, key.version(), &after, BATCH).await?;
                let Some((last, _)) = batch.last() else { break };
                after = last.clone();
                for (place, sealed) in &batch {
                    let cx = SealContext { owner: &place.owner, kind: &place.kind };
                    match key.open(cx, sealed) {
                        Ok(plain) => {
                            let sealed = key.seal(cx, plain.expose());
                            store::sealed_put_in_tx(&*tx, table, place, &sealed).await?;
                            resealed.done += 1;
                        }
                        Err(error) => {
                            let (owner, kind) = (&place.owner, &place.kind);
                            tracing::error!(secret.owner = owner, secret.kind = kind, cause = %error, "a secret is unusable");
                            resealed.unreadable += 1;
                        }
                    }
                }
                tx.commit().await?;
            }
        }
        let db = self.db().await?;
        resealed.left = store::sealed_by_others_count(&**db, key.version()).await?;
        Ok(resealed)
    }

    /// Rounds until nothing is left that the present key did not seal; then the old one is forgotten.
    pub(super) async fn reseal_to_the_end(&self) {
        let mut told = Resealed::default();
        loop {
            match self.reseal().await {
                Ok(resealed) if resealed.left == 0 => {
                    told.done += resealed.done;
                    break;
                }
                Ok(resealed) => {
                    told.done += resealed.done;
                    tracing::warn!(?resealed, "secrets are left that the present master key did not seal");
                    // Those that no key opens will not change; the old key stays, in case it opens them after all.
                    if resealed.left == resealed.unreadable {
                        return;
                    }
                }
                Err(error) => tracing::warn!(cause = %error, "secrets cannot be sealed anew yet, trying again"),
            }
            if self.shutdown_token().run_until_cancelled(tokio::time::sleep(PAUSE)).await.is_none() {
                return;
            }
        }
        match self.key_file().map(|file| file.end(InstallationKey::Master)) {
            Some(Ok(())) => {}
            Some(Err(KeyFileError::NotOurs(what))) => tracing::info!("{what}"),
            Some(Err(error)) => {
                // The next start does it again, and finds nothing left to do.
                tracing::warn!(cause = %web::error::chain(&error), "the old master key is still written down");
            }
            None => {}
        }
        self.config().master_key.end_rotation();
        tracing::info!(secrets = told.done, "every secret is sealed with the present master key");
        let entry = async {
            let db = self.db().await?;
            let actor = Actor::default();
            let detail = json!({ "secrets": told.done });
            audit_insert(&**db, &actor.entry(None, "master_key.resealed", detail)).await?;
            Ok::<_, Error>(())
        };
        if let Err(error) = entry.await {
            tracing::warn!(cause = %error, "the change of the master key is missing in the audit log");
        }
    }

    /// How many secrets another key than the present one has sealed.
    pub(super) async fn sealed_by_others(&self) -> Result<u64, Error> {
        let db = self.db().await?;
        Ok(store::sealed_by_others_count(&**db, self.config().master_key.version()).await?)
    }
}
