//! Applies baseline files to one database and writes down which.

use std::time::{Duration, Instant};

use tokio_postgres::Client;

use super::{BaselineFile, RunAs};

/// A session that logged in as the owner of the project, for files that touch what the owner owns.
pub type OwnerSession<'a> = &'a Client;

/// Why a baseline could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error("baseline file {name} failed")]
    Failed {
        name: &'static str,
        #[source]
        source: tokio_postgres::Error,
    },
    #[error("the baseline's ledger cannot be read or written")]
    Ledger(#[source] tokio_postgres::Error),
    #[error("baseline file {0} was changed after it had been applied")]
    Changed(String),
    #[error("the database was made by a newer program: it has baseline file {0}")]
    Newer(String),
    #[error("baseline file {0} needs a session of the project's owner")]
    NeedsOwner(&'static str),
}

/// Options of the session that applies a baseline: pins the search path, because operators and functions of a project
/// must never be found by the superuser's statements, and names the owner role.
pub fn session_options(owner_role: &str) -> String {
    // Option values end at a space; a backslash escapes it.
    let owner_role = owner_role.replace('\\', "\\\\").replace(' ', "\\ ");
    format!("-c search_path=pg_catalog,pg_temp -c launchdb.owner_role={owner_role} -c client_min_messages=warning")
}

const CREATE_LEDGER: &str = include_str!("ledger.sql");
const EXISTS: &str = "select pg_catalog.to_regclass('_launchdb.baseline_migrations') is not null";
const SELECT: &str = "select version, name, checksum from _launchdb.baseline_migrations order by version";
const INSERT: &str = "insert into _launchdb.baseline_migrations (version, name, checksum) values ($1, $2, $3)";

/// Applies the files that are missing, each in a transaction together with its line in the ledger; a file and what mends
/// it in one. Done again after a crash, it goes on where it was. Returns those that ran, and how long each took.
///
/// `superuser` is a session with [`session_options`]. While a template is made there is no owner yet, and
/// `owner` is none: everything runs as the superuser. In a project's database `owner` is a session of its owner.
pub async fn apply(
    superuser: &mut Client,
    owner: Option<OwnerSession<'_>>,
    is_template: bool,
    files: &[BaselineFile],
) -> Result<Vec<(&'static str, Duration)>, ApplyError> {
    let applied = applied(superuser, files).await?;
    let mut ran = Vec::new();
    let missing = files.iter().position(|file| file.version > applied).map_or(&[][..], |first| &files[first..]);
    for group in missing.chunk_by(|_, next| next.mends_previous()) {
        let tx = superuser.transaction().await.map_err(ApplyError::Ledger)?;
        let mut last = None;
        for file in group {
            let started = Instant::now();
            let failed = |source| ApplyError::Failed { name: file.name, source };
            if file.run_as() == RunAs::Owner && !is_template {
                let owner = owner.ok_or(ApplyError::NeedsOwner(file.name))?;
                // A simple query with several statements is one transaction.
                owner.batch_execute(file.sql).await.map_err(failed)?;
            } else {
                tx.batch_execute(file.sql).await.map_err(failed)?;
            }
            tx.execute(INSERT, &[&file.version, &file.name, &file.checksum()]).await.map_err(ApplyError::Ledger)?;
            ran.push((file.name, started.elapsed()));
            last = Some(file.name);
        }
        let name = last.unwrap_or_default();
        tx.commit().await.map_err(|source| ApplyError::Failed { name, source })?;
    }
    Ok(ran)
}

/// Applies what mends the last file that a database has, and nothing else: before somebody is let in who was not while
/// other databases were upgraded. Returns the version that it has then, if that is another one.
pub async fn mend(superuser: &mut Client, files: &[BaselineFile]) -> Result<Option<i32>, ApplyError> {
    let files = super::whole(files, applied(superuser, files).await?);
    let ran = apply(superuser, None, false, files).await?;
    Ok((!ran.is_empty()).then(|| super::version(files)))
}

/// The version that a database has; makes the ledger when there is none.
async fn applied(superuser: &Client, files: &[BaselineFile]) -> Result<i32, ApplyError> {
    let exists: bool = superuser.query_one(EXISTS, &[]).await.map_err(ApplyError::Ledger)?.get(0);
    if !exists {
        superuser.batch_execute(CREATE_LEDGER).await.map_err(ApplyError::Ledger)?;
    }
    let recorded = superuser.query(SELECT, &[]).await.map_err(ApplyError::Ledger)?;
    let mut applied = 0;
    for row in &recorded {
        let (version, name, checksum): (i32, String, String) = (row.get(0), row.get(1), row.get(2));
        match files.iter().find(|file| file.version == version) {
            None => return Err(ApplyError::Newer(name)),
            Some(file) if file.checksum() != checksum => return Err(ApplyError::Changed(name)),
            Some(_) => applied = version,
        }
    }
    Ok(applied)
}
