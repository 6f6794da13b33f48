//! Rows and files compared: what a crash can leave, and what it cannot.
//!
//! A file without a row is what an upload leaves that a crash ended between the file's place and the row's commit; it is
//! removed once it is old enough that no transaction can still mean it. A row without a file is damage: nothing but
//! outside force makes one, and it is reported. One kind is mended: where SQL renamed a row, its file is found by the
//! version and gets its new place.
//!
//! When a project's database was put back to an earlier day, what was uploaded since has no row. It stays for a week, in case
//! that was a mistake.

use std::collections::{HashMap, HashSet};

use base::Project;
use http_body_util::BodyExt as _;

use crate::Storage;
use crate::backend::{BackendError, ContentHash, Found, Hasher, Location, blocking};
use crate::database::Database;
use crate::error::Error;
use crate::key::{BucketId, ObjectKey, Version};
use crate::s3;
use crate::store;
use crate::store::removal::{self, Recorded};
use crate::tus;

/// Rows of one page.
const PAGE: u64 = 500;
/// Entries of a report that are named.
const MOST_NAMED: usize = 1_000;
/// Faults after which a comparison ends: rows are the project owner's, and there can be any number of them.
const MOST_FAULTS: u64 = 100_000;
/// Seconds for which files without a row stay that were there when the database was put back.
const KEPT: i64 = 7 * 24 * 3600;

/// How thorough a comparison is.
#[derive(Clone, Copy, Debug)]
pub struct Scope {
    /// Read every content and compare its checksum.
    pub checksums: bool,
    /// Remove what is not needed and mend what can be.
    pub repair: bool,
    /// Seconds for which a file without a row is left alone: a transaction may still be about to mean it.
    pub grace: i64,
    /// Seconds for which files of uploads on their way are left alone.
    pub uploads_grace: i64,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// `bucket/key`, and the version.
    pub object: String,
    pub what: &'static str,
}

/// What a comparison found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub objects: u64,
    pub files: u64,
    /// Bytes of the contents whose checksum was compared.
    pub bytes_read: u64,
    /// Files that no row means.
    pub orphans: u64,
    /// Of those, how many were removed or given back to their row.
    pub repaired: u64,
    /// Files that no row means any more since the database was put back; they go a week after that.
    pub kept: u64,
    /// Uploads that were never finished and have been removed.
    pub expired_uploads: u64,
    /// Damage: rows whose content is missing or another one. Named up to some number.
    pub faults: Vec<Fault>,
    pub more_faults: u64,
}

impl Report {
    /// Whether every object has its content.
    pub fn is_clean(&self) -> bool {
        self.faults.is_empty() && self.orphans == self.repaired
    }

    fn count_faults(&self) -> u64 {
        self.faults.len() as u64 + self.more_faults
    }

    fn fault(&mut self, location: &str, what: &'static str) {
        if self.faults.len() < MOST_NAMED {
            self.faults.push(Fault { object: location.to_owned(), what });
        } else {
            self.more_faults += 1;
        }
    }
}

impl Storage {
    /// Compares the rows and files of one project.
    pub async fn reconcile(&self, project: &Project, scope: Scope) -> Result<Report, Error> {
        let database = Database::new(self.shared.config.pools.of(project));
        let mut report = Report::default();
        let now = self.shared.config.clock.unix_seconds();
        if scope.repair {
            self.shared.sweep_all(&project.project_ref, &database).await?;
            report.expired_uploads = tus::remove_expired(&self.shared, &project.project_ref, now).await? as u64;
            self.remove_stale_uploads(project, now - scope.uploads_grace).await?;
            let project_ref = &project.project_ref;
            let before = now - scope.uploads_grace;
            report.expired_uploads += s3::remove_stale(&self.shared, project_ref, &database, before).await?;
        }
        let mut orphans = self.find_orphans(project, &database, now - scope.grace, &mut report).await?;
        self.check_rows(project, &database, scope, &mut orphans, &mut report).await?;
        let (staging, id) = (self.shared.config.staging.clone(), project.project_ref.clone());
        let restored = blocking(move || Ok(staging.restored_at(&id))).await?;
        let restored = restored.filter(|at| now - at < KEPT);
        for orphan in orphans.into_values() {
            if restored.is_some_and(|at| orphan.modified <= at) {
                report.kept += 1;
                report.orphans -= 1;
            } else if scope.repair {
                self.shared.backend.remove(&orphan.location).await?;
                report.repaired += 1;
            }
        }
        Ok(report)
    }

    /// Contents whose receiving ended with the process.
    async fn remove_stale_uploads(&self, project: &Project, before: i64) -> Result<(), Error> {
        use std::os::unix::fs::MetadataExt as _;
        let folder = self.shared.config.staging.folder(&project.project_ref);
        let removed = blocking(move || {
            let Ok(entries) = std::fs::read_dir(&folder) else { return Ok(()) };
            for entry in entries {
                let entry = entry?;
                if entry.metadata().is_ok_and(|metadata| metadata.ctime() <= before) {
                    let _ = std::fs::remove_file(entry.path());
                }
            }
            Ok(())
        });
        Ok(removed.await?)
    }

