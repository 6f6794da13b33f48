//! Translates an HTTP request into the API's own terms (PostgREST `ApiRequest`). There is no guarantee that what is
//! asked for makes sense: that is for planning, which knows the schema cache.

use std::borrow::Cow;
use std::collections::BTreeSet;

use bytes::Bytes;
use http::{HeaderMap, Method, header, request};

use crate::config::Config;
use crate::error::{Error, RangeError};
use crate::identifier::QualifiedIdentifier;
use crate::limit;
use crate::media_type::{MediaType, parse_accept};
use crate::range_query::{Bounds, RowRange};

mod grammar;
mod parser;
mod payload;
pub mod preferences;
pub mod query_params;
pub mod types;
pub(crate) mod url;

#[cfg(test)]
mod tests;

pub use preferences::Preferences;
pub use query_params::QueryParams;
use types::{Action, InvokeMethod, Mutation, Payload};

/// What a request asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiRequest {
    pub action: Action,
    /// Rows of the top level, from `limit`, `offset` and the Range header. Those of embedded resources are in
    /// [`QueryParams::ranges`].
    pub top_level_range: RowRange,
    pub payload: Option<Payload>,
    pub preferences: Preferences,
    pub query_params: QueryParams,
    /// The columns that are written: `columns=`, or the keys of the payload.
    pub columns: BTreeSet<String>,
    pub schema: String,
    /// The schema was chosen among several, so the answer names it (`Content-Profile`).
    pub negotiated_by_profile: bool,
    /// Most wanted first.
    pub accept: Vec<MediaType>,
    pub content_type: MediaType,
}

/// What the path names.
enum Resource<'a> {
    Schema,
    Relation(Cow<'a, str>),
    Routine(Cow<'a, str>),
}

impl ApiRequest {
    /// Reads a request. All errors are of group 1 (PGRST1xx).
    pub fn parse(config: &Config, parts: &request::Parts, body: &Bytes) -> Result<Self, Error> {
        let resource = resource(config, parts.uri.path())?;
        let (schema, negotiated_by_profile) = schema(config, &parts.headers, &parts.method)?;
        let action = action(&resource, schema, &parts.method)?;
        let is_rpc_read = matches!(action, Action::Routine { method: InvokeMethod::Read { .. }, .. });
        let (query_params, limit) = QueryParams::parse(parts.uri.query().unwrap_or(""), is_rpc_read)?;
        let top_level_range = top_level_range(limit, &parts.headers, &parts.method)?;
        let content_type = text(&parts.headers, &header::CONTENT_TYPE)
            .map_or(MediaType::ApplicationJson, |value| MediaType::parse(&value));
        let (payload, columns) = payload::parse(body, &content_type, query_params.columns.as_ref(), &action)?;
        Ok(Self {
            top_level_range,
            payload,
            preferences: Preferences::parse(&parts.headers, config.tx_allow_override())?,
            query_params,
            columns,
            schema: schema.to_owned(),
            negotiated_by_profile,
            accept: accept(&parts.headers)?,
            content_type,
            action,
        })
    }
}

fn accept(headers: &HeaderMap) -> Result<Vec<MediaType>, Error> {
    let Some(value) = text(headers, &header::ACCEPT) else { return Ok(vec![MediaType::Any]) };
    limit::MEDIA_TYPES.check(value.split(',').count())?;
    Ok(parse_accept(&value))
}

fn text<'h>(headers: &'h HeaderMap, name: impl header::AsHeaderName) -> Option<Cow<'h, str>> {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()))
}

fn resource<'p>(config: &Config, path: &'p str) -> Result<Resource<'p>, Error> {
    let mut segments = url::segments(path);
    match (segments.next(), segments.next(), segments.next()) {
        (None, _, _) => match (config.openapi_mode, &config.db_root_spec) {
            (crate::config::OpenApiMode::Disabled, _) => Err(Error::OpenApiDisabled),
            (_, Some(routine)) => Ok(Resource::Routine(Cow::Owned(routine.name.to_string()))),
            (_, None) => Ok(Resource::Schema),
        },
        (Some(relation), None, _) => Ok(Resource::Relation(relation)),
        (Some(first), Some(routine), None) if first == "rpc" => Ok(Resource::Routine(routine)),
        _ => Err(Error::InvalidResourcePath),
    }
}

