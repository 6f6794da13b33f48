//! The first owner, made at the first start. A password that we made for it is kept sealed until somebody was shown it:
//! a server that is killed in between shows it at its next start.

use base::sealed::SealContext;
use base::{OwnerId, Secret, random};
use serde_json::json;

use crate::audit::Actor;
use crate::error::Error;
use crate::owners::is_email;
use crate::platform::Platform;
use crate::secrets::{self, FIRST_OWNER_PASSWORD};
use crate::store;
use crate::store::owner::NewOwner;

/// An owner whose address and password have not been shown to anybody yet.
#[derive(Debug)]
pub struct FirstOwner {
    pub id: OwnerId,
    pub email: String,
    /// To be shown, and then forgotten with [`Platform::first_owner_shown`]. None when the password was given.
    pub password: Option<Secret<String>>,
}

impl Platform {
    /// Makes the first owner, an administrator, unless there is any owner already. Without a password one is made. Returns
    /// the owner also later, as long as a password that was made has not been shown.
    pub async fn ensure_first_owner(
        &self,
        email: &str,
        password: Option<Secret<String>>,
    ) -> Result<Option<FirstOwner>, Error> {
        {
            let db = self.db().await?;
            if let Some(owner) = store::owner::owner_first(&**db).await? {
                let sealed = store::secret::secret_map(&**db, secrets::PLATFORM).await?;
                let Some(sealed) = sealed.get(FIRST_OWNER_PASSWORD) else { return Ok(None) };
                let password =
                    secrets::open(&self.config().master_key, secrets::PLATFORM, FIRST_OWNER_PASSWORD, sealed)
                        .map_err(|error| Error::Internal(error.into()))?;
                return Ok(Some(FirstOwner { id: owner.id, email: owner.email, password: Some(password) }));
            }
        }
        let generated = password.is_none().then(|| Secret::new(random::password()));
        let chosen = password.or_else(|| generated.clone()).unwrap_or_else(|| Secret::new(random::password()));
        let email = email.trim().to_lowercase();
        if !is_email(&email) {
            return Err(Error::invalid("email", "must be an e-mail address"));
        }
        let password_hash = self.passwords().hash(chosen).await?;
        let mut db = self.db().await?;
        let tx = db.transaction().await?;
        if !store::owner::owner_none_in_tx(&*tx).await? {
            return Ok(None);
        }
        let new = NewOwner { email: &email, password_hash: &password_hash, is_admin: true };
        let owner = store::owner::owner_insert(&*tx, &new).await?;
        if let Some(password) = &generated {
            let context = SealContext { owner: secrets::PLATFORM, kind: FIRST_OWNER_PASSWORD };
            let sealed = self.config().master_key.seal(context, password.expose().as_bytes());
            store::secret::secret_put_in_tx(&*tx, secrets::PLATFORM, FIRST_OWNER_PASSWORD, &sealed).await?;
        }
        let nobody = Actor::default();
        let detail = json!({ "owner_id": owner.id, "first": true, "is_admin": true });
        store::audit::audit_insert(&*tx, &nobody.entry(None, "owner.create", detail)).await?;
        tx.commit().await?;
        Ok(Some(FirstOwner { id: owner.id, email: owner.email, password: generated }))
    }

    /// Forgets the password that was made for the first owner: somebody has it now.
    pub async fn first_owner_shown(&self) -> Result<(), Error> {
        let db = self.db().await?;
        Ok(store::secret::secret_delete(&**db, secrets::PLATFORM, FIRST_OWNER_PASSWORD).await?)
    }
}
