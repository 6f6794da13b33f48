//! PgBouncer: as a child or a service, and as the way to projects' databases.

use std::path::{Path, PathBuf};

use super::reader::Reader;

/// The specification's port.
const PORT: u16 = 6432;

/// Whether and where the pooler listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolerSettings {
    /// None switches it off; 0 lets the system choose.
    pub port: Option<u16>,
    /// Whether it was asked for by name: then it has to be installed and its port to be free.
    pub is_required: bool,
    /// Folder of its files; the data folder has one.
    pub dir: Option<PathBuf>,
    /// Folder of its log; none keeps none.
    pub log_dir: Option<PathBuf>,
    /// Where this process reaches projects' databases through it: host and port. None goes straight to PostgreSQL.
    pub address: Option<(String, u16)>,
}

impl PoolerSettings {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        const NAME: &str = "LAUNCHDB_POOLER_PORT";
        const ADDRESS: &str = "LAUNCHDB_POOLER_ADDRESS";
        let dir = reader.text("LAUNCHDB_POOLER_DIR").map(PathBuf::from);
        let log_dir = reader.text("LAUNCHDB_POOLER_LOG_DIR").map(PathBuf::from);
        let address = reader.address(ADDRESS);
        if address.is_some() && ["DATABASE_URL", "PLATFORM_DB_DSN"].iter().all(|name| reader.text(name).is_none()) {
            reader.problem(
                ADDRESS,
                "is for a PostgreSQL elsewhere, and DATABASE_URL is not set",
                "set DATABASE_URL, or leave it out: services reach an embedded PostgreSQL by its socket",
            );
        }
        let (port, is_required) = match reader.text(NAME).as_deref() {
            None => (Some(PORT), false),
            Some("off") => (None, false),
            Some(_) => (reader.parsed_opt(NAME, "a port, or off", |_: &u16| true), true),
        };
        Self { port, is_required, dir, log_dir, address }
    }

    /// Where its files are.
    pub fn folder(&self, data: Option<&Path>) -> PathBuf {
        match (&self.dir, data) {
            (Some(dir), _) => dir.clone(),
            (None, Some(data)) => data.join("pooler"),
            (None, None) => PathBuf::from("/var/lib/launchdb/pooler"),
        }
    }
}
