//! From what the database said to the HTTP answer (PostgREST `Response`). Pure.

pub(crate) mod guc_header;
mod server_timing;

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW, CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_RANGE, CONTENT_TYPE, LOCATION, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::api_request::preferences::{PreferRepresentation, PreferResolution, Preferences};
use crate::api_request::types::{InvokeMethod, Mutation};
use crate::api_request::{ApiRequest, url};
use crate::config::Config;
use crate::error::{self, Error, RangeError};
use crate::main_tx::{DbResult, ResultSet};
use crate::media_type::MediaType;
use crate::openapi::{self, Accessible};
use crate::plan::{ActionPlan, CrudKind, CrudPlan, InfoPlan, InspectPlan, MutatePlan};
use crate::range_query::{content_range, range_status};
use crate::schema_cache::{SchemaCache, Volatility};

pub(crate) use server_timing::{ServerTiming, Stage};

const CONTENT_PROFILE: HeaderName = HeaderName::from_static("content-profile");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// An answer before it meets the HTTP server.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
}

/// The bytes that PostgreSQL made.
#[derive(Debug)]
pub(crate) enum Body {
    Whole(Bytes),
    /// Still on their way.
    Long(pg::LongValue),
}

impl Body {
    pub(crate) const EMPTY: Self = Self::Whole(Bytes::new());

