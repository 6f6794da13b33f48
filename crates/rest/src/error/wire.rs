//! Status, headers and body of each error.

use std::borrow::Cow;

use base::jwt::JwtError;
use bytes::Bytes;
use http::header::{CONTENT_RANGE, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::Serialize;

use super::pg_error::{self, RaiseError};
use super::{AmbiguousRel, Error, NoRpc, RangeError, Suggestion, UnnamedParameter};

const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// The answer to a request that failed. `authenticated` is whether it had a token: who had one is forbidden (403) what
/// others are asked to authenticate for (401).
pub fn render(error: &Error, authenticated: bool) -> (StatusCode, HeaderMap, Bytes) {
    let status = error.status(authenticated);
    let mut headers = HeaderMap::with_capacity(4);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    if let Ok(value) = HeaderValue::try_from(format!("PostgREST; error={}", error.code())) {
        headers.insert(PROXY_STATUS, value);
    }
    error.add_headers(status, &mut headers);
    (status, headers, payload(error))
}

/// The body alone: `{"code", "details", "hint", "message"}`.
pub fn payload(error: &Error) -> Bytes {
    #[derive(Serialize)]
    struct Body<'a> {
        code: Cow<'a, str>,
        details: Details<'a>,
        hint: Option<Cow<'a, str>>,
        message: Cow<'a, str>,
    }
    let body = Body { code: error.code(), details: error.details(), hint: error.hint(), message: error.message() };
    // Writing plain text to memory does not fail.
    Bytes::from(serde_json::to_vec(&body).unwrap_or_default())
}

#[derive(Serialize)]
#[serde(untagged)]
enum Details<'a> {
    None,
    Text(Cow<'a, str>),
    Relationships(Vec<CandidateView<'a>>),
}

#[derive(Serialize)]
struct CandidateView<'a> {
    cardinality: &'static str,
    embedding: &'a str,
    relationship: &'a str,
}

impl<'a> From<&'a AmbiguousRel> for CandidateView<'a> {
    fn from(rel: &'a AmbiguousRel) -> Self {
        Self { cardinality: rel.cardinality, embedding: &rel.embedding, relationship: &rel.relationship }
    }
}

impl Error {
    pub fn status(&self, authenticated: bool) -> StatusCode {
        match self {
            Self::Connection(_)
            | Self::Client(_)
            | Self::SchemaCacheUnavailable
            | Self::SchemaMoved
            | Self::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
            Self::AcquireTimeout => StatusCode::GATEWAY_TIMEOUT,
            Self::InvalidRpcMethod(_) | Self::InvalidFilters | Self::UnsupportedMethod(_) => {
                StatusCode::METHOD_NOT_ALLOWED
            }
            Self::InvalidRange(_) => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::UnacceptableSchema { .. } | Self::MediaType(_) | Self::Singularity(_) => StatusCode::NOT_ACCEPTABLE,
            Self::InvalidResourcePath | Self::OpenApiDisabled | Self::NoRpc(_) | Self::TableNotFound { .. } => {
                StatusCode::NOT_FOUND
            }
            Self::AmbiguousRelBetween(_) | Self::AmbiguousRpc(_) => StatusCode::MULTIPLE_CHOICES,
            Self::EmptyJwt | Self::Jwt(_) | Self::JwtTokenRequired => StatusCode::UNAUTHORIZED,
            Self::GucHeaders
            | Self::GucFraming(_)
            | Self::GucStatus
            | Self::Raise(_)
            | Self::JwtSecretMissing
            | Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Db(db) => pg_error::status(db, authenticated),
            Self::QueryParam(_)
            | Self::Limit(_)
            | Self::InvalidBody(_)
            | Self::NotEmbedded(_)
            | Self::PutLimitNotAllowed
            | Self::PutMatchingPk
            | Self::RelatedOrderNotToOne { .. }
            | Self::UnacceptableFilter(_)
            | Self::InvalidPreferences(_)
            | Self::AggregatesNotAllowed
            | Self::MaxAffectedViolation(_)
            | Self::NotImplemented(_)
            | Self::MaxAffectedRpcViolation
            | Self::NoRelBetween(_)
            | Self::ColumnNotFound { .. } => StatusCode::BAD_REQUEST,
        }
    }

