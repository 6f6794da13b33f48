//! Reading requests: the caller, the project, and bodies whose problems are all reported at once.

use std::net::IpAddr;
use std::time::Duration;

use axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request};
use base::{ProjectRef, ProjectStatus, digest};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::request::Parts;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};
use web::{ClientIp, Peer, RequestId};

use crate::attempts::{self, STRANGERS_BODIES_PER_IP};
use crate::error::{Error, Problem};
use crate::platform::Platform;
use crate::store;

/// Largest body of a request, in bytes.
pub(crate) const MOST_BODY_BYTES: u64 = 4 * 1024 * 1024;

/// Largest body of a request that needs no token, in bytes.
pub(crate) const MOST_STRANGERS_BODY_BYTES: u64 = 16 * 1024;

/// How long the platform's database may take to say whose token it is: no request goes on without.
const SESSION_PATIENCE: Duration = Duration::from_secs(10);

/// Sessions write down their last use at most this often, in seconds.
const USE_RESOLUTION: i64 = 60;

/// Where a request came from, for the audit log and rate limits.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origin {
    pub(crate) client_ip: Option<IpAddr>,
    pub(crate) request_id: Option<String>,
}

impl<S: Sync> FromRequestParts<S> for Origin {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self::read(parts))
    }
}

/// The owner whose token a request carries.
pub(crate) struct OwnerCx {
    pub(crate) platform: Platform,
    pub(crate) origin: Origin,
    pub(crate) session_id: String,
    pub(crate) owner: store::owner::Owner,
}

impl FromRequestParts<Platform> for OwnerCx {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, platform: &Platform) -> Result<Self, Error> {
        let token = bearer(parts).ok_or(Error::Unauthorized)?;
        let hash = digest::sha256(token.as_bytes());
        let now = platform.clock().unix_seconds();
        let session = async {
            let db = platform.db().await?;
            let session = store::owner::session_by_token(&**db, &hash, now).await?.ok_or(Error::Unauthorized)?;
            if session.last_used_at.is_none_or(|at| at.unix_seconds() < now - USE_RESOLUTION) {
                store::owner::session_used(&**db, &session.id, now).await?;
            }
            Ok::<_, Error>(session)
        };
        let session = tokio::time::timeout(SESSION_PATIENCE, session).await;
        let session = session.map_err(|elapsed| Error::Unavailable(elapsed.into()))??;
        Ok(Self {
            platform: platform.clone(),
            origin: Origin::read(parts),
            session_id: session.id,
            owner: session.owner,
        })
    }
}

/// A project that belongs to the caller.
pub(crate) struct ProjectCx {
    pub(crate) caller: OwnerCx,
    pub(crate) project_ref: ProjectRef,
    pub(crate) project: store::project::Project,
}

impl ProjectCx {
    pub(crate) fn platform(&self) -> &Platform {
        &self.caller.platform
    }

    /// Refuses unless the project is active.
    pub(crate) fn require_active(&self) -> Result<(), Error> {
        match self.project.status {
            ProjectStatus::Active => Ok(()),
            status => Err(Error::WrongStatus(status.name().to_owned())),
        }
    }

    /// Refuses when the project is deleted.
    pub(crate) fn require_present(&self) -> Result<(), Error> {
        match self.project.status {
            ProjectStatus::Deleted => Err(Error::WrongStatus(ProjectStatus::Deleted.name().to_owned())),
            _ => Ok(()),
        }
    }
}

impl FromRequestParts<Platform> for ProjectCx {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, platform: &Platform) -> Result<Self, Error> {
        let caller = OwnerCx::from_request_parts(parts, platform).await?;
        let id = path_param(parts, platform, "id").await.ok_or(Error::NoSuchProject)?;
        let project_ref = ProjectRef::parse(&id).map_err(|_| Error::NoSuchProject)?;
        let db = platform.db().await?;
        let project =
            store::project::project_get(&**db, &caller.owner.id, &project_ref).await?.ok_or(Error::NoSuchProject)?;
        Ok(Self { caller, project_ref, project })
    }
}

/// The `key_id` of a path.
pub(crate) struct KeyId(pub(crate) i64);