fn action(resource: &Resource<'_>, schema: &str, method: &Method) -> Result<Action, Error> {
    let qi = |name: &str| QualifiedIdentifier::new(schema, name);
    let headers_only = method == Method::HEAD;
    let unsupported = || Error::UnsupportedMethod(method.to_string());
    Ok(match resource {
        Resource::Routine(name) => match method.as_str() {
            "GET" | "HEAD" => Action::Routine { target: qi(name), method: InvokeMethod::Read { headers_only } },
            "POST" => Action::Routine { target: qi(name), method: InvokeMethod::Write },
            "OPTIONS" => Action::RoutineInfo(qi(name)),
            _ => return Err(Error::InvalidRpcMethod(method.to_string())),
        },
        Resource::Relation(name) => {
            let mutation = match method.as_str() {
                "GET" | "HEAD" => return Ok(Action::RelationRead { target: qi(name), headers_only }),
                "OPTIONS" => return Ok(Action::RelationInfo(qi(name))),
                "POST" => Mutation::Create,
                "PUT" => Mutation::SingleUpsert,
                "PATCH" => Mutation::Update,
                "DELETE" => Mutation::Delete,
                _ => return Err(unsupported()),
            };
            Action::RelationMutate { target: qi(name), mutation }
        }
        Resource::Schema => match method.as_str() {
            "GET" | "HEAD" => Action::SchemaRead { schema: schema.to_owned(), headers_only },
            "OPTIONS" => Action::SchemaInfo,
            _ => return Err(unsupported()),
        },
    })
}

/// The schema by `Accept-Profile` or, for writes, `Content-Profile`; else the first. And whether it was negotiated.
fn schema<'c>(config: &'c Config, headers: &HeaderMap, method: &Method) -> Result<(&'c str, bool), Error> {
    let name = match method.as_str() {
        "DELETE" | "PATCH" | "POST" | "PUT" => "content-profile",
        _ => "accept-profile",
    };
    match text(headers, name) {
        Some(profile) => match config.db_schemas.iter().find(|schema| **schema == profile) {
            Some(schema) => Ok((schema, true)),
            None => {
                let exposed = config.db_schemas.clone();
                Err(Error::UnacceptableSchema { schema: profile.into_owned(), exposed })
            }
        },
        None => Ok((config.db_schemas.first().map_or("", String::as_str), config.db_schemas.len() != 1)),
    }
}

/// The Range header counts for GET alone (RFC 9110, section 14.2).
fn top_level_range(limit: Bounds, headers: &HeaderMap, method: &Method) -> Result<RowRange, Error> {
    let header = match headers.get(header::RANGE) {
        Some(value) if method == Method::GET => value.to_str().map_or(Bounds::ALL, Bounds::from_header),
        _ => Bounds::ALL,
    };
    let range = if limit.is_limit_zero() { Bounds::LIMIT_ZERO } else { header.intersection(limit) };
    if range.is_empty() && !limit.is_limit_zero() {
        return Err(Error::InvalidRange(if header.is_empty() {
            RangeError::LowerGtUpper
        } else {
            RangeError::NegativeLimit
        }));
    }
    if method == Method::PUT && range != Bounds::ALL {
        return Err(Error::PutLimitNotAllowed);
    }
    Ok(range.to_rows())
}

/// `request.headers`: names in lower case, in order, without `cookie`.
pub(crate) fn headers(headers: &HeaderMap) -> Vec<(String, String)> {
    let lossy = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let shown = headers.iter().filter(|(name, _)| *name != header::COOKIE);
    shown.map(|(name, value)| (name.as_str().to_owned(), lossy(value))).collect()
}

/// `request.cookies`
pub(crate) fn cookies(headers: &HeaderMap) -> Vec<(String, String)> {
    let Some(value) = text(headers, &header::COOKIE) else { return Vec::new() };
    let pairs = value.split(';').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (name.trim_start_matches(' ').to_owned(), value.to_owned())
        })
        .collect()
}
