//! New passwords of owners: their own choice, or an administrator's. All other sessions of the owner end, except those of
//! the command line on the server's own machine, which no password opened.

use axum::Json;
use axum::response::IntoResponse;
use base::{OwnerId, Secret, random};
use http::header::{CACHE_CONTROL, HeaderValue};
use serde_json::{Value, json};

use crate::attempts::{self, LOGINS_PER_ADDRESS_AND_IP};
use crate::error::Error;
use crate::owners::{LONGEST_PASSWORD, OwnerView, check_new_password};
use crate::request::{Fields, OwnerCx};
use crate::secrets;
use crate::store;

/// The caller's own password, for which the old one is needed: a token that was stolen is not enough.
pub(crate) async fn update_me(cx: OwnerCx, mut fields: Fields) -> Result<Json<OwnerView>, Error> {
    let old = Secret::new(fields.required_text("old_password", LONGEST_PASSWORD));
    let new = Secret::new(fields.required_text("password", LONGEST_PASSWORD));
    check_new_password(&mut fields, "password", &new);
    fields.finish()?;
    let network = cx.origin.client_ip.map(attempts::network).unwrap_or_default();
    let attempts = format!("password {} {network}", cx.owner.email);
    cx.platform.attempts().count(&attempts, LOGINS_PER_ADDRESS_AND_IP)?;
    let hash = {
        let db = cx.platform.db().await?;
        store::owner::owner_by_email(&**db, &cx.owner.email).await?.map(|(_, hash)| hash)
    };
    if !cx.platform.passwords().verify(old, hash).await? {
        return Err(Error::invalid("old_password", "is wrong"));
    }
    cx.platform.attempts().forget(&attempts);
    put(&cx, &cx.owner.id, new, "owner.change_password").await?;
    Ok(Json(OwnerView::from(cx.owner)))
}

/// Another owner's password, or one that was forgotten, by an administrator.
pub(crate) async fn set_password(cx: OwnerCx, mut fields: Fields) -> Result<impl IntoResponse, Error> {
    if !cx.owner.is_admin {
        return Err(Error::AdminRequired);
    }
    let email = fields.required_text("email", 320).trim().to_lowercase();
    let given = fields.text("password", LONGEST_PASSWORD);
    let generated = given.is_none().then(random::password);
    let password = Secret::new(given.or(generated.clone()).unwrap_or_default());
    check_new_password(&mut fields, "password", &password);
    fields.finish()?;
    let found = {
        let db = cx.platform.db().await?;
        store::owner::owner_by_email(&**db, &email).await?
    };
    let (owner, _) = found.ok_or(Error::NoSuchOwner)?;
    put(&cx, &owner.id, password, "owner.set_password").await?;
    let view: Value = json!({ "owner": OwnerView::from(owner), "password": generated });
    Ok(([(CACHE_CONTROL, HeaderValue::from_static("no-store"))], Json(view)))
}

async fn put(cx: &OwnerCx, id: &OwnerId, password: Secret<String>, action: &str) -> Result<(), Error> {
    let hash = cx.platform.passwords().hash(password).await?;
    let actor = cx.actor();
    let mut db = cx.platform.db().await?;
    let tx = db.transaction().await?;
    store::owner::owner_password_put(&*tx, id, &hash).await?;
    store::owner::sessions_delete_others(&*tx, id, &cx.session_id).await?;
    if store::owner::owner_first(&*tx).await?.is_some_and(|first| first.id == *id) {
        // The one that was made at the first start is worth nothing any more.
        store::secret::secret_delete(&*tx, secrets::PLATFORM, secrets::FIRST_OWNER_PASSWORD).await?;
    }
    store::audit::audit_insert(&*tx, &actor.entry(None, action, json!({ "owner_id": id }))).await?;
    Ok(tx.commit().await?)
}
