//! Users without an address: they have a session and nothing else until they add one.

use serde_json::{Map, Value};

use super::{after_user_created, before_user_created};
use crate::cx::Cx;
use crate::error::{Error, ErrorCode};
use crate::rate_limit::Limit;
use crate::response;
use crate::session::{self, method};
use crate::store::Tx;
use crate::store::user::{self as store, NewUser};
use crate::user::AUDIENCE;

pub(super) async fn sign_up(cx: &Cx, data: Map<String, Value>) -> Result<axum::response::Response, Error> {
    if !cx.settings().external_anonymous_users_enabled {
        return Err(Error::new(ErrorCode::AnonymousProviderDisabled, "Anonymous sign-ins are disabled"));
    }
    if cx.settings().disable_signup {
        return Err(Error::new(ErrorCode::SignupDisabled, "Signups not allowed for this instance"));
    }
    cx.limit_client(Limit::AnonymousUsers)?;
    let new = NewUser {
        id: session::new_id(),
        role: AUDIENCE,
        user_metadata: data,
        is_anonymous: true,
        ..NewUser::default()
    };
    let mut tx = Tx::begin(&cx.pool).await?;
    before_user_created(cx, &mut tx, &new).await?;
    store::user_insert_in_tx(&mut tx, &new, cx.now).await?;
    let user = store::user_reload_in_tx(&mut tx, new.id).await?;
    let view = session::begin(cx, &mut tx, &user, method::ANONYMOUS).await?;
    tx.commit().await?;
    after_user_created(cx, &view.user).await?;
    response::ok(&view)
}
