//! One-time tokens: the hash of what a mail or message carries, one for each user and purpose.

use uuid::Uuid;

use super::{Tx, uuid_column};
use crate::error::Error;
use crate::one_time_token::Purpose;
use crate::timestamp::Timestamp;

/// Puts a token in place of the user's older one for the same purpose.
pub(crate) async fn one_time_token_put_in_tx(
    tx: &mut Tx,
    user_id: Uuid,
    purpose: Purpose,
    hash: &str,
    relates_to: &str,
    now: Timestamp,
) -> Result<(), Error> {
    const SQL: &str = "insert into auth.one_time_tokens
        (id, user_id, token_type, token_hash, relates_to, created_at, updated_at)
        values (gen_random_uuid(), $1::uuid, $2::auth.one_time_token_type, $3, $4, $5::timestamptz at time zone 'utc',
            $5::timestamptz at time zone 'utc')
        on conflict (user_id, token_type) do update set token_hash = excluded.token_hash,
            relates_to = excluded.relates_to, created_at = excluded.created_at, updated_at = excluded.updated_at";
    let params = [user_id.into(), purpose.name().into(), hash.into(), relates_to.into(), now.into()];
    tx.query(SQL, params).await.map(drop)
}

/// The user who has a token with this hash.
pub(crate) async fn one_time_token_owner_in_tx(
    tx: &mut Tx,
    hash: &str,
    purposes: &[Purpose],
) -> Result<Option<Uuid>, Error> {
    const SQL: &str = "select user_id::text from auth.one_time_tokens
        where token_hash = $1 and token_type::text = any ($2::text[]) limit 1";
    let names: Vec<&str> = purposes.iter().map(|purpose| purpose.name()).collect();
    let rows = tx.query(SQL, [hash.into(), names.as_slice().into()]).await?;
    Ok(rows.first().and_then(|row| uuid_column(row, 0)))
}

/// The user to whose new address a change is under way.
pub(crate) async fn one_time_token_owner_by_address_in_tx(
    tx: &mut Tx,
    relates_to: &str,
    hashes: [&str; 2],
    purposes: &[Purpose],
) -> Result<Option<Uuid>, Error> {
    const SQL: &str = "select user_id::text from auth.one_time_tokens
        where relates_to = $1 and token_hash in ($2, $3) and token_type::text = any ($4::text[]) limit 1";
    let names: Vec<&str> = purposes.iter().map(|purpose| purpose.name()).collect();
    let params = [relates_to.into(), hashes[0].into(), hashes[1].into(), names.as_slice().into()];
    let rows = tx.query(SQL, params).await?;
    Ok(rows.first().and_then(|row| uuid_column(row, 0)))
}

/// A token that was used.
pub(crate) struct Taken {
    pub(crate) purpose: Purpose,
    /// The address or number that it was sent to.
    pub(crate) relates_to: String,
    /// Seconds since it was made.
    pub(crate) age: i64,
}

/// Takes a token of a locked user: it is gone, whoever else holds it. None when there is none, or somebody was faster.
pub(crate) async fn one_time_token_take_in_tx(
    tx: &mut Tx,
    user_id: Uuid,
    hashes: [&str; 2],
    purposes: &[Purpose],
    now: Timestamp,
) -> Result<Option<Taken>, Error> {
    const SQL: &str = "delete from auth.one_time_tokens
        where user_id = $1::uuid and token_hash in ($2, $3) and token_type::text = any ($4::text[])
        returning token_type::text, relates_to,
            floor(extract(epoch from ($5::timestamptz at time zone 'utc') - created_at))::bigint";
    let names: Vec<&str> = purposes.iter().map(|purpose| purpose.name()).collect();
    let params = [user_id.into(), hashes[0].into(), hashes[1].into(), names.as_slice().into(), now.into()];
    let rows = tx.query(SQL, params).await?;
    Ok(rows.first().and_then(|row| {
        Some(Taken {
            purpose: Purpose::from_name(row.text(0)?)?,
            relates_to: row.text(1)?.to_owned(),
            age: row.int(2)?,
        })
    }))
}

/// Forgets the tokens of a user for some purposes.
pub(crate) async fn one_time_token_delete_in_tx(tx: &mut Tx, user_id: Uuid, purposes: &[Purpose]) -> Result<(), Error> {
    const SQL: &str =
        "delete from auth.one_time_tokens where user_id = $1::uuid and token_type::text = any ($2::text[])";
    let names: Vec<&str> = purposes.iter().map(|purpose| purpose.name()).collect();
    tx.query(SQL, [user_id.into(), names.as_slice().into()]).await.map(drop)
}
