//! `/admin/users`

mod ban;
mod change;

use axum::response::Response;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::page::Page;
use super::{id_of, user_not_found};
use crate::audit::{self, Action};
use crate::cx::Cx;
use crate::error::Error;
use crate::request;
use crate::response;
use crate::store::Tx;
use crate::store::session::{Ending, session_delete_in_tx};
use crate::store::user as store;
use crate::store::user_list::user_page;
use crate::user::AUDIENCE;

pub(super) use change::{create_user, update_user};

pub(super) async fn list_users(cx: &Cx) -> Result<Response, Error> {
    let page = Page::read(cx)?;
    let ascending = match cx.query_param("sort") {
        None => false,
        Some(sort) => match sort.trim() {
            "created_at" | "created_at desc" => false,
            "created_at asc" => true,
            _ => return Err(Error::invalid("Bad Sort Parameters: only created_at can be sorted by")),
        },
    };
    let filter = cx.query_param("filter").filter(|filter| !filter.contains('\0'));
    let (users, total) = user_page(&cx.pool, filter, ascending, page.per_page, page.offset()).await?;
    let mut response = response::ok(&json!({ "users": users, "aud": AUDIENCE }))?;
    page.add_headers(cx, "/admin/users", total, &mut response)?;
    Ok(response)
}

pub(super) async fn get_user(cx: &Cx, id: &str) -> Result<Response, Error> {
    let user = store::user_by_id(&cx.pool, id_of("user_id", id)?).await?;
    response::ok(&user.ok_or_else(user_not_found)?)
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct DeleteParams {
    should_soft_delete: Option<bool>,
}

pub(super) async fn delete_user(cx: &Cx, id: &str, body: &Bytes) -> Result<Response, Error> {
    let params: DeleteParams = if body.is_empty() { DeleteParams::default() } else { request::params(body)? };
    let id = id_of("user_id", id)?;
    let mut tx = Tx::begin(&cx.pool).await?;
    let user = store::user_lock_in_tx(&mut tx, id).await?.ok_or_else(user_not_found)?;
    audit::of_admin(cx, &mut tx, Action::UserDeleted, audit::about(&user)).await?;
    if params.should_soft_delete == Some(true) {
        store::user_soft_delete_in_tx(&mut tx, id, cx.now).await?;
    } else {
        store::user_delete_in_tx(&mut tx, id).await?;
    }
    tx.commit().await?;
    response::ok(&Value::Object(serde_json::Map::new()))
}

/// Ends every session of a user.
pub(super) async fn logout_user(cx: &Cx, id: &str) -> Result<Response, Error> {
    let id = id_of("user_id", id)?;
    let mut tx = Tx::begin(&cx.pool).await?;
    let user = store::user_lock_in_tx(&mut tx, id).await?.ok_or_else(user_not_found)?;
    session_delete_in_tx(&mut tx, id, Ending::All).await?;
    audit::of_admin(cx, &mut tx, Action::Logout, audit::about(&user)).await?;
    tx.commit().await?;
    Ok(response::no_content())
}
