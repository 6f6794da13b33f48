//! Where the files of projects are kept, and how large they may be.

use std::path::PathBuf;

use base::Secret;

use super::reader::Reader;

/// Where a container keeps files when there is no data folder.
pub const SYSTEM_STORAGE_FOLDER: &str = "/var/lib/launchdb/storage";

/// Where contents are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum FilesBackend {
    /// The folder STORAGE_PATH
    #[default]
    Disk,
    /// The bucket STORAGE_S3_BUCKET
    S3,
}

/// An S3-compatible store. The names are those of supabase/storage.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    pub bucket: String,
    /// URL of a store other than AWS's.
    pub endpoint: Option<String>,
    pub region: String,
    pub access_key_id: String,
    pub secret_access_key: Secret<String>,
    pub session_token: Option<Secret<String>>,
    pub path_style: bool,
    /// What every key begins with; may be empty.
    pub prefix: String,
}

/// The storage service.
#[derive(Clone, Debug)]
pub struct FilesConfig {
    pub backend: FilesBackend,
    /// Needed with [`FilesBackend::S3`], and to move files there or back.
    pub store: Option<StoreConfig>,
    /// The folder of all projects' files; none means `storage` in the data folder.
    pub path: Option<PathBuf>,
    /// Largest file a project may allow, in bytes.
    pub max_file_bytes: u64,
    /// How long a signed URL counts when the client does not say, in seconds.
    pub signed_url_ttl: u64,
    /// Free bytes of the folder's disk that uploads leave.
    pub disk_reserve: u64,
    /// Most bytes of one project's files; 0 is none, and nothing said is half of the disk where files are on it.
    pub project_bytes: Option<u64>,
    /// What transforming an image may cost: bytes and pixels of an original, and how many are made at once.
    pub image_bytes: u64,
    pub image_pixels: u64,
    pub images_at_once: usize,
    /// Uploads under way at once; a project may have half of them.
    pub max_uploads: usize,
}

impl FilesConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let megabytes = |n: &u64| (1..=500 * 1024).contains(n);
        let max_file: u64 = reader.parsed("MAX_FILE_SIZE_MB", 50, "a number of megabytes from 1 to 512000", megabytes);
        let reserve: u64 =
            reader.parsed("LAUNCHDB_STORAGE_RESERVE_MB", 2048, "a number of megabytes; 0 is none", |n| *n <= 1 << 30);
        let most: Option<u64> =
            reader.parsed_opt("LAUNCHDB_STORAGE_PROJECT_MB", "a number of megabytes; 0 is no limit", |n| *n <= 1 << 30);
        let image: u64 = reader
            .parsed("LAUNCHDB_IMAGE_MAX_MB", 25, "a number of megabytes from 1 to 1024", |n| (1..=1024).contains(n));
        let megapixels: u64 =
            reader.parsed("LAUNCHDB_IMAGE_MAX_MEGAPIXELS", 50, "a number of megapixels from 1 to 500", |n| {
                (1..=500).contains(n)
            });
        let backend = match reader.text("STORAGE_BACKEND").as_deref() {
            None | Some("file" | "disk") => FilesBackend::Disk,
            Some("s3") => FilesBackend::S3,
            Some(_) => {
                reader.problem("STORAGE_BACKEND", "has a value that cannot be used", "set it to file or s3");
                FilesBackend::Disk
            }
        };
        Self {
            store: StoreConfig::read(reader, backend == FilesBackend::S3),
            backend,
            path: reader.text("STORAGE_PATH").map(PathBuf::from),
            max_file_bytes: 1024 * 1024 * max_file,
            signed_url_ttl: reader.parsed("SIGNED_URL_TTL", 3600, "a number of seconds above 0", |n| *n > 0),
            disk_reserve: 1024 * 1024 * reserve,
            project_bytes: most.map(|most| 1024 * 1024 * most),
            image_bytes: 1024 * 1024 * image,
            image_pixels: 1_000_000 * megapixels,
            images_at_once: reader
                .parsed("LAUNCHDB_IMAGES_AT_ONCE", 2, "a number of images from 1 to 64", |n| (1..=64).contains(n)),
            max_uploads: reader.parsed("LAUNCHDB_MAX_UPLOADS", 256, "a number of uploads from 2", |n| *n >= 2),
        }
    }
}

impl StoreConfig {
    /// The store that backups are copied to; none when no bucket is named.
    pub(super) fn read_for_backups(reader: &mut Reader<'_>) -> Option<Self> {
        let bucket = reader.text("BACKUP_S3_BUCKET")?;
        let mut required = |name: &str| {
            let value = reader.text(name);
            if value.is_none() {
                reader.problem(name, "is not set", "set it to a key of the store that BACKUP_S3_BUCKET is in");
            }
            value.unwrap_or_default()
        };
        let access_key_id = required("BACKUP_S3_ACCESS_KEY_ID");
        let secret = required("BACKUP_S3_SECRET_ACCESS_KEY");
        let is_url = |text: &str| text.starts_with("https://") || text.starts_with("http://");
        let endpoint = reader.checked_text("BACKUP_S3_ENDPOINT", "a URL such as https://s3.example.org", is_url);
        Some(Self {
            bucket,
            path_style: endpoint.is_some(),
            endpoint,
            region: reader.text("BACKUP_S3_REGION").unwrap_or_else(|| "us-east-1".to_owned()),
            access_key_id,
            secret_access_key: Secret::new(secret),
            session_token: None,
            prefix: reader.text("BACKUP_S3_PREFIX").unwrap_or_default(),
        })
    }

    /// None when no bucket is named, which is a problem only for a server that needs one.
    fn read(reader: &mut Reader<'_>, needed: bool) -> Option<Self> {
        if !needed && reader.text("STORAGE_S3_BUCKET").is_none() {
            return None;
        }
        let mut required = |name: &str, mend: &str| {
            let value = reader.text(name);
            if value.is_none() {
                reader.problem(name, "is not set", mend);
            }
            value.unwrap_or_default()
        };
        let bucket = required("STORAGE_S3_BUCKET", "set it to the store's bucket, or STORAGE_BACKEND to file");
        let access_key_id = required("AWS_ACCESS_KEY_ID", "set it to a key of the store that STORAGE_S3_BUCKET is in");
        let secret = required("AWS_SECRET_ACCESS_KEY", "set it to the secret of AWS_ACCESS_KEY_ID");
        let is_url = |text: &str| text.starts_with("https://") || text.starts_with("http://");
        let path_style = match reader.text("STORAGE_S3_FORCE_PATH_STYLE").as_deref() {
            // A store of another name is mostly one without names for its buckets.
            None => reader.text("STORAGE_S3_ENDPOINT").is_some(),
            Some("true") => true,
            Some("false") => false,
            Some(_) => {
                reader.problem(
                    "STORAGE_S3_FORCE_PATH_STYLE",
                    "has a value that cannot be used",
                    "set it to true or false",
                );
                false
            }
        };
        Some(Self {
            bucket,
            endpoint: reader.checked_text("STORAGE_S3_ENDPOINT", "a URL such as https://s3.example.org", is_url),
            region: reader.text("STORAGE_S3_REGION").unwrap_or_else(|| "us-east-1".to_owned()),
            access_key_id,
            secret_access_key: Secret::new(secret),
            session_token: reader.text("AWS_SESSION_TOKEN").map(Secret::new),
            path_style,
            prefix: reader.text("STORAGE_S3_PREFIX").unwrap_or_default(),
        })
    }
}
