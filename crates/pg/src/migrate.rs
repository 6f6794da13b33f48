//! Ordered, checksummed, transactional migrations with a ledger table: for the platform's own database and for the
//! baseline of every project's.

use std::time::{Duration, Instant};

use base::digest;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::ident::{quote_ident, quote_qualified};

/// One migration file. It runs in one transaction of ours and must not begin or end one itself.
#[derive(Clone, Copy, Debug)]
pub struct Migration<'a> {
    /// The file's name; names order the migrations.
    pub name: &'a str,
    pub sql: &'a str,
}

impl Migration<'_> {
    /// SHA-256 of the text, in hex.
    pub fn checksum(&self) -> String {
        digest::sha256_hex(self.sql.as_bytes())
    }
}

/// Where it is written down what has run. The schema and the table are made when missing.
#[derive(Clone, Copy, Debug)]
pub struct Ledger<'a> {
    pub schema: &'a str,
    pub table: &'a str,
    /// Whether a recorded migration that is not in the list means that a newer program was here.
    pub refuse_unknown: bool,
}

/// A migration that ran now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    pub name: String,
    pub checksum: String,
    pub duration: Duration,
}

/// What a run did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub applied: Vec<Applied>,
    /// Names of those that had run before.
    pub skipped: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The list is not in strictly ascending order of names; holds the first name out of place.
    #[error("migration {0:?} is out of order")]
    OutOfOrder(String),
    /// A migration that has run was changed afterwards.
    #[error("migration {name:?} was changed after it had been applied")]
    Changed { name: String },
    /// The ledger names migrations this program does not know.
    #[error("the database was migrated by a newer program: it knows migration {name:?}")]
    Newer { name: String },
    /// A migration would run although a later one has run already.
    #[error("migration {name:?} is new but {later:?}, which comes after it, has been applied")]
    Late { name: String, later: String },
    /// A migration ended the transaction it runs in; what it did before is committed.
    #[error("migration {name:?} ends its transaction itself")]
    EndsTransaction { name: String },
    #[error("migration {name:?} failed")]
    Failed {
        name: String,
        #[source]
        source: tokio_postgres::Error,
    },
    #[error("the migration ledger cannot be read or written")]
    Ledger(#[source] tokio_postgres::Error),
}

/// Applies what has not been applied yet, in order, one transaction each. Several processes may do it at once: the
/// ledger is locked while a migration runs. (Not by an advisory lock, which anybody in the database could hold.)
pub async fn run(
    client: &mut Client,
    ledger: &Ledger<'_>,
    migrations: &[Migration<'_>],
) -> Result<Report, MigrateError> {
    if let Some(pair) = migrations.windows(2).find(|pair| pair[0].name >= pair[1].name) {
        return Err(MigrateError::OutOfOrder(pair[1].name.to_owned()));
    }
    create_ledger(client, ledger).await?;
    let recorded = recorded(client, ledger).await?;
    check(ledger, migrations, &recorded)?;
    let mut report = Report::default();
    for migration in migrations {
        if recorded.iter().any(|(name, _)| name == migration.name) {
            report.skipped.push(migration.name.to_owned());
            continue;
        }
        match apply(client, ledger, migration).await? {
            Some(applied) => report.applied.push(applied),
            None => report.skipped.push(migration.name.to_owned()),
        }
    }
    Ok(report)
}

fn check(ledger: &Ledger<'_>, migrations: &[Migration<'_>], recorded: &[(String, String)]) -> Result<(), MigrateError> {
    for (name, checksum) in recorded {
        match migrations.iter().find(|m| m.name == name) {
            None if ledger.refuse_unknown => return Err(MigrateError::Newer { name: name.clone() }),
            None => {}
            Some(migration) if migration.checksum() != *checksum => {
                return Err(MigrateError::Changed { name: name.clone() });
            }
            Some(_) => {}
        }
    }
    let last = recorded.iter().map(|(name, _)| name.as_str()).max().unwrap_or_default();
    let late = migrations.iter().find(|m| m.name < last && !recorded.iter().any(|(name, _)| name == m.name));
    match late {
        Some(late) => Err(MigrateError::Late { name: late.name.to_owned(), later: last.to_owned() }),
        None => Ok(()),
    }
}

