//! `POST /logout`: ends this session, all others, or every one.

use crate::audit::{self, Action};
use crate::authenticate::SignedIn;
use crate::cx::Cx;
use crate::error::Error;
use crate::response;
use crate::store::Tx;
use crate::store::session::{Ending, session_delete_in_tx};

pub(crate) async fn logout(cx: &Cx) -> Result<axum::response::Response, Error> {
    let scope = cx.query_param("scope").unwrap_or("global");
    if !["global", "local", "others"].contains(&scope) {
        return Err(Error::invalid(format!("Unsupported logout scope {scope:?}")));
    }
    let SignedIn { user, session } = SignedIn::of(cx).await?;
    let ending = match (scope, session) {
        ("local", Some(session)) => Ending::Only(session.id),
        ("others", Some(session)) => Ending::AllBut(session.id),
        _ => Ending::All,
    };
    let mut tx = Tx::begin(&cx.pool).await?;
    audit::of_user(cx, &mut tx, &user, Action::Logout, None).await?;
    session_delete_in_tx(&mut tx, user.id, ending).await?;
    tx.commit().await?;
    Ok(response::no_content())
}
