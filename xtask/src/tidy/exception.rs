//! Files that a rule does not bind, each with its reason.

use super::Violation;
use super::tree::TextFile;

/// A rule that can have exceptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// More than 600 lines.
    Length,
    /// SQL text outside the places for it (invariant 3).
    Sql,
    /// State that belongs to the process (invariant 7).
    State,
    /// The environment (invariant 8).
    Environment,
    /// A task that belongs to no set (invariant 9).
    Task,
    /// The system's clock (invariant 10).
    Time,
    /// A path of one machine.
    MachinePath,
}

struct Exception {
    rule: Rule,
    /// A file, or a folder ending in `/`.
    path: &'static str,
    reason: &'static str,
}

const fn except(rule: Rule, path: &'static str, reason: &'static str) -> Exception {
    Exception { rule, path, reason }
}

const EXCEPTIONS: &[Exception] = &[
    except(Rule::Environment, "crates/launchdb/src/config", "the one place that reads it"),
    except(Rule::Environment, "xtask/", "a tool for developers"),
    except(Rule::Time, "crates/base/src/clock.rs", "the clock itself"),
    except(Rule::Time, "crates/launchdb/src/cli/doctor.rs", "compares the machine's own clock with the server's"),
    except(Rule::Sql, "crates/platform/src/baseline/", "applies the SQL files beside it, ledger included"),
    except(Rule::Sql, "crates/rest/src/cache_slot.rs", "the schema version, which belongs to the schema cache"),
    except(
        Rule::Sql,
        "crates/platform/src/backup/load.rs",
        "tells the kinds of a dump's statements apart by their first words",
    ),
    except(Rule::Sql, "crates/platform/src/backup/template_part.rs", "the same, for what a dump has of the template"),
    except(Rule::Sql, "crates/rest/src/grant_hint.rs", "a statement for people to read, never run"),
    except(Rule::MachinePath, "xtask/src/tidy/", "names what it looks for"),
];

/// Whether `rule` does not bind `path`.
pub(super) fn is_excepted(rule: Rule, path: &str) -> bool {
    EXCEPTIONS.iter().any(|exception| exception.rule == rule && covers(exception.path, path))
}

fn covers(exception: &str, path: &str) -> bool {
    path == exception
        || path.strip_prefix(exception).is_some_and(|rest| {
            exception.ends_with('/') || rest.starts_with('/') || (rest.starts_with(".rs") && rest.len() == 3)
        })
}

/// An exception without a reason, or for files that are gone, is itself a violation.
pub(super) fn check(files: &[TextFile], violations: &mut Vec<Violation>) {
    for exception in EXCEPTIONS {
        let used = files.iter().any(|file| covers(exception.path, &file.path));
        if !used || exception.reason.len() < 10 {
            let what = format!("the exception from {:?} has no file or no reason any more", exception.rule);
            violations.push(Violation { file: exception.path.to_owned(), line: 0, what });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exception_covers_a_module_and_its_folder() {
        assert!(covers("a/config", "a/config.rs") && covers("a/config", "a/config/x.rs"));
        assert!(covers("a/", "a/b.rs") && covers("a/b.rs", "a/b.rs"));
        assert!(!covers("a/config", "a/config_file.rs"));
    }
}
