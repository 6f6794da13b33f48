//! Resumable uploads on the disk, which outlive the server: `%tus/<id>` has the bytes, `%tus/<id>.json` says what they are
//! and how many of them are safe. Blocking.
//!
//! Bytes are synced before the record counts them. What lies behind its offset was on the way when something broke; the
//! client sends it again.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::PathBuf;

use base::ProjectRef;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::backend::layout::RESUMABLE;
use crate::backend::{BackendError, Digest, StagedFile, Staging, create, digest_of_state};
use crate::content::ContentInfo;
use crate::error::Error;
use crate::key::{BucketId, ObjectKey, Version};
use crate::route::ObjectPath;
use crate::tus::header::Announced;

/// What is known of an upload.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    bucket: String,
    key: String,
    mime_type: String,
    cache_control: String,
    user_metadata: Option<Value>,
    /// `Upload-Metadata` as it came, which HEAD gives back.
    pub(crate) header: String,
    /// The `sub` of whom it belongs to.
    pub(crate) owner: Option<String>,
    pub(crate) upsert: bool,
    /// Made by the service role, which is bound by the project's limits alone.
    #[serde(default)]
    pub(crate) by_service: bool,
    /// Made with a signed URL.
    pub(crate) signed: bool,
    /// Bytes in all; none until the client knows.
    pub(crate) length: Option<u64>,
    /// Bytes that are safe.
    pub(crate) offset: u64,
    /// The digest's state there, in base64.
    digest: String,
    /// What its object's content will be called, so that an end that was interrupted is known again.
    #[serde(default)]
    version: Option<String>,
    /// Unix seconds.
    pub(crate) expires: i64,
    /// The object is there. Never on the disk: the record goes with the upload, see [`super::UploadLocks`].
    #[serde(skip)]
    pub(crate) finished: bool,
}

impl Record {
    pub(crate) fn new(announced: &Announced, header: &str, length: Option<u64>, upsert: bool) -> Self {
        Self {
            bucket: announced.at.bucket.as_str().to_owned(),
            key: announced.at.key.as_str().to_owned(),
            mime_type: announced.info.mime_type.clone(),
            cache_control: announced.info.cache_control.clone(),
            user_metadata: announced.user_metadata.clone(),
            header: header.to_owned(),
            owner: None,
            upsert,
            by_service: false,
            signed: false,
            length,
            offset: 0,
            digest: String::new(),
            version: Some(Version::generate().as_str().to_owned()),
            expires: 0,
            finished: false,
        }
    }

    pub(crate) fn at(&self) -> Result<ObjectPath, Error> {
        match (BucketId::parse(&self.bucket), ObjectKey::parse(&self.key)) {
            (Some(bucket), Some(key)) => Ok(ObjectPath { bucket, key }),
            _ => Err(Error::Internal("the record of an upload is damaged")),
        }
    }

    pub(crate) fn info(&self) -> ContentInfo {
        ContentInfo::new(&*self.mime_type, &*self.cache_control)
    }

    pub(crate) fn user_metadata(&self) -> Option<&Value> {
        self.user_metadata.as_ref()
    }

    /// A fresh one for records that have none.
    pub(crate) fn version(&self) -> Version {
        self.version.as_deref().and_then(Version::parse).unwrap_or_else(Version::generate)
    }

    /// The digest of what was counted.
    pub(crate) fn digest(&self) -> Option<Digest> {
        digest_of_state(&BASE64_STANDARD.decode(&self.digest).ok()?, self.offset)
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.length == Some(self.offset)
    }
}

/// The uploads of one project.
#[derive(Clone)]
pub(crate) struct Folder {
    path: PathBuf,
    staging: Staging,
}

impl Folder {
    pub(crate) fn new(staging: &Staging, project: &ProjectRef) -> Self {
        Self { path: staging.root().join(project.as_str()).join(RESUMABLE), staging: staging.clone() }
    }

