//! Whether a backup can be restored: it is, into a database of its own, and every table is compared with the file.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use memchr::memchr_iter;
use tokio::time::timeout_at;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::error::BackupError;
use super::manifest::{End, RowsHasher, TableTally};
use super::restore::{plain, project_of};
use super::{Backups, Progress, joined, read, store};
use crate::provision::restored::Purpose;

/// What was found right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    pub database: String,
    pub tables: usize,
    pub rows: u64,
    /// Whether it was restored, too. Without its project there is nobody to restore it as; then the file alone was read.
    pub restored: bool,
}

impl Backups {
    /// Reads a backup to its end and restores it into a scratch database, which is dropped again.
    ///
    /// # Errors
    /// Whatever keeps it from being restored, and [`BackupError::Differs`] when a table came out different.
    pub async fn verify(&self, file: &Path, progress: &Progress) -> Result<Verified, BackupError> {
        let _alone = self.0.verifying.lock().await;
        let header = self.read_header(file).await?;
        let project = match &header.project {
            Some(part) => Some((project_of(file, &header)?, part)),
            None => None,
        };
        let is_there = match &project {
            Some((id, _)) => store::project_facts(&self.session().await?, id).await?.is_some(),
            None => false,
        };
        let end = match project.filter(|_| is_there) {
            Some((id, part)) => {
                self.check_baseline(file, part)?;
                let secrets = plain(part);
                let deadline = self.load_deadline(file, Purpose::Verify)?;
                let loading = self.load_scratch(file, &id, part, Purpose::Verify, &secrets, progress, deadline);
                let (mut scratch, end) = loading.await?;
                let comparing = async {
                    let client = self.0.provisioner.scratch_session(&mut scratch).await?;
                    compare(&client, &end).await
                };
                let compared = self.0.shutdown.run_until_cancelled(timeout_at(deadline, comparing)).await;
                let compared = compared
                    .ok_or(BackupError::Cancelled)
                    .and_then(|compared| compared.unwrap_or(Err(BackupError::TookTooLong)));
                self.0.provisioner.scratch_discard(scratch).await;
                compared?;
                end
            }
            None => {
                let (file, opener, progress) = (file.to_owned(), self.opener()?, Arc::clone(progress));
                joined(tokio::task::spawn_blocking(move || read::whole(&file, &opener, None, &progress)).await)?
            }
        };
        let folder = self.folder();
        folder.mark_verified(file, self.now()).map_err(|error| BackupError::writing(folder.path(), error))?;
        let rows = end.tables.iter().map(|table| table.rows).sum();
        Ok(Verified { database: header.database, tables: end.tables.len(), rows, restored: is_there })
    }
}

/// Counts what guards the data, reads every table as it was loaded, in the form of the dump, and compares.
async fn compare(client: &Client, end: &End) -> Result<(), BackupError> {
    let found = store::objects(client).await?;
    if found != end.objects {
        return Err(BackupError::Differs(format!("there are {found}; the backup has {}", end.objects)));
    }
    store::copy_settings(client).await?;
    for expected in &end.tables {
        let found = match tally(client, expected).await {
            // A table of the login role itself, which the role that sessions begin with is no member of.
            Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
                client.batch_execute(store::LOGIN_ROLE).await?;
                let found = tally(client, expected).await?;
                client.batch_execute(store::RESET_ROLE).await?;
                found
            }
            found => found?,
        };
        if found != *expected {
            let (columns, rows, count) = (&expected.columns, expected.rows, found.rows);
            let what = if count == rows { "with another content".to_owned() } else { format!("with {rows} rows") };
            return Err(BackupError::Differs(format!("{columns} has {count} rows, the backup has it {what}")));
        }
    }
    Ok(())
}

async fn tally(client: &Client, expected: &TableTally) -> Result<TableTally, tokio_postgres::Error> {
    let rows = client.copy_out(store::copy_out(&expected.columns).as_str()).await?;
    let mut rows = std::pin::pin!(rows);
    let (mut count, mut hash) = (0, RowsHasher::like(&expected.hash));
    while let Some(data) = rows.next().await {
        let data: Bytes = data?;
        count += memchr_iter(b'\n', &data).count() as u64;
        hash.update(&data);
    }
    Ok(TableTally { columns: expected.columns.clone(), rows: count, hash: hash.finish() })
}
