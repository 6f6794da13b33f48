//! Sessions: how they begin, how long they last, and the answer that a client gets with one.

use base::random;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::cx::Cx;
use crate::error::{Error, ErrorCode};
use crate::store::Tx;
use crate::store::refresh_token::refresh_token_replace_in_tx;
use crate::store::session::{self as store, Device, Session};
use crate::store::user as users;
use crate::token::{access_token, refresh_token};
use crate::user::User;

/// Ways of showing who one is (RFC 8176 has others; these are GoTrue's).
pub(crate) mod method {
    pub(crate) const ANONYMOUS: &str = "anonymous";
    pub(crate) const EMAIL_CHANGE: &str = "email_change";
    pub(crate) const EMAIL_SIGNUP: &str = "email/signup";
    pub(crate) const INVITE: &str = "invite";
    pub(crate) const MAGIC_LINK: &str = "magiclink";
    pub(crate) const MFA_PHONE: &str = "mfa/phone";
    pub(crate) const MFA_WEBAUTHN: &str = "mfa/webauthn";
    pub(crate) const OAUTH: &str = "oauth";
    pub(crate) const OTP: &str = "otp";
    pub(crate) const PASSKEY: &str = "passkey";
    pub(crate) const PASSWORD: &str = "password";
    pub(crate) const RECOVERY: &str = "recovery";
    pub(crate) const TOKEN_REFRESH: &str = "token_refresh";
    pub(crate) const TOTP: &str = "totp";
}

/// A random id (RFC 9562, version 4).
pub(crate) fn new_id() -> Uuid {
    uuid::Builder::from_random_bytes(random::bytes::<16>()).into_uuid()
}

/// What a client gets when somebody signs in (auth-js `Session`).
#[derive(Debug, Serialize)]
pub(crate) struct SessionView {
    pub(crate) access_token: String,
    token_type: &'static str,
    pub(crate) expires_in: i64,
    pub(crate) expires_at: i64,
    pub(crate) refresh_token: String,
    pub(crate) user: User,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) provider_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) provider_refresh_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) weak_password: Option<Value>,
}

/// Begins a session for a user who has just shown who they are by `method`.
pub(crate) async fn begin(cx: &Cx, tx: &mut Tx, user: &User, method: &str) -> Result<SessionView, Error> {
    if user.is_banned(cx.now) || user.deleted_at.is_some() {
        return Err(Error::new(ErrorCode::UserBanned, "User is banned"));
    }
    let refresh_token = refresh_token::generate();
    let stored = refresh_token::stored(&refresh_token);
    let session = store::session_insert_in_tx(tx, user.id, method, &cx.device(), &stored, cx.now).await?;
    let user = users::user_reload_in_tx(tx, user.id).await?;
    view(cx, tx, user, &session, method, refresh_token).await
}

/// Raises a session by a second factor: from here on it is of assurance level 2, with fresh tokens.
pub(crate) async fn raise(
    cx: &Cx,
    tx: &mut Tx,
    user_id: Uuid,
    session_id: Uuid,
    factor_id: Uuid,
    method: &str,
) -> Result<SessionView, Error> {
    store::session_raise_in_tx(tx, session_id, factor_id, method, cx.now).await?;
    let session = store::session_get_in_tx(tx, session_id).await?;
    let session = session.ok_or_else(|| Error::new(ErrorCode::SessionNotFound, "The session has ended"))?;
    let refresh_token = refresh_token::generate();
    refresh_token_replace_in_tx(tx, &session, &refresh_token::stored(&refresh_token), cx.now).await?;
    let user = users::user_reload_in_tx(tx, user_id).await?;
    view(cx, tx, user, &session, method, refresh_token).await
}

/// The answer for a session, with a fresh access token.
pub(crate) async fn view(
    cx: &Cx,
    tx: &mut Tx,
    user: User,
    session: &Session,
    method: &str,
    refresh_token: String,
) -> Result<SessionView, Error> {
    let (access_token, expires_at) = access_token::issue(cx, tx, &user, session, method).await?;
    Ok(SessionView {
        access_token,
        token_type: "bearer",
        expires_in: expires_at - cx.now.unix_seconds(),
        expires_at,
        refresh_token,
        user,
        provider_token: None,
        provider_refresh_token: None,
        weak_password: None,
    })
}

impl SessionView {
    /// The parameters of a redirect that hands the session over in its fragment.
    pub(crate) fn fragment<'a>(&'a self, numbers: &'a [String; 2], kind: Option<&'a str>) -> Vec<(&'a str, &'a str)> {
        let [expires_at, expires_in] = numbers;
        let mut params = vec![
            ("access_token", self.access_token.as_str()),
            ("expires_at", expires_at.as_str()),
            ("expires_in", expires_in.as_str()),
        ];
        let provider_refresh = self.provider_refresh_token.as_deref();
        params.extend(provider_refresh.map(|token| ("provider_refresh_token", token)));
        params.extend(self.provider_token.as_deref().map(|token| ("provider_token", token)));
        params.push(("refresh_token", self.refresh_token.as_str()));
        // Tells clients that the fragment is for them.
        params.push(("sb", ""));
        params.push(("token_type", self.token_type));
        params.extend(kind.map(|kind| ("type", kind)));
        params
    }

    /// The texts of the numbers that [`Self::fragment`] needs.
    pub(crate) fn numbers(&self) -> [String; 2] {
        [self.expires_at.to_string(), self.expires_in.to_string()]
    }
}

impl Cx {
    /// Where the request comes from, as sessions note it.
    pub(crate) fn device(&self) -> Device<'_> {
        Device { user_agent: self.user_agent.as_deref(), ip: self.client_ip.to_canonical().to_string() }
    }
}

/// Refuses to go on with a session that has lasted long enough.
pub(crate) fn check_age(cx: &Cx, session: &Session) -> Result<(), Error> {
    let settings = cx.settings();
    let expired = |what: &'static str| Error::new(ErrorCode::SessionExpired, what);
    if session.not_after.is_some_and(|end| end < cx.now) {
        return Err(expired("Invalid Refresh Token: Session Expired"));
    }
    let Some(began) = session.created_at else { return Ok(()) };
    if settings.sessions_timebox > 0 && cx.now.seconds_since(began) > settings.sessions_timebox {
        return Err(expired("Invalid Refresh Token: Session Expired"));
    }
    let used = session.refreshed_at.unwrap_or(began);
    let idle = settings.sessions_inactivity_timeout;
    if idle > 0 && cx.now.seconds_since(used) > idle {
        return Err(expired("Invalid Refresh Token: Session Expired (Inactivity)"));
    }
    Ok(())
}
