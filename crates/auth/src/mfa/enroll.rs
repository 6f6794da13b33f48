//! `POST /factors`: a factor that the user has yet to prove.

use axum::response::Response;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use url::Url;
use uuid::Uuid;

use super::{UNVERIFIED_EXPIRES, qr_code, signed_in, totp};
use crate::audit::{self, Action};
use crate::authenticate;
use crate::contact;
use crate::cx::Cx;
use crate::error::{Error, ErrorCode};
use crate::request;
use crate::response;
use crate::session;
use crate::store::Tx;
use crate::store::factor::{self as store, NewFactor};
use crate::user::User;

/// Longest names, in characters.
const LONGEST_NAME: usize = 200;

#[derive(Default, Deserialize)]
#[serde(default)]
struct EnrollParams {
    friendly_name: Option<String>,
    factor_type: Option<String>,
    issuer: Option<String>,
    phone: Option<String>,
}

pub(super) async fn enroll(cx: &Cx, body: &Bytes) -> Result<Response, Error> {
    let params: EnrollParams = request::params(body)?;
    let (user, session) = signed_in(cx).await?;
    if user.is_sso_user {
        return Err(Error::invalid("MFA enrollment only supported for non-SSO users at this time"));
    }
    let name = request::text("friendly_name", params.friendly_name.as_ref())?.map(str::trim).unwrap_or_default();
    let issuer = request::text("issuer", params.issuer.as_ref())?;
    if name.chars().count() > LONGEST_NAME || issuer.is_some_and(|issuer| issuer.chars().count() > LONGEST_NAME) {
        return Err(Error::invalid(format!("Names cannot be longer than {LONGEST_NAME} characters")));
    }
    let settings = cx.settings();
    let disabled = |code, kind: &str| Err(Error::new(code, format!("MFA enroll is disabled for {kind}")));
    let phone = match params.factor_type.as_deref().unwrap_or_default() {
        "totp" if settings.mfa_totp_enroll_enabled => None,
        "totp" => return disabled(ErrorCode::MfaTotpEnrollNotEnabled, "TOTP"),
        "phone" if settings.mfa_phone_enroll_enabled => Some(contact::phone(params.phone.as_deref())?),
        "phone" => return disabled(ErrorCode::MfaPhoneEnrollNotEnabled, "Phone"),
        "webauthn" if settings.mfa_web_authn_enroll_enabled => None,
        "webauthn" => return disabled(ErrorCode::MfaWebauthnEnrollNotEnabled, "WebAuthn"),
        _ => return Err(Error::invalid("factor_type needs to be totp, phone or webauthn")),
    };
    let mut tx = Tx::begin(&cx.pool).await?;
    let user = authenticate::lock(&mut tx, user.id, Some(session.id)).await?;
    if user.has_mfa() && !session.is_aal2() {
        let error = Error::new(ErrorCode::InsufficientAal, "AAL2 required to enroll a new factor");
        return Err(error.with_status(http::StatusCode::FORBIDDEN));
    }
    check_others(cx, &mut tx, &user, name, phone.as_deref()).await?;
    let kind = params.factor_type.as_deref().unwrap_or_default();
    let secret = (kind == "totp").then(totp::generate_secret);
    let id = session::new_id();
    let new = NewFactor {
        id,
        user_id: user.id,
        friendly_name: name,
        factor_type: kind,
        secret: secret.as_deref(),
        phone: phone.as_deref(),
    };
    if !store::factor_insert_in_tx(&mut tx, &new, cx.now).await? {
        return Err(name_conflict(name));
    }
    let traits = json!({ "factor_id": id, "factor_type": new.factor_type });
    audit::of_user(cx, &mut tx, &user, Action::EnrollFactor, Some(traits)).await?;
    tx.commit().await?;
    match (secret, phone) {
        (Some(secret), _) => answer_totp(cx, &user, id, name, issuer, &secret),
        (None, Some(phone)) => response::ok(&json!({ "id": id, "type": kind, "friendly_name": name, "phone": phone })),
        (None, None) => response::ok(&json!({ "id": id, "type": kind, "friendly_name": name })),
    }
}

fn name_conflict(name: &str) -> Error {
    let what = format!("A factor with the friendly name \"{name}\" for this user already exists");
    Error::new(ErrorCode::MfaFactorNameConflict, what)
}

/// Forgets factors that were begun and not proved, and refuses one too many or one that is there.
async fn check_others(cx: &Cx, tx: &mut Tx, user: &User, name: &str, phone: Option<&str>) -> Result<(), Error> {
    let mut kept = 0;
    for factor in &user.factors {
        let same_phone = phone.is_some() && factor.phone.as_deref() == phone;
        let old = cx.now.seconds_since(factor.created_at) > UNVERIFIED_EXPIRES;
        if !factor.is_verified() && (old || same_phone) {
            store::factor_delete_in_tx(tx, factor.id).await?;
            continue;
        }
        if same_phone {
            let what = "A verified phone factor already exists, unenroll the existing factor to continue";
            return Err(Error::new(ErrorCode::MfaVerifiedFactorExists, what));
        }
        if !name.is_empty() && factor.friendly_name.as_deref() == Some(name) {
            return Err(name_conflict(name));
        }
        kept += 1;
    }
    if kept >= cx.settings().mfa_max_enrolled_factors as usize {
        let what = "Maximum number of verified factors reached, unenroll to continue";
        return Err(Error::new(ErrorCode::TooManyEnrolledMfaFactors, what));
    }
    Ok(())
}

fn answer_totp(
    cx: &Cx,
    user: &User,
    id: Uuid,
    name: &str,
    issuer: Option<&str>,
    secret: &str,
) -> Result<Response, Error> {
    let site = Url::parse(&cx.settings().site_url).ok();
    let host = site.as_ref().and_then(Url::host_str).unwrap_or_default();
    let account = user.email().or(user.phone()).map_or_else(|| user.id.to_string(), str::to_owned);
    let uri = totp::uri(issuer.unwrap_or(host), &account, secret);
    let picture = qr_code::svg(&uri).ok_or_else(|| Error::invalid("The names are too long for a QR code"))?;
    response::ok(&json!({
        "id": id,
        "type": "totp",
        "friendly_name": name,
        "totp": { "qr_code": picture, "secret": secret, "uri": uri },
    }))
}
