//! Passkeys (`auth.webauthn_credentials`) and their ceremonies under way (`auth.webauthn_challenges`).

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use pg::Pool;
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::{Tx, first_json, json_column, query, read, uuid_column};
use crate::error::Error;
use crate::timestamp::Timestamp;
use crate::webauthn::Credential;

/// A row of `auth.webauthn_credentials`; its bytes in base64.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Passkey {
    pub(crate) id: Uuid,
    credential_id: String,
    public_key: String,
    sign_count: i64,
    #[serde(default)]
    transports: Vec<String>,
    #[serde(default)]
    pub(crate) friendly_name: String,
    pub(crate) created_at: Timestamp,
    pub(crate) last_used_at: Option<Timestamp>,
}

impl Passkey {
    pub(crate) fn credential(&self) -> Credential {
        let count = u32::try_from(self.sign_count).unwrap_or(u32::MAX);
        Credential::stored(&self.credential_id, &self.public_key, count, self.transports.clone())
    }
}

// PostgreSQL breaks base64 into lines.
macro_rules! passkey_columns {
    () => {
        "(to_jsonb(p) || jsonb_build_object(
            'credential_id', translate(encode(p.credential_id, 'base64'), E'\\n', ''),
            'public_key', translate(encode(p.public_key, 'base64'), E'\\n', '')))::text"
    };
}

const LIST: &str = concat!(
    "select ",
    passkey_columns!(),
    " from auth.webauthn_credentials p where p.user_id = $1::uuid order by p.created_at, p.id"
);

pub(crate) async fn passkey_list(pool: &Pool, user_id: Uuid) -> Result<Vec<Passkey>, Error> {
    let results = read(pool, vec![query(LIST, [user_id.into()])]).await?;
    results.first().into_iter().flatten().map(|row| json_column(row, 0)).collect()
}

pub(crate) async fn passkey_list_in_tx(tx: &mut Tx, user_id: Uuid) -> Result<Vec<Passkey>, Error> {
    tx.query(LIST, [user_id.into()]).await?.iter().map(|row| json_column(row, 0)).collect()
}

pub(crate) async fn passkey_count_in_tx(tx: &mut Tx, user_id: Uuid) -> Result<i64, Error> {
    const SQL: &str = "select count(*) from auth.webauthn_credentials where user_id = $1::uuid";
    let rows = tx.query(SQL, [user_id.into()]).await?;
    Ok(rows.first().and_then(|row| row.int(0)).unwrap_or_default())
}

/// A passkey to insert.
pub(crate) struct NewPasskey<'a> {
    pub(crate) id: Uuid,
    pub(crate) user_id: Uuid,
    pub(crate) credential: &'a Credential,
    pub(crate) aaguid: Uuid,
    pub(crate) name: &'a str,
}

/// Inserts a passkey; none when somebody has this credential already.
pub(crate) async fn passkey_insert_in_tx(
    tx: &mut Tx,
    new: &NewPasskey<'_>,
    now: Timestamp,
) -> Result<Option<Passkey>, Error> {
    const SQL: &str = concat!(
        "insert into auth.webauthn_credentials as p
        (id, user_id, credential_id, public_key, attestation_type, aaguid, sign_count, transports, backup_eligible,
         backed_up, friendly_name, created_at, updated_at)
        values ($1::uuid, $2::uuid, decode($3, 'base64'), decode($4, 'base64'), 'none',
         nullif($5::uuid, '00000000-0000-0000-0000-000000000000'), $6::bigint, $7::jsonb, $8::bool, $9::bool, $10,
         $11::timestamptz, $11::timestamptz)
        on conflict (credential_id) do nothing returning ",
        passkey_columns!()
    );
    let credential = new.credential;
    let params = [
        new.id.into(),
        new.user_id.into(),
        credential.id().into(),
        credential.public_key().into(),
        new.aaguid.into(),
        i64::from(credential.sign_count()).into(),
        (&Value::from(credential.transports())).into(),
        credential.is_backup_eligible().into(),
        credential.is_backed_up().into(),
        new.name.into(),
        now.into(),
    ];
    first_json(&tx.query(SQL, params).await?)
}

/// Whose passkey has the credential with this id.
pub(crate) async fn passkey_owner_in_tx(tx: &mut Tx, credential_id: &[u8]) -> Result<Option<Uuid>, Error> {
    const SQL: &str = "select user_id::text from auth.webauthn_credentials where credential_id = decode($1, 'base64')";
    let rows = tx.query(SQL, [BASE64_STANDARD.encode(credential_id).into()]).await?;
    Ok(rows.first().and_then(|row| uuid_column(row, 0)))
}

