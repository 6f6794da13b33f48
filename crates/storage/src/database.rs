//! A project's database as the service uses it: every statement as the caller, with the caller's claims, or as the
//! service itself (`supabase_storage_admin`) for its own bookkeeping.

use std::sync::Arc;

use base::{Caller, Project};
use http::HeaderMap;
use http::request::Parts;
use pg::claims::Claims;
use pg::{OpenTransaction, Pool, Query, Rows};
use serde_json::{Map, Value};

use crate::error::Error;

const ADMIN: &str = "supabase_storage_admin";
/// Where unqualified names of policies and triggers are looked for, as in Supabase.
const SEARCH_PATH: &str = "storage, public, extensions";
/// Shortest time a statement may take, in milliseconds, whatever the project allows the data API.
const LEAST_TIMEOUT: u32 = 8_000;

/// As whom a transaction runs, and what stored code can read of the request.
#[derive(Clone)]
pub(crate) struct Session {
    role: String,
    claims: Arc<str>,
    settings: Vec<(&'static str, String)>,
}

impl Session {
    /// The caller of a request. `operation` is what policies read as `storage.operation()`.
    pub(crate) fn caller(project: &Project, caller: &Caller, parts: &Parts, operation: &'static str) -> Self {
        let timeout = match project.data_api.statement_timeout_ms.of(&caller.role) {
            0 => 0,
            timeout => timeout.max(LEAST_TIMEOUT),
        };
        let mut settings = common(operation, timeout);
        settings.push(("request.method", parts.method.to_string()));
        settings.push(("request.path", parts.uri.path().to_owned()));
        settings.push(("request.headers", headers(&parts.headers)));
        Self { role: caller.role.as_str().to_owned(), claims: caller.claims.clone(), settings }
    }

    /// The service itself, on nobody's behalf or with a right that a signed URL gives.
    pub(crate) fn admin(operation: &'static str) -> Self {
        Self { role: ADMIN.to_owned(), claims: "{}".into(), settings: common(operation, 30_000) }
    }
}

fn common(operation: &'static str, timeout: u32) -> Vec<(&'static str, String)> {
    vec![
        ("search_path", SEARCH_PATH.to_owned()),
        ("timezone", "UTC".to_owned()),
        ("statement_timeout", timeout.to_string()),
        ("storage.operation", operation.to_owned()),
        // Rows may go because the files go with them.
        ("storage.allow_delete_query", "true".to_owned()),
    ]
}

fn headers(headers: &HeaderMap) -> String {
    let mut map = Map::new();
    for (name, value) in headers {
        map.insert(name.as_str().to_owned(), Value::from(String::from_utf8_lossy(value.as_bytes())));
    }
    Value::Object(map).to_string()
}

/// Connections to one project's database.
#[derive(Clone)]
pub(crate) struct Database {
    pool: Pool,
}

impl Database {
    pub(crate) fn new(pool: Pool) -> Self {
        Self { pool }
    }

    /// Reads in one round trip.
    pub(crate) async fn read(&self, session: &Session, queries: Vec<Query>) -> Result<Vec<Rows>, Error> {
        self.run(session, queries, true).await
    }

    /// Runs statements in one transaction and commits it, in one round trip.
    pub(crate) async fn write(&self, session: &Session, queries: Vec<Query>) -> Result<Vec<Rows>, Error> {
        self.run(session, queries, false).await
    }

    async fn run(&self, session: &Session, queries: Vec<Query>, read_only: bool) -> Result<Vec<Rows>, Error> {
        let settings = borrowed(&session.settings);
        let claims = Claims {
            role: &session.role,
            jwt_claims: &session.claims,
            read_only,
            settings: &settings,
            ..Claims::default()
        };
        Ok(self.pool.execute(&claims, queries).await?)
    }

    /// Runs the first statement of a transaction whose end is decided later.
    pub(crate) async fn begin(
        &self,
        session: &Session,
        queries: Vec<Query>,
    ) -> Result<(Vec<Rows>, OpenTransaction), Error> {
        let settings = borrowed(&session.settings);
        let claims =
            Claims { role: &session.role, jwt_claims: &session.claims, settings: &settings, ..Claims::default() };
        Ok(self.pool.transaction(&claims, queries).await?)
    }

    /// One short read as the service, which may share its transaction with others like it: the way of downloads.
    pub(crate) async fn look_up(&self, query: Query) -> Result<Rows, Error> {
        let claims = Claims {
            role: ADMIN,
            jwt_claims: "{}",
            read_only: true,
            settings: &[("search_path", ""), ("timezone", "UTC"), ("statement_timeout", "30000")],
            ..Claims::default()
        };
        Ok(self.pool.read(&claims, vec![query]).await?.pop().unwrap_or_default())
    }
}

fn borrowed<'a>(settings: &'a [(&'static str, String)]) -> Vec<(&'a str, &'a str)> {
    settings.iter().map(|(name, value)| (*name, value.as_str())).collect()
}
