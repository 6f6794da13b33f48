//! Restoring the platform's own database: owners, projects with their secrets and settings, the audit log.

use std::path::Path;

use super::error::BackupError;
use super::load::RoleNames;
use super::{Backups, Progress};
use crate::provision::restored::restore_detail;

/// What was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoredPlatform {
    pub tables: usize,
    pub rows: u64,
    /// Unix seconds of the backup.
    pub taken_at: i64,
    /// Projects of the backup whose databases are not on this server: each is to be restored from its own file.
    pub without_database: Vec<String>,
    /// Projects that this server had and the backup does not know; their databases are still there.
    pub unknown: Vec<String>,
}

impl Backups {
    /// Restores the platform's database beside the present one and puts it in its place in one transaction. Every
    /// session of the control plane ends and begins anew. Projects that are here and not in the backup would be known to
    /// nobody any more; that is refused unless `forget_unknown`, and their databases stay in any case.
    ///
    /// # Errors
    /// Whatever fails leaves everything as it was.
    pub async fn restore_platform(
        &self,
        file: &Path,
        forget_unknown: bool,
        progress: &Progress,
    ) -> Result<RestoredPlatform, BackupError> {
        let header = self.read_header(file).await?;
        if header.project.is_some() {
            let (found, wanted) = (header.database, "the platform".to_owned());
            return Err(BackupError::WrongTarget { file: file.to_owned(), found, wanted });
        }
        let provisioner = &self.0.provisioner;
        let ours = provisioner.config().database.user.clone();
        let theirs = header.platform_role.unwrap_or_else(|| ours.clone());
        let roles = RoleNames(if theirs == ours { Vec::new() } else { vec![(theirs, ours)] });
        let scratch = provisioner.platform_scratch().await?;
        let loading = async {
            let client = provisioner.platform_scratch_session(&scratch).await?;
            let end = self.load_file(file, &client, &roles, &[], progress).await?;
            drop(client);
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            let detail = restore_detail(&name, header.taken_at);
            let found = provisioner.platform_scratch_complete(&scratch, detail, forget_unknown).await?;
            Ok::<_, BackupError>((end, found))
        };
        let loaded = self.0.shutdown.run_until_cancelled(loading).await;
        let (end, found) = match loaded.unwrap_or(Err(BackupError::Cancelled)) {
            Ok(loaded) => loaded,
            Err(error) => {
                provisioner.platform_scratch_discard(scratch).await;
                return Err(error);
            }
        };
        provisioner.platform_scratch_install(scratch).await?;
        let rows = end.tables.iter().map(|table| table.rows).sum();
        Ok(RestoredPlatform {
            tables: end.tables.len(),
            rows,
            taken_at: header.taken_at,
            without_database: found.without_database,
            unknown: found.unknown,
        })
    }
}
