//! Which files are to run, and what of each. Pure.

use std::collections::HashMap;

use base::digest;
use pg::statements::{ScanError, Statement, split};

use super::{AppliedMigration, MigrationFailure, MigrationFile};

/// Characters of a statement that a failure shows.
const SHOWN: usize = 200;

/// A file that has not run, cut into its statements.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) file: MigrationFile,
    pub(super) checksum: String,
    pub(super) statements: Vec<Statement>,
}

/// What is to be done.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) pending: Vec<Pending>,
    /// Versions that have run.
    pub(super) skipped: Vec<String>,
}

/// Compares files with the ledger.
///
/// # Errors
/// The first file, in order, that was changed after it ran, that comes before one that ran, or that cannot be cut.
pub(super) fn plan(mut files: Vec<MigrationFile>, ledger: &[AppliedMigration]) -> Result<Plan, Box<MigrationFailure>> {
    files.sort_by(|a, b| a.version.cmp(&b.version));
    let recorded: HashMap<&str, &AppliedMigration> = ledger.iter().map(|row| (row.version.as_str(), row)).collect();
    let newest = ledger.iter().map(|row| row.version.as_str()).max().unwrap_or_default();
    let mut plan = Plan::default();
    for file in files {
        let checksum = digest::sha256_hex(file.sql.as_bytes());
        match recorded.get(file.version.as_str()) {
            Some(row) if row.checksum.as_ref().is_some_and(|recorded| *recorded != checksum) => {
                let what = "this file was changed after it had been applied";
                let hint = "put the file back as it was, and make the change in a new one";
                return Err(refused(&file, 1, "", what, Some(hint)));
            }
            Some(_) => plan.skipped.push(file.version),
            None if *file.version < *newest => {
                let what = format!("this file comes before {newest}, which was applied already");
                return Err(refused(&file, 1, "", &what, Some("give it a version of its own, newer than all others")));
            }
            None => {
                let statements = cut(&file)?;
                plan.pending.push(Pending { file, checksum, statements });
            }
        }
    }
    Ok(plan)
}

/// The statements of a file, without a BEGIN and COMMIT around all of them.
fn cut(file: &MigrationFile) -> Result<Vec<Statement>, Box<MigrationFailure>> {
    let mut statements = split(&file.sql).map_err(|error| {
        let line = match &error {
            ScanError::TooLong { line, .. } | ScanError::NotUtf8 { line } | ScanError::Unterminated { line } => *line,
            ScanError::Sink(_) => 1,
        };
        refused(file, line, "", &error.to_string(), None)
    })?;
    let word = |statement: &Statement| {
        statement.text.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default().to_ascii_lowercase()
    };
    let wraps = |first: &Statement, last: &Statement| {
        matches!(word(first).as_str(), "begin" | "start") && matches!(word(last).as_str(), "commit" | "end")
    };
    if let [first, .., last] = statements.as_slice()
        && wraps(first, last)
    {
        statements.pop();
        statements.remove(0);
    }
    for statement in &statements {
        let what = match word(statement).as_str() {
            "begin" | "start" | "commit" | "end" | "rollback" | "abort" => {
                "a file is one transaction already, which no statement of it may begin or end"
            }
            _ if statement.copies => "COPY ... FROM stdin has its data in the file, which only psql can send",
            _ => continue,
        };
        return Err(refused(file, statement.line, &statement.text, what, None));
    }
    Ok(statements)
}

fn refused(
    file: &MigrationFile,
    line: u64,
    statement: &str,
    message: &str,
    hint: Option<&str>,
) -> Box<MigrationFailure> {
    Box::new(MigrationFailure {
        version: file.version.clone(),
        name: file.name.clone(),
        line,
        statement: shown(statement),
        message: message.to_owned(),
        sqlstate: None,
        detail: None,
        hint: hint.map(str::to_owned),
        applied: Vec::new(),
    })
}

/// A statement's beginning.
pub(super) fn shown(statement: &str) -> String {
    statement.chars().take(SHOWN).collect()
}

/// The line of the file in which a statement's character `position` (from 1) stands.
pub(super) fn line_of(statement: &Statement, position: Option<u32>) -> u64 {
    let before = usize::try_from(position.unwrap_or(1)).unwrap_or(1).saturating_sub(1);
    statement.line + statement.text.chars().take(before).filter(|c| *c == '\n').count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(version: &str, sql: &str) -> MigrationFile {
        MigrationFile { version: version.to_owned(), name: "x".to_owned(), sql: sql.to_owned() }
    }

    fn row(version: &str, checksum: Option<String>) -> AppliedMigration {
        AppliedMigration { version: version.to_owned(), name: None, statements: 1, checksum, applied_at: None }
    }

    #[test]
    fn what_has_run_is_left_out_and_must_not_change() {
        let ledger = [row("1", Some(digest::sha256_hex(b"a"))), row("2", None)];
        let found = plan(vec![file("3", "c"), file("1", "a"), file("2", "anything")], &ledger).unwrap();
        assert_eq!(found.skipped, ["1", "2"]);
        assert_eq!(found.pending.iter().map(|p| p.file.version.as_str()).collect::<Vec<_>>(), ["3"]);
        let check = |files: Vec<MigrationFile>, expected: &str| {
            let failure = plan(files, &ledger).unwrap_err();
            assert!(failure.message.contains(expected), "{failure:?}");
        };
        check(vec![file("1", "b")], "changed after");
        check(vec![file("15", "b")], "comes before 2");
    }

    #[test]
    fn a_file_is_one_transaction() {
        let texts = |sql: &str| -> Vec<String> { cut(&file("1", sql)).unwrap().into_iter().map(|s| s.text).collect() };
        assert_eq!(texts("begin;\nselect 1;\ncommit;"), ["select 1"]);
        assert_eq!(texts("START TRANSACTION; a; b; END"), ["a", "b"]);
        assert_eq!(texts("do $$ begin commit; end $$"), ["do $$ begin commit; end $$"]);
        for (sql, line) in [("a;\ncommit;\nb", 2), ("begin; a; commit; b", 1), ("\ncopy t from stdin;\n\\.\n", 2)] {
            assert_eq!(cut(&file("1", sql)).unwrap_err().line, line, "{sql}");
        }
        let statement = Statement { text: "select\n1,\n  x".to_owned(), line: 7, copies: false };
        assert_eq!((line_of(&statement, Some(13)), line_of(&statement, None)), (9, 7));
    }
}
