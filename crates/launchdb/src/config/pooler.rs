//! PgBouncer beside an embedded cluster.

use super::reader::Reader;

/// The specification's port.
const PORT: u16 = 6432;

/// Whether and where the pooler listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolerSettings {
    /// None switches it off; 0 lets the system choose.
    pub port: Option<u16>,
    /// Whether it was asked for by name: then it has to be installed and its port to be free.
    pub is_required: bool,
}

impl PoolerSettings {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        const NAME: &str = "LAUNCHDB_POOLER_PORT";
        match reader.text(NAME).as_deref() {
            None => Self { port: Some(PORT), is_required: false },
            Some("off") => Self { port: None, is_required: false },
            Some(_) => Self { port: reader.parsed_opt(NAME, "a port, or off", |_: &u16| true), is_required: true },
        }
    }
}