    fn data(&self, id: &str) -> PathBuf {
        self.path.join(id)
    }

    fn record(&self, id: &str) -> PathBuf {
        self.path.join(format!("{id}.json"))
    }

    /// Ids of all uploads.
    pub(crate) fn ids(&self) -> Result<Vec<String>, BackendError> {
        let entries = match std::fs::read_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        Ok(names.filter_map(|name| name.strip_suffix(".json").filter(|id| is_id(id)).map(str::to_owned)).collect())
    }

    /// All uploads; what cannot be read is left out.
    pub(crate) fn records(&self) -> Result<Vec<(String, Record)>, BackendError> {
        let mut records = Vec::new();
        for id in self.ids()? {
            if let Some(record) = self.load(&id)? {
                records.push((id, record));
            }
        }
        Ok(records)
    }

    /// Bytes of an upload's file; 0 when it is gone.
    pub(crate) fn bytes(&self, id: &str) -> u64 {
        std::fs::symlink_metadata(self.data(id)).map_or(0, |found| found.len())
    }

    /// Removes files that belong to no record and did not change since `before` (Unix seconds): what a crash left. Gives
    /// their bytes.
    pub(crate) fn remove_strays(&self, before: i64) -> Result<u64, BackendError> {
        use std::os::unix::fs::MetadataExt as _;
        let mut bytes = 0;
        let entries = match std::fs::read_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name().into_string().unwrap_or_default();
            let id = name.strip_suffix(".new").unwrap_or(&name);
            let Ok(found) = entry.metadata() else { continue };
            if is_id(id)
                && !self.record(id).exists()
                && found.ctime() <= before
                && std::fs::remove_file(entry.path()).is_ok()
            {
                bytes += found.len();
            }
        }
        Ok(bytes)
    }

    /// Makes an upload.
    pub(crate) fn create(&self, id: &str, record: &Record) -> Result<(), BackendError> {
        create(&self.data(id))?;
        self.save(id, record)
    }

    /// None when there is no such upload.
    pub(crate) fn load(&self, id: &str) -> Result<Option<Record>, BackendError> {
        match std::fs::read(self.record(id)) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes the record so that a crash leaves the old one or the new one.
    pub(crate) fn save(&self, id: &str, record: &Record) -> Result<(), BackendError> {
        let fresh = self.path.join(format!("{id}.new"));
        let _ = std::fs::remove_file(&fresh);
        let mut file = create(&fresh)?;
        file.write_all(&serde_json::to_vec(record).map_err(io::Error::other)?)?;
        file.sync_data()?;
        std::fs::rename(&fresh, self.record(id))?;
        File::open(&self.path)?.sync_all()?;
        Ok(())
    }

    /// Opens the bytes to add more; what is not counted is cut off.
    pub(crate) fn open(&self, id: &str, record: &Record) -> Result<StagedFile, BackendError> {
        let path = self.data(id);
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mut file = File::from(rustix::fs::open(&path, flags, Mode::empty())?);
        file.set_len(record.offset)?;
        io::Seek::seek(&mut file, io::SeekFrom::End(0))?;
        let state = BASE64_STANDARD.decode(&record.digest).unwrap_or_default();
        self.staging.adopt(path, file, &state, record.offset)
    }

    /// Counts what was synced.
    pub(crate) fn count(&self, id: &str, record: &mut Record, offset: u64, digest: &[u8]) -> Result<(), BackendError> {
        record.offset = offset;
        record.digest = BASE64_STANDARD.encode(digest);
        self.save(id, record)
    }

    /// Removes an upload, whatever of it is there. Gives the bytes of its content that went.
    pub(crate) fn remove(&self, id: &str) -> Result<u64, BackendError> {
        let bytes = self.bytes(id);
        for path in [self.record(id), self.data(id), self.path.join(format!("{id}.new"))] {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        Ok(bytes)
    }
}

/// Ids are 32 hex characters, so that no other file can be meant.
pub(crate) fn is_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}
