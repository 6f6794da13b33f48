//! `GET /verify` (links in mails) and `POST /verify` (codes, and token hashes of applications' own links).

mod accept;

use axum::response::Response;
use bytes::Bytes;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;

use crate::contact;
use crate::cx::Cx;
use crate::error::{Error, ErrorCode};
use crate::one_time_token::{self, Purpose};
use crate::pkce;
use crate::rate_limit::Limit;
use crate::redirect;
use crate::request;
use crate::response;
use crate::session::{self, method};
use crate::store::Tx;
use crate::store::flow_state::flow_state_newest_in_tx;
use crate::store::one_time_token as store;
use crate::store::one_time_token::Taken;
use crate::store::user as users;
use crate::user::User;

use accept::Accepted;
pub(crate) use accept::{change_email, change_phone};

#[derive(Default, Deserialize)]
#[serde(default)]
struct VerifyParams {
    #[serde(rename = "type")]
    kind: Option<String>,
    token: Option<String>,
    token_hash: Option<String>,
    email: Option<String>,
    phone: Option<String>,
    redirect_to: Option<String>,
}

/// What a request asks to be verified.
struct Request {
    kind: Kind,
    key: Key,
}

enum Key {
    /// The token of a link.
    Token(String),
    /// A code, and where it was sent.
    Code { address: String, code: String },
}

/// Types of verification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Signup,
    Invite,
    MagicLink,
    Recovery,
    /// Whatever a code by mail is for, a change of address aside.
    Email,
    EmailChange,
    Sms,
    PhoneChange,
}

impl Kind {
    fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "signup" => Self::Signup,
            "invite" => Self::Invite,
            "magiclink" => Self::MagicLink,
            "recovery" => Self::Recovery,
            "email" => Self::Email,
            "email_change" => Self::EmailChange,
            "sms" => Self::Sms,
            "phone_change" => Self::PhoneChange,
            _ => return None,
        })
    }

    fn is_phone(self) -> bool {
        matches!(self, Self::Sms | Self::PhoneChange)
    }

    fn purposes(self) -> &'static [Purpose] {
        match self {
            Self::Signup | Self::Invite | Self::Sms => &[Purpose::Confirmation],
            Self::MagicLink | Self::Recovery => &[Purpose::Recovery],
            Self::Email => &[Purpose::Confirmation, Purpose::Recovery],
            Self::EmailChange => &[Purpose::EmailChangeNew, Purpose::EmailChangeCurrent],
            Self::PhoneChange => &[Purpose::PhoneChange],
        }
    }

    /// How the flows began that this ends.
    fn flows(self) -> &'static [&'static str] {
        match self {
            Self::Signup => &[method::EMAIL_SIGNUP],
            Self::Invite => &[method::INVITE],
            Self::MagicLink => &[method::MAGIC_LINK],
            Self::Recovery => &[method::RECOVERY],
            Self::Email => &[method::EMAIL_SIGNUP, method::MAGIC_LINK],
            Self::EmailChange => &[method::EMAIL_CHANGE],
            Self::Sms | Self::PhoneChange => &[],
        }
    }
}

/// One of two addresses agreed.
const FIRST_OF_TWO: &str = "Confirmation link accepted. Please proceed to confirm link sent to the other email";

fn kind_of(params: &VerifyParams) -> Result<Kind, Error> {
    match params.kind.as_deref().filter(|kind| !kind.is_empty()) {
        None => Err(Error::invalid("Verify requires a verification type")),
        Some(kind) => Kind::from_name(kind).ok_or_else(|| Error::invalid("Unsupported verification type")),
    }
}

pub(crate) async fn verify(cx: &Cx, http_method: &Method, body: &Bytes) -> Result<Response, Error> {
    cx.limit_client(Limit::Verify)?;
    if http_method == Method::GET { follow_link(cx).await } else { post(cx, body).await }
}

