//! Restoring a project from a file.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base::api_key::{self, ApiKeyKind};
use base::sealed::{SealContext, Sealed};
use base::{OwnerId, ProjectRef, Secret};
use tokio::time::{Instant, timeout_at};
use tokio_postgres::Client;

use super::error::BackupError;
use super::hand_over::hand_over;
use super::load::{self, RoleNames};
use super::manifest::{End, Header, KeptKey, KeptS3Key, ProjectPart};
use super::{Backups, Progress, joined, read, store};
use crate::api_keys::shown_prefix;
use crate::provision::restored::{Belongings, Purpose, Scratch, restore_detail};
use crate::secrets::{self, kind};
use crate::store::owner::{owner_by_email, owner_first};
use crate::store::settings::settings_put;

/// How much longer a restore may take than a verification: somebody waits for it, and nobody but the project does besides.
const RESTORE: u32 = 12;
/// Bytes of a file, which is compressed, that are loaded in a second at the least.
const BYTES_A_SECOND: u64 = 200_000;

/// What a backup is restored to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreTarget {
    /// The project that the file has to be of.
    pub project: String,
    /// A new id, under which a copy is made with keys and passwords of its own. Without it the project itself is put
    /// back, with the keys of the day of the backup.
    pub into: Option<ProjectRef>,
    /// Leave a project that is there the keys, secrets, settings and domains that it has now.
    pub keep_keys: bool,
}

/// What was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    pub project: ProjectRef,
    pub tables: usize,
    pub rows: u64,
    /// Unix seconds of the backup.
    pub taken_at: i64,
}

/// What of the header is put into the platform's database.
struct Kept {
    secrets: BTreeMap<String, Secret<String>>,
    api_keys: Vec<KeptKey>,
    /// Name, access key id and secret; none where the backup does not tell, and the present ones stay.
    s3_keys: Option<Vec<(String, String, Sealed)>>,
}

