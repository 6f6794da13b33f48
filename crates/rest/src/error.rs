//! What the data API answers when it cannot do what was asked: the one table of statuses, codes and texts (PostgREST
//! docs, "Errors"). Codes and texts are PostgREST's own, because clients match on them.

mod pg_error;
mod suggestion;
mod wire;

use base::jwt::JwtError;

use crate::limit::Limit;

pub use pg_error::RaiseError;
pub use suggestion::{Subject, Suggestion};
pub use wire::{payload, render};

/// Everything that can end a request of the data API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    // Group 0: connection.
    /// PGRST000: no connection to PostgreSQL could be made; holds PostgreSQL's or the system's words.
    Connection(String),
    /// PGRST001: the connection broke while the request was under way; holds what was seen.
    Client(String),
    /// PGRST002: the schema cache could not be loaded.
    SchemaCacheUnavailable,
    /// PGRST003: no connection became free in time.
    AcquireTimeout,
    /// PGRST003: too many requests wait for a connection already.
    Overloaded,

    // Group 1: the request.
    /// PGRST100: a parameter of the query string cannot be read.
    QueryParam(Box<QueryParamError>),
    /// PGRST100, PGRST102, PGRST107 or PGRST122: there is more of something than we take. Not known to PostgREST.
    Limit(Limit),
    /// PGRST101: only GET, HEAD, POST and OPTIONS on a function; holds the method.
    InvalidRpcMethod(String),
    /// PGRST102: the body cannot be read as what it claims to be; holds the message.
    InvalidBody(String),
    /// PGRST103.
    InvalidRange(RangeError),
    /// PGRST105: PUT without exactly the primary key's columns as `eq` filters.
    InvalidFilters,
    /// PGRST106: a schema that is not exposed.
    UnacceptableSchema { schema: String, exposed: Vec<String> },
    /// PGRST107: none of the media types asked for can be made; holds them as printed.
    MediaType(Vec<String>),
    /// PGRST108: a filter, order or limit names a resource that is not embedded.
    NotEmbedded(String),
    /// PGRST111.
    GucHeaders,
    /// PGRST111: `response.headers` names a header that frames the answer.
    GucFraming(String),
    /// PGRST112.
    GucStatus,
    /// PGRST114: PUT with limit or offset.
    PutLimitNotAllowed,
    /// PGRST115: PUT whose payload has other primary key values than the URL.
    PutMatchingPk,
    /// PGRST116: one object was asked for, and there are this many rows.
    Singularity(i64),
    /// PGRST117.
    UnsupportedMethod(String),
    /// PGRST118: order by a column of a relation that is not to-one.
    RelatedOrderNotToOne { origin: String, target: String },
    /// PGRST120: only null filters may stand on an embedded resource itself.
    UnacceptableFilter(String),
    /// PGRST121: a `RAISE SQLSTATE 'PGRST'` whose JSON cannot be read.
    Raise(RaiseError),
    /// PGRST122: unknown preferences with `handling=strict`.
    InvalidPreferences(Vec<String>),
    /// PGRST123.
    AggregatesNotAllowed,
    /// PGRST124: more rows affected than `max-affected` allows; holds how many.
    MaxAffectedViolation(i64),
    /// PGRST125.
    InvalidResourcePath,
    /// PGRST126.
    OpenApiDisabled,
    /// PGRST127; holds the details.
    NotImplemented(String),
    /// PGRST128: `max-affected` on a function that does not return a set.
    MaxAffectedRpcViolation,

    // Group 2: the schema cache. Hints are computed where the schema cache is known.
    /// PGRST200.
    NoRelBetween(Box<NoRelBetween>),
    /// PGRST201.
    AmbiguousRelBetween(Box<AmbiguousRelBetween>),
    /// PGRST202.
    NoRpc(Box<NoRpc>),
    /// PGRST203: several functions fit; each is given as `schema.name(param => type, ...)`.
    AmbiguousRpc(Vec<Suggestion>),
    /// PGRST204.
    ColumnNotFound { relation: String, column: String },
    /// PGRST205. The first hint is shown: "Perhaps you meant the table 'schema.name'".
    TableNotFound { schema: String, name: String, hint: Vec<Suggestion> },

    // Group 3: authentication.
    /// PGRST300.
    JwtSecretMissing,
    /// PGRST301: `Authorization: Bearer` without a token.
    EmptyJwt,
    /// PGRST301 or PGRST303.
    Jwt(JwtError),
    /// PGRST302: no token, and no role for those without one.
    JwtTokenRequired,

    /// An error of PostgreSQL, with its SQLSTATE as code.
    Db(Box<pg::DbError>),
    /// The schema moved after the request was planned; the engine plans again. Shown as PGRST002 if it gets that far.
    SchemaMoved,
    /// PGRSTX00: a bug of ours; holds what happened, which is for the log and never sent.
    Internal(String),
}

