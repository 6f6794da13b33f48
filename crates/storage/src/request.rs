//! What a request brings along, and the pieces that answers are made of.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use base::{Caller, Credential, Project, RoleName};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderName, HeaderValue, header};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use web::RequestId;
use web::limits::BODY_READ_TIMEOUT;

use crate::Shared;
use crate::body::next_piece;
use crate::database::{Database, Session};
use crate::error::Error;

/// Largest body that is read as JSON, in bytes: a thousand names of the greatest length and some more.
const LONGEST_JSON: u64 = 4 * 1024 * 1024;

/// One request: who asks, of which project, and what with.
pub(crate) struct Cx {
    pub(crate) shared: Arc<Shared>,
    pub(crate) project: Arc<Project>,
    pub(crate) caller: Caller,
    pub(crate) parts: Parts,
    pub(crate) database: Database,
    /// The `sub` of the caller's token.
    pub(crate) owner: Option<String>,
}

#[derive(Deserialize)]
struct Subject {
    sub: Option<String>,
}

fn subject(caller: &Caller) -> Option<String> {
    match caller.credential {
        Credential::UserToken => serde_json::from_str::<Subject>(&caller.claims).ok().and_then(|s| s.sub),
        _ => None,
    }
}

impl Cx {
    pub(crate) fn new(shared: Arc<Shared>, request: Request) -> Result<(Self, Body), Error> {
        let (parts, body) = request.into_parts();
        let (Some(project), Some(caller)) =
            (parts.extensions.get::<Arc<Project>>().cloned(), parts.extensions.get::<Caller>().cloned())
        else {
            return Err(Error::Internal("a request came without project or caller"));
        };
        let trace = parts.extensions.get::<RequestId>().filter(|_| project.data_api.trace_requests);
        let database = Database::new(shared.config.pools.of(&project).traced(trace.map(RequestId::as_str)));
        let owner = subject(&caller);
        Ok((Self { shared, project, caller, parts, database, owner }, body))
    }

    /// Goes on as the caller that a signature proved.
    pub(crate) fn act_as(&mut self, caller: Caller) {
        self.owner = subject(&caller);
        self.caller = caller;
    }

    /// The caller's session for one operation.
    pub(crate) fn session(&self, operation: &'static str) -> Session {
        Session::caller(&self.project, &self.caller, &self.parts, operation)
    }

    pub(crate) fn is_service_role(&self) -> bool {
        self.caller.role.as_str() == RoleName::SERVICE_ROLE
    }

    /// Nobody showed a key: only what is public or signed may be read.
    pub(crate) fn is_anonymous(&self) -> bool {
        self.caller.credential == Credential::None
    }

    pub(crate) fn header(&self, name: impl http::header::AsHeaderName) -> Option<&str> {
        self.parts.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Whether the client wants to overwrite.
    pub(crate) fn wants_upsert(&self) -> bool {
        self.header("x-upsert").is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    /// A parameter of the query, decoded.
    pub(crate) fn query(&self, name: &str) -> Option<String> {
        query_value(self.parts.uri.query().unwrap_or_default(), name)
    }
}

/// A parameter of a query, decoded. The first one counts.
pub(crate) fn query_value(query: &str, name: &str) -> Option<String> {
    query.split('&').find_map(|part| {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        let value = value.replace('+', " ");
        (key == name).then(|| percent_encoding::percent_decode_str(&value).decode_utf8_lossy().into_owned())
    })
}

/// Reads a whole body as JSON.
pub(crate) async fn read_json<T: DeserializeOwned>(cx: &Cx, body: Body) -> Result<T, Error> {
    let mut body = web::limits::cap_body(&cx.parts.headers, body, LONGEST_JSON)?;
    let room = cx.shared.memory.room(&cx.project.project_ref);
    let mut bytes = Vec::new();
    let read = async {
        while let Some(piece) = next_piece(&mut body).await? {
            room.grow(piece.len())?;
            bytes.extend_from_slice(&piece);
        }
        Ok::<(), Error>(())
    };
    tokio::time::timeout(BODY_READ_TIMEOUT, read).await.map_err(|_| web::BodyError::TimedOut)??;
    serde_json::from_slice(&bytes).map_err(|error| {
        let text = error.to_string();
        let what = text.split(" at line ").next().unwrap_or_default();
        Error::InvalidRequest(format!("body: {what}").into())
    })
}

/// An answer in JSON.
pub(crate) fn json(value: &impl Serialize) -> Result<Response, Error> {
    match serde_json::to_vec(value) {
        Ok(bytes) => Ok(json_bytes(bytes.into())),
        Err(_) => Err(Error::Internal("an answer that is no JSON")),
    }
}

/// An answer that is JSON already.
pub(crate) fn json_bytes(bytes: Bytes) -> Response {
    let mut response = Response::new(Body::from(bytes));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A message in upstream's form.
pub(crate) fn message(text: &str) -> Result<Response, Error> {
    json(&serde_json::json!({"message": text}))
}

/// Sets a header whose value may hold what no header can; then it is left out.
pub(crate) fn set(response: &mut Response, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}
