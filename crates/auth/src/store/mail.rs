//! The queue of mails (`_launchdb.mail_queue`): written with what it is about, sent by a worker.

use serde_json::Value;
use uuid::Uuid;

use super::Tx;
use crate::error::Error;
use crate::timestamp::Timestamp;

/// A mail that waits.
pub(crate) struct NewMail<'a> {
    pub(crate) user_id: Option<Uuid>,
    /// The template.
    pub(crate) kind: &'a str,
    pub(crate) recipient: &'a str,
    pub(crate) data: &'a Value,
}

pub(crate) async fn mail_insert_in_tx(tx: &mut Tx, new: &NewMail<'_>, now: Timestamp) -> Result<(), Error> {
    const SQL: &str = "insert into _launchdb.mail_queue (user_id, kind, recipient, data, created_at, next_attempt_at)
        values ($1::uuid, $2, $3, $4::jsonb, $5::timestamptz, $5::timestamptz)";
    tx.query(SQL, [new.user_id.into(), new.kind.into(), new.recipient.into(), new.data.into(), now.into()])
        .await
        .map(drop)
}

/// What is written in place of a mail to an address that nobody has: a row that is done already. It costs what a mail
/// costs, so that the time of an answer does not tell who has an account; the worker removes it with what was sent.
pub(crate) async fn mail_decoy_in_tx(tx: &mut Tx, kind: &str, now: Timestamp) -> Result<(), Error> {
    const SQL: &str = "insert into _launchdb.mail_queue (kind, recipient, data, created_at, next_attempt_at, sent_at)
        values ($1, '', '{}', $2::timestamptz, $2::timestamptz, $2::timestamptz)";
    tx.query(SQL, [kind.into(), now.into()]).await.map(drop)
}