impl FromRequestParts<Platform> for KeyId {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, platform: &Platform) -> Result<Self, Error> {
        let id = path_param(parts, platform, "key_id").await;
        id.and_then(|id| id.parse().ok()).map(Self).ok_or(Error::NoSuchKey)
    }
}

/// The `kid` of a path.
pub(crate) struct KeyName(pub(crate) String);

impl FromRequestParts<Platform> for KeyName {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, platform: &Platform) -> Result<Self, Error> {
        path_param(parts, platform, "kid").await.map(Self).ok_or(Error::NoSuchKey)
    }
}

pub(crate) async fn path_param(parts: &mut Parts, platform: &Platform, name: &str) -> Option<String> {
    let params = RawPathParams::from_request_parts(parts, platform).await.ok()?;
    let (_, value) = params.iter().find(|(param, _)| *param == name)?;
    Some(value.to_owned())
}

fn bearer(parts: &Parts) -> Option<&str> {
    let value = parts.headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// A JSON object, or the parameters of a query; each field is asked for once, and [`Fields::finish`] reports every
/// problem that was met, unknown fields among them.
pub(crate) struct Fields {
    map: Map<String, Value>,
    problems: Vec<Problem>,
    /// Fields of a query are all text.
    query: bool,
}

impl FromRequest<Platform> for Fields {
    type Rejection = Error;

    async fn from_request(request: Request, _: &Platform) -> Result<Self, Error> {
        Self::read(request, MOST_BODY_BYTES).await
    }
}

/// As [`Fields`], of somebody without a token: little is read, and of each client address not often.
pub(crate) struct StrangersFields(pub(crate) Fields);

impl FromRequest<Platform> for StrangersFields {
    type Rejection = Error;

    async fn from_request(request: Request, platform: &Platform) -> Result<Self, Error> {
        let (parts, body) = request.into_parts();
        if let Some(ip) = Origin::read(&parts).client_ip {
            let who = format!("body {}", attempts::network(ip));
            platform.attempts().count(&who, STRANGERS_BODIES_PER_IP)?;
        }
        Fields::read(Request::from_parts(parts, body), MOST_STRANGERS_BODY_BYTES).await.map(Self)
    }
}

impl Fields {
    async fn read(request: Request, limit: u64) -> Result<Self, Error> {
        let media_type = request.headers().get(CONTENT_TYPE).map(|value| value.to_str().unwrap_or_default());
        let essence = media_type.map(|text| text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
        let is_json = essence.as_deref().is_none_or(|essence| essence == "application/json");
        let (parts, body) = request.into_parts();
        let capped = web::limits::cap_body(&parts.headers, body, limit).map_err(Error::Body)?;
        let body = web::read_body(capped).await.map_err(Error::Body)?;
        if body.is_empty() {
            return Ok(Self::new(Map::new()));
        }
        if !is_json {
            return Err(Error::UnsupportedMediaType);
        }
        match serde_json::from_slice(&body) {
            Ok(Value::Object(map)) => Ok(Self::new(map)),
            Ok(_) => Err(Error::invalid("body", "must be a JSON object")),
            Err(error) => Err(Error::MalformedJson(error.to_string())),
        }
    }

    pub(crate) fn new(map: Map<String, Value>) -> Self {
        Self { map, problems: Vec::new(), query: false }
    }

    /// The parameters behind the question mark; the last of several with one name counts.
    pub(crate) fn from_query(query: Option<&str>) -> Self {
        let decode = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
        let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        let map = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), Value::String(decode(value)))
        });
        Self { query: true, ..Self::new(map.collect()) }
    }

    pub(crate) fn refuse(&mut self, field: &str, problem: impl Into<String>) {
        self.problems.push(Problem::new(field, problem));
    }

    /// Whether something is wrong with the field already.
    pub(crate) fn is_refused(&self, field: &str) -> bool {
        self.problems.iter().any(|problem| problem.field == field)
    }

    /// The field as it came; absent and null are the same.
    pub(crate) fn take(&mut self, field: &str) -> Option<Value> {
        self.map.shift_remove(field).filter(|value| !value.is_null())
    }

    /// The names of all fields that were not taken yet.
    pub(crate) fn names(&self) -> Vec<String> {
        self.map.keys().cloned().collect()
    }

    /// The field as it came, null too.
    pub(crate) fn take_raw(&mut self, field: &str) -> Option<Value> {
        self.map.shift_remove(field)
    }

    /// Text of at most `most` characters, without NUL; nothing when absent or wrong.
    pub(crate) fn text(&mut self, field: &str, most: usize) -> Option<String> {
        match self.take(field)? {
            Value::String(text) if text.contains('\0') => self.refuse(field, "must not contain a NUL character"),
            Value::String(text) if text.chars().count() > most => {
                self.refuse(field, format!("must have at most {most} characters"));
            }
            Value::String(text) => return Some(text),
            _ => self.refuse(field, "must be a string"),
        }
        None
    }

    /// Text that has to be there and not to be empty; empty when it is not, which [`Fields::finish`] then reports.
    pub(crate) fn required_text(&mut self, field: &str, most: usize) -> String {
        if self.map.get(field).is_none_or(|value| value.is_null() || value == "") {
            self.map.shift_remove(field);
            self.refuse(field, "is required");
            return String::new();
        }
        self.text(field, most).unwrap_or_default()
    }

    pub(crate) fn boolean(&mut self, field: &str) -> Option<bool> {
        match self.take(field)? {
            Value::Bool(value) => Some(value),
            Value::String(text) if self.query && (text == "true" || text == "false") => Some(text == "true"),
            _ => {
                self.refuse(field, "must be true or false");
                None
            }
        }
    }

    /// A whole number from `least` to `most`.
    pub(crate) fn integer(&mut self, field: &str, least: i64, most: i64) -> Option<i64> {
        let value = match self.take(field)? {
            Value::String(text) if self.query => text.parse().ok(),
            value => value.as_i64(),
        };
        let value = value.filter(|value| (least..=most).contains(value));
        if value.is_none() {
            self.refuse(field, format!("must be a whole number from {least} to {most}"));
        }
        value
    }

    /// Ends the reading: an error with all problems, if there were any.
    pub(crate) fn finish(mut self) -> Result<(), Error> {
        let unknown = self.map.keys().map(|name| Problem::new(name.as_str(), "is not known here"));
        self.problems.extend(unknown);
        if self.problems.is_empty() { Ok(()) } else { Err(Error::Invalid(self.problems)) }
    }
}

