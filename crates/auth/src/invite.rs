//! `POST /invite`: a mail with which a new user takes an account that an administrator made.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::audit::{self, Action};
use crate::contact;
use crate::cx::Cx;
use crate::error::Error;
use crate::identity;
use crate::mail::{self, Kind};
use crate::request;
use crate::response;
use crate::session;
use crate::signup::{after_user_created, before_user_created, provider_metadata};
use crate::store::Tx;
use crate::store::identity::identity_insert_in_tx;
use crate::store::user::{self as store, NewUser};
use crate::user::{AUDIENCE, User};

#[derive(Default, Deserialize)]
#[serde(default)]
struct InviteParams {
    email: Option<String>,
    data: Option<Map<String, Value>>,
}

pub(crate) async fn invite(cx: &Cx, body: &Bytes) -> Result<axum::response::Response, Error> {
    cx.require_admin()?;
    let params: InviteParams = request::params(body)?;
    let email = contact::email(params.email.as_deref())?;
    let mut tx = Tx::begin(&cx.pool).await?;
    let (user, created) = invited(cx, &mut tx, &email, params.data.unwrap_or_default()).await?;
    mail::send(cx, &mut tx, &user, Kind::Invite, false).await?;
    let user = store::user_reload_in_tx(&mut tx, user.id).await?;
    tx.commit().await?;
    if created {
        after_user_created(cx, &user).await?;
    }
    response::ok(&user)
}

/// The user of an address, made if there is none; one who has confirmed it cannot be invited.
pub(crate) async fn invited(
    cx: &Cx,
    tx: &mut Tx,
    email: &str,
    data: Map<String, Value>,
) -> Result<(User, bool), Error> {
    let new = NewUser {
        id: session::new_id(),
        email: Some(email),
        role: AUDIENCE,
        app_metadata: provider_metadata(identity::EMAIL),
        user_metadata: data,
        ..NewUser::default()
    };
    before_user_created(cx, tx, &new).await?;
    let created = store::user_insert_in_tx(tx, &new, cx.now).await?;
    let user = if created {
        let data = identity::email_data(new.id, email, false, &Map::new());
        identity_insert_in_tx(tx, new.id, identity::EMAIL, &new.id.to_string(), &data, cx.now).await?;
        store::user_reload_in_tx(tx, new.id).await?
    } else {
        let user = store::user_lock_by_email_in_tx(tx, email).await?;
        user.filter(|user| !user.is_email_confirmed()).ok_or_else(store::email_exists)?
    };
    audit::of_admin(
        cx,
        tx,
        Action::UserInvited,
        json!({ "user_id": user.id, "user_email": user.email().unwrap_or_default() }),
    )
    .await?;
    Ok((user, created))
}
