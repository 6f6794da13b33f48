//! The baseline of a project's database: what is in it before its owner does anything (contracts, section 4).
//!
//! The files are ordered and never change once released; a project of an older baseline gets the missing ones. They
//! name no owner role: the session that applies them carries it in the setting `launchdb.owner_role`.

mod apply;

use base::digest;

pub use apply::{ApplyError, OwnerSession, apply, mend, session_options};

/// The session in which a file is applied to a database that has an owner already.
///
/// A superuser must never write to what a project's owner owns: a trigger, a default or a check constraint of theirs
/// would run with the superuser's rights, and `SET ROLE` does not help because they can `RESET ROLE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunAs {
    /// Touches only what the superuser owns, or what is new.
    Superuser,
    /// Touches what the owner owns: runs in a session that logged in as the project's role. Such a file has to be
    /// idempotent, because the ledger is written in another session.
    Owner,
}

/// One file of the baseline.
#[derive(Clone, Copy, Debug)]
pub struct BaselineFile {
    /// Orders the files; the highest one is the baseline's version.
    pub version: i32,
    /// The file's name without `.sql`.
    pub name: &'static str,
    pub sql: &'static str,
}

impl BaselineFile {
    /// SHA-256 of the text, in hex.
    pub fn checksum(&self) -> String {
        digest::sha256_hex(self.sql.as_bytes())
    }

    /// What the first line says: `-- run as: superuser` or `-- run as: owner`.
    pub fn run_as(&self) -> RunAs {
        if self.sql.starts_with("-- run as: superuser\n") { RunAs::Superuser } else { RunAs::Owner }
    }

    /// What the second line can say: that the file takes a danger out of the one before. No database has that one without
    /// this, not even between two transactions, and none is opened that lacks it. Such a file touches nothing of the owner's.
    pub fn mends_previous(&self) -> bool {
        self.sql.lines().nth(1) == Some("-- mends the file before")
    }
}

macro_rules! files {
    ($($version:literal $name:literal),* $(,)?) => {
        &[$(BaselineFile { version: $version, name: $name, sql: include_str!(concat!($name, ".sql")) }),*]
    };
}

/// Every file, in order.
pub const FILES: &[BaselineFile] = files![
    1 "0001_foundation",
    2 "0002_auth",
    3 "0003_storage",
    4 "0004_realtime",
    5 "0005_schema_version",
    6 "0006_catalog_privacy",
    7 "0007_schema_change_scope",
    8 "0008_auth_mail",
    9 "0009_storage_removals",
    10 "0010_storage_removals_rights",
    11 "0011_autovacuum_pace",
    12 "0012_storage_parameters",
    13 "0013_storage_parameters_seen",
];

/// Makes the shared roles of the cluster; not part of any database.
pub(crate) const CLUSTER_ROLES: &str = include_str!("cluster_roles.sql");

/// The version of a database with all of `files`.
pub fn version(files: &[BaselineFile]) -> i32 {
    files.last().map_or(0, |file| file.version)
}

/// The files that a database with those up to `version` has to have: those, and what mends the last of them.
pub fn whole(files: &[BaselineFile], version: i32) -> &[BaselineFile] {
    let had = files.iter().take_while(|file| file.version <= version).count();
    let mends = files[had..].iter().take_while(|file| had > 0 && file.mends_previous()).count();
    &files[..had + mends]
}

/// A text that differs whenever a database made of `files` would.
pub fn fingerprint(files: &[BaselineFile]) -> String {
    let checksums: Vec<String> = files.iter().map(BaselineFile::checksum).collect();
    digest::sha256_hex(checksums.join("\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_numbered_without_gaps_and_say_who_runs_them() {
        for (index, file) in FILES.iter().enumerate() {
            assert_eq!(usize::try_from(file.version).unwrap(), index + 1, "{}", file.name);
            assert!(file.name.starts_with(&format!("{:04}_", file.version)), "{}", file.name);
            let first = file.sql.lines().next().unwrap();
            assert!(["-- run as: superuser", "-- run as: owner"].contains(&first), "{}: {first}", file.name);
        }
    }

    #[test]
    fn a_file_is_never_without_its_mend() {
        for pair in FILES.windows(2).filter(|pair| pair[1].mends_previous()) {
            let both = [pair[0].run_as(), pair[1].run_as()];
            assert_eq!(both, [RunAs::Superuser, RunAs::Superuser], "{}", pair[1].name);
        }
        for (version, expected) in [(0, 0), (8, 8), (9, 10), (10, 10)] {
            assert_eq!(whole(&FILES[..10], version).len(), expected, "{version}");
        }
    }
}