async fn post(cx: &Cx, body: &Bytes) -> Result<Response, Error> {
    let params: VerifyParams = request::params(body)?;
    let kind = kind_of(&params)?;
    let token = request::text("token", params.token.as_ref())?;
    let hash = request::text("token_hash", params.token_hash.as_ref())?;
    let email = request::text("email", params.email.as_ref())?;
    let phone = request::text("phone", params.phone.as_ref())?;
    let key = match (token, hash) {
        (None, Some(hash)) => {
            let more =
                email.is_some() || phone.is_some() || params.redirect_to.as_deref().is_some_and(|r| !r.is_empty());
            if more {
                return Err(Error::invalid("Only the token_hash and type should be provided"));
            }
            if kind.is_phone() {
                return Err(Error::invalid("Invalid email verification type"));
            }
            Key::Token(hash.to_owned())
        }
        (Some(code), None) => {
            let address = match (email, phone) {
                (Some(email), None) if !kind.is_phone() => contact::email(Some(email)).map_err(|error| {
                    error.with_status(StatusCode::UNPROCESSABLE_ENTITY).with_message("Invalid email format")
                })?,
                (None, Some(phone)) if kind.is_phone() => contact::phone(Some(phone))?,
                _ => {
                    let what = "Only an email address or phone number should be provided on verify";
                    return Err(Error::invalid(what));
                }
            };
            // However many clients the tries come from, a code withstands them; its link goes on working.
            cx.limit_subject(Limit::VerifyAddress, &address)?;
            Key::Code { address, code: code.trim().to_owned() }
        }
        _ => return Err(Error::invalid("Verify requires either a token or a token hash")),
    };
    let counted = match &key {
        Key::Code { address, .. } => Some(address.clone()),
        Key::Token(_) => None,
    };
    let mut tx = Tx::begin(&cx.pool).await?;
    let accepted = take(cx, &mut tx, &Request { kind, key }).await?;
    if let Some(address) = counted {
        // Only wrong ones count: nobody uses up the tries of the code's owner by being right.
        cx.give_back(Limit::VerifyAddress, &address);
    }
    match accepted {
        Accepted::FirstOfTwo => {
            tx.commit().await?;
            response::ok(&json!({ "msg": FIRST_OF_TWO, "code": "200" }))
        }
        Accepted::User(user, _) => {
            let view = session::begin(cx, &mut tx, &user, method::OTP).await?;
            tx.commit().await?;
            response::ok(&view)
        }
    }
}

async fn follow_link(cx: &Cx) -> Result<Response, Error> {
    let param = |name: &str| cx.query_param(name).map(str::to_owned);
    let params = VerifyParams { kind: param("type"), token: param("token"), ..VerifyParams::default() };
    let kind = kind_of(&params)?;
    let token = request::text("token", params.token.as_ref())?;
    let token = token.ok_or_else(|| Error::invalid("Verify requires a token or a token hash"))?;
    let to = cx.redirect_to();
    let pkce = token.starts_with(pkce::PREFIX);
    match end_at(cx, kind, token, &to, pkce).await {
        Ok(url) => response::see_other(&url),
        Err(error) if error.status().is_server_error() => Err(error),
        Err(error) => response::see_other(&error_url(&to, &error, pkce)),
    }
}

/// Verifies the token of a link and returns where its reader goes.
async fn end_at(cx: &Cx, kind: Kind, token: &str, to: &str, pkce: bool) -> Result<String, Error> {
    if kind.is_phone() {
        return Err(Error::invalid("Unsupported verification type"));
    }
    let mut tx = Tx::begin(&cx.pool).await?;
    let accepted = take(cx, &mut tx, &Request { kind, key: Key::Token(token.to_owned()) }).await?;
    let (user, kind) = match accepted {
        Accepted::FirstOfTwo => {
            tx.commit().await?;
            let message = [("message", FIRST_OF_TWO)];
            let url = if pkce { redirect::with_query(to, &message) } else { to.to_owned() };
            return Ok(redirect::with_fragment(&url, &[("message", FIRST_OF_TWO), ("sb", "")]));
        }
        Accepted::User(user, kind) => (user, kind),
    };
    if pkce {
        let flow = flow_state_newest_in_tx(&mut tx, user.id, kind.flows()).await?;
        let flow = flow.ok_or_else(|| {
            Error::new(
                ErrorCode::FlowStateNotFound,
                "No associated flow state found. No valid flow state found for user.",
            )
        })?;
        let code = pkce::issue_code(cx, &mut tx, &flow, user.id).await?;
        tx.commit().await?;
        return Ok(redirect::with_query(to, &[("code", &code)]));
    }
    let view = session::begin(cx, &mut tx, &user, method::OTP).await?;
    tx.commit().await?;
    let asked = cx.query_param("type");
    Ok(redirect::with_fragment(to, &view.fragment(&view.numbers(), asked)))
}

