//! What errors tell of things that the request did not name: "perhaps you meant", and the choices of an ambiguous one.

use super::Error;
use crate::identifier::QualifiedIdentifier;

/// A text about something in the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suggestion {
    pub about: Subject,
    /// The whole sentence of a hint; the signature of a function to choose.
    pub text: String,
}

/// What a text gives away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    Relation(QualifiedIdentifier),
    /// Functions of one name, by their `pg_proc.oid`: any of them will do.
    Routines(Vec<u32>),
    /// A column, its relation as PostgreSQL's hint calls it.
    Column {
        relation: String,
        column: String,
    },
}

impl Error {
    /// Everything that is told.
    pub(crate) fn subjects(&self) -> Vec<Subject> {
        let of = |suggestions: &[Suggestion]| suggestions.iter().map(|s| s.about.clone()).collect();
        match self {
            Self::TableNotFound { hint, .. } => of(hint),
            Self::NoRelBetween(error) => of(&error.hint),
            Self::NoRpc(error) => of(&error.hint),
            Self::AmbiguousRpc(candidates) => of(candidates),
            Self::AmbiguousRelBetween(error) => {
                error.candidates.iter().flat_map(|candidate| candidate.about.iter().cloned()).collect()
            }
            Self::Db(cause) if cause.code == UNDEFINED_COLUMN => {
                cause.hint.as_deref().map(columns_of_hint).unwrap_or_default()
            }
            _ => Vec::new(),
        }
    }

    /// Takes away what tells of things that are not `visible`.
    pub(crate) fn retain_visible(&mut self, visible: impl Fn(&Subject) -> bool) {
        match self {
            Self::TableNotFound { hint, .. } => hint.retain(|s| visible(&s.about)),
            Self::NoRelBetween(error) => error.hint.retain(|s| visible(&s.about)),
            Self::NoRpc(error) => error.hint.retain(|s| visible(&s.about)),
            Self::AmbiguousRpc(candidates) => candidates.retain(|s| visible(&s.about)),
            Self::AmbiguousRelBetween(error) => error.candidates.retain(|c| c.about.iter().all(&visible)),
            Self::Db(cause) if cause.code == UNDEFINED_COLUMN => {
                let columns = cause.hint.as_deref().map(columns_of_hint).unwrap_or_default();
                if columns.is_empty() || !columns.iter().all(visible) {
                    cause.hint = None;
                }
            }
            _ => {}
        }
    }
}

const UNDEFINED_COLUMN: &str = "42703";

/// The columns in `Perhaps you meant to reference the column "a.b" or the column "a.c".` PostgreSQL compares with all
/// columns of a relation, whatever the role may read.
fn columns_of_hint(hint: &str) -> Vec<Subject> {
    if !hint.starts_with("Perhaps you meant to reference the column ") {
        return Vec::new();
    }
    // What is quoted is every second part. A name with a quote in it gives nonsense, which is found nowhere.
    let quoted = hint.split('"').skip(1).step_by(2);
    let column = |text: &str| match text.split_once('.') {
        Some((relation, column)) => Subject::Column { relation: relation.to_owned(), column: column.to_owned() },
        None => Subject::Column { relation: String::new(), column: text.to_owned() },
    };
    quoted.map(column).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_columns_of_postgresqls_hint_are_found() {
        let column =
            |relation: &str, column: &str| Subject::Column { relation: relation.into(), column: column.into() };
        let check = |hint: &str, expected: &[Subject]| assert_eq!(columns_of_hint(hint), expected, "{hint}");
        check(r#"Perhaps you meant to reference the column "t.secret"."#, &[column("t", "secret")]);
        check(
            r#"Perhaps you meant to reference the column "t.a" or the column "t_1.b"."#,
            &[column("t", "a"), column("t_1", "b")],
        );
        check("No function matches the given name and argument types.", &[]);
    }
}
