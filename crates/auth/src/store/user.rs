//! Users. A user is always read whole, with identities and factors, as one JSON value.

use serde_json::{Map, Value};
use uuid::Uuid;

use super::{Param, Tx, db_error, first_json, query, read, violated};
use crate::error::{Error, ErrorCode};
use crate::timestamp::Timestamp;
use crate::user::{AUDIENCE, User};
use pg::Pool;

/// A whole user as JSON. Secrets of factors stay where they are.
macro_rules! user_columns {
    () => {
        "(to_jsonb(u) || jsonb_build_object(
            'identities', coalesce((select jsonb_agg(to_jsonb(i) order by i.created_at, i.id)
                from auth.identities i where i.user_id = u.id), '[]'),
            'factors', coalesce((select jsonb_agg(to_jsonb(f) - 'secret' - 'web_authn_credential'
                    - 'last_webauthn_challenge_data' order by f.created_at)
                from auth.mfa_factors f where f.user_id = u.id), '[]')))::text"
    };
}
pub(crate) use user_columns;

/// The unique index on addresses, SSO users left out.
const EMAIL_KEY: &str = "users_email_partial_key";
const PHONE_KEY: &str = "users_phone_key";
const PRIMARY_KEY: &str = "users_pkey";

const BY_ID: &str = concat!("select ", user_columns!(), " from auth.users u where u.id = $1::uuid");
const BY_EMAIL: &str =
    concat!("select ", user_columns!(), " from auth.users u where u.email = $1 and not u.is_sso_user and u.aud = $2");
const BY_PHONE: &str =
    concat!("select ", user_columns!(), " from auth.users u where u.phone = $1 and not u.is_sso_user and u.aud = $2");

/// Users that signed up through a provider of ours, by address.
pub(crate) async fn user_by_email(pool: &Pool, email: &str) -> Result<Option<User>, Error> {
    let rows = read(pool, vec![query(BY_EMAIL, [email.into(), AUDIENCE.into()])]).await?;
    first_json(rows.first().map_or(&[], Vec::as_slice))
}

pub(crate) async fn user_by_phone(pool: &Pool, phone: &str) -> Result<Option<User>, Error> {
    let rows = read(pool, vec![query(BY_PHONE, [phone.into(), AUDIENCE.into()])]).await?;
    first_json(rows.first().map_or(&[], Vec::as_slice))
}

pub(crate) async fn user_by_id(pool: &Pool, id: Uuid) -> Result<Option<User>, Error> {
    let rows = read(pool, vec![query(BY_ID, [id.into()])]).await?;
    first_json(rows.first().map_or(&[], Vec::as_slice))
}

pub(crate) async fn user_get_in_tx(tx: &mut Tx, id: Uuid) -> Result<Option<User>, Error> {
    first_json(&tx.query(BY_ID, [id.into()]).await?)
}

/// Reads the user again: triggers and generated columns may have changed it.
pub(crate) async fn user_reload_in_tx(tx: &mut Tx, id: Uuid) -> Result<User, Error> {
    let user = user_get_in_tx(tx, id).await?;
    user.ok_or_else(|| Error::new(ErrorCode::UserNotFound, "User not found"))
}

/// Locks the user: whatever else wants to change it waits until this transaction ends.
pub(crate) async fn user_lock_in_tx(tx: &mut Tx, id: Uuid) -> Result<Option<User>, Error> {
    const LOCK: &str = "select id from auth.users where id = $1::uuid for no key update";
    if tx.query(LOCK, [id.into()]).await?.is_empty() {
        return Ok(None);
    }
    user_get_in_tx(tx, id).await
}

/// Locks the user with this address.
pub(crate) async fn user_lock_by_email_in_tx(tx: &mut Tx, email: &str) -> Result<Option<User>, Error> {
    const LOCK: &str = "select id from auth.users where email = $1 and not is_sso_user and aud = $2 for no key update";
    if tx.query(LOCK, [email.into(), AUDIENCE.into()]).await?.is_empty() {
        return Ok(None);
    }
    first_json(&tx.query(BY_EMAIL, [email.into(), AUDIENCE.into()]).await?)
}

