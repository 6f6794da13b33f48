//! PgBouncer beside an embedded cluster.

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
}

impl PoolerSettings {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        const NAME: &str = "LAUNCHDB_POOLER_PORT";
        let dir = reader.text("LAUNCHDB_POOLER_DIR").map(PathBuf::from);
        let (port, is_required) = match reader.text(NAME).as_deref() {
            None => (Some(PORT), false),
            Some("off") => (None, false),
            Some(_) => (reader.parsed_opt(NAME, "a port, or off", |_: &u16| true), true),
        };
        Self { port, is_required, dir }
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
