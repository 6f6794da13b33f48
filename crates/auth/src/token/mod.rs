//! `POST /token`: the grants that end in a session.

pub(crate) mod access_token;
mod password;
mod pkce;
pub(crate) mod refresh_token;

use axum::response::Response;
use bytes::Bytes;

use crate::cx::Cx;
use crate::error::{Error, ErrorCode};
use crate::rate_limit::Limit;

pub(crate) async fn grant(cx: &Cx, body: &Bytes) -> Result<Response, Error> {
    cx.limit_client(Limit::TokenRefresh)?;
    match cx.query_param("grant_type") {
        Some("password") => password::sign_in(cx, body).await,
        Some("refresh_token") => refresh_token::refresh(cx, body).await,
        Some("pkce") => pkce::exchange(cx, body).await,
        _ => Err(Error::new(ErrorCode::InvalidCredentials, "unsupported_grant_type")),
    }
}