fn table(ledger: &Ledger<'_>) -> String {
    quote_qualified(ledger.schema, ledger.table)
}

async fn create_ledger(client: &Client, ledger: &Ledger<'_>) -> Result<(), MigrateError> {
    let exists = client
        .query_opt(
            "select 1 from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
             where n.nspname = $1 and c.relname = $2",
            &[&ledger.schema, &ledger.table],
        )
        .await
        .map_err(MigrateError::Ledger)?;
    if exists.is_some() {
        return Ok(());
    }
    let sql = format!(
        "create schema if not exists {}; create table if not exists {} (name text primary key, checksum text not \
         null, applied_at timestamptz not null default now(), duration_ms integer not null)",
        quote_ident(ledger.schema),
        table(ledger)
    );
    match client.batch_execute(&sql).await {
        // Two processes at once: "if not exists" does not save the second one from the unique index of the catalog.
        Err(error)
            if [SqlState::UNIQUE_VIOLATION, SqlState::DUPLICATE_TABLE, SqlState::DUPLICATE_SCHEMA]
                .iter()
                .any(|code| error.code() == Some(code)) =>
        {
            client.batch_execute(&sql).await.map_err(MigrateError::Ledger)
        }
        other => other.map_err(MigrateError::Ledger),
    }
}

/// Names and checksums of what has run, in order of the names.
async fn recorded(client: &Client, ledger: &Ledger<'_>) -> Result<Vec<(String, String)>, MigrateError> {
    let sql = format!("select name, checksum from {}", table(ledger));
    let rows = client.query(&sql, &[]).await.map_err(MigrateError::Ledger)?;
    let mut recorded: Vec<(String, String)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    // Sorted here and not by the database, whose collation may order names differently.
    recorded.sort();
    Ok(recorded)
}

