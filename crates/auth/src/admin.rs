//! The admin API, for who has the project's secret key.

mod audit_log;
mod factors;
mod generate_link;
mod mails;
mod page;
mod users;

use axum::response::Response;
use bytes::Bytes;
use http::{Method, StatusCode};
use uuid::Uuid;

use crate::cx::Cx;
use crate::error::{Error, ErrorCode};
use crate::passkeys;
use crate::router::oauth_server_disabled;

/// What is below `/admin`; none when there is no such route.
pub(crate) async fn route(cx: &Cx, method: &Method, path: &[&str], body: &Bytes) -> Option<Result<Response, Error>> {
    if let Err(error) = cx.require_admin() {
        return Some(Err(error));
    }
    let result = match (method.as_str(), path) {
        ("GET", ["users"]) => users::list_users(cx).await,
        ("POST", ["users"]) => users::create_user(cx, body).await,
        ("GET", ["users", id]) => users::get_user(cx, id).await,
        ("PUT", ["users", id]) => users::update_user(cx, id, body).await,
        ("DELETE", ["users", id]) => users::delete_user(cx, id, body).await,
        ("POST", ["users", id, "logout"]) => users::logout_user(cx, id).await,
        ("GET", ["users", id, "factors"]) => factors::list_factors(cx, id).await,
        ("PUT", ["users", id, "factors", factor]) => factors::update_factor(cx, id, factor, body).await,
        ("DELETE", ["users", id, "factors", factor]) => factors::delete_factor(cx, id, factor).await,
        ("GET", ["users", id, "passkeys"]) => match id_of("user_id", id) {
            Ok(id) => passkeys::list_passkeys_of_user(cx, id).await,
            Err(error) => Err(error),
        },
        ("DELETE", ["users", id, "passkeys", passkey]) => match id_of("user_id", id) {
            Ok(id) => passkeys::delete_passkey_of_user(cx, id, passkey).await,
            Err(error) => Err(error),
        },
        ("POST", ["generate_link"]) => generate_link::generate_link(cx, body).await,
        ("POST", ["mail", "preview"]) => mails::preview(cx, body).await,
        ("POST", ["mail", "test"]) => mails::send_test(cx, body).await,
        ("GET", ["audit"]) => audit_log::list_entries(cx).await,
        (_, ["oauth", ..]) => Err(oauth_server_disabled()),
        (_, ["sso", ..]) => Err(Error::new(ErrorCode::SamlProviderDisabled, "SAML 2.0 is disabled")),
        (_, ["custom-providers", ..]) => Err(custom_providers_disabled()),
        _ => return None,
    };
    Some(result)
}

/// Providers are settings of the project here.
fn custom_providers_disabled() -> Error {
    Error::new(ErrorCode::FeatureDisabled, "Custom providers are disabled").with_status(StatusCode::NOT_FOUND)
}

/// An id of a path.
fn id_of(name: &'static str, text: &str) -> Result<Uuid, Error> {
    let wrong = || Error::invalid(format!("{name} must be an UUID")).with_status(StatusCode::NOT_FOUND);
    Uuid::parse_str(text).map_err(|_| wrong())
}

fn user_not_found() -> Error {
    Error::new(ErrorCode::UserNotFound, "User not found")
}