    /// Files without a row, by version.
    async fn find_orphans(
        &self,
        project: &Project,
        database: &Database,
        before: i64,
        report: &mut Report,
    ) -> Result<HashMap<Version, Found>, Error> {
        let mut orphans = HashMap::new();
        let mut from = None;
        loop {
            let page = self.shared.backend.list(&project.project_ref, from).await?;
            report.files += page.found.len() as u64;
            // What has its place and no row yet will have one. Asked before the rows are.
            let pending = self.shared.pending.now();
            let old: Vec<&Found> = page
                .found
                .iter()
                .filter(|found| found.modified <= before && !pending.contains(&found.location.version))
                .collect();
            let files: Vec<(&str, &str, &str)> = old
                .iter()
                .map(|found| {
                    let at = &found.location;
                    (at.bucket.as_str(), at.key.as_str(), at.version.as_str())
                })
                .collect();
            if !files.is_empty() {
                let rows = database.look_up(removal::recorded_versions(&files)).await?;
                let recorded: HashSet<String> = match rows.rows.first() {
                    Some(row) => store::json(row, 0)?.unwrap_or_default(),
                    None => HashSet::new(),
                };
                for found in old {
                    if !recorded.contains(found.location.version.as_str()) {
                        report.orphans += 1;
                        orphans.insert(found.location.version.clone(), found.clone());
                    }
                }
            }
            match page.next {
                Some(next) => from = Some(next),
                None => return Ok(orphans),
            }
        }
    }

    /// Rows without their content.
    async fn check_rows(
        &self,
        project: &Project,
        database: &Database,
        scope: Scope,
        orphans: &mut HashMap<Version, Found>,
        report: &mut Report,
    ) -> Result<(), Error> {
        let (mut bucket, mut name) = (String::new(), String::new());
        loop {
            let rows = database.look_up(removal::recorded_page(&bucket, &name, PAGE)).await?;
            let page: Vec<Recorded> = match rows.rows.first() {
                Some(row) => store::json(row, 0)?.unwrap_or_default(),
                None => Vec::new(),
            };
            let Some(last) = page.last() else { return Ok(()) };
            (bucket, name) = (last.bucket_id.clone(), last.name.clone());
            for recorded in &page {
                report.objects += 1;
                self.check_row(project, recorded, scope, orphans, report).await?;
            }
            if report.count_faults() >= MOST_FAULTS {
                report.fault("", "there are so many faults that the comparison ended here");
                return Ok(());
            }
            if (page.len() as u64) < PAGE {
                return Ok(());
            }
        }
    }

    async fn check_row(
        &self,
        project: &Project,
        recorded: &Recorded,
        scope: Scope,
        orphans: &mut HashMap<Version, Found>,
        report: &mut Report,
    ) -> Result<(), Error> {
        let object = format!("{}/{}", recorded.bucket_id, recorded.name);
        let parts = (
            BucketId::parse(&recorded.bucket_id),
            ObjectKey::parse(&recorded.name),
            recorded.version.as_deref().and_then(Version::parse),
        );
        let (Some(bucket), Some(key), Some(version)) = parts else {
            report.fault(&object, "its name or version can have no file");
            return Ok(());
        };
        let location = Location { project: project.project_ref.clone(), bucket, key, version };
        let backend = &self.shared.backend;
        let size = match backend.size(&location).await {
            Ok(size) => size,
            Err(BackendError::Missing) => {
                let Some(moved) = orphans.remove(&location.version) else {
                    report.fault(&object, "its file is missing");
                    return Ok(());
                };
                if !scope.repair {
                    report.fault(&object, "its file is at another place");
                    return Ok(());
                }
                backend.copy(&moved.location, &location).await?;
                backend.remove(&moved.location).await?;
                report.repaired += 1;
                moved.size
            }
            Err(error) => return Err(error.into()),
        };
        if recorded.size.is_some_and(|recorded| recorded != size) {
            report.fault(&object, "its file has another size");
        } else if scope.checksums
            && let Some(hash) = ContentHash::of_row(recorded.blake3.as_deref(), recorded.etag.as_deref())
        {
            report.bytes_read += size;
            if !self.has_hash(&location, size, hash).await? {
                report.fault(&object, "its file has another checksum");
            }
        }
        Ok(())
    }

    /// Whether a content still is what its row says.
    async fn has_hash(&self, location: &Location, size: u64, expected: ContentHash) -> Result<bool, Error> {
        let mut hasher = Hasher::new(expected.algorithm());
        if size > 0 {
            let mut body = self.shared.backend.open(location, 0..size).await?;
            while let Some(frame) = body.frame().await {
                let Ok(frame) = frame else { return Ok(false) };
                if let Ok(data) = frame.into_data() {
                    // The runtime's own threads are for requests.
                    hasher = blocking(move || {
                        hasher.update(&data);
                        Ok(hasher)
                    })
                    .await?;
                }
            }
        }
        Ok(hasher.finish() == expected)
    }
}