/// Runs one migration; nothing when another process was faster.
async fn apply(
    client: &mut Client,
    ledger: &Ledger<'_>,
    migration: &Migration<'_>,
) -> Result<Option<Applied>, MigrateError> {
    let started = Instant::now();
    let checksum = migration.checksum();
    let table = table(ledger);
    let tx = client.transaction().await.map_err(MigrateError::Ledger)?;
    tx.batch_execute(&format!("lock table {table} in exclusive mode")).await.map_err(MigrateError::Ledger)?;
    let select = format!("select checksum from {table} where name = $1");
    if let Some(row) = tx.query_opt(&select, &[&migration.name]).await.map_err(MigrateError::Ledger)? {
        return if row.get::<_, String>(0) == checksum {
            Ok(None)
        } else {
            Err(MigrateError::Changed { name: migration.name.to_owned() })
        };
    }
    const TRANSACTION: &str = "select pg_catalog.pg_current_xact_id()::pg_catalog.text";
    let before: String = tx.query_one(TRANSACTION, &[]).await.map_err(MigrateError::Ledger)?.get(0);
    let failed = |source| MigrateError::Failed { name: migration.name.to_owned(), source };
    tx.batch_execute(migration.sql).await.map_err(failed)?;
    let after: String = tx.query_one(TRANSACTION, &[]).await.map_err(failed)?.get(0);
    if before != after {
        return Err(MigrateError::EndsTransaction { name: migration.name.to_owned() });
    }
    let duration = started.elapsed();
    let milliseconds = i32::try_from(duration.as_millis()).unwrap_or(i32::MAX);
    let insert = format!("insert into {table} (name, checksum, duration_ms) values ($1, $2, $3)");
    tx.execute(&insert, &[&migration.name, &checksum, &milliseconds]).await.map_err(MigrateError::Ledger)?;
    tx.commit().await.map_err(failed)?;
    Ok(Some(Applied { name: migration.name.to_owned(), checksum, duration }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_compared_with_the_ledger() {
        let list = [Migration { name: "0001_a", sql: "a" }, Migration { name: "0002_b", sql: "b" }];
        let strict = Ledger { schema: "s", table: "t", refuse_unknown: true };
        let lax = Ledger { refuse_unknown: false, ..strict };
        let recorded = |names: &[(&str, &str)]| -> Vec<(String, String)> {
            names.iter().map(|(name, sql)| ((*name).to_owned(), digest::sha256_hex(sql.as_bytes()))).collect()
        };
        let verdict = |ledger: &Ledger<'_>, rows: &[(&str, &str)]| {
            check(ledger, &list, &recorded(rows)).map_err(|error| error.to_string())
        };
        assert_eq!(verdict(&strict, &[]), Ok(()));
        assert_eq!(verdict(&strict, &[("0001_a", "a")]), Ok(()));
        assert!(verdict(&strict, &[("0001_a", "x")]).is_err_and(|e| e.contains("was changed")));
        assert!(verdict(&strict, &[("0001_a", "a"), ("0003_c", "c")]).is_err_and(|e| e.contains("newer program")));
        assert!(verdict(&lax, &[("0002_b", "b")]).is_err_and(|e| e.contains("comes after it")));
        assert_eq!(verdict(&lax, &[("0000_z", "z"), ("0001_a", "a")]), Ok(()));
    }

    const LEDGER: Ledger<'static> = Ledger { schema: "launchdb", table: "migrations", refuse_unknown: true };

    async fn applied(client: &mut Client, migrations: &[Migration<'_>]) -> Result<Vec<String>, MigrateError> {
        let report = run(client, &LEDGER, migrations).await?;
        Ok(report.applied.into_iter().map(|migration| migration.name).collect())
    }

    #[tokio::test]
    async fn each_runs_once_whole_or_not_at_all() {
        let database = test_support::TestCluster::shared().create_database(None).await;
        let mut client = database.connect().await;
        let first = Migration { name: "0001_a", sql: "create table a (); create table b ()" };
        let broken = Migration { name: "0002_c", sql: "create table c (); select 1 / 0" };
        let cunning = Migration { name: "0002_c", sql: "create table d (); commit" };
        let second = Migration { name: "0002_c", sql: "create table c ()" };
        let failure = applied(&mut client, &[first, broken]).await.unwrap_err();
        assert!(matches!(failure, MigrateError::Failed { name, .. } if name == "0002_c"));
        let failure = applied(&mut client, &[first, cunning]).await.unwrap_err();
        assert!(matches!(failure, MigrateError::EndsTransaction { .. }));
        // What failed is tried again; what ran is not.
        assert_eq!(applied(&mut client, &[first, second]).await.unwrap(), ["0002_c"]);
        assert_eq!(applied(&mut client, &[first, second]).await.unwrap(), Vec::<String>::new());
        let changed = Migration { sql: "create table z ()", ..first };
        assert!(matches!(applied(&mut client, &[changed, second]).await, Err(MigrateError::Changed { .. })));
        assert!(matches!(applied(&mut client, &[first]).await, Err(MigrateError::Newer { .. })));
        assert!(matches!(applied(&mut client, &[second, first]).await, Err(MigrateError::OutOfOrder(_))));
    }

    #[tokio::test]
    async fn several_processes_may_migrate_at_once() {
        let database = test_support::TestCluster::shared().create_database(None).await;
        let names: Vec<String> = (0..5).map(|n| format!("{n:04}_t")).collect();
        let texts: Vec<String> = (0..5).map(|n| format!("create table t{n} ()")).collect();
        let list: Vec<_> = names.iter().zip(&texts).map(|(name, sql)| Migration { name, sql }).collect();
        let runs = (0..6).map(|_| async {
            let mut client = database.connect().await;
            applied(&mut client, &list).await.unwrap().len()
        });
        let counts = futures_util::future::join_all(runs).await;
        assert_eq!(counts.iter().sum::<usize>(), 5, "{counts:?}");
    }
}
