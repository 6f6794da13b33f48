//! `DELETE /factors/{id}`

use axum::response::Response;
use serde_json::json;

use super::{factor_id, locked, signed_in};
use crate::audit::{self, Action};
use crate::cx::Cx;
use crate::error::{Error, ErrorCode};
use crate::response;
use crate::store::Tx;
use crate::store::factor as store;

pub(super) async fn unenroll(cx: &Cx, id: &str) -> Result<Response, Error> {
    let (user, session) = signed_in(cx).await?;
    let id = factor_id(id)?;
    let mut tx = Tx::begin(&cx.pool).await?;
    let (user, factor) = locked(&mut tx, &user, &session, id).await?;
    if factor.is_verified() && !session.is_aal2() {
        return Err(Error::new(ErrorCode::InsufficientAal, "AAL2 required to unenroll verified factor")
            .with_status(http::StatusCode::UNPROCESSABLE_ENTITY));
    }
    let traits = json!({ "factor_id": factor.id, "factor_status": factor.status, "session_id": session.id });
    audit::of_user(cx, &mut tx, &user, Action::FactorUnenrolled, Some(traits)).await?;
    store::factor_delete_in_tx(&mut tx, factor.id).await?;
    tx.commit().await?;
    response::ok(&json!({ "id": factor.id }))
}
