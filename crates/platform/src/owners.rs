//! Owners: sign-up, login, logout, sessions of the command line.

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use base::{OwnerId, Secret, digest, random};
use http::StatusCode;
use serde::Serialize;
use serde_json::json;
use tokio_postgres::GenericClient;

use crate::attempts::{self, LOGINS_PER_ADDRESS, LOGINS_PER_ADDRESS_AND_IP, LOGINS_PER_IP, SIGN_UPS_PER_IP};
use crate::audit::Actor;
use crate::error::Error;
use crate::platform::Platform;
use crate::request::{Fields, Origin, OwnerCx, StrangersFields};
use crate::store;
use crate::store::owner::{NewOwner, NewSession, Owner};
use crate::timestamp::Timestamp;

/// How long a token of `POST /api/owners/login` lives, in seconds: 30 days.
const SESSION_TTL: i64 = 30 * 24 * 3600;
/// How long a token of the command line lives, in seconds: a year.
const CLI_SESSION_TTL: i64 = 365 * 24 * 3600;
/// Shortest password, in characters (NIST SP 800-63B asks for 8 at least).
const SHORTEST_PASSWORD: usize = 8;
pub(crate) const LONGEST_PASSWORD: usize = 1024;

#[derive(Serialize)]
pub(crate) struct OwnerView {
    id: String,
    email: String,
    is_admin: bool,
    created_at: Timestamp,
    last_sign_in_at: Option<Timestamp>,
}

impl From<Owner> for OwnerView {
    fn from(owner: Owner) -> Self {
        Self {
            id: owner.id.0,
            email: owner.email,
            is_admin: owner.is_admin,
            created_at: owner.created_at,
            last_sign_in_at: owner.last_sign_in_at,
        }
    }
}

struct Credentials {
    email: String,
    password: Secret<String>,
}

impl Credentials {
    fn read(fields: &mut Fields) -> Self {
        let email = fields.required_text("email", 320).trim().to_lowercase();
        let password = Secret::new(fields.required_text("password", LONGEST_PASSWORD));
        Self { email, password }
    }

    /// Checks what has to hold for new owners only.
    fn check_new(&self, fields: &mut Fields) {
        if !self.email.is_empty() && !is_email(&self.email) {
            fields.refuse("email", "must be an e-mail address");
        }
        check_new_password(fields, "password", &self.password);
    }
}

/// Refuses a password that nobody may choose, unless something else is wrong with the field already.
pub(crate) fn check_new_password(fields: &mut Fields, field: &str, password: &Secret<String>) {
    if password.expose().chars().count() < SHORTEST_PASSWORD && !fields.is_refused(field) {
        fields.refuse(field, format!("must have at least {SHORTEST_PASSWORD} characters"));
    }
}

/// Whether a text is written like an e-mail address; only a mail that arrives could prove more.
pub(crate) fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else { return false };
    let plain = text.chars().all(|c| !c.is_whitespace() && !c.is_control() && !"<>()[],;:\\\"".contains(c));
    plain
        && !local.is_empty()
        && !local.contains('@')
        && !domain.is_empty()
        && domain.split('.').all(|label| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-'))
        && text.len() <= 254
}

pub(crate) async fn signup_owner(
    State(platform): State<Platform>,
    origin: Origin,
    StrangersFields(mut fields): StrangersFields,
) -> Result<impl IntoResponse, Error> {
    if !platform.config().sign_up_allowed {
        return Err(Error::SignUpClosed);
    }
    let credentials = Credentials::read(&mut fields);
    credentials.check_new(&mut fields);
    fields.finish()?;
    if let Some(ip) = origin.client_ip {
        platform.attempts().count(&format!("signup {}", attempts::network(ip)), SIGN_UPS_PER_IP)?;
    }
    let password_hash = platform.passwords().hash(credentials.password).await?;
    let new = NewOwner { email: &credentials.email, password_hash: &password_hash, is_admin: false };
    let mut db = platform.db().await?;
    let tx = db.transaction().await?;
    let owner = insert(&*tx, &new).await?;
    let session = open_session(&*tx, &platform, &owner.id, "api", SESSION_TTL).await?;
    let actor = Actor { owner_id: Some(owner.id.clone()), origin };
    store::audit::audit_insert(&*tx, &actor.entry(None, "owner.signup", json!({}))).await?;
    tx.commit().await?;
    Ok((StatusCode::CREATED, Json(session_view(owner, &session))))
}

/// Another owner, made by an administrator.
pub(crate) async fn create_owner(cx: OwnerCx, mut fields: Fields) -> Result<impl IntoResponse, Error> {
    if !cx.owner.is_admin {
        return Err(Error::AdminRequired);
    }
    let email = fields.required_text("email", 320).trim().to_lowercase();
    let given = fields.text("password", LONGEST_PASSWORD);
    let is_admin = fields.boolean("is_admin").unwrap_or(false);
    let generated = given.is_none().then(random::password);
    let password = Secret::new(given.or(generated.clone()).unwrap_or_default());
    let credentials = Credentials { email, password };
    credentials.check_new(&mut fields);
    fields.finish()?;
    let password_hash = cx.platform.passwords().hash(credentials.password).await?;
    let new = NewOwner { email: &credentials.email, password_hash: &password_hash, is_admin };
    let actor = cx.actor();
    let mut db = cx.platform.db().await?;
    let tx = db.transaction().await?;
    let owner = insert(&*tx, &new).await?;
    let detail = json!({ "owner_id": owner.id, "is_admin": is_admin });
    store::audit::audit_insert(&*tx, &actor.entry(None, "owner.create", detail)).await?;
    tx.commit().await?;
    let view = json!({ "owner": OwnerView::from(owner), "password": generated });
    Ok((StatusCode::CREATED, Json(view)))
}