/// Where an error is told to the application: in the fragment, and in the query for who uses PKCE.
pub(crate) fn error_url(to: &str, error: &Error, pkce: bool) -> String {
    let oauth = match error.status() {
        StatusCode::BAD_REQUEST => Some("invalid_request"),
        StatusCode::UNAUTHORIZED => Some("unauthorized_client"),
        StatusCode::FORBIDDEN => Some("access_denied"),
        StatusCode::INTERNAL_SERVER_ERROR => Some("server_error"),
        StatusCode::SERVICE_UNAVAILABLE => Some("temporarily_unavailable"),
        _ => None,
    };
    let mut params: Vec<(&str, &str)> = oauth.map(|name| ("error", name)).into_iter().collect();
    params.push(("error_code", error.code().name()));
    params.push(("error_description", error.message()));
    let to = if pkce { redirect::with_query(to, &params) } else { to.to_owned() };
    params.push(("sb", ""));
    redirect::with_fragment(&to, &params)
}

/// Takes the token, whose user is locked, and does what it is for.
async fn take(cx: &Cx, tx: &mut Tx, request: &Request) -> Result<Accepted, Error> {
    let expired = || {
        let what = match request.key {
            Key::Token(_) => "Email link is invalid or has expired",
            Key::Code { .. } => "Token has expired or is invalid",
        };
        Error::new(ErrorCode::OtpExpired, what)
    };
    let purposes = request.kind.purposes();
    let (owner, hashes) = match &request.key {
        Key::Token(token) => {
            let stored = one_time_token::stored(token);
            (store::one_time_token_owner_in_tx(tx, &stored, purposes).await?, [stored.clone(), stored])
        }
        Key::Code { address, code } => {
            let stored = one_time_token::stored_of_code(cx, address, code);
            let hashes = [stored[0].as_str(), stored[1].as_str()];
            (store::one_time_token_owner_by_address_in_tx(tx, address, hashes, purposes).await?, stored)
        }
    };
    // Locked before the token is taken, as everywhere.
    let user = match owner {
        Some(id) => users::user_lock_in_tx(tx, id).await?,
        None => None,
    };
    let user = user.filter(|user| user.deleted_at.is_none()).ok_or_else(expired)?;
    let taken = store::one_time_token_take_in_tx(tx, user.id, [&hashes[0], &hashes[1]], purposes, cx.now).await?;
    let taken = taken.filter(|taken| is_current(cx, &user, taken)).ok_or_else(expired)?;
    if user.is_banned(cx.now) {
        return Err(Error::new(ErrorCode::UserBanned, "User is banned").with_status(StatusCode::FORBIDDEN));
    }
    accept::accept(cx, tx, &user, request.kind, &taken).await
}

/// Whether a token is young enough, and the address that it was sent to still is what it was.
fn is_current(cx: &Cx, user: &User, taken: &Taken) -> bool {
    let settings = cx.settings();
    let is_phone = !taken.relates_to.contains('@');
    let longest = if is_phone { settings.sms_otp_exp } else { settings.mailer_otp_exp };
    let address = match taken.purpose {
        Purpose::Confirmation | Purpose::Recovery | Purpose::Reauthentication if is_phone => user.phone(),
        Purpose::Confirmation | Purpose::Recovery | Purpose::Reauthentication | Purpose::EmailChangeCurrent => {
            user.email()
        }
        Purpose::EmailChangeNew => user.new_email(),
        Purpose::PhoneChange => user.new_phone(),
    };
    taken.age <= longest && address == Some(taken.relates_to.as_str())
}