/// Locks the user with this number.
pub(crate) async fn user_lock_by_phone_in_tx(tx: &mut Tx, phone: &str) -> Result<Option<User>, Error> {
    const LOCK: &str = "select id from auth.users where phone = $1 and not is_sso_user and aud = $2 for no key update";
    if tx.query(LOCK, [phone.into(), AUDIENCE.into()]).await?.is_empty() {
        return Ok(None);
    }
    first_json(&tx.query(BY_PHONE, [phone.into(), AUDIENCE.into()]).await?)
}

/// A user to insert.
#[derive(Debug, Default)]
pub(crate) struct NewUser<'a> {
    pub(crate) id: Uuid,
    pub(crate) email: Option<&'a str>,
    pub(crate) phone: Option<&'a str>,
    /// A PHC string or bcrypt hash.
    pub(crate) password_hash: Option<&'a str>,
    pub(crate) role: &'a str,
    pub(crate) app_metadata: Map<String, Value>,
    pub(crate) user_metadata: Map<String, Value>,
    pub(crate) is_anonymous: bool,
    pub(crate) is_sso_user: bool,
    pub(crate) email_confirmed: bool,
    pub(crate) phone_confirmed: bool,
    pub(crate) banned_until: Option<Timestamp>,
}

/// Inserts a user; false when somebody else has the address or the number. Triggers of the project run; what they refuse
/// undoes everything.
pub(crate) async fn user_insert_in_tx(tx: &mut Tx, new: &NewUser<'_>, now: Timestamp) -> Result<bool, Error> {
    // Rows of Supabase have empty texts where there is no token.
    const SQL: &str = "insert into auth.users
        (instance_id, id, aud, role, email, phone, encrypted_password, raw_app_meta_data, raw_user_meta_data,
         is_anonymous, is_sso_user, email_confirmed_at, phone_confirmed_at, banned_until, created_at, updated_at,
         confirmation_token, recovery_token, email_change_token_new, email_change)
        values ('00000000-0000-0000-0000-000000000000', $1::uuid, $2, $3, $4, $5, $6, $7::jsonb, $8::jsonb,
         $9::bool, $10::bool, $11::timestamptz, $12::timestamptz, $13::timestamptz, $14::timestamptz, $14::timestamptz,
         '', '', '', '')
        on conflict do nothing returning id";
    let params: [Param; 14] = [
        new.id.into(),
        AUDIENCE.into(),
        new.role.into(),
        new.email.into(),
        new.phone.into(),
        new.password_hash.into(),
        (&new.app_metadata).into(),
        (&new.user_metadata).into(),
        new.is_anonymous.into(),
        new.is_sso_user.into(),
        new.email_confirmed.then_some(now).into(),
        new.phone_confirmed.then_some(now).into(),
        new.banned_until.into(),
        now.into(),
    ];
    match tx.run(&query(SQL, params)).await {
        Ok(rows) => Ok(!rows.is_empty()),
        Err(error @ pg::Error::Db(_)) => Err(saving(error, "Database error saving new user")),
        Err(error) => Err(error.into()),
    }
}

/// An error of a statement that stores a user: a name that is taken, or what a trigger or constraint of the project said.
fn saving(error: pg::Error, message: &'static str) -> Error {
    match violated(&error) {
        Some(EMAIL_KEY) => email_exists().because(error),
        Some(PHONE_KEY) => phone_exists().because(error),
        Some(PRIMARY_KEY) => Error::new(ErrorCode::Conflict, "A user with this ID already exists").because(error),
        _ => {
            let mapped = db_error(error);
            if mapped.status().is_server_error() { mapped.with_message(message) } else { mapped }
        }
    }
}

pub(crate) fn email_exists() -> Error {
    Error::new(ErrorCode::EmailExists, "A user with this email address has already been registered")
}

pub(crate) fn phone_exists() -> Error {
    Error::new(ErrorCode::PhoneExists, "A user with this phone number has already been registered")
}