impl Backups {
    /// Restores a project. Until the last moment nothing of a project that is there changes; then its database is
    /// replaced in one transaction, and its clients connect again.
    ///
    /// # Errors
    /// Whatever fails leaves everything as it was.
    pub async fn restore(
        &self,
        file: &Path,
        target: &RestoreTarget,
        progress: &Progress,
    ) -> Result<Restored, BackupError> {
        let header = self.read_header(file).await?;
        if header.database != target.project {
            let (found, wanted) = (header.database, target.project.clone());
            return Err(BackupError::WrongTarget { file: file.to_owned(), found, wanted });
        }
        let Some(part) = &header.project else {
            return Err(BackupError::Refused(format!(
                "{} is of the platform's own database, which is restored whole: launchdb restore FILE platform",
                file.display()
            )));
        };
        let id = match &target.into {
            Some(id) => id.clone(),
            None => project_of(file, &header)?,
        };
        self.check_baseline(file, part)?;
        let session = self.session().await?;
        let present = store::owner_of(&session, &id).await?;
        if present.is_some() && target.into.is_some() {
            return Err(BackupError::Refused(format!("there is a project {id} already: choose another id")));
        }
        let (owner, name) = match &present {
            Some(present) => present.clone(),
            None => self.owner_for(&session, &id, part).await?,
        };
        let keeps = present.is_some() && target.keep_keys;
        let brought_back = match present.is_some() && !keeps {
            true => store::keys_missing(&session, &id, &part.api_keys).await?,
            false => 0,
        };
        drop(session);
        let kept = match &target.into {
            Some(id) => self.fresh(id, part),
            None => Kept {
                secrets: plain(part),
                api_keys: part.api_keys.clone(),
                s3_keys: part.s3_keys.as_ref().map(|keys| keys.iter().map(|key| self.sealed(&id, key)).collect()),
            },
        };
        let deadline = self.load_deadline(file, Purpose::Restore)?;
        let loading = self.load_scratch(file, &id, part, Purpose::Restore, &kept.secrets, progress, deadline);
        let (scratch, end) = loading.await?;
        let file_name = file.file_name().unwrap_or_default().to_string_lossy();
        let nothing = BTreeMap::new();
        let belongings = Belongings {
            owner: &owner,
            name: &name,
            secrets: if keeps { &nothing } else { &kept.secrets },
            detail: restore_detail(&file_name, header.taken_at),
        };
        let domains = if target.into.is_some() { &[][..] } else { &part.domains };
        let more = async |tx: &tokio_postgres::Transaction<'_>| {
            if keeps {
                return Ok(());
            }
            store::keys_replace_in_tx(tx, &id, &kept.api_keys).await?;
            if let Some(keys) = &kept.s3_keys {
                store::s3_keys_replace_in_tx(tx, &id, keys).await?;
            }
            store::settings_delete_in_tx(tx, &id).await?;
            for (section, settings) in &part.settings {
                settings_put(tx, &id, section, settings).await?;
            }
            store::domains_put_in_tx(tx, &id, domains).await
        };
        self.0.provisioner.scratch_install(scratch, &belongings, more).await?;
        if brought_back > 0 {
            tracing::warn!(
                project.ref = %id, keys = brought_back,
                "API keys that were revoked or replaced since the backup are valid again: revoke them anew"
            );
        }
        let rows = end.tables.iter().map(|table| table.rows).sum();
        Ok(Restored { project: id, tables: end.tables.len(), rows, taken_at: header.taken_at })
    }

    pub(super) async fn read_header(&self, file: &Path) -> Result<Header, BackupError> {
        let (file, opener) = (file.to_owned(), self.opener()?);
        joined(tokio::task::spawn_blocking(move || read::header(&file, &opener)).await)
    }

    pub(super) fn check_baseline(&self, file: &Path, part: &ProjectPart) -> Result<(), BackupError> {
        let ours = self.0.provisioner.baseline_version();
        if part.baseline_version > ours {
            let what = format!("baseline {}, this one has {ours}", part.baseline_version);
            return Err(BackupError::Newer { file: file.to_owned(), what });
        }
        Ok(())
    }

    /// Until when a file may be loaded: what is in it runs as long as its owner likes.
    pub(super) fn load_deadline(&self, file: &Path, purpose: Purpose) -> Result<Instant, BackupError> {
        let unreadable = |source| BackupError::Unreadable { file: file.to_owned(), source };
        let bytes = std::fs::metadata(file).map_err(unreadable)?.len();
        let factor = if purpose == Purpose::Restore { RESTORE } else { 1 };
        Ok(Instant::now() + factor * (self.0.limits.load + Duration::from_secs(bytes / BYTES_A_SECOND)))
    }

    /// A fresh database with what is in the file; nothing of it is left when that fails.
    #[expect(clippy::too_many_arguments, reason = "what is loaded, as whom, and until when")]
    pub(super) async fn load_scratch(
        &self,
        file: &Path,
        id: &ProjectRef,
        part: &ProjectPart,
        purpose: Purpose,
        secrets: &BTreeMap<String, Secret<String>>,
        progress: &Progress,
        deadline: Instant,
    ) -> Result<(Scratch, End), BackupError> {
        let provisioner = &self.0.provisioner;
        let theirs = self.read_header(file).await?.database;
        let names = [
            (theirs.clone(), id.owner_role().to_owned()),
            (format!("{theirs}_authenticator"), id.authenticator_role()),
            (part.owner_role.clone(), provisioner.owner_role().await?.to_owned()),
        ];
        let roles = RoleNames(names.into_iter().filter(|(theirs, ours)| theirs != ours).collect());
        let making = provisioner.scratch(id, purpose, part.baseline_version, &part.extensions, secrets);
        let mut scratch = making.await?;
        let connected = provisioner.scratch_session(&mut scratch).await;
        let loading = async {
            let client = connected?;
            let end = self.load_file(file, &client, &roles, &part.extensions, progress).await?;
            provisioner.scratch_complete(&scratch).await?;
            Ok(end)
        };
        let alone = async {
            tokio::select! {
                loaded = loading => loaded,
                error = provisioner.scratch_keep_alone(&scratch) => Err(error.into()),
            }
        };
        let loaded = self.0.shutdown.run_until_cancelled(timeout_at(deadline, Box::pin(alone))).await;
        match loaded.ok_or(BackupError::Cancelled).and_then(|loaded| loaded.unwrap_or(Err(BackupError::TookTooLong))) {
            Ok(end) => Ok((scratch, end)),
            Err(error) => {
                provisioner.scratch_discard(scratch).await;
                Err(error)
            }
        }
    }

    pub(super) async fn load_file(
        &self,
        file: &Path,
        client: &Client,
        roles: &RoleNames,
        extensions: &[String],
        progress: &Progress,
    ) -> Result<End, BackupError> {
        let (giver, taker) = hand_over();
        let (file, opener, progress) = (file.to_owned(), self.opener()?, Arc::clone(progress));
        let reading = tokio::task::spawn_blocking(move || read::whole(&file, &opener, Some(giver), &progress));
        let loaded = load::load(client, taker, roles, extensions).await;
        let read = joined(reading.await);
        // A loader that failed stops the reading, so its reason comes first.
        loaded?;
        read
    }

    /// Whose a project is that is not there: the owner's of that address, or else the first one's.
    async fn owner_for(
        &self,
        session: &Client,
        id: &ProjectRef,
        part: &ProjectPart,
    ) -> Result<(OwnerId, String), BackupError> {
        let owner = match owner_by_email(session, &part.owner_email).await? {
            Some((owner, _)) => Some(owner),
            None => owner_first(session).await?,
        };
        let owner = owner.ok_or_else(|| {
            BackupError::Refused("there is no owner yet: start the server once before restoring".to_owned())
        })?;
        let taken = store::name_is_taken(session, &owner.id, &part.name).await?;
        let name = if taken { format!("{} ({id})", part.name) } else { part.name.clone() };
        Ok((owner.id, name))
    }

    /// An access key with its secret under our master key.
    fn sealed(&self, id: &ProjectRef, key: &KeptS3Key) -> (String, String, Sealed) {
        let kind = secrets::s3_kind(&key.access_key_id);
        let cx = SealContext { owner: id.as_str(), kind: &kind };
        let sealed = self.0.provisioner.config().master_key.seal(cx, key.secret.0.expose().as_bytes());
        (key.name.clone(), key.access_key_id.clone(), sealed)
    }

    /// The secrets of a copy: its own where they let somebody in, the original's where they are settings.
    fn fresh(&self, id: &ProjectRef, part: &ProjectPart) -> Kept {
        // Whoever has the original's access keys or signing keys has nothing here.
        let mut kept = Kept { secrets: plain(part), api_keys: Vec::new(), s3_keys: None };
        kept.secrets.remove(kind::SIGNING_KEYS);
        for (kind, secret) in secrets::fresh(id, self.now()) {
            let key_kind = match kind {
                kind::PUBLISHABLE_KEY => Some((ApiKeyKind::Publishable, "publishable", "default")),
                kind::SECRET_KEY => Some((ApiKeyKind::Secret, "secret", "default_secret")),
                _ => None,
            };
            if let Some((key_kind, kind, name)) = key_kind {
                kept.api_keys.push(KeptKey {
                    name: name.to_owned(),
                    kind: kind.to_owned(),
                    prefix: shown_prefix(secret.expose(), key_kind).to_owned(),
                    hash: base::random::to_hex(&api_key::hash(secret.expose())),
                });
            }
            kept.secrets.insert(kind.to_owned(), secret);
        }
        kept
    }
}

pub(super) fn plain(part: &ProjectPart) -> BTreeMap<String, Secret<String>> {
    part.secrets.iter().map(|(kind, secret)| (kind.clone(), secret.0.clone())).collect()
}

pub(super) fn project_of(file: &Path, header: &Header) -> Result<ProjectRef, BackupError> {
    ProjectRef::parse(&header.database).map_err(|error| BackupError::Damaged {
        file: file.to_owned(),
        what: format!("its header names no project: {error}"),
    })
}
