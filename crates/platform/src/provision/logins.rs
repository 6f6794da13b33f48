//! Keeps the login roles of projects usable. Whoever acts as a role may change its password and its settings from SQL:
//! a function that the data API calls can lock the data API out that way. What we keep sealed is put back.
//!
//! The owner's role is put back too: `GET .../connection` promises a URI that works, and the way to another password is
//! `Provisioner::rotate_database_passwords`.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroU32;
use std::sync::PoisonError;
use std::time::Duration;

use base::sealed::Sealed;
use base::{ProjectRef, Secret};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use postgres_protocol::password::scram_sha_256;
use ring::{digest, hmac, pbkdf2};
use tokio_postgres::GenericClient;

use super::cluster::Cluster;
use super::store::login::{self, LoginRole};
use super::store::{self, project};
use super::{ProvisionError, Provisioner};
use crate::secrets::{self, kind};
use crate::store::secret::secret_map;

/// Between two looks: how long a project can be locked out.
const INTERVAL: Duration = Duration::from_secs(10);
/// Between two roles whose verifiers have to be hashed.
const PAUSE: Duration = Duration::from_millis(4);
/// Rounds of hashing in PostgreSQL's own verifiers. One with others was not made by us, and many would keep us busy.
const ITERATIONS: u32 = 4096;
/// Bytes of a salt.
const LONGEST_SALT: usize = 64;

impl Provisioner {
    pub(super) async fn keep_logins(self) {
        // The first look hashes for every project; right after a start there is more urgent work.
        let _ = self.0.shutdown.run_until_cancelled(tokio::time::sleep(INTERVAL)).await;
        while !self.0.shutdown.is_cancelled() {
            if let Err(error) = self.check_logins().await {
                tracing::warn!(cause = ?error, "the login roles of projects could not be looked at");
            }
            tokio::select! {
                () = self.0.shutdown.cancelled() => {}
                () = tokio::time::sleep(INTERVAL) => {}
            }
        }
    }

    /// Looks at every login role of this installation, and puts back the password and the settings of those that were
    /// changed. Returns their names.
    pub async fn check_logins(&self) -> Result<Vec<String>, ProvisionError> {
        let cluster = self.cluster().await?;
        let mut changed = Vec::new();
        let admin = self.admin().await?;
        let roles = login::login_roles(&admin.client).await?;
        {
            let present: HashSet<&str> = roles.iter().map(|role| role.name.as_str()).collect();
            let mut known = self.0.fitting_verifiers.lock().unwrap_or_else(PoisonError::into_inner);
            known.retain(|role, _| present.contains(role.as_str()));
        }
        for role in roles {
            let Some(id) = login::project_of(&role.name).filter(|id| is_ours(cluster, &role, id)) else { continue };
            if self.is_known_to_fit(&role) {
                continue;
            }
            let sealed = secret_map(&admin.client, id.as_str()).await?;
            if !self.fits(&id, &role, &sealed) {
                changed.push(role.name);
            }
            // Each took a millisecond of hashing, which requests must not feel.
            tokio::time::sleep(PAUSE).await;
        }
        for (role, database) in login::authenticator_settings(&admin.client).await? {
            let ours = login::project_of(&role).is_some_and(|id| id.authenticator_role() == role);
            let comment = store::role::role_comment(&admin.client, &role).await?;
            if ours && cluster.is_ours(comment.as_deref(), role.trim_end_matches("_authenticator")) {
                tracing::warn!(role, database, "settings of a login role were taken away");
                store::cluster::role_settings_reset(&admin.client, &role, database.as_deref()).await?;
            }
        }
        drop(admin);
        let mut mended = Vec::new();
        for role in changed {
            if let Some(id) = login::project_of(&role)
                && self.mend_login(&id, &role).await?
            {
                mended.push(role);
            }
        }
        Ok(mended)
    }

    /// Puts back the password of one of a project's login roles; says whether it had to be.
    pub(crate) async fn mend_login(&self, id: &ProjectRef, role: &str) -> Result<bool, ProvisionError> {
        let cluster = self.cluster().await?;
        let admin = self.admin().await?;
        // Who makes the project, or gives it other passwords, has the lock.
        if !store::cluster::try_lock(&admin.client, id.as_str()).await? {
            return Ok(false);
        }
        let now = self.0.config.clock.unix_seconds();
        if project::project_row(&admin.client, id, now).await?.is_none() {
            return Ok(false);
        }
        let Some(comment) = store::role::role_comment(&admin.client, role).await? else { return Ok(false) };
        let verifier = login::verifier_get(&admin.client, role).await?;
        let found = LoginRole { name: role.to_owned(), comment, verifier };
        let sealed = secret_map(&admin.client, id.as_str()).await?;
        if !is_ours(cluster, &found, id) || self.fits(id, &found, &sealed) {
            return Ok(false);
        }
        let password = self.password(id, role, &sealed)?;
        let verifier = scram_sha_256(password.expose().as_bytes());
        store::role::role_password_put(&admin.client, role, &verifier).await?;
        tracing::warn!(project.ref = %id, role, "the password of a login role had been changed and was put back");
        self.remember(role, verifier);
        Ok(true)
    }

