//! What can go wrong between us and PostgreSQL.

use std::sync::Arc;

/// An ErrorResponse of PostgreSQL (protocol docs, "Error and Notice Message Fields").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DbError {
    /// SQLSTATE, five characters.
    pub code: String,
    pub severity: String,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
    pub schema: Option<String>,
    pub table: Option<String>,
    pub column: Option<String>,
    pub constraint: Option<String>,
    /// Character position in the statement, 1-based.
    pub position: Option<u32>,
    /// The statement had been prepared before; prepared anew it may succeed.
    pub stale: bool,
    /// A pooler says so, not PostgreSQL: PgBouncer has no field for the severity that is the same in every language.
    pub by_pooler: bool,
}

/// Longest text of an error that is kept, in bytes.
const LONGEST_FIELD: usize = 64 * 1024;

#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The statement failed; the connection is fine.
    #[error("{}: {}", .0.code, .0.message)]
    Db(Box<DbError>),
    /// No connection could be made.
    #[error("cannot connect to PostgreSQL: {0}")]
    Connect(Arc<dyn std::error::Error + Send + Sync>),
    /// PostgreSQL refused the connection (wrong password, no such database, too many connections, starting up).
    #[error("PostgreSQL refused the connection: {}: {}", .0.code, .0.message)]
    Refused(Box<DbError>),
    /// The connection broke while an exchange was under way; whether it was committed is unknown.
    #[error("the connection to PostgreSQL was lost")]
    Lost,
    /// The server ended the connection before it began with the exchange; nothing was run.
    #[error("the connection to PostgreSQL was ended")]
    NotStarted,
    /// No connection became free in time.
    #[error("timed out acquiring a connection from the pool")]
    AcquireTimeout,
    /// So many requests wait for a connection already that this one was not queued.
    #[error("too many requests are waiting for a connection")]
    Overloaded,
    /// The schema version that the exchange was made for has moved; nothing was run.
    #[error("the schema has changed")]
    SchemaMoved,
    /// PostgreSQL sent something this driver does not understand.
    #[error("unexpected message from PostgreSQL: {0}")]
    Protocol(&'static str),
}

impl DbError {
    /// An error told as PostgreSQL would tell it.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            severity: "ERROR".to_owned(),
            message: message.into(),
            detail: None,
            hint: None,
            schema: None,
            table: None,
            column: None,
            constraint: None,
            position: None,
            stale: false,
            by_pooler: false,
        }
    }

    /// Whether the session ends with it (protocol docs: severity FATAL or PANIC).
    pub(crate) fn is_fatal(&self) -> bool {
        matches!(self.severity.as_str(), "FATAL" | "PANIC")
    }

    /// In place of an error whose text is too long to be held in memory: stored code can raise any.
    pub(crate) fn too_long() -> Self {
        Self::new("54000", "PostgreSQL's error message is too long")
    }

    /// In place of rows that are too long to be held in memory together.
    pub(crate) fn result_too_long() -> Self {
        Self {
            hint: Some("Ask for fewer rows or columns.".to_owned()),
            ..Self::new("54000", "the result is too long to be held in memory")
        }
    }

    /// Reads the fields of an ErrorResponse.
    pub(crate) fn read(mut fields: postgres_protocol::message::backend::ErrorFields<'_>) -> std::io::Result<Self> {
        use fallible_iterator::FallibleIterator as _;
        let mut error = Self { by_pooler: true, ..Self::new("", "") };
        let mut severity = String::new();
        while let Some(field) = fields.next()? {
            let bytes = field.value_bytes();
            // Stored code can raise any text; nobody reads more of it.
            let text = || String::from_utf8_lossy(&bytes[..bytes.len().min(LONGEST_FIELD)]).into_owned();
            match field.type_() {
                b'C' => error.code = text(),
                b'V' => (error.severity, error.by_pooler) = (text(), false),
                b'S' => severity = text(),
                b'M' => error.message = text(),
                b'D' => error.detail = Some(text()),
                b'H' => error.hint = Some(text()),
                b's' => error.schema = Some(text()),
                b't' => error.table = Some(text()),
                b'c' => error.column = Some(text()),
                b'n' => error.constraint = Some(text()),
                b'P' => error.position = text().parse().ok(),
                _ => {}
            }
        }
        if error.by_pooler {
            error.severity = severity;
        }
        Ok(error)
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use postgres_protocol::message::backend::Message;

    use super::*;

    fn read(fields: &str) -> DbError {
        let mut message = BytesMut::from(&b"E"[..]);
        message.extend_from_slice(&u32::try_from(fields.len() + 4).unwrap().to_be_bytes());
        message.extend_from_slice(fields.as_bytes());
        let Some(Message::ErrorResponse(body)) = Message::parse(&mut message).unwrap() else { panic!("{fields:?}") };
        DbError::read(body.fields()).unwrap()
    }

    #[test]
    fn whether_postgresql_or_a_pooler_ends_the_session_is_seen() {
        // What PostgreSQL 15 in German and PgBouncer 1.18 send.
        let postgresql = read("SFATAL\0VFATAL\0C57P01\0Mbreche Verbindung ab\0\0");
        assert!(postgresql.is_fatal() && !postgresql.by_pooler);
        let statement = read("SFEHLER\0VERROR\0C42P01\0MRelation nicht da\0\0");
        assert!(!statement.is_fatal() && !statement.by_pooler);
        let pooler = read("SFATAL\0C08P01\0Mquery_wait_timeout\0\0");
        assert!(pooler.is_fatal() && pooler.by_pooler);
    }
}