pub(crate) async fn login_owner(
    State(platform): State<Platform>,
    origin: Origin,
    StrangersFields(mut fields): StrangersFields,
) -> Result<impl IntoResponse, Error> {
    let Credentials { email, password } = Credentials::read(&mut fields);
    fields.finish()?;
    let network = origin.client_ip.map(attempts::network).unwrap_or_default();
    if !network.is_empty() {
        platform.attempts().count(&format!("login {network}"), LOGINS_PER_IP)?;
    }
    let from_here = format!("login {email} {network}");
    platform.attempts().count(&from_here, LOGINS_PER_ADDRESS_AND_IP)?;
    let from_everywhere = format!("login {email}");
    platform.attempts().count(&from_everywhere, LOGINS_PER_ADDRESS)?;
    // The connection goes back to the pool before the hash, which takes long.
    let found = {
        let db = platform.db().await?;
        store::owner::owner_by_email(&**db, &email).await?
    };
    let (owner, hash) = found.map_or((None, None), |(owner, hash)| (Some(owner), Some(hash)));
    let fits = platform.passwords().verify(password, hash).await?;
    let actor = Actor { owner_id: owner.as_ref().map(|owner| owner.id.clone()), origin };
    let Some(owner) = owner.filter(|_| fits) else {
        // What is no address may be a password in the wrong field.
        let detail = json!({ "email": is_email(&email).then_some(email) });
        platform.audit(&actor.entry(None, "owner.login_failed", detail)).await?;
        return Err(Error::BadCredentials);
    };
    platform.attempts().forget(&from_here);
    platform.attempts().forget(&from_everywhere);
    let mut db = platform.db().await?;
    let tx = db.transaction().await?;
    let session = open_session(&*tx, &platform, &owner.id, "api", SESSION_TTL).await?;
    store::owner::owner_signed_in(&*tx, &owner.id, platform.clock().unix_seconds()).await?;
    store::audit::audit_insert(&*tx, &actor.entry(None, "owner.login", json!({}))).await?;
    tx.commit().await?;
    Ok(Json(session_view(owner, &session)))
}

pub(crate) async fn logout_owner(cx: OwnerCx) -> Result<impl IntoResponse, Error> {
    let actor = cx.actor();
    let mut db = cx.platform.db().await?;
    let tx = db.transaction().await?;
    store::owner::session_delete(&*tx, &cx.session_id).await?;
    store::audit::audit_insert(&*tx, &actor.entry(None, "owner.logout", json!({}))).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(crate) async fn get_me(cx: OwnerCx) -> impl IntoResponse {
    Json(OwnerView::from(cx.owner))
}

struct Session {
    token: Secret<String>,
    expires_at: Timestamp,
}

fn session_view(owner: Owner, session: &Session) -> serde_json::Value {
    json!({
        "token": session.token.expose(),
        "token_type": "bearer",
        "expires_at": session.expires_at,
        "owner": OwnerView::from(owner),
    })
}

async fn insert(db: &impl GenericClient, new: &NewOwner<'_>) -> Result<Owner, Error> {
    store::owner::owner_insert(db, new).await.map_err(|error| {
        if store::violates(&error, store::owner::EMAIL_KEY) { Error::EmailTaken } else { error.into() }
    })
}

async fn open_session(
    db: &impl GenericClient,
    platform: &Platform,
    owner_id: &OwnerId,
    label: &str,
    ttl: i64,
) -> Result<Session, Error> {
    // 256 random bits; a plain digest of them cannot be searched.
    let token = format!("ldb_{}", random::hex::<32>());
    let now = platform.clock().unix_seconds();
    let new = NewSession {
        owner_id,
        token_hash: &digest::sha256(token.as_bytes()),
        label,
        created_at: now,
        expires_at: now + ttl,
    };
    store::owner::session_insert(db, &new).await?;
    Ok(Session { token: Secret::new(token), expires_at: Timestamp::from_unix_seconds(now + ttl) })
}

impl Platform {
    /// The administrator made first: whom the command line on this machine acts for.
    pub async fn first_owner(&self) -> Result<Option<OwnerId>, Error> {
        let db = self.db().await?;
        Ok(store::owner::owner_first(&**db).await?.map(|owner| owner.id))
    }

    /// A token with which the command line acts for an owner, for a year.
    pub async fn create_cli_session(&self, owner_id: &OwnerId) -> Result<Secret<String>, Error> {
        let db = self.db().await?;
        open_session(&**db, self, owner_id, store::owner::CLI_LABEL, CLI_SESSION_TTL).await.map(|session| session.token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked_roughly() {
        for good in ["a@b.co", "first.last+tag@mail.example.org", "x@localhost"] {
            assert!(is_email(good), "{good}");
        }
        for bad in ["", "a", "@b.co", "a@", "a b@c.de", "a@b..c", "a@-b.c", "a@b@c.d", "a@b.c\n", "<a@b.c>"] {
            assert!(!is_email(bad), "{bad:?}");
        }
    }
}
