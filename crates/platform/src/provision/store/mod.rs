//! Provisioning's SQL: rows of the platform database, and the roles and databases of the cluster.
//!
//! What is created carries a comment that says whose it is (see [`Marker`]).

pub(super) mod cluster;
pub(super) mod database;
pub(super) mod extension;
pub(super) mod login;
pub(super) mod project;
pub(super) mod restored;
pub(super) mod role;
pub(super) mod storage_parameters;

use tokio_postgres::error::SqlState;

/// What stands in the comment of a database or role that this installation made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Marker {
    /// The installation's random id.
    pub(super) instance: String,
    /// The project, or `template`.
    pub(super) subject: String,
    /// `spare` or `project` on databases: one that was handed out is never removed as an orphan.
    pub(super) state: String,
}

impl Marker {
    const PREFIX: &str = "LaunchDB";

    pub(super) fn text(&self) -> String {
        [Self::PREFIX, &self.instance, &self.subject, &self.state].join(":")
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let (prefix, instance, subject, state) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        (prefix == Self::PREFIX && parts.next().is_none()).then(|| Self {
            instance: instance.to_owned(),
            subject: subject.to_owned(),
            state: state.to_owned(),
        })
    }
}

/// The unique constraint or index that a statement failed at.
pub(super) fn violated(error: &tokio_postgres::Error) -> Option<&str> {
    let db = error.as_db_error()?;
    if *db.code() == SqlState::UNIQUE_VIOLATION { db.constraint() } else { None }
}

#[cfg(test)]
mod tests {
    use super::Marker;

    #[test]
    fn only_our_own_comments_are_markers() {
        let marker = Marker { instance: "0123".into(), subject: "proj_abc".into(), state: "spare".into() };
        assert_eq!(Marker::parse(&marker.text()), Some(marker));
        for text in ["", "LaunchDB", "LaunchDB:a:b", "LaunchDB:a:b:c:d", "my LaunchDB:a:b:c", "a database"] {
            assert_eq!(Marker::parse(text), None, "{text:?}");
        }
    }
}