    fn len(&self) -> usize {
        match self {
            Self::Whole(bytes) => bytes.len(),
            Self::Long(value) => value.len(),
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::Whole(bytes)
    }
}

/// The answer to a request that went through; `raw_query` is its query string.
pub(crate) fn action_response(
    plan: &ActionPlan,
    request: &ApiRequest,
    raw_query: &str,
    result: DbResult,
    config: &Config,
    cache: &SchemaCache,
) -> Result<Response, Error> {
    let mut response = match (plan, result) {
        (ActionPlan::Crud(plan), DbResult::Rows(rows)) => crud(plan, request, raw_query, rows)?,
        (ActionPlan::Crud(plan), DbResult::Explain(body)) => {
            let mut headers = HeaderMap::with_capacity(4);
            content_type(&mut headers, &plan.media_type, request);
            with_body(StatusCode::OK, headers, body.into())
        }
        (ActionPlan::Inspect(plan), DbResult::OpenApi(accessible)) => {
            inspect(plan, request, &accessible, config, cache)
        }
        (ActionPlan::Info(plan), _) => info(plan, cache)?,
        (ActionPlan::Crud(_) | ActionPlan::Inspect(_), _) => {
            return Err(Error::Internal("no result for a request that needs one".to_owned()));
        }
    };
    if !response.headers.contains_key(VARY) {
        response.headers.insert(VARY, HeaderValue::from_static("Accept, Prefer, Range"));
    }
    Ok(response)
}

fn crud(plan: &CrudPlan, request: &ApiRequest, raw_query: &str, rows: ResultSet) -> Result<Response, Error> {
    let status = guc_header::status(rows.response_status.as_deref())?;
    let theirs = guc_header::headers(rows.response_headers.as_deref())?;
    let mut response = match &plan.kind {
        CrudKind::Read { headers_only } => read(plan, request, raw_query, rows, *headers_only),
        CrudKind::Mutate { mutation, plan: mutate } => write(plan, *mutation, mutate, request, rows),
        CrudKind::Call { method, routine, .. } => {
            let headers_only = *method == InvokeMethod::Read { headers_only: true };
            call(plan, request, rows, headers_only, routine.returns_void())
        }
    };
    response.status = status.unwrap_or(response.status);
    guc_header::merge(&mut response.headers, theirs);
    Ok(response)
}

fn read(plan: &CrudPlan, request: &ApiRequest, raw_query: &str, rows: ResultSet, headers_only: bool) -> Response {
    let (status, range) = range_status(request.top_level_range.offset, rows.page_total, rows.total);
    let mut headers = HeaderMap::with_capacity(8);
    insert(&mut headers, CONTENT_RANGE, &range);
    let mut location = String::with_capacity(plan.target.name.len() + raw_query.len() + 16);
    location.push('/');
    location.push_str(&plan.target.name);
    let canonical = url::canonical(raw_query);
    if !canonical.is_empty() {
        location.push('?');
        location.push_str(&canonical);
    }
    insert(&mut headers, CONTENT_LOCATION, &location);
    preference_applied(&mut headers, plan, request);
    page(plan, request, rows, headers_only, status, headers)
}

fn call(plan: &CrudPlan, request: &ApiRequest, rows: ResultSet, headers_only: bool, void: bool) -> Response {
    let (status, range) = range_status(request.top_level_range.offset, rows.page_total, rows.total);
    let mut headers = HeaderMap::with_capacity(8);
    insert(&mut headers, CONTENT_RANGE, &range);
    preference_applied(&mut headers, plan, request);
    if void {
        return Response { status: StatusCode::NO_CONTENT, headers, body: Body::EMPTY };
    }
    page(plan, request, rows, headers_only, status, headers)
}

/// The rows, or the error of a range behind the last one.
fn page(
    plan: &CrudPlan,
    request: &ApiRequest,
    rows: ResultSet,
    headers_only: bool,
    status: StatusCode,
    mut headers: HeaderMap,
) -> Response {
    content_type(&mut headers, &plan.media_type, request);
    let body = if status == StatusCode::RANGE_NOT_SATISFIABLE {
        let offset = request.top_level_range.offset;
        error::payload(&Error::InvalidRange(RangeError::OutOfBounds { offset, total: rows.total.unwrap_or(0) })).into()
    } else {
        rows.body
    };
    if headers_only {
        return Response { status, headers, body: Body::EMPTY };
    }
    with_body(status, headers, body)
}

fn write(plan: &CrudPlan, mutation: Mutation, mutate: &MutatePlan, request: &ApiRequest, rows: ResultSet) -> Response {
    let preferences = &request.preferences;
    let full = preferences.representation == Some(PreferRepresentation::Full);
    let total = preferences.should_count().then_some(rows.page_total);
    let mut headers = HeaderMap::with_capacity(8);
    let status = match mutation {
        Mutation::Create => {
            if let Some(location) = &rows.location {
                insert(&mut headers, LOCATION, &format!("/{}{}", plan.target.name, query_string(location)));
            }
            insert(&mut headers, CONTENT_RANGE, &content_range(1, 0, total));
            let merges = preferences.resolution == Some(PreferResolution::MergeDuplicates);
            if merges && rows.inserted.unwrap_or(0) == 0 { StatusCode::OK } else { StatusCode::CREATED }
        }
        Mutation::Update => {
            insert(&mut headers, CONTENT_RANGE, &content_range(0, rows.page_total - 1, total));
            if full { StatusCode::OK } else { StatusCode::NO_CONTENT }
        }
        Mutation::SingleUpsert => match rows.inserted {
            _ if !full => StatusCode::NO_CONTENT,
            Some(inserted) if inserted > 0 => StatusCode::CREATED,
            _ => StatusCode::OK,
        },
        Mutation::Delete => {
            insert(&mut headers, CONTENT_RANGE, &content_range(1, 0, total));
            if full { StatusCode::OK } else { StatusCode::NO_CONTENT }
        }
    };
    if let Some(applied) = applied_to_write(mutation, mutate, request).applied() {
        insert(&mut headers, PREFERENCE_APPLIED, &applied);
    }
    if full {
        content_type(&mut headers, &plan.media_type, request);
        return with_body(status, headers, rows.body);
    }
    if mutation == Mutation::Create {
        return with_body(status, headers, Body::EMPTY);
    }
    Response { status, headers, body: Body::EMPTY }
}

/// The preferences that a write honours.
fn applied_to_write(mutation: Mutation, mutate: &MutatePlan, request: &ApiRequest) -> Preferences {
    let all = &request.preferences;
    let keyed = match mutate {
        MutatePlan::Insert { pk_columns, .. } => !pk_columns.is_empty() || request.query_params.on_conflict.is_some(),
        _ => false,
    };
    let mut applied = all.clone();
    if !(mutation == Mutation::Create && keyed) {
        applied.resolution = None;
    }
    if !matches!(mutation, Mutation::Create | Mutation::Update) {
        applied.missing = None;
    }
    if !matches!(mutation, Mutation::Update | Mutation::Delete) {
        applied.max_affected = None;
    }
    applied
}

/// Preferences that a read or a call honours.
fn preference_applied(headers: &mut HeaderMap, plan: &CrudPlan, request: &ApiRequest) {
    if request.preferences == Preferences::default() {
        return;
    }
    let mut applied = request.preferences.clone();
    applied.resolution = None;
    applied.representation = None;
    applied.missing = None;
    if !matches!(plan.kind, CrudKind::Call { .. }) {
        applied.max_affected = None;
    }
    if let Some(applied) = applied.applied() {
        insert(headers, PREFERENCE_APPLIED, &applied);
    }
}

fn inspect(
    plan: &InspectPlan,
    request: &ApiRequest,
    accessible: &Accessible,
    config: &Config,
    cache: &SchemaCache,
) -> Response {
    let mut headers = HeaderMap::with_capacity(4);
    content_type(&mut headers, &plan.media_type, request);
    if plan.headers_only {
        return Response { status: StatusCode::OK, headers, body: Body::EMPTY };
    }
    with_body(StatusCode::OK, headers, openapi::document(config, cache, &plan.schema, accessible).into())
}

fn info(plan: &InfoPlan, cache: &SchemaCache) -> Result<Response, Error> {
    let allow = match plan {
        InfoPlan::Relation(target) => {
            let table = cache.tables.get(target).ok_or_else(|| Error::TableNotFound {
                schema: target.schema.to_string(),
                name: target.name.to_string(),
                hint: Vec::new(),
            })?;
            let has_key = !table.pk_columns.is_empty();
            let mut allow = String::from("OPTIONS,GET,HEAD");
            let methods = [
                (table.insertable, ",POST"),
                (table.insertable && table.updatable && has_key, ",PUT"),
                (table.updatable, ",PATCH"),
                (table.deletable, ",DELETE"),
            ];
            methods.into_iter().filter(|(allowed, _)| *allowed).for_each(|(_, method)| allow.push_str(method));
            allow
        }
        InfoPlan::Routine(routine) if routine.volatility == Volatility::Volatile => "OPTIONS,POST".to_owned(),
        InfoPlan::Routine(_) => "OPTIONS,GET,HEAD,POST".to_owned(),
        InfoPlan::Schema => "OPTIONS,GET,HEAD".to_owned(),
    };
    let mut headers = HeaderMap::with_capacity(4);
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    insert(&mut headers, ALLOW, &allow);
    Ok(with_body(StatusCode::OK, headers, Body::EMPTY))
}

fn with_body(status: StatusCode, mut headers: HeaderMap, body: Body) -> Response {
    headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    Response { status, headers, body }
}

fn content_type(headers: &mut HeaderMap, media_type: &MediaType, request: &ApiRequest) {
    headers.insert(CONTENT_TYPE, media_type.content_type());
    if request.negotiated_by_profile {
        insert(headers, CONTENT_PROFILE, &request.schema);
    }
}

/// Names come from the database and may hold what a header cannot; such a header is left out. Letters beyond ASCII go
/// as UTF-8.
fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
        headers.insert(name, value);
    }
}

/// RFC 3986 unreserved characters stay.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// `["id=eq.1"]` as `?id=eq.1`.
fn query_string(location: &str) -> String {
    let pairs: Vec<String> = serde_json::from_str(location).unwrap_or_default();
    let mut out = String::new();
    for pair in &pairs {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        out.push(if out.is_empty() { '?' } else { '&' });
        out.extend(utf8_percent_encode(name, QUERY));
        out.push('=');
        out.extend(utf8_percent_encode(value, QUERY));
    }
    out
}
