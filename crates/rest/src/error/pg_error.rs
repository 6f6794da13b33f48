//! Errors of PostgreSQL: which HTTP status a SQLSTATE means, and errors that functions raise to control the answer.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue, StatusCode};
use serde::Deserialize;

use super::Error;
use crate::response::guc_header::is_framing;

/// Why a `RAISE SQLSTATE 'PGRST'` could not be honoured (PGRST121).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RaiseError {
    /// MESSAGE is not the JSON it has to be; holds it.
    Message(String),
    /// DETAIL is not the JSON it has to be; holds it.
    Detail(String),
    NoDetail,
}

/// MESSAGE of a `RAISE SQLSTATE 'PGRST'`: becomes the body.
#[derive(Debug, Deserialize)]
pub(super) struct RaisedBody {
    pub(super) code: String,
    pub(super) message: String,
    #[serde(default)]
    pub(super) details: Option<String>,
    #[serde(default)]
    pub(super) hint: Option<String>,
}

/// DETAIL of a `RAISE SQLSTATE 'PGRST'`: becomes status and headers.
#[derive(Debug, Deserialize)]
pub(super) struct RaisedHead {
    status: u16,
    #[serde(default)]
    status_text: Option<String>,
    headers: BTreeMap<String, String>,
}

pub(super) struct Raised {
    pub(super) body: RaisedBody,
    head: RaisedHead,
}

/// The SQLSTATE by which a function controls body, status and headers.
const RAISE: &str = "PGRST";

/// Reads a `RAISE SQLSTATE 'PGRST'`; None when the error is another one.
pub(super) fn raised(db: &pg::DbError) -> Option<Result<Raised, RaiseError>> {
    (db.code == RAISE).then(|| {
        let body = serde_json::from_str(&db.message).map_err(|_| RaiseError::Message(db.message.clone()))?;
        let detail = db.detail.as_deref().ok_or(RaiseError::NoDetail)?;
        let head = serde_json::from_str(detail).map_err(|_| RaiseError::Detail(detail.to_owned()))?;
        Ok(Raised { body, head })
    })
}

impl Raised {
    pub(super) fn status(&self) -> StatusCode {
        final_status(self.head.status)
    }

    pub(super) fn reason(&self) -> Option<&str> {
        self.head.status_text.as_deref()
    }

    pub(super) fn headers(&self) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        self.head
            .headers
            .iter()
            .filter_map(|(name, value)| Some((name.parse().ok()?, HeaderValue::from_bytes(value.as_bytes()).ok()?)))
            .filter(|(name, _)| !is_framing(name))
    }
}

/// A status that ends a request; functions may ask for any number.
fn final_status(status: u16) -> StatusCode {
    StatusCode::from_u16(status).ok().filter(|s| !s.is_informational()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// PostgREST docs, "HTTP Status Codes". `authenticated` is whether the request had a token.
pub(super) fn status(db: &pg::DbError, authenticated: bool) -> StatusCode {
    let message = db.message.as_str();
    let code = db.code.as_str();
    match code {
        "23503" | "23505" => StatusCode::CONFLICT,
        "25006" => StatusCode::METHOD_NOT_ALLOWED,
        // pg-safeupdate's is the client's fault, a subquery with two rows in a view is not.
        "21000" if message.ends_with("requires a WHERE clause") => StatusCode::BAD_REQUEST,
        "21000" => StatusCode::INTERNAL_SERVER_ERROR,
        "22023" if message.starts_with("role") && message.ends_with("does not exist") => StatusCode::UNAUTHORIZED,
        "53400" => StatusCode::INTERNAL_SERVER_ERROR,
        "57P01" => StatusCode::SERVICE_UNAVAILABLE,
        "P0001" => StatusCode::BAD_REQUEST,
        "42883" if message.starts_with("function xmlagg(") => StatusCode::NOT_ACCEPTABLE,
        "42883" | "42P01" => StatusCode::NOT_FOUND,
        "42P17" => StatusCode::INTERNAL_SERVER_ERROR,
        "42501" if authenticated => StatusCode::FORBIDDEN,
        "42501" => StatusCode::UNAUTHORIZED,
        RAISE => match raised(db) {
            Some(Ok(raised)) => raised.status(),
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        },
        _ => match code.get(..2).unwrap_or("") {
            "PT" => final_status(code[2..].parse().unwrap_or(500)),
            "08" | "53" => StatusCode::SERVICE_UNAVAILABLE,
            "0L" | "0P" | "28" => StatusCode::FORBIDDEN,
            "09" | "25" | "2D" | "38" | "39" | "3B" | "40" | "54" | "55" | "57" | "58" | "F0" | "HV" | "P0" | "XX" => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
            _ => StatusCode::BAD_REQUEST,
        },
    }
}

impl Error {
    /// The reason phrase that a function asked for (`RAISE SQLSTATE 'PT402' USING message = ...`, or `status_text`).
    pub fn reason(&self) -> Option<String> {
        let Self::Db(db) = self else { return None };
        match raised(db) {
            Some(Ok(raised)) => raised.reason().map(str::to_owned),
            Some(Err(_)) => None,
            None => (db.code.starts_with("PT") && db.code[2..].parse::<u16>().is_ok()).then(|| db.message.clone()),
        }
    }
}