/// What changes of a user; what is None stays.
#[derive(Default)]
pub(crate) struct UserChange<'a> {
    pub(crate) email: Option<&'a str>,
    pub(crate) phone: Option<&'a str>,
    pub(crate) password_hash: Option<&'a str>,
    pub(crate) role: Option<&'a str>,
    /// Merged key by key; null removes a key.
    pub(crate) app_metadata: Option<&'a Map<String, Value>>,
    pub(crate) user_metadata: Option<&'a Map<String, Value>>,
    pub(crate) confirm_email: bool,
    pub(crate) confirm_phone: bool,
    /// None inside ends a ban.
    pub(crate) banned_until: Option<Option<Timestamp>>,
    pub(crate) is_anonymous: Option<bool>,
    /// Ends a change of address that is under way.
    pub(crate) clear_email_change: bool,
    pub(crate) clear_phone_change: bool,
    pub(crate) signed_in: bool,
}

pub(crate) async fn user_update_in_tx(
    tx: &mut Tx,
    id: Uuid,
    change: &UserChange<'_>,
    now: Timestamp,
) -> Result<(), Error> {
    const SQL: &str = "update auth.users set
        email = coalesce($2, email),
        phone = coalesce($3, phone),
        encrypted_password = coalesce($4, encrypted_password),
        role = coalesce($5, role),
        raw_app_meta_data = case when $6::jsonb is null then raw_app_meta_data else
            (coalesce(raw_app_meta_data, '{}') || $6::jsonb)
            - array(select key from jsonb_each($6::jsonb) where value = 'null') end,
        raw_user_meta_data = case when $7::jsonb is null then raw_user_meta_data else
            (coalesce(raw_user_meta_data, '{}') || $7::jsonb)
            - array(select key from jsonb_each($7::jsonb) where value = 'null') end,
        email_confirmed_at = case when $8::bool then coalesce(email_confirmed_at, $16::timestamptz)
            else email_confirmed_at end,
        phone_confirmed_at = case when $9::bool then coalesce(phone_confirmed_at, $16::timestamptz)
            else phone_confirmed_at end,
        banned_until = case when $10::bool then $11::timestamptz else banned_until end,
        is_anonymous = coalesce($12::bool, is_anonymous),
        email_change = case when $13::bool then '' else email_change end,
        email_change_confirm_status = case when $13::bool then 0 else email_change_confirm_status end,
        phone_change = case when $14::bool then '' else phone_change end,
        last_sign_in_at = case when $15::bool then $16::timestamptz else last_sign_in_at end,
        updated_at = $16::timestamptz
        where id = $1::uuid";
    let params: [Param; 16] = [
        id.into(),
        change.email.into(),
        change.phone.into(),
        change.password_hash.into(),
        change.role.into(),
        change.app_metadata.into(),
        change.user_metadata.into(),
        change.confirm_email.into(),
        change.confirm_phone.into(),
        change.banned_until.is_some().into(),
        change.banned_until.flatten().into(),
        change.is_anonymous.into(),
        change.clear_email_change.into(),
        change.clear_phone_change.into(),
        change.signed_in.into(),
        now.into(),
    ];
    match tx.run(&query(SQL, params)).await {
        Ok(_) => Ok(()),
        Err(error @ pg::Error::Db(_)) => Err(saving(error, "Database error updating user")),
        Err(error) => Err(error.into()),
    }
}