    /// `PGRSTxyz`, a SQLSTATE, or what a function raised.
    pub fn code(&self) -> Cow<'_, str> {
        Cow::Borrowed(match self {
            Self::Connection(_) => "PGRST000",
            Self::Client(_) => "PGRST001",
            Self::SchemaCacheUnavailable | Self::SchemaMoved => "PGRST002",
            Self::AcquireTimeout | Self::Overloaded => "PGRST003",
            Self::QueryParam(_) => "PGRST100",
            Self::Limit(limit) => limit.code,
            Self::InvalidRpcMethod(_) => "PGRST101",
            Self::InvalidBody(_) => "PGRST102",
            Self::InvalidRange(_) => "PGRST103",
            Self::InvalidFilters => "PGRST105",
            Self::UnacceptableSchema { .. } => "PGRST106",
            Self::MediaType(_) => "PGRST107",
            Self::NotEmbedded(_) => "PGRST108",
            Self::GucHeaders | Self::GucFraming(_) => "PGRST111",
            Self::GucStatus => "PGRST112",
            Self::PutLimitNotAllowed => "PGRST114",
            Self::PutMatchingPk => "PGRST115",
            Self::Singularity(_) => "PGRST116",
            Self::UnsupportedMethod(_) => "PGRST117",
            Self::RelatedOrderNotToOne { .. } => "PGRST118",
            Self::UnacceptableFilter(_) => "PGRST120",
            Self::Raise(_) => "PGRST121",
            Self::InvalidPreferences(_) => "PGRST122",
            Self::AggregatesNotAllowed => "PGRST123",
            Self::MaxAffectedViolation(_) => "PGRST124",
            Self::InvalidResourcePath => "PGRST125",
            Self::OpenApiDisabled => "PGRST126",
            Self::NotImplemented(_) => "PGRST127",
            Self::MaxAffectedRpcViolation => "PGRST128",
            Self::NoRelBetween(_) => "PGRST200",
            Self::AmbiguousRelBetween(_) => "PGRST201",
            Self::NoRpc(_) => "PGRST202",
            Self::AmbiguousRpc(_) => "PGRST203",
            Self::ColumnNotFound { .. } => "PGRST204",
            Self::TableNotFound { .. } => "PGRST205",
            Self::JwtSecretMissing => "PGRST300",
            Self::EmptyJwt => "PGRST301",
            Self::Jwt(
                JwtError::Parts(_) | JwtError::Malformed | JwtError::Unsecured | JwtError::NoKey | JwtError::Signature,
            ) => "PGRST301",
            Self::JwtTokenRequired => "PGRST302",
            Self::Jwt(_) => "PGRST303",
            Self::Internal(_) => "PGRSTX00",
            Self::Db(db) => match pg_error::raised(db) {
                None => &db.code,
                Some(Ok(raised)) => return Cow::Owned(raised.body.code),
                Some(Err(_)) => "PGRST121",
            },
        })
    }

    pub fn message(&self) -> Cow<'_, str> {
        Cow::Borrowed(match self {
            Self::Connection(_) => "Database connection error.",
            Self::Client(_) => "Database client error. Retrying the connection.",
            Self::SchemaCacheUnavailable | Self::SchemaMoved => {
                "Could not query the database for the schema cache. Retrying."
            }
            Self::AcquireTimeout => "Timed out acquiring connection from connection pool.",
            Self::Overloaded => "Too many requests are waiting for a connection.",
            Self::QueryParam(error) => &error.message,
            Self::Limit(limit) => limit.message,
            Self::InvalidRpcMethod(method) => return format!("Cannot use the {method} method on RPC").into(),
            Self::InvalidBody(message) => message,
            Self::InvalidRange(_) => "Requested range not satisfiable",
            Self::InvalidFilters => "Filters must include all and only primary key columns with 'eq' operators",
            Self::UnacceptableSchema { schema, .. } => return format!("Invalid schema: {schema}").into(),
            Self::MediaType(types) => {
                return format!("None of these media types are available: {}", types.join(", ")).into();
            }
            Self::NotEmbedded(resource) => {
                return format!("'{resource}' is not an embedded resource in this request").into();
            }
            Self::GucHeaders => {
                "response.headers guc must be a JSON array composed of objects with a single key and a string value"
            }
            Self::GucFraming(name) => return format!("response.headers guc must not set the header {name}").into(),
            Self::GucStatus => "response.status guc must be a valid status code",
            Self::PutLimitNotAllowed => "limit/offset querystring parameters are not allowed for PUT",
            Self::PutMatchingPk => "Payload values do not match URL in primary key column(s)",
            Self::Singularity(_) => "Cannot coerce the result to a single JSON object",
            Self::UnsupportedMethod(method) => return format!("Unsupported HTTP method: {method}").into(),
            Self::RelatedOrderNotToOne { target, .. } => {
                return format!("A related order on '{target}' is not possible").into();
            }
            Self::UnacceptableFilter(target) => {
                return format!("Bad operator on the '{target}' embedded resource").into();
            }
            Self::Raise(_) => RAISE_MESSAGE,
            Self::InvalidPreferences(_) => "Invalid preferences given with handling=strict",
            Self::AggregatesNotAllowed => "Use of aggregate functions is not allowed",
            Self::MaxAffectedViolation(_) => "Query result exceeds max-affected preference constraint",
            Self::InvalidResourcePath => "Invalid path specified in request URL",
            Self::OpenApiDisabled => "Root endpoint metadata is disabled",
            Self::NotImplemented(_) => "Feature not implemented",
            Self::MaxAffectedRpcViolation => {
                "Function must return SETOF or TABLE when max-affected preference is used with handling=strict"
            }
            Self::NoRelBetween(rel) => {
                let (parent, child) = (&rel.parent, &rel.child);
                return format!("Could not find a relationship between '{parent}' and '{child}' in the schema cache")
                    .into();
            }
            Self::AmbiguousRelBetween(rel) => {
                let (parent, child) = (&rel.parent, &rel.child);
                return format!(
                    "Could not embed because more than one relationship was found for '{parent}' and '{child}'"
                )
                .into();
            }
            Self::NoRpc(rpc) => return rpc.message().into(),
            Self::AmbiguousRpc(candidates) => {
                let candidates: Vec<&str> = candidates.iter().map(|candidate| candidate.text.as_str()).collect();
                let candidates = candidates.join(", ");
                return format!("Could not choose the best candidate function between: {candidates}").into();
            }
            Self::ColumnNotFound { relation, column } => {
                return format!("Could not find the '{column}' column of '{relation}' in the schema cache").into();
            }
            Self::TableNotFound { schema, name, .. } => {
                return format!("Could not find the table '{schema}.{name}' in the schema cache").into();
            }
            Self::JwtSecretMissing => "Server lacks JWT secret",
            Self::EmptyJwt => "Empty JWT is sent in Authorization header",
            Self::Jwt(error) => return jwt_message(error),
            Self::JwtTokenRequired => "Anonymous access is disabled",
            Self::Internal(_) => "Internal error",
            Self::Db(db) => match pg_error::raised(db) {
                None => &db.message,
                Some(Ok(raised)) => return Cow::Owned(raised.body.message),
                Some(Err(_)) => RAISE_MESSAGE,
            },
        })
    }

    fn details(&self) -> Details<'_> {
        let text = match self {
            Self::Connection(cause) | Self::Client(cause) => Cow::from(cause),
            Self::QueryParam(error) => Cow::from(&error.details),
            Self::Limit(limit) => limit.details().into(),
            Self::InvalidRange(RangeError::NegativeLimit) => "Limit should be greater than or equal to zero.".into(),
            Self::InvalidRange(RangeError::LowerGtUpper) => {
                "The lower boundary must be lower than or equal to the upper boundary in the Range header.".into()
            }
            Self::InvalidRange(RangeError::OutOfBounds { offset, total }) => {
                format!("An offset of {offset} was requested, but there are only {total} rows.").into()
            }
            Self::Singularity(rows) => format!("The result contains {rows} rows").into(),
            Self::RelatedOrderNotToOne { origin, target } => {
                format!("'{origin}' and '{target}' do not form a many-to-one or one-to-one relationship").into()
            }
            Self::UnacceptableFilter(_) => {
                "Only is null or not is null filters are allowed on embedded resources".into()
            }
            Self::Raise(error) => raise_details(error).into(),
            Self::InvalidPreferences(preferences) => format!("Invalid preferences: {}", preferences.join(", ")).into(),
            Self::MaxAffectedViolation(rows) => format!("The query affects {rows} rows").into(),
            Self::NotImplemented(details) => details.into(),
            Self::NoRelBetween(rel) => {
                let hint = rel.embed_hint.as_ref().map_or(String::new(), |hint| format!(" using the hint '{hint}'"));
                let (parent, child, schema) = (&rel.parent, &rel.child, &rel.schema);
                format!(
                    "Searched for a foreign key relationship between '{parent}' and '{child}'{hint} in the schema \
                     '{schema}', but no matches were found."
                )
                .into()
            }
            Self::AmbiguousRelBetween(rel) => {
                return Details::Relationships(rel.candidates.iter().map(CandidateView::from).collect());
            }
            Self::NoRpc(rpc) => rpc.details().into(),
            Self::Jwt(JwtError::NoKey) => "No suitable key was found to decode the JWT".into(),
            Self::Jwt(JwtError::Signature) => "None of the keys was able to decode the JWT".into(),
            Self::Jwt(JwtError::Unsecured) => "JWT is unsecured but expected 'alg' was not 'none'".into(),
            Self::Db(db) => match pg_error::raised(db) {
                None => match &db.detail {
                    Some(detail) => detail.into(),
                    None => return Details::None,
                },
                Some(Ok(raised)) => match raised.body.details {
                    Some(details) => details.into(),
                    None => return Details::None,
                },
                Some(Err(error)) => raise_details(&error).into(),
            },
            _ => return Details::None,
        };
        Details::Text(text)
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        let first = |hint: &[Suggestion]| hint.first().map(|suggestion| suggestion.text.clone().into());
        match self {
            Self::Limit(limit) => Some(limit.hint.into()),
            Self::UnacceptableSchema { exposed, .. } => {
                Some(format!("Only the following schemas are exposed: {}", exposed.join(", ")).into())
            }
            Self::NotEmbedded(resource) => {
                Some(format!("Verify that '{resource}' is included in the 'select' query parameter.").into())
            }
            Self::Raise(error) => Some(raise_hint(error).into()),
            Self::NoRelBetween(rel) => first(&rel.hint),
            Self::AmbiguousRelBetween(rel) => {
                let suggestions: Vec<String> =
                    rel.candidates.iter().map(|candidate| format!("'{}'", candidate.suggestion)).collect();
                let (child, suggestions) = (&rel.child, suggestions.join(", "));
                Some(
                    format!(
                        "Try changing '{child}' to one of the following: {suggestions}. Find the desired relationship \
                         in the 'details' key."
                    )
                    .into(),
                )
            }
            Self::NoRpc(rpc) => first(&rpc.hint).filter(|_| !rpc.only_unnamed()),
            Self::AmbiguousRpc(_) => Some(
                "Try renaming the parameters or the function itself in the database so function overloading can be \
                 resolved"
                    .into(),
            ),
            Self::TableNotFound { hint, .. } => first(hint),
            Self::Db(db) => match pg_error::raised(db) {
                None => db.hint.as_deref().map(Cow::from),
                Some(Ok(raised)) => raised.body.hint.map(Cow::from),
                Some(Err(error)) => Some(raise_hint(&error).into()),
            },
            _ => None,
        }
    }

    fn add_headers(&self, status: StatusCode, headers: &mut HeaderMap) {
        // What a function raises is its own: it can set the header too.
        let raised = matches!(self, Self::Db(db) if db.code.starts_with("PT") || pg_error::raised(db).is_some());
        if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT) && !raised {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        match self {
            Self::EmptyJwt | Self::Jwt(_) => {
                let message = self.message();
                let value = format!("Bearer error=\"invalid_token\", error_description=\"{message}\"");
                if let Ok(value) = HeaderValue::try_from(value) {
                    headers.insert(WWW_AUTHENTICATE, value);
                }
            }
            Self::JwtTokenRequired => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Self::InvalidRange(RangeError::OutOfBounds { total, .. }) => {
                if let Ok(value) = HeaderValue::try_from(format!("*/{total}")) {
                    headers.insert(CONTENT_RANGE, value);
                }
            }
            Self::Db(db) => match pg_error::raised(db) {
                Some(Ok(raised)) => {
                    for (name, value) in raised.headers() {
                        headers.insert(name, value);
                    }
                }
                Some(Err(_)) => {}
                None if status == StatusCode::UNAUTHORIZED => {
                    headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
                }
                None => {}
            },
            _ => {}
        }
    }
}

