//! All SQL of the auth service. What is stored: users, their identities and sessions, hashes of refresh tokens and of
//! one-time tokens, waiting mails and the audit log, all in the project's own database. What is not: any token or code
//! that would open something by itself, except in mails that are not sent yet.
//!
//! Statements run as `supabase_auth_admin` (`pg::claims` sets the role), in UTC. Rows come as JSON where they are whole.
//! Locks are taken in this order: user, session, tokens.

pub(crate) mod audit;
pub(crate) mod factor;
pub(crate) mod flow_state;
pub(crate) mod hook;
pub(crate) mod identity;
pub(crate) mod mail;
pub(crate) mod one_time_token;
pub(crate) mod passkey;
pub(crate) mod refresh_token;
pub(crate) mod session;
pub(crate) mod sweep;
pub(crate) mod user;
pub(crate) mod user_list;

use bytes::Bytes;
use pg::claims::Claims;
use pg::{OpenTransaction, Pool, Query, Row};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::error::{Error, ErrorCode};
use crate::timestamp::Timestamp;

const ROLE: &str = "supabase_auth_admin";
/// Longest a statement may run: triggers of the project are part of it.
const STATEMENT_TIMEOUT_MS: &str = "10000";
const SETTINGS: [(&str, &str); 3] =
    [("search_path", "auth"), ("timezone", "UTC"), ("statement_timeout", STATEMENT_TIMEOUT_MS)];

fn claims(read_only: bool) -> Claims<'static> {
    Claims { role: ROLE, jwt_claims: "{}", read_only, settings: &SETTINGS, ..Claims::default() }
}

/// A parameter in text format.
pub(crate) struct Param(Option<Bytes>);

impl From<&str> for Param {
    fn from(text: &str) -> Self {
        Self(Some(Bytes::copy_from_slice(text.as_bytes())))
    }
}

impl From<String> for Param {
    fn from(text: String) -> Self {
        Self(Some(Bytes::from(text)))
    }
}

impl From<&String> for Param {
    fn from(text: &String) -> Self {
        text.as_str().into()
    }
}

impl From<i64> for Param {
    fn from(number: i64) -> Self {
        number.to_string().into()
    }
}

impl From<bool> for Param {
    fn from(flag: bool) -> Self {
        (if flag { "t" } else { "f" }).into()
    }
}

impl From<Uuid> for Param {
    fn from(id: Uuid) -> Self {
        id.to_string().into()
    }
}

impl From<Timestamp> for Param {
    fn from(at: Timestamp) -> Self {
        at.to_string().into()
    }
}

impl From<&Value> for Param {
    fn from(json: &Value) -> Self {
        json.to_string().into()
    }
}

impl From<&Map<String, Value>> for Param {
    fn from(json: &Map<String, Value>) -> Self {
        serde_json::to_string(json).unwrap_or_default().into()
    }
}

/// A PostgreSQL array of texts.
impl From<&[&str]> for Param {
    fn from(texts: &[&str]) -> Self {
        let quoted: Vec<String> =
            texts.iter().map(|text| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))).collect();
        format!("{{{}}}", quoted.join(",")).into()
    }
}

impl<T: Into<Param>> From<Option<T>> for Param {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self(None), Into::into)
    }
}

/// A statement with its parameters.
pub(crate) fn query<const N: usize>(sql: &str, params: [Param; N]) -> Query {
    Query { sql: sql.into(), params: params.into_iter().map(|param| param.0).collect() }
}

/// An open transaction. Dropping it rolls back.
pub(crate) struct Tx(OpenTransaction);

impl Tx {
    pub(crate) async fn begin(pool: &Pool) -> Result<Self, Error> {
        Ok(Self::begin_with(pool, Vec::new()).await?.1)
    }

    /// Begins with statements that go over in the same round trip; the rows are those of each.
    pub(crate) async fn begin_with(pool: &Pool, first: Vec<Query>) -> Result<(Vec<Vec<Row>>, Self), Error> {
        let (rows, transaction) = pool.transaction(&claims(false), first).await.map_err(db_error)?;
        Ok((rows.into_iter().map(|rows| rows.rows).collect(), Self(transaction)))
    }

    pub(crate) async fn query<const N: usize>(&mut self, sql: &str, params: [Param; N]) -> Result<Vec<Row>, Error> {
        self.run(&query(sql, params)).await.map_err(db_error)
    }

    /// As [`Self::query`], for callers that know what an error of PostgreSQL means.
    pub(crate) async fn run(&mut self, query: &Query) -> Result<Vec<Row>, pg::Error> {
        Ok(self.0.query(query).await?.rows)
    }

    /// The last statement and the commit, in one round trip.
    pub(crate) async fn query_and_commit<const N: usize>(self, sql: &str, params: [Param; N]) -> Result<(), Error> {
        self.0.query_and_commit(&query(sql, params)).await.map(drop).map_err(db_error)
    }

    pub(crate) async fn commit(self) -> Result<(), Error> {
        // Deferred triggers and constraints of the project run now.
        self.0.commit().await.map_err(db_error)
    }
}

/// Runs statements that only read, in one round trip that others may share.
pub(crate) async fn read(pool: &Pool, queries: Vec<Query>) -> Result<Vec<Vec<Row>>, Error> {
    let results = pool.read(&claims(true), queries).await.map_err(db_error)?;
    Ok(results.into_iter().map(|rows| rows.rows).collect())
}

/// What an error of PostgreSQL means to the client where nobody knows better: text that cannot be stored is theirs, and
/// so is what a trigger of the project refused, which is our own failure to GoTrue's clients.
pub(crate) fn db_error(error: pg::Error) -> Error {
    match &error {
        // untranslatable_character, character_not_in_repertoire
        pg::Error::Db(cause) if cause.code == "22P05" || cause.code == "22021" => {
            Error::invalid("The request has characters that cannot be stored").because(error)
        }
        // numeric_value_out_of_range, string_data_right_truncation
        pg::Error::Db(cause) if cause.code == "22003" || cause.code == "22001" => {
            Error::invalid("The request has a value that is too long or too large").because(error)
        }
        _ => error.into(),
    }
}

/// The constraint that an error is about.
pub(crate) fn violated(error: &pg::Error) -> Option<&str> {
    match error {
        pg::Error::Db(cause) if cause.code == "23505" => cause.constraint.as_deref(),
        _ => None,
    }
}

/// The first column of the first row.
fn first_json<T: DeserializeOwned>(rows: &[Row]) -> Result<Option<T>, Error> {
    rows.first().map(|row| json_column(row, 0)).transpose()
}

fn json_column<T: DeserializeOwned>(row: &Row, column: usize) -> Result<T, Error> {
    let bytes = row.bytes(column).unwrap_or_default();
    serde_json::from_slice(&bytes)
        .map_err(|error| Error::new(ErrorCode::UnexpectedFailure, "Database error reading a row").because(error))
}

fn uuid_column(row: &Row, column: usize) -> Option<Uuid> {
    row.text(column).and_then(|text| Uuid::parse_str(text).ok())
}