/// When something was sent to the user last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent<'a> {
    Confirmation,
    Invite,
    Recovery,
    Reauthentication,
    /// A change to this address begins.
    EmailChange(&'a str),
    /// A change to this number begins.
    PhoneChange(&'a str),
}

pub(crate) async fn user_sent_in_tx(tx: &mut Tx, id: Uuid, sent: Sent<'_>, now: Timestamp) -> Result<(), Error> {
    const CONFIRMATION: &str = "update auth.users set confirmation_sent_at = $2::timestamptz, updated_at = $2::timestamptz where id = $1::uuid";
    const INVITE: &str = "update auth.users set invited_at = $2::timestamptz, confirmation_sent_at = $2::timestamptz,
        updated_at = $2::timestamptz where id = $1::uuid";
    const RECOVERY: &str =
        "update auth.users set recovery_sent_at = $2::timestamptz, updated_at = $2::timestamptz where id = $1::uuid";
    const REAUTHENTICATION: &str = "update auth.users set reauthentication_sent_at = $2::timestamptz,
        updated_at = $2::timestamptz where id = $1::uuid";
    const EMAIL_CHANGE: &str = "update auth.users set email_change = $3, email_change_sent_at = $2::timestamptz,
        email_change_confirm_status = 0, updated_at = $2::timestamptz where id = $1::uuid";
    const PHONE_CHANGE: &str = "update auth.users set phone_change = $3, phone_change_sent_at = $2::timestamptz,
        updated_at = $2::timestamptz where id = $1::uuid";
    let plain = async |tx: &mut Tx, sql: &str| tx.query(sql, [id.into(), now.into()]).await;
    match sent {
        Sent::Confirmation => plain(tx, CONFIRMATION).await?,
        Sent::Invite => plain(tx, INVITE).await?,
        Sent::Recovery => plain(tx, RECOVERY).await?,
        Sent::Reauthentication => plain(tx, REAUTHENTICATION).await?,
        Sent::EmailChange(email) => tx.query(EMAIL_CHANGE, [id.into(), now.into(), email.into()]).await?,
        Sent::PhoneChange(phone) => tx.query(PHONE_CHANGE, [id.into(), now.into(), phone.into()]).await?,
    };
    Ok(())
}

/// One of the two addresses agreed to the change.
pub(crate) async fn user_email_change_agreed_in_tx(tx: &mut Tx, id: Uuid, now: Timestamp) -> Result<(), Error> {
    const SQL: &str = "update auth.users set email_change_confirm_status = 1, updated_at = $2::timestamptz
        where id = $1::uuid";
    tx.query(SQL, [id.into(), now.into()]).await.map(drop)
}

/// Puts the list of providers in the user's app metadata as their identities are.
pub(crate) async fn user_providers_in_tx(tx: &mut Tx, id: Uuid) -> Result<(), Error> {
    const SQL: &str = "update auth.users u set raw_app_meta_data = coalesce(raw_app_meta_data, '{}') || (
            select jsonb_build_object('provider', (array_agg(provider order by first))[1],
                'providers', jsonb_agg(provider order by first))
            from (select provider, min(created_at) as first from auth.identities
                where user_id = u.id group by provider) as known
        ) where id = $1::uuid and exists (select from auth.identities where user_id = u.id)";
    tx.query(SQL, [id.into()]).await.map(drop)
}

/// Removes a user with everything that hangs on it.
pub(crate) async fn user_delete_in_tx(tx: &mut Tx, id: Uuid) -> Result<(), Error> {
    const SQL: &str = "delete from auth.users where id = $1::uuid";
    match tx.run(&query(SQL, [id.into()])).await {
        Ok(_) => Ok(()),
        Err(error @ pg::Error::Db(_)) => Err(saving(error, "Database error deleting user")),
        Err(error) => Err(error.into()),
    }
}

/// Removes who the user is and leaves the id, for rows of the project that refer to it. What was unique is hashed, so that
/// the same address may sign up again.
pub(crate) async fn user_soft_delete_in_tx(tx: &mut Tx, id: Uuid, now: Timestamp) -> Result<(), Error> {
    const USER: &str = "update auth.users set
        email = case when email is null then null else left(encode(sha256(convert_to(id::text || email, 'utf8')), 'base64'), 100) end,
        phone = case when phone is null then null else left(encode(sha256(convert_to(id::text || phone, 'utf8')), 'hex'), 15) end,
        email_change = '', phone_change = '', encrypted_password = null, raw_user_meta_data = '{}',
        raw_app_meta_data = '{}', deleted_at = $2::timestamptz, updated_at = $2::timestamptz
        where id = $1::uuid and deleted_at is null";
    const IDENTITIES: &str = "update auth.identities set identity_data = '{}',
        provider_id = encode(sha256(convert_to(user_id::text || provider_id, 'utf8')), 'base64')
        where user_id = $1::uuid";
    const REST: [&str; 4] = [
        "delete from auth.mfa_factors where user_id = $1::uuid",
        "delete from auth.webauthn_credentials where user_id = $1::uuid",
        "delete from auth.one_time_tokens where user_id = $1::uuid",
        "delete from auth.sessions where user_id = $1::uuid",
    ];
    tx.query(USER, [id.into(), now.into()]).await?;
    tx.query(IDENTITIES, [id.into()]).await?;
    for sql in REST {
        tx.query(sql, [id.into()]).await?;
    }
    Ok(())
}
