//! `/admin/users/{id}/factors`

use axum::response::Response;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use super::{id_of, user_not_found};
use crate::audit::{self, Action};
use crate::contact;
use crate::cx::Cx;
use crate::error::{Error, ErrorCode};
use crate::request;
use crate::response;
use crate::store::Tx;
use crate::store::factor as store;
use crate::store::user as users;
use crate::user::{Factor, FactorView, User};

pub(super) async fn list_factors(cx: &Cx, id: &str) -> Result<Response, Error> {
    let user = users::user_by_id(&cx.pool, id_of("user_id", id)?).await?.ok_or_else(user_not_found)?;
    response::ok(&user.factors.iter().map(FactorView::from).collect::<Vec<_>>())
}

async fn find(tx: &mut Tx, id: &str, factor_id: &str) -> Result<(User, Factor), Error> {
    let (id, factor_id) = (id_of("user_id", id)?, id_of("factor_id", factor_id)?);
    let user = users::user_lock_in_tx(tx, id).await?.ok_or_else(user_not_found)?;
    let factor = factor_of(&user, factor_id)?;
    Ok((user, factor))
}

fn factor_of(user: &User, id: Uuid) -> Result<Factor, Error> {
    let factor = user.factors.iter().find(|factor| factor.id == id).cloned();
    factor.ok_or_else(|| Error::new(ErrorCode::MfaFactorNotFound, "Factor not found"))
}

pub(super) async fn delete_factor(cx: &Cx, id: &str, factor_id: &str) -> Result<Response, Error> {
    let mut tx = Tx::begin(&cx.pool).await?;
    let (user, factor) = find(&mut tx, id, factor_id).await?;
    let traits = json!({ "user_id": user.id, "factor_id": factor.id });
    audit::of_admin(cx, &mut tx, Action::FactorDeleted, traits).await?;
    store::factor_delete_in_tx(&mut tx, factor.id).await?;
    tx.commit().await?;
    response::ok(&FactorView::from(&factor))
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct FactorParams {
    friendly_name: Option<String>,
    phone: Option<String>,
}

pub(super) async fn update_factor(cx: &Cx, id: &str, factor_id: &str, body: &Bytes) -> Result<Response, Error> {
    let params: FactorParams = request::params(body)?;
    let name = request::text("friendly_name", params.friendly_name.as_ref())?;
    let phone = request::text("phone", params.phone.as_ref())?.map(|phone| contact::phone(Some(phone))).transpose()?;
    let mut tx = Tx::begin(&cx.pool).await?;
    let (user, factor) = find(&mut tx, id, factor_id).await?;
    store::factor_update_in_tx(&mut tx, factor.id, name, phone.as_deref(), cx.now).await?;
    let traits = json!({ "user_id": user.id, "factor_id": factor.id, "factor_type": factor.factor_type });
    audit::of_admin(cx, &mut tx, Action::FactorUpdated, traits).await?;
    let user = users::user_reload_in_tx(&mut tx, user.id).await?;
    tx.commit().await?;
    response::ok(&FactorView::from(&factor_of(&user, factor.id)?))
}
