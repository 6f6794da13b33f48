//! Owners and their sessions.

use base::OwnerId;
use tokio_postgres::{Error, GenericClient, Row};

use crate::timestamp::Timestamp;

/// Label of the sessions that a server makes for the command line on its own machine.
pub(crate) const CLI_LABEL: &str = "cli";

/// The constraint that keeps addresses unique.
pub(crate) const EMAIL_KEY: &str = "owners_email_key";

pub(crate) struct NewOwner<'a> {
    /// In lower case.
    pub(crate) email: &'a str,
    /// A PHC string.
    pub(crate) password_hash: &'a str,
    pub(crate) is_admin: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Owner {
    pub(crate) id: OwnerId,
    pub(crate) email: String,
    pub(crate) is_admin: bool,
    pub(crate) created_at: Timestamp,
    pub(crate) last_sign_in_at: Option<Timestamp>,
}

impl Owner {
    /// Reads the columns `id, email, is_admin, created_at, last_sign_in_at` at the front of a row.
    fn read(row: &Row) -> Self {
        Self {
            id: OwnerId(row.get(0)),
            email: row.get(1),
            is_admin: row.get(2),
            created_at: row.get(3),
            last_sign_in_at: row.get(4),
        }
    }
}

pub(crate) struct NewSession<'a> {
    pub(crate) owner_id: &'a OwnerId,
    /// SHA-256 of the token.
    pub(crate) token_hash: &'a [u8],
    pub(crate) label: &'a str,
    /// Unix seconds.
    pub(crate) created_at: i64,
    pub(crate) expires_at: i64,
}

/// Whom a token belongs to.
pub(crate) struct Session {
    pub(crate) id: String,
    pub(crate) last_used_at: Option<Timestamp>,
    pub(crate) owner: Owner,
}

pub(crate) async fn owner_insert(db: &impl GenericClient, new: &NewOwner<'_>) -> Result<Owner, Error> {
    const SQL: &str = "insert into platform.owners (email, password_hash, is_admin) values ($1, $2, $3)
        returning id::text, email, is_admin, created_at, last_sign_in_at";
    db.query_one(SQL, &[&new.email, &new.password_hash, &new.is_admin]).await.map(|row| Owner::read(&row))
}

/// Keeps others from adding owners until the transaction ends, and says whether there are none.
pub(crate) async fn owner_none_in_tx(db: &impl GenericClient) -> Result<bool, Error> {
    db.batch_execute("lock table platform.owners in share row exclusive mode").await?;
    db.query_one("select not exists (select from platform.owners)", &[]).await.map(|row| row.get(0))
}

/// The owner with this address (in lower case), and the password's hash.
pub(crate) async fn owner_by_email(db: &impl GenericClient, email: &str) -> Result<Option<(Owner, String)>, Error> {
    const SQL: &str = "select id::text, email, is_admin, created_at, last_sign_in_at, password_hash
        from platform.owners where email = $1";
    Ok(db.query_opt(SQL, &[&email]).await?.map(|row| (Owner::read(&row), row.get(5))))
}

/// The owner made first among the administrators: whom the command line acts for.
pub(crate) async fn owner_first(db: &impl GenericClient) -> Result<Option<Owner>, Error> {
    const SQL: &str = "select id::text, email, is_admin, created_at, last_sign_in_at
        from platform.owners where is_admin order by created_at, id limit 1";
    Ok(db.query_opt(SQL, &[]).await?.map(|row| Owner::read(&row)))
}

pub(crate) async fn owner_password_put(db: &impl GenericClient, id: &OwnerId, hash: &str) -> Result<(), Error> {
    const SQL: &str = "update platform.owners set password_hash = $2 where id = $1::text::uuid";
    db.execute(SQL, &[&id.0, &hash]).await.map(drop)
}

#[expect(clippy::cast_precision_loss, reason = "seconds fit a double exactly for millions of years")]
pub(crate) async fn owner_signed_in(db: &impl GenericClient, id: &OwnerId, at: i64) -> Result<(), Error> {
    const SQL: &str = "update platform.owners set last_sign_in_at = to_timestamp($2) where id = $1::text::uuid";
    db.execute(SQL, &[&id.0, &(at as f64)]).await.map(drop)
}

/// Also removes the owner's sessions that have expired.
#[expect(clippy::cast_precision_loss, reason = "seconds fit a double exactly for millions of years")]
pub(crate) async fn session_insert(db: &impl GenericClient, new: &NewSession<'_>) -> Result<(), Error> {
    const SQL: &str = "with expired as (
            delete from platform.owner_sessions where owner_id = $1::text::uuid and expires_at < to_timestamp($4)
        )
        insert into platform.owner_sessions (owner_id, token_hash, label, created_at, expires_at)
        values ($1::text::uuid, $2, $3, to_timestamp($4), to_timestamp($5))";
    let (created, expires) = (new.created_at as f64, new.expires_at as f64);
    db.execute(SQL, &[&new.owner_id.0, &new.token_hash, &new.label, &created, &expires]).await.map(drop)
}

/// The session of a token that has not expired at `now` (Unix seconds).
#[expect(clippy::cast_precision_loss, reason = "seconds fit a double exactly for millions of years")]
pub(crate) async fn session_by_token(
    db: &impl GenericClient,
    token_hash: &[u8],
    now: i64,
) -> Result<Option<Session>, Error> {
    const SQL: &str =
        "select o.id::text, o.email, o.is_admin, o.created_at, o.last_sign_in_at, s.id::text, s.last_used_at
        from platform.owner_sessions s join platform.owners o on o.id = s.owner_id
        where s.token_hash = $1 and s.expires_at > to_timestamp($2)";
    let row = db.query_opt(SQL, &[&token_hash, &(now as f64)]).await?;
    Ok(row.map(|row| Session { owner: Owner::read(&row), id: row.get(5), last_used_at: row.get(6) }))
}

#[expect(clippy::cast_precision_loss, reason = "seconds fit a double exactly for millions of years")]
pub(crate) async fn session_used(db: &impl GenericClient, id: &str, now: i64) -> Result<(), Error> {
    const SQL: &str = "update platform.owner_sessions set last_used_at = to_timestamp($2) where id = $1::text::uuid";
    db.execute(SQL, &[&id, &(now as f64)]).await.map(drop)
}

/// Ends every session of an owner but `kept` and those of the command line on the server's machine.
pub(crate) async fn sessions_delete_others(db: &impl GenericClient, id: &OwnerId, kept: &str) -> Result<(), Error> {
    const SQL: &str = "delete from platform.owner_sessions
        where owner_id = $1::text::uuid and id <> $2::text::uuid and label <> $3";
    db.execute(SQL, &[&id.0, &kept, &CLI_LABEL]).await.map(drop)
}

pub(crate) async fn session_delete(db: &impl GenericClient, id: &str) -> Result<(), Error> {
    db.execute("delete from platform.owner_sessions where id = $1::text::uuid", &[&id]).await.map(drop)
}
