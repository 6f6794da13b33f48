//! Applying files, in a session of the project's owner.

use std::time::{Duration, Instant};

use pg::{Script, ScriptResult, ScriptSession};
use serde_json::{Value, json};

use super::plan::{Pending, line_of, plan, shown};
use super::{AppliedMigration, MigrationFailure, MigrationFile, store};
use crate::error::Error;
use crate::request::ProjectCx;
use crate::sql;

/// Longest that one statement runs, in milliseconds: what the watchdog allows.
const STATEMENT_MS: u64 = 300_000;
/// Longest wait for a lock that somebody else's session holds: a migration must not block the application for long.
const LOCK_MS: &str = "10000";
/// How often the lock of whoever applies migrations is tried, and how long apart: the session of one whose answer is out already may
/// hold it for a moment.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(100);
const MOST_ROWS: usize = 100_000;
const MOST_BYTES: usize = 8 * 1024 * 1024;

/// What came of it.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) applied: Vec<(String, String, Duration)>,
    pub(super) skipped: Vec<String>,
}

/// A session that holds the lock.
pub(super) struct Session(ScriptSession);

impl Session {
    pub(super) async fn open(cx: &ProjectCx) -> Result<Self, Error> {
        Ok(Self(sql::own_session(cx, &[("lock_timeout", LOCK_MS)], STATEMENT_MS).await?))
    }

    pub(super) async fn close(self) {
        self.0.close().await;
    }

    async fn run(&mut self, text: &str, params: Option<&[Option<String>]>) -> Result<ScriptResult, Error> {
        let script = Script { sql: text, params, read_only: false, most_rows: MOST_ROWS, most_bytes: MOST_BYTES };
        self.0.run(&script).await.map_err(sql::own_error)
    }

    async fn lock(&mut self) -> Result<(), Error> {
        for _ in 0..LOCK_TRIES {
            if is_true(&self.run(store::TRY_LOCK, None).await?, 0) {
                return Ok(());
            }
            tokio::time::sleep(LOCK_PAUSE).await;
        }
        Err(Error::ProjectBusy)
    }

    pub(super) async fn ledger(&mut self) -> Result<Vec<AppliedMigration>, Error> {
        let exists = self.run(store::EXISTS, None).await?;
        let list = match (is_true(&exists, 0), is_true(&exists, 1)) {
            (false, _) => return Ok(Vec::new()),
            (true, false) => store::LIST_FOREIGN,
            (true, true) => store::LIST,
        };
        let result = self.run(list, None).await?;
        let rows = result.statements.into_iter().flat_map(|statement| statement.rows);
        Ok(rows
            .map(|mut row| {
                let mut take = |at: usize| row.get_mut(at).and_then(Option::take);
                AppliedMigration {
                    version: take(0).unwrap_or_default(),
                    name: take(1),
                    statements: take(2).and_then(|text| text.parse().ok()).unwrap_or_default(),
                    checksum: take(3),
                    applied_at: take(4),
                }
            })
            .collect())
    }

    /// Applies what has not run. A dry run applies all of it in one transaction and takes it back.
    pub(super) async fn apply(&mut self, files: Vec<MigrationFile>, dry_run: bool) -> Result<Outcome, Error> {
        self.lock().await?;
        let plan = plan(files, &self.ledger().await?).map_err(Error::Migration)?;
        let mut outcome = Outcome { applied: Vec::new(), skipped: plan.skipped };
        if plan.pending.is_empty() {
            return Ok(outcome);
        }
        if dry_run {
            self.run("begin", None).await?;
        }
        self.run(store::CREATE, None).await?;
        for pending in plan.pending {
            let started = Instant::now();
            if !dry_run {
                self.run("begin", None).await?;
            }
            if let Err(mut failure) = self.file(&pending).await {
                // The session is closed next, which would do it as well.
                let _ = self.run("rollback", None).await;
                if let (Error::Migration(failure), false) = (&mut failure, dry_run) {
                    failure.applied = outcome.applied.into_iter().map(|(version, ..)| version).collect();
                }
                return Err(failure);
            }
            if !dry_run {
                self.run("commit", None)
                    .await
                    .map_err(|error| failure_of(&pending, pending.statements.len(), error))?;
            }
            outcome.applied.push((pending.file.version, pending.file.name, started.elapsed()));
        }
        if dry_run {
            self.run("rollback", None).await?;
        }
        Ok(outcome)
    }

    async fn file(&mut self, pending: &Pending) -> Result<(), Error> {
        for (at, statement) in pending.statements.iter().enumerate() {
            self.run(&statement.text, None).await.map_err(|error| failure_of(pending, at, error))?;
        }
        self.run(store::RESET, None).await?;
        let texts: Vec<&str> = pending.statements.iter().map(|statement| statement.text.as_str()).collect();
        let (file, texts) = (&pending.file, json!(texts).to_string());
        let params = [file.version.clone(), file.name.clone(), texts, pending.checksum.clone()].map(Some);
        self.run(store::INSERT, Some(&params)).await.map(drop)
    }
}

fn is_true(result: &ScriptResult, column: usize) -> bool {
    let row = result.statements.first().and_then(|statement| statement.rows.first());
    row.and_then(|row| row.get(column)).is_some_and(|value| value.as_deref() == Some("t"))
}

/// PostgreSQL's error as one of the file; other errors stay what they are.
fn failure_of(pending: &Pending, at: usize, error: Error) -> Error {
    let (sqlstate, message, detail, hint, position) = match error {
        Error::Sql(db, _) => (Some(db.code), db.message, db.detail, db.hint, db.position),
        Error::SqlTimeout(limit) => {
            (Some("57014".to_owned()), format!("the statement was cancelled after {limit} ms"), None, None, None)
        }
        other => return other,
    };
    // Constraints that are checked at the end fail with the commit.
    let statement = pending.statements.get(at);
    Error::Migration(Box::new(MigrationFailure {
        version: pending.file.version.clone(),
        name: pending.file.name.clone(),
        line: statement.map_or(1, |statement| line_of(statement, position)),
        statement: statement.map_or_else(|| "commit".to_owned(), |statement| shown(&statement.text)),
        message,
        sqlstate,
        detail,
        hint,
        applied: Vec::new(),
    }))
}

impl Outcome {
    pub(super) fn view(&self, dry_run: bool) -> Value {
        let applied = self.applied.iter().map(|(version, name, duration)| {
            json!({ "version": version, "name": name, "duration_ms": u64::try_from(duration.as_millis()).unwrap_or(u64::MAX) })
        });
        json!({ "applied": applied.collect::<Vec<_>>(), "skipped": self.skipped, "dry_run": dry_run })
    }
}
