//! From method and path to an operation.

use std::sync::atomic::Ordering;

use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode};
use web::{Protocol, Rejection};

use crate::config::Auth;
use crate::cx::Cx;
use crate::error::{Error, ErrorCode};
use crate::even_time::even;
use crate::rate_limit::Limit;
use crate::{
    admin, authorize, callback, captcha, identities, invite, logout, magic_link, mfa, otp, passkeys, reauthenticate,
    recover, request, resend, settings, signup, token, user, verify, well_known,
};

/// Answers one request.
pub(crate) async fn handle(auth: Auth, request: Request) -> Response {
    let Some(cx) = Cx::new(&auth.0, &request) else {
        tracing::error!("a request came without project or caller");
        return Rejection::Internal.respond(Protocol::auth(request.headers()));
    };
    let (parts, body) = request.into_parts();
    let body = match request::body(&parts.headers, body).await {
        Ok(body) => body,
        Err(error) => return error.respond(cx.protocol),
    };
    // Reading leaves nothing that could expire; what links and providers lead to does.
    if parts.method != Method::GET || !parts.uri.path().starts_with("/user") {
        auth.0.noted.note(&cx.project.project_ref);
    }
    let result = Box::pin(route(&cx, &parts.method, parts.uri.path(), &body)).await;
    if cx.mail_waits.load(Ordering::Relaxed) {
        auth.0.config.mailer.notify(&cx.project.project_ref);
    }
    let mut response = match result {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => error.respond(cx.protocol),
        Err(rejection) => return rejection.respond(cx.protocol),
    };
    if cx.protocol == (Protocol::Auth { version_2024: true }) {
        let version = HeaderValue::from_static(web::error::API_VERSION_2024);
        response.headers_mut().insert(web::error::API_VERSION_HEADER, version);
    }
    response
}

/// The operation of a route; a rejection where there is none.
async fn route(cx: &Cx, method: &Method, path: &str, body: &Bytes) -> Result<Result<Response, Error>, Rejection> {
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    if let Err(error) = check_room(cx, method, &segments) {
        return Ok(Err(error));
    }
    let known = KNOWN.iter().find(|(known, _)| *known == segments.first().copied().unwrap_or_default());
    let result = match (method.as_str(), segments.as_slice()) {
        ("GET" | "HEAD", ["health"]) => well_known::health(),
        ("GET" | "HEAD", [".well-known", "jwks.json"]) => well_known::jwks(cx),
        ("GET" | "HEAD", [".well-known", "openid-configuration"]) => well_known::openid_configuration(cx),
        ("GET" | "HEAD", ["settings"]) => settings::get_settings(cx),
        ("POST", ["signup"]) => guarded(cx, Some(Limit::Signup), body, Box::pin(signup::sign_up(cx, body))).await,
        ("POST", ["token"]) => guarded_token(cx, body).await,
        ("POST", ["recover"]) => even(guarded(cx, Some(Limit::Otp), body, Box::pin(recover::recover(cx, body)))).await,
        ("POST", ["resend"]) => even(guarded(cx, Some(Limit::Otp), body, Box::pin(resend::resend(cx, body)))).await,
        ("POST", ["magiclink"]) => {
            even(guarded(cx, Some(Limit::Otp), body, Box::pin(magic_link::send_magic_link(cx, body)))).await
        }
        ("POST", ["otp"]) => even(guarded(cx, Some(Limit::Otp), body, Box::pin(otp::send_otp(cx, body)))).await,
        ("GET" | "POST", ["verify"]) => verify::verify(cx, method, body).await,
        ("POST", ["logout"]) => logout::logout(cx).await,
        ("GET", ["reauthenticate"]) => reauthenticate::reauthenticate(cx).await,
        ("GET", ["user"]) => user::get_user(cx).await,
        ("PUT", ["user"]) => user::update_user(cx, body).await,
        ("GET", ["authorize"]) => authorize::authorize(cx).await,
        ("GET" | "POST", ["callback"]) => callback::callback(cx, method, body).await,
        ("GET", ["user", "identities", "authorize"]) => authorize::authorize_link(cx).await,
        ("DELETE", ["user", "identities", id]) => identities::unlink(cx, id).await,
        ("POST", ["invite"]) => invite::invite(cx, body).await,
        (_, ["factors", rest @ ..]) => match mfa::route(cx, method, rest, body).await {
            Some(result) => result,
            None => return Err(Rejection::NotFound),
        },
        (_, ["admin", rest @ ..]) => {
            return admin::route(cx, method, rest, body).await.ok_or(Rejection::NotFound);
        }
        (_, ["sso", ..]) => Err(Error::new(ErrorCode::SamlProviderDisabled, "SAML 2.0 is disabled")),
        (_, ["passkeys", rest @ ..]) => match Box::pin(passkeys::route(cx, method, rest, body)).await {
            Some(result) => result,
            None => return Err(Rejection::NotFound),
        },
        (_, ["oauth", ..]) => Err(oauth_server_disabled()),
        _ => {
            return Err(match known {
                Some((_, allow)) => Rejection::MethodNotAllowed { allow },
                None => Rejection::NotFound,
            });
        }
    };
    Ok(result)
}

/// Of what an OAuth 2.1 server has.
pub(crate) fn oauth_server_disabled() -> Error {
    Error::new(ErrorCode::FeatureDisabled, "OAuth server is disabled").with_status(StatusCode::NOT_FOUND)
}

/// While the disk is nearly full nothing new is taken in; who has an account may still sign in and out.
fn check_room(cx: &Cx, method: &Method, segments: &[&str]) -> Result<(), Error> {
    let adds = match segments {
        ["passkeys", "registration", ..] => true,
        ["signup" | "otp" | "magiclink" | "recover" | "resend" | "invite" | "user" | "factors", ..] => true,
        ["admin", ..] => method != Method::DELETE,
        _ => false,
    };
    if !adds || method == Method::GET || cx.shared.config.write_gate.check().is_ok() {
        return Ok(());
    }
    let error = Error::new(ErrorCode::UnexpectedFailure, "The server's disk is nearly full; nothing can be stored");
    Err(error.with_status(StatusCode::SERVICE_UNAVAILABLE))
}

/// Routes by their first segment, with the methods that they answer to.
const KNOWN: [(&str, &str); 15] = [
    ("authorize", "GET"),
    ("callback", "GET, POST"),
    ("health", "GET"),
    ("settings", "GET"),
    ("signup", "POST"),
    ("token", "POST"),
    ("recover", "POST"),
    ("resend", "POST"),
    ("magiclink", "POST"),
    ("otp", "POST"),
    ("verify", "GET, POST"),
    ("logout", "POST"),
    ("reauthenticate", "GET"),
    ("user", "GET, PUT"),
    ("invite", "POST"),
];

/// An operation that strangers may ask for: behind a limit and a captcha.
pub(crate) async fn guarded(
    cx: &Cx,
    limit: Option<Limit>,
    body: &Bytes,
    operation: impl Future<Output = Result<Response, Error>>,
) -> Result<Response, Error> {
    if let Some(limit) = limit {
        cx.limit_client(limit)?;
    }
    captcha::check(cx, body).await?;
    operation.await
}

/// Only a password is behind the captcha: what refreshes a session or exchanges a code has been behind one.
async fn guarded_token(cx: &Cx, body: &Bytes) -> Result<Response, Error> {
    if cx.query_param("grant_type") == Some("password") {
        captcha::check(cx, body).await?;
    }
    Box::pin(token::grant(cx, body)).await
}