/// Locks the passkey of a locked user.
pub(crate) async fn passkey_lock_in_tx(
    tx: &mut Tx,
    credential_id: &[u8],
    user_id: Uuid,
) -> Result<Option<Passkey>, Error> {
    const SQL: &str = concat!(
        "select ",
        passkey_columns!(),
        " from auth.webauthn_credentials p
        where p.credential_id = decode($1, 'base64') and p.user_id = $2::uuid for update"
    );
    first_json(&tx.query(SQL, [BASE64_STANDARD.encode(credential_id).into(), user_id.into()]).await?)
}

/// Somebody signed in with it; `after` is the credential as the authenticator has it now.
pub(crate) async fn passkey_used_in_tx(tx: &mut Tx, id: Uuid, after: &Credential, now: Timestamp) -> Result<(), Error> {
    const SQL: &str = "update auth.webauthn_credentials
        set sign_count = $2::bigint, backed_up = $3::bool, last_used_at = $4::timestamptz, updated_at = $4::timestamptz
        where id = $1::uuid";
    let count = i64::from(after.sign_count());
    tx.query(SQL, [id.into(), count.into(), after.is_backed_up().into(), now.into()]).await.map(drop)
}

pub(crate) async fn passkey_rename_in_tx(
    tx: &mut Tx,
    id: Uuid,
    user_id: Uuid,
    name: &str,
    now: Timestamp,
) -> Result<Option<Passkey>, Error> {
    const SQL: &str = concat!(
        "update auth.webauthn_credentials p set friendly_name = $3, updated_at = $4::timestamptz
        where p.id = $1::uuid and p.user_id = $2::uuid returning ",
        passkey_columns!()
    );
    first_json(&tx.query(SQL, [id.into(), user_id.into(), name.into(), now.into()]).await?)
}

/// Removes a passkey of a user; false when there is none.
pub(crate) async fn passkey_delete_in_tx(tx: &mut Tx, id: Uuid, user_id: Uuid) -> Result<bool, Error> {
    const SQL: &str = "delete from auth.webauthn_credentials where id = $1::uuid and user_id = $2::uuid returning id";
    Ok(!tx.query(SQL, [id.into(), user_id.into()]).await?.is_empty())
}

/// Removes every passkey of a user.
pub(crate) async fn passkey_delete_all_in_tx(tx: &mut Tx, user_id: Uuid) -> Result<(), Error> {
    const SQL: &str = "delete from auth.webauthn_credentials where user_id = $1::uuid";
    tx.query(SQL, [user_id.into()]).await.map(drop)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CeremonyKind {
    Registration,
    Authentication,
}

impl CeremonyKind {
    fn name(self) -> &'static str {
        match self {
            Self::Registration => "registration",
            Self::Authentication => "authentication",
        }
    }
}

/// A ceremony that begins.
pub(crate) struct NewCeremony<'a> {
    pub(crate) id: Uuid,
    /// Whose it is; nobody knows yet at a sign-in.
    pub(crate) user_id: Option<Uuid>,
    pub(crate) kind: CeremonyKind,
    pub(crate) kept: &'a Value,
    pub(crate) expires_at: Timestamp,
}

/// Inserts a ceremony; some that have expired are removed on the way.
pub(crate) async fn ceremony_insert_in_tx(tx: &mut Tx, new: &NewCeremony<'_>, now: Timestamp) -> Result<(), Error> {
    const SQL: &str = "with old as (
            delete from auth.webauthn_challenges where id in (
                select id from auth.webauthn_challenges where expires_at < $5::timestamptz
                limit 100 for update skip locked)
        )
        insert into auth.webauthn_challenges (id, user_id, challenge_type, session_data, created_at, expires_at)
        values ($1::uuid, $2::uuid, $3, $4::jsonb, $5::timestamptz, $6::timestamptz)";
    let params =
        [new.id.into(), new.user_id.into(), new.kind.name().into(), new.kept.into(), now.into(), new.expires_at.into()];
    tx.query(SQL, params).await.map(drop)
}

/// Takes a ceremony: what was kept of it, and when it expires. Whoever comes second finds nothing.
pub(crate) async fn ceremony_take_in_tx(
    tx: &mut Tx,
    id: Uuid,
    kind: CeremonyKind,
    user_id: Option<Uuid>,
) -> Result<Option<(Value, Timestamp)>, Error> {
    #[derive(Deserialize)]
    struct Row {
        session_data: Value,
        expires_at: Timestamp,
    }
    const SQL: &str = "delete from auth.webauthn_challenges c
        where id = $1::uuid and challenge_type = $2 and user_id is not distinct from $3::uuid returning to_jsonb(c)::text";
    let row: Option<Row> = first_json(&tx.query(SQL, [id.into(), kind.name().into(), user_id.into()]).await?)?;
    Ok(row.map(|row| (row.session_data, row.expires_at)))
}