impl NoRpc {
    /// Whether the body could only have been the single unnamed parameter.
    fn only_unnamed(&self) -> bool {
        matches!(self.unnamed, Some(UnnamedParameter::Text | UnnamedParameter::Xml | UnnamedParameter::Bytea))
    }

    fn message(&self) -> String {
        let Self { schema, name, .. } = self;
        let arguments = if self.only_unnamed() {
            String::new()
        } else if self.arguments.is_empty() {
            " without parameters".to_owned()
        } else {
            format!("({})", self.arguments.join(", "))
        };
        format!("Could not find the function {schema}.{name}{arguments} in the schema cache")
    }

    fn details(&self) -> String {
        let Self { schema, name, .. } = self;
        let arguments = match self.arguments.as_slice() {
            [] => " without parameters".to_owned(),
            [one] => format!(" with parameter {one}"),
            several => format!(" with parameters {}", several.join(", ")),
        };
        let searched = match self.unnamed {
            Some(UnnamedParameter::Text) => " with a single unnamed text parameter".to_owned(),
            Some(UnnamedParameter::Xml) => " with a single unnamed xml parameter".to_owned(),
            Some(UnnamedParameter::Bytea) => " with a single unnamed bytea parameter".to_owned(),
            Some(UnnamedParameter::Json) => format!("{arguments} or with a single unnamed json/jsonb parameter"),
            None => arguments,
        };
        format!("Searched for the function {schema}.{name}{searched}, but no matches were found in the schema cache.")
    }
}

