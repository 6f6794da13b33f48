//! Why a backup or a restore did not happen. For operators: the command line prints it, and the log has it.

use std::io;
use std::path::PathBuf;

use super::openpgp::NotReadable;
use crate::provision::ProvisionError;

#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error(
        "BACKUP_ENCRYPTION_KEY is not set, and nothing is written unencrypted: make one with openssl rand -base64 32"
    )]
    NoKey,
    #[error("{0}")]
    NoPgDump(procs::client_program::NotFound),
    #[error("the disk of {} is full, or nearly: nothing of this backup was kept", folder.display())]
    DiskFull { folder: PathBuf },
    #[error("cannot write to {}", folder.display())]
    Folder {
        folder: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("pg_dump of {database} failed: {message}")]
    PgDump { database: String, message: String },
    #[error("{} cannot be read", file.display())]
    Unreadable {
        file: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{}: the key does not open it (BACKUP_ENCRYPTION_KEY has to be the one of the day it was made)", file.display())]
    WrongKey { file: PathBuf },
    #[error("{} is no backup of LaunchDB", file.display())]
    NoBackup {
        file: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is damaged or cut off: {what}", file.display())]
    Damaged { file: PathBuf, what: String },
    #[error("{}: made by a newer LaunchDB ({what})", file.display())]
    Newer { file: PathBuf, what: String },
    #[error("{} holds {found}, not {wanted}; to make a copy of it under another id: --into NEW", file.display())]
    WrongTarget { file: PathBuf, found: String, wanted: String },
    #[error("{0}")]
    Refused(String),
    #[error("there is no project {0} that can be backed up")]
    NoSuchProject(String),
    #[error("line {line} of the dump: {message}\n  {statement}")]
    Load { line: u64, statement: String, message: String },
    #[error("loading the backup takes too long: it was given up")]
    TookTooLong,
    #[error("what was restored differs from the backup: {0}")]
    Differs(String),
    #[error("the database failed")]
    Database(#[from] tokio_postgres::Error),
    #[error(transparent)]
    Provision(#[from] ProvisionError),
    #[error("the work was cancelled")]
    Cancelled,
}

impl BackupError {
    pub(super) fn writing(folder: &std::path::Path, source: io::Error) -> Self {
        let folder = folder.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { folder },
            _ => Self::Folder { folder, source },
        }
    }

    pub(super) fn opening(file: &std::path::Path, error: NotReadable) -> Self {
        let file = file.to_owned();
        match error {
            NotReadable::WrongKey => Self::WrongKey { file },
            NotReadable::NoMessage(source) if source.kind() == io::ErrorKind::UnexpectedEof => {
                Self::Damaged { file, what: "it ends too early".to_owned() }
            }
            NotReadable::NoMessage(source) => Self::NoBackup { file, source },
        }
    }

    pub(super) fn reading(file: &std::path::Path, error: &io::Error) -> Self {
        let what = match error.kind() {
            io::ErrorKind::UnexpectedEof => "it ends too early".to_owned(),
            _ => error.to_string(),
        };
        Self::Damaged { file: file.to_owned(), what }
    }
}
