//! Logins whose clients say nothing: databases can be neither made nor dropped meanwhile.
//!
//! PostgreSQL ends them after `authentication_timeout`. Whoever opens one after the other would keep every project from
//! being made, so that here they have two looks of the watchdog while somebody waits for them.

use std::collections::HashSet;

use tokio_postgres::{Client, Error};

use super::store;

#[derive(Debug, Default)]
pub(super) struct HalfOpenLogins {
    /// Processes that were in the way at the last look.
    seen: HashSet<i32>,
}

impl HalfOpenLogins {
    /// Ends those that were in the way at the last look already.
    pub(super) async fn end(&mut self, client: &Client) -> Result<(), Error> {
        let found: HashSet<i32> = store::half_open_logins(client).await?.into_iter().collect();
        let before = std::mem::replace(&mut self.seen, found);
        for pid in before.intersection(&self.seen) {
            store::login_end(client, *pid).await?;
            tracing::warn!(pid, "a login was ended that kept databases from being made or dropped");
        }
        Ok(())
    }
}
