//! Where the files of projects are kept, and how large they may be.

use std::path::PathBuf;

use super::reader::Reader;

/// Where a container keeps files when there is no data folder.
pub const SYSTEM_STORAGE_FOLDER: &str = "/var/lib/launchdb/storage";

/// The storage service.
#[derive(Clone, Debug)]
pub struct FilesConfig {
    /// The folder of all projects' files; none means `storage` in the data folder.
    pub path: Option<PathBuf>,
    /// Largest file a project may allow, in bytes.
    pub max_file_bytes: u64,
    /// How long a signed URL counts when the client does not say, in seconds.
    pub signed_url_ttl: u64,
    /// Free bytes of the folder's disk that uploads leave.
    pub disk_reserve: u64,
    /// Uploads under way at once; a project may have half of them.
    pub max_uploads: usize,
}

impl FilesConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let megabytes = |n: &u64| (1..=500 * 1024).contains(n);
        let max_file: u64 = reader.parsed("MAX_FILE_SIZE_MB", 50, "a number of megabytes from 1 to 512000", megabytes);
        let reserve: u64 =
            reader.parsed("LAUNCHDB_STORAGE_RESERVE_MB", 1024, "a number of megabytes; 0 is none", |n| *n <= 1 << 30);
        Self {
            path: reader.text("STORAGE_PATH").map(PathBuf::from),
            max_file_bytes: 1024 * 1024 * max_file,
            signed_url_ttl: reader.parsed("SIGNED_URL_TTL", 3600, "a number of seconds above 0", |n| *n > 0),
            disk_reserve: 1024 * 1024 * reserve,
            max_uploads: reader.parsed("LAUNCHDB_MAX_UPLOADS", 256, "a number of uploads from 2", |n| *n >= 2),
        }
    }
}
