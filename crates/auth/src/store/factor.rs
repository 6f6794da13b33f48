//! Second factors and their challenges. Codes of challenges are stored as MACs; secrets of authenticators as they are,
//! because codes are computed from them.

use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::{Tx, first_json};
use crate::error::Error;
use crate::timestamp::Timestamp;

/// Removes a factor; sessions that it has raised are plain ones again.
pub(crate) async fn factor_delete_in_tx(tx: &mut Tx, id: Uuid) -> Result<(), Error> {
    const SQL: &str = "delete from auth.mfa_factors where id = $1::uuid";
    super::session::session_downgrade_in_tx(tx, id).await?;
    tx.query(SQL, [id.into()]).await.map(drop)
}

/// Changes a factor's name, or the number of one that has one.
pub(crate) async fn factor_update_in_tx(
    tx: &mut Tx,
    id: Uuid,
    friendly_name: Option<&str>,
    phone: Option<&str>,
    now: Timestamp,
) -> Result<(), Error> {
    const SQL: &str = "update auth.mfa_factors set friendly_name = coalesce($2, friendly_name),
        phone = case when factor_type = 'phone' then coalesce($3, phone) else phone end, updated_at = $4::timestamptz
        where id = $1::uuid";
    tx.query(SQL, [id.into(), friendly_name.into(), phone.into(), now.into()]).await.map(drop)
}

/// Removes every factor of a user.
pub(crate) async fn factor_delete_all_in_tx(tx: &mut Tx, user_id: Uuid) -> Result<(), Error> {
    const SQL: &str = "delete from auth.mfa_factors where user_id = $1::uuid";
    tx.query(SQL, [user_id.into()]).await.map(drop)
}

/// A factor that has yet to be proved.
pub(crate) struct NewFactor<'a> {
    pub(crate) id: Uuid,
    pub(crate) user_id: Uuid,
    pub(crate) friendly_name: &'a str,
    pub(crate) factor_type: &'a str,
    pub(crate) secret: Option<&'a str>,
    pub(crate) phone: Option<&'a str>,
}

/// Inserts a factor; false when the user has one of this name or number.
pub(crate) async fn factor_insert_in_tx(tx: &mut Tx, new: &NewFactor<'_>, now: Timestamp) -> Result<bool, Error> {
    const SQL: &str = "insert into auth.mfa_factors
        (id, user_id, friendly_name, factor_type, status, secret, phone, created_at, updated_at)
        values ($1::uuid, $2::uuid, $3, $4::auth.factor_type, 'unverified', $5, $6, $7::timestamptz, $7::timestamptz)
        on conflict do nothing returning id";
    let params = [
        new.id.into(),
        new.user_id.into(),
        new.friendly_name.into(),
        new.factor_type.into(),
        new.secret.into(),
        new.phone.into(),
        now.into(),
    ];
    Ok(!tx.query(SQL, params).await?.is_empty())
}

pub(crate) async fn factor_secret_in_tx(tx: &mut Tx, id: Uuid) -> Result<Option<String>, Error> {
    const SQL: &str = "select secret from auth.mfa_factors where id = $1::uuid";
    let rows = tx.query(SQL, [id.into()]).await?;
    Ok(rows.first().and_then(|row| row.text(0)).map(str::to_owned))
}

pub(crate) async fn factor_verified_in_tx(tx: &mut Tx, id: Uuid, now: Timestamp) -> Result<(), Error> {
    const SQL: &str =
        "update auth.mfa_factors set status = 'verified', updated_at = $2::timestamptz where id = $1::uuid";
    tx.query(SQL, [id.into(), now.into()]).await.map(drop)
}

/// Forgets factors of a user that nobody has proved.
pub(crate) async fn factor_delete_unverified_in_tx(tx: &mut Tx, user_id: Uuid) -> Result<(), Error> {
    const SQL: &str = "delete from auth.mfa_factors where user_id = $1::uuid and status = 'unverified'";
    tx.query(SQL, [user_id.into()]).await.map(drop)
}