/// PGRST100. The texts have the form of PostgREST's parser library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryParamError {
    /// `"failed to parse filter (...)" (line 1, column 1)`
    pub message: String,
    /// `unexpected ... expecting ...`
    pub details: String,
}

/// PGRST103.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeError {
    NegativeLimit,
    /// The Range header's first bound is above its second.
    LowerGtUpper,
    /// The offset lies behind the last row.
    OutOfBounds {
        offset: u64,
        total: i64,
    },
}

/// PGRST200.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoRelBetween {
    pub parent: String,
    pub child: String,
    /// What stood behind `!`.
    pub embed_hint: Option<String>,
    pub schema: String,
    /// The first is shown: "Perhaps you meant 'films' instead of 'film'."
    pub hint: Vec<Suggestion>,
}

/// PGRST201.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AmbiguousRelBetween {
    pub parent: String,
    pub child: String,
    pub candidates: Vec<AmbiguousRel>,
}

/// One of the relationships that fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AmbiguousRel {
    /// `one-to-many`, `many-to-one`, `one-to-one`, `many-to-many`
    pub cardinality: &'static str,
    /// `message with person`
    pub embedding: String,
    /// `message_sender_fkey using message(sender) and person(id)`
    pub relationship: String,
    /// What would select it: `person!message_sender_fkey`, unquoted.
    pub suggestion: String,
    /// The relations it names.
    pub about: Vec<Subject>,
}

/// PGRST202.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoRpc {
    pub schema: String,
    pub name: String,
    /// Names of the arguments that were given, sorted.
    pub arguments: Vec<String>,
    /// What a single unnamed parameter would have to be; set for POST only.
    pub unnamed: Option<UnnamedParameter>,
    /// The first is shown ("Perhaps you meant to call the function ..."); ignored when only a single unnamed
    /// parameter could have fitted.
    pub hint: Vec<Suggestion>,
}

/// The type of a function's single unnamed parameter, by the request's Content-Type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnnamedParameter {
    /// application/json; the body may also be named arguments.
    Json,
    /// text/plain
    Text,
    /// text/xml
    Xml,
    /// application/octet-stream
    Bytea,
}

impl From<pg::Error> for Error {
    fn from(error: pg::Error) -> Self {
        match error {
            pg::Error::Db(db) => Self::Db(db),
            pg::Error::Connect(cause) => Self::Connection(cause.to_string()),
            pg::Error::Refused(db) => Self::Connection(db.message),
            pg::Error::Lost | pg::Error::NotStarted => Self::Client(error.to_string()),
            pg::Error::AcquireTimeout => Self::AcquireTimeout,
            pg::Error::Overloaded => Self::Overloaded,
            pg::Error::SchemaMoved => Self::SchemaMoved,
            pg::Error::Protocol(what) => Self::Internal(what.to_owned()),
        }
    }
}

impl Error {
    /// A write while the disk is nearly full, told as PostgreSQL would tell that it is full.
    pub(crate) fn writes_refused(reason: base::write_gate::WritesRefused) -> Self {
        let hint = "Reads go on; try again when the server's operator has made room.".to_owned();
        // disk_full
        Self::Db(Box::new(pg::DbError { hint: Some(hint), ..pg::DbError::new("53100", reason.to_string()) }))
    }

    /// A statement that was ended from here, told as PostgreSQL tells it.
    pub(crate) fn statement_timeout() -> Self {
        Self::Db(Box::new(pg::DbError::new("57014", "canceling statement due to statement timeout")))
    }

    /// Whether a newer schema cache could turn this into a success.
    pub fn is_about_schema(&self) -> bool {
        matches!(
            self,
            Self::NoRelBetween(_)
                | Self::AmbiguousRelBetween(_)
                | Self::NoRpc(_)
                | Self::AmbiguousRpc(_)
                | Self::ColumnNotFound { .. }
                | Self::TableNotFound { .. }
                | Self::NotEmbedded(_)
                | Self::UnacceptableFilter(_)
                | Self::RelatedOrderNotToOne { .. }
                | Self::InvalidFilters
                | Self::MediaType(_)
                | Self::MaxAffectedRpcViolation
        )
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Internal(what) => write!(f, "{}: {what}", self.code()),
            _ => write!(f, "{}: {}", self.code(), self.message()),
        }
    }
}

impl std::error::Error for Error {}
