//! Identities of users.

use serde_json::{Map, Value};
use uuid::Uuid;

use super::{Tx, first_json};
use crate::error::Error;
use crate::identity::Identity;
use crate::timestamp::Timestamp;

/// Inserts an identity; nothing when the user has it already. False when somebody else has it.
pub(crate) async fn identity_insert_in_tx(
    tx: &mut Tx,
    user_id: Uuid,
    provider: &str,
    provider_id: &str,
    data: &Map<String, Value>,
    now: Timestamp,
) -> Result<bool, Error> {
    const SQL: &str = "insert into auth.identities
        (id, user_id, provider, provider_id, identity_data, last_sign_in_at, created_at, updated_at)
        values (gen_random_uuid(), $1::uuid, $2, $3, $4::jsonb, $5::timestamptz, $5::timestamptz, $5::timestamptz)
        on conflict (provider_id, provider) do update set updated_at = excluded.updated_at
        where identities.user_id = excluded.user_id returning id";
    let rows = tx.query(SQL, [user_id.into(), provider.into(), provider_id.into(), data.into(), now.into()]).await?;
    Ok(!rows.is_empty())
}

/// Merges `patch` into the data of a user's identity at a provider.
pub(crate) async fn identity_update_in_tx(
    tx: &mut Tx,
    user_id: Uuid,
    provider: &str,
    patch: &Map<String, Value>,
    now: Timestamp,
) -> Result<(), Error> {
    const SQL: &str =
        "update auth.identities set identity_data = identity_data || $3::jsonb, updated_at = $4::timestamptz
        where user_id = $1::uuid and provider = $2";
    tx.query(SQL, [user_id.into(), provider.into(), patch.into(), now.into()]).await.map(drop)
}

/// The identity that a provider knows as `provider_id`.
pub(crate) async fn identity_find_in_tx(
    tx: &mut Tx,
    provider: &str,
    provider_id: &str,
) -> Result<Option<Identity>, Error> {
    const SQL: &str = "select to_jsonb(i)::text from auth.identities i where provider = $1 and provider_id = $2";
    first_json(&tx.query(SQL, [provider.into(), provider_id.into()]).await?)
}

/// Removes what an address was used for before anybody proved to own it, the identity `keep` aside.
pub(crate) async fn identity_delete_others_in_tx(tx: &mut Tx, user_id: Uuid, keep: &str) -> Result<(), Error> {
    const SQL: &str = "delete from auth.identities where user_id = $1::uuid and provider <> $2";
    tx.query(SQL, [user_id.into(), keep.into()]).await.map(drop)
}