    fn password(
        &self,
        id: &ProjectRef,
        role: &str,
        sealed: &HashMap<String, Sealed>,
    ) -> Result<Secret<String>, ProvisionError> {
        let kind = if role == id.owner_role() { kind::DB_PASSWORD } else { kind::AUTHENTICATOR_PASSWORD };
        secrets::open_kind(&self.0.config.master_key, id, sealed, kind)
            .map_err(ProvisionError::database)?
            .ok_or_else(|| ProvisionError::database(format!("the project has no {kind}")))
    }

    /// Whether a role has the password that we keep. One whose password we do not know is left alone.
    fn fits(&self, id: &ProjectRef, role: &LoginRole, sealed: &HashMap<String, Sealed>) -> bool {
        let password = match self.password(id, &role.name, sealed) {
            Ok(password) => password,
            Err(error) => {
                tracing::debug!(project.ref = %id, cause = ?error, "a login role cannot be looked at");
                return true;
            }
        };
        let Some(verifier) = &role.verifier else { return false };
        let fits = verifies(verifier, password.expose());
        if fits {
            self.remember(&role.name, verifier.clone());
        }
        fits
    }

    fn is_known_to_fit(&self, role: &LoginRole) -> bool {
        let known = self.0.fitting_verifiers.lock().unwrap_or_else(PoisonError::into_inner);
        role.verifier.is_some() && known.get(&role.name) == role.verifier.as_ref()
    }

    fn remember(&self, role: &str, verifier: String) {
        self.0.fitting_verifiers.lock().unwrap_or_else(PoisonError::into_inner).insert(role.to_owned(), verifier);
    }
}

fn is_ours(cluster: &Cluster, role: &LoginRole, id: &ProjectRef) -> bool {
    cluster.is_ours(Some(&role.comment), id.as_str())
}

/// A verifier for a role's password: the one that it has, if it fits. PgBouncer logs in with what it made of the one that it
/// knows, and another one of the same password would shut it out.
pub(super) async fn verifier_for(
    db: &impl GenericClient,
    role: &str,
    password: &Secret<String>,
) -> Result<String, tokio_postgres::Error> {
    let present = login::verifier_get(db, role).await?;
    let present = present.filter(|verifier| verifies(verifier, password.expose()));
    Ok(present.unwrap_or_else(|| scram_sha_256(password.expose().as_bytes())))
}

/// Whether a verifier `SCRAM-SHA-256$<iterations>:<salt>$<stored key>:<server key>` (PostgreSQL docs, "pg_authid";
/// RFC 5802, section 3) is one of this password. The password is ASCII, which SASLprep leaves as it is.
fn verifies(verifier: &str, password: &str) -> bool {
    let parts = || {
        let (iterations, rest) = verifier.strip_prefix("SCRAM-SHA-256$")?.split_once(':')?;
        let (salt, keys) = rest.split_once('$')?;
        let (stored, _server) = keys.split_once(':')?;
        let rounds = iterations.parse().ok().filter(|rounds| *rounds == ITERATIONS)?;
        // A long one would have the role's row spread over two tables; PostgreSQL's own have 16 bytes.
        let salt = BASE64_STANDARD.decode(salt).ok().filter(|salt| salt.len() <= LONGEST_SALT)?;
        Some((NonZeroU32::new(rounds)?, salt, BASE64_STANDARD.decode(stored).ok()?))
    };
    let Some((rounds, salt, stored)) = parts() else { return false };
    let mut salted = [0; 32];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, &salt, password.as_bytes(), &mut salted);
    let client_key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &salted), b"Client Key");
    digest::digest(&digest::SHA256, client_key.as_ref()).as_ref() == stored
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verifier_fits_its_own_password_only() {
        let verifier = scram_sha_256(b"correct horse");
        assert!(verifies(&verifier, "correct horse"));
        let costly = verifier.replace("$4096:", "$999999999:");
        for other in [scram_sha_256(b"x").as_str(), "md5d41d8cd98f00b204e9800998ecf8427e", "", &costly] {
            assert!(!verifies(other, "correct horse"), "{other}");
        }
    }
}