/// The parameters of a query, as an extractor.
pub(crate) struct QueryFields(pub(crate) Fields);

impl<S: Sync> FromRequestParts<S> for QueryFields {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(Fields::from_query(parts.uri.query())))
    }
}

impl Origin {
    fn read(parts: &Parts) -> Self {
        // The gateway knows the client behind trusted proxies; without one the other end of the connection counts.
        let behind = parts.extensions.get::<ClientIp>().map(|ip| ip.0);
        let peer = || parts.extensions.get::<Peer>().map(|peer| peer.0.ip());
        let request_id = parts.extensions.get::<RequestId>().map(|id| id.as_str().to_owned());
        Self { client_ip: behind.or_else(peer), request_id }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(value: Value) -> Fields {
        let Value::Object(map) = value else { panic!("an object") };
        Fields::new(map)
    }

    #[test]
    fn every_problem_is_reported() {
        let mut fields = fields(json!({"name": 7, "n": 9, "flag": "yes", "zero": "a\0b", "more": 1}));
        assert_eq!(fields.required_text("name", 10), "");
        assert_eq!(fields.required_text("id", 10), "");
        assert_eq!(fields.integer("n", 1, 5), None);
        assert_eq!(fields.boolean("flag"), None);
        assert_eq!(fields.text("zero", 10), None);
        let Err(Error::Invalid(problems)) = fields.finish() else { panic!("problems") };
        let names: Vec<_> = problems.iter().map(|problem| problem.field.as_str()).collect();
        assert_eq!(names, ["name", "id", "n", "flag", "zero", "more"]);
    }

    #[test]
    fn a_query_is_text() {
        let mut fields = Fields::from_query(Some("limit=5&all=true&name=a%20b+c&name=d%26"));
        assert_eq!(fields.integer("limit", 1, 10), Some(5));
        assert_eq!(fields.boolean("all"), Some(true));
        assert_eq!(fields.text("name", 10).as_deref(), Some("d&"));
        assert!(fields.finish().is_ok());
    }
}