/// A row of `auth.mfa_challenges`.
#[derive(Debug, Deserialize)]
pub(crate) struct Challenge {
    pub(crate) id: Uuid,
    pub(crate) created_at: Timestamp,
    pub(crate) verified_at: Option<Timestamp>,
    pub(crate) ip_address: String,
    /// Of a phone: the MAC of the code that was sent. Of an authenticator, once met: the time step whose code it was.
    pub(crate) otp_code: Option<String>,
    /// The ceremony of WebAuthn that waits for an answer.
    pub(crate) web_authn_session_data: Option<Value>,
}

/// A challenge to insert.
pub(crate) struct NewChallenge<'a> {
    pub(crate) id: Uuid,
    pub(crate) factor_id: Uuid,
    pub(crate) ip: &'a str,
    pub(crate) otp_code: Option<&'a str>,
    /// Of WebAuthn.
    pub(crate) ceremony: Option<&'a Value>,
}

/// Inserts a challenge; those of yesterday are removed on the way.
pub(crate) async fn challenge_insert_in_tx(tx: &mut Tx, new: &NewChallenge<'_>, now: Timestamp) -> Result<(), Error> {
    // The time of the last challenge is unique among all factors.
    const SQL: &str = "with old as (
            delete from auth.mfa_challenges
            where factor_id = $2::uuid and created_at < $5::timestamptz - interval '1 day'
        ), challenged as (
            update auth.mfa_factors
            set last_challenged_at = $5::timestamptz + random() * interval '1 millisecond' where id = $2::uuid
        )
        insert into auth.mfa_challenges (id, factor_id, created_at, ip_address, otp_code, web_authn_session_data)
        values ($1::uuid, $2::uuid, $5::timestamptz, $3::inet, $4, $6::jsonb)";
    let params =
        [new.id.into(), new.factor_id.into(), new.ip.into(), new.otp_code.into(), now.into(), new.ceremony.into()];
    tx.query(SQL, params).await.map(drop)
}

/// Locks a challenge of a factor.
pub(crate) async fn challenge_get_in_tx(tx: &mut Tx, id: Uuid, factor_id: Uuid) -> Result<Option<Challenge>, Error> {
    const SQL: &str = "select to_jsonb(c)::text from auth.mfa_challenges c
        where id = $1::uuid and factor_id = $2::uuid for update";
    first_json(&tx.query(SQL, [id.into(), factor_id.into()]).await?)
}

/// A challenge was met and is good for nothing more.
pub(crate) async fn challenge_met_in_tx(
    tx: &mut Tx,
    id: Uuid,
    remembered: Option<&str>,
    now: Timestamp,
) -> Result<(), Error> {
    const SQL: &str = "update auth.mfa_challenges set verified_at = $3::timestamptz, otp_code = $2,
        web_authn_session_data = null where id = $1::uuid";
    tx.query(SQL, [id.into(), remembered.into(), now.into()]).await.map(drop)
}

/// The newest time step whose code was used for an authenticator.
pub(crate) async fn totp_last_step_in_tx(tx: &mut Tx, factor_id: Uuid) -> Result<Option<i64>, Error> {
    const SQL: &str = "select max(otp_code::bigint) from auth.mfa_challenges
        where factor_id = $1::uuid and verified_at is not null and otp_code ~ '^[0-9]{1,18}$'";
    Ok(tx.query(SQL, [factor_id.into()]).await?.first().and_then(|row| row.int(0)))
}

/// The credential of WebAuthn that a factor has.
pub(crate) async fn factor_credential_in_tx(tx: &mut Tx, id: Uuid) -> Result<Option<Value>, Error> {
    const SQL: &str = "select web_authn_credential::text from auth.mfa_factors
        where id = $1::uuid and web_authn_credential is not null";
    first_json(&tx.query(SQL, [id.into()]).await?)
}

pub(crate) async fn factor_credential_put_in_tx(tx: &mut Tx, id: Uuid, credential: &Value) -> Result<(), Error> {
    const SQL: &str = "update auth.mfa_factors set web_authn_credential = $2::jsonb where id = $1::uuid";
    tx.query(SQL, [id.into(), credential.into()]).await.map(drop)
}
