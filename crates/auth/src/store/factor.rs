//! Second factors, as the admin API sees them.

use uuid::Uuid;

use super::Tx;
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