const RAISE_MESSAGE: &str = "Could not parse JSON in the \"RAISE SQLSTATE 'PGRST'\" error";

fn raise_details(error: &RaiseError) -> String {
    match error {
        RaiseError::Message(text) => format!("Invalid JSON value for MESSAGE: '{text}'"),
        RaiseError::Detail(text) => format!("Invalid JSON value for DETAIL: '{text}'"),
        RaiseError::NoDetail => "DETAIL is missing in the RAISE statement".to_owned(),
    }
}

fn raise_hint(error: &RaiseError) -> &'static str {
    match error {
        RaiseError::Message(_) => {
            "MESSAGE must be a JSON object with obligatory keys: 'code', 'message' and optional keys: 'details', \
             'hint'."
        }
        RaiseError::Detail(_) | RaiseError::NoDetail => {
            "DETAIL must be a JSON object with obligatory keys: 'status', 'headers' and optional key: 'status_text'."
        }
    }
}

fn jwt_message(error: &JwtError) -> Cow<'static, str> {
    match error {
        JwtError::Parts(parts) => format!("Expected 3 parts in JWT; got {parts}").into(),
        JwtError::Malformed => "JWT cryptographic operation failed".into(),
        JwtError::Unsecured => "Wrong or unsupported encoding algorithm".into(),
        JwtError::NoKey | JwtError::Signature => "No suitable key or wrong key type".into(),
        JwtError::Payload => "Parsing claims failed".into(),
        JwtError::Expired => "JWT expired".into(),
        JwtError::NotYetValid => "JWT not yet valid".into(),
        JwtError::IssuedInFuture => "JWT issued at future".into(),
        JwtError::Audience => "JWT not in audience".into(),
        JwtError::ClaimType("aud") => "The JWT 'aud' claim must be a string or an array of strings".into(),
        JwtError::ClaimType(claim) => format!("The JWT '{claim}' claim must be a number").into(),
    }
}

#[cfg(test)]
mod tests;
