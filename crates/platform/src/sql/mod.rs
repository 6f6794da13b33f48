//! SQL of a project's owner: `POST /api/projects/{id}/sql`.
//!
//! Every request is a session of its own that logged in as the project's owner role with that role's password, so that
//! no SQL can get back to a stronger role (architecture, section 5). Each is bounded in time, rows and bytes, and
//! cancelled when the client hangs up.

mod value;

use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::response::IntoResponse;
use base::{ProjectRef, Secret, digest};
use http::header::CONTENT_TYPE;
use pg::{ConnectConfig, Script, ScriptError, ScriptResult, ScriptSession};
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::request::{Fields, ProjectCx};
use crate::secrets::{self, kind};
use crate::store;

/// Sessions of all projects, and of one, at a time.
const MOST_SESSIONS: usize = 16;
const MOST_PER_PROJECT: u32 = 4;
/// Longest text of a script, in characters.
const LONGEST_QUERY: usize = 2_000_000;
const DEFAULT_TIMEOUT_MS: i64 = 30_000;
const LONGEST_TIMEOUT_MS: i64 = 300_000;
/// Rows of one statement and bytes of all that an answer holds.
const MOST_ROWS: usize = 10_000;
const MOST_BYTES: usize = 8 * 1024 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long PostgreSQL may take to obey a cancel before the connection is dropped.
const CANCEL_GRACE: Duration = Duration::from_secs(2);

/// How many sessions are open; owners cannot use up the server's connections.
pub(crate) struct SqlSessions {
    all: Arc<Semaphore>,
    by_project: Arc<Mutex<HashMap<ProjectRef, u32>>>,
    /// Projects in which SQL of ours runs that has to be alone.
    alone: Arc<Mutex<HashSet<ProjectRef>>>,
}

/// Nobody else changes what belongs to the project in its database through us; ends when dropped.
pub(crate) struct Alone {
    projects: Arc<Mutex<HashSet<ProjectRef>>>,
    project_ref: ProjectRef,
}

impl Drop for Alone {
    fn drop(&mut self) {
        self.projects.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.project_ref);
    }
}

/// The right to hold one session; given back when dropped.
struct Place {
    _permit: OwnedSemaphorePermit,
    by_project: Arc<Mutex<HashMap<ProjectRef, u32>>>,
    project_ref: ProjectRef,
}

impl SqlSessions {
    pub(crate) fn new() -> Self {
        Self { all: Arc::new(Semaphore::new(MOST_SESSIONS)), by_project: Arc::default(), alone: Arc::default() }
    }

    /// Never waits: whoever holds it may wait for a lock that the project's owner keeps.
    pub(crate) fn alone(&self, project_ref: &ProjectRef) -> Result<Alone, Error> {
        let is_free = self.alone.lock().unwrap_or_else(PoisonError::into_inner).insert(project_ref.clone());
        if !is_free {
            return Err(Error::ProjectBusy);
        }
        Ok(Alone { projects: Arc::clone(&self.alone), project_ref: project_ref.clone() })
    }

    fn take(&self, project_ref: &ProjectRef) -> Result<Place, Error> {
        let permit = self.all.clone().try_acquire_owned().map_err(|_| Error::TooManyRequests(1))?;
        let mut counts = self.by_project.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(project_ref.clone()).or_default();
        if *count >= MOST_PER_PROJECT {
            return Err(Error::TooManyRequests(1));
        }
        *count += 1;
        let by_project = self.by_project.clone();
        Ok(Place { _permit: permit, by_project, project_ref: project_ref.clone() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.by_project.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.project_ref) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.project_ref);
            }
        }
    }
}

struct SqlParams {
    query: String,
    params: Option<Vec<Option<String>>>,
    read_only: bool,
    timeout_ms: u64,
}

impl SqlParams {
    fn read(mut fields: Fields) -> Result<Self, Error> {
        let query = fields.required_text("query", LONGEST_QUERY);
        let read_only = fields.boolean("read_only").unwrap_or(false);
        let timeout_ms = fields.integer("timeout_ms", 1, LONGEST_TIMEOUT_MS).unwrap_or(DEFAULT_TIMEOUT_MS);
        let params = match fields.take("params") {
            None => None,
            Some(Value::Array(values)) => Some(values.into_iter().map(text_format).collect::<Vec<_>>()),
            Some(_) => {
                fields.refuse("params", "must be an array");
                None
            }
        };
        if params.iter().flatten().flatten().any(|text| text.contains('\0')) {
            fields.refuse("params", "must not contain a NUL character");
        }
        fields.finish()?;
        Ok(Self { query, params, read_only, timeout_ms: timeout_ms.unsigned_abs() })
    }
}

/// A JSON value as PostgreSQL's text format of whatever type the parameter has.
fn text_format(value: Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text),
        other => Some(other.to_string()),
    }
}

pub(crate) async fn run_sql(cx: ProjectCx, fields: Fields) -> Result<impl IntoResponse, Error> {
    let params = SqlParams::read(fields)?;
    cx.require_active()?;
    // The cluster's own default is read-only then, but any SQL can switch that off.
    if !params.read_only {
        cx.platform().provisioner().write_gate().check().map_err(|_| Error::DiskNearlyFull)?;
    }
    let place = cx.platform().sql_sessions().take(&cx.project_ref)?;
    let hung_up = CancellationToken::new();
    let _cancel_when_dropped = hung_up.clone().drop_guard();
    let started = Instant::now();
    let platform = cx.platform().clone();
    let (result, types) = platform
        .to_the_end(async move {
            let outcome = run_audited(&cx, &params, hung_up).await;
            drop(place);
            outcome
        })
        .await??;
    let body = value::render(&result, &types, started.elapsed());
    Ok(([(CONTENT_TYPE, "application/json")], body))
}

/// The log has what is about to run before it runs, and then how it went: SQL can neither hide itself by ending its
/// transaction nor by outliving its client.
async fn run_audited(
    cx: &ProjectCx,
    params: &SqlParams,
    hung_up: CancellationToken,
) -> Result<(ScriptResult, TypeNames), Error> {
    // What ran is named by its digest: the text may hold passwords.
    let detail = json!({
        "sha256": digest::sha256_hex(params.query.as_bytes()),
        "bytes": params.query.len(),
        "read_only": params.read_only,
    });
    let platform = cx.platform();
    let entry = platform.audit(&cx.caller.actor().entry(Some(&cx.project_ref), "sql.run", detail)).await?;
    let started = Instant::now();
    let outcome = run(cx, &SESSION, params, hung_up).await;
    let sqlstate = match &outcome {
        Err(Error::Sql(error, _)) => Some(error.code.as_str()),
        _ => None,
    };
    let word = outcome.as_ref().err().map_or("ok".into(), |error| web::WireError::code(error));
    let milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let detail = json!({ "outcome": word, "sqlstate": sqlstate, "duration_ms": milliseconds });
    let amended = async { Ok::<_, Error>(store::audit::audit_amend(&**platform.db().await?, entry, &detail).await?) };
    if let Err(error) = amended.await {
        tracing::warn!(project.ref = %cx.project_ref, cause = %error, "the outcome of SQL could not be written down");
    }
    outcome
}

/// Runs a script of ours as the project's owner. What waits for a lock for long fails with [`Error::ProjectBusy`]; no
/// connection of the control plane's pool may be held meanwhile.
pub(crate) async fn run_own(cx: &ProjectCx, script: &str) -> Result<ScriptResult, Error> {
    let params = SqlParams { query: script.to_owned(), params: None, read_only: false, timeout_ms: 10_000 };
    match run(cx, &OWN_SESSION, &params, CancellationToken::new()).await {
        Ok((result, _)) => Ok(result),
        // lock_not_available
        Err(Error::Sql(error, _)) if error.code == "55P03" => Err(Error::ProjectBusy),
        Err(Error::SqlTimeout(_)) => Err(Error::ProjectBusy),
        Err(error) => Err(error),
    }
}

/// Settings of every session.
const SESSION: [(&str, &str); 2] = [
    ("idle_in_transaction_session_timeout", "60000"),
    // A backend whose client is gone ends its statement.
    ("client_connection_check_interval", "2000"),
];
/// The same for SQL of ours.
const OWN_SESSION: [(&str, &str); 3] = [SESSION[0], SESSION[1], ("lock_timeout", "2000")];

/// How to log in as the project's owner role.
async fn owner_session(cx: &ProjectCx, session: &[(&str, &str)], params: &SqlParams) -> Result<ConnectConfig, Error> {
    let platform = cx.platform();
    let config = platform.config();
    let sealed = {
        let db = platform.db().await?;
        store::secret::secret_map(&**db, cx.project_ref.as_str()).await?
    };
    let password: Secret<String> = secrets::open_kind(&config.master_key, &cx.project_ref, &sealed, kind::DB_PASSWORD)
        .map_err(|error| Error::Internal(error.into()))?
        .ok_or_else(|| Error::Internal("the project has no database password".into()))?;
    let mut session_settings: Vec<_> =
        session.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    session_settings.push(("statement_timeout".to_owned(), params.timeout_ms.to_string()));
    // Never off: while the disk is nearly full the cluster has it on.
    if params.read_only {
        session_settings.push(("default_transaction_read_only".to_owned(), "on".to_owned()));
    }
    Ok(ConnectConfig {
        host: config.admin.host.clone(),
        port: config.admin.port,
        database: cx.project_ref.database().to_owned(),
        user: cx.project_ref.owner_role().to_owned(),
        password: Some(password),
        session_settings,
        connect_timeout: CONNECT_TIMEOUT,
    })
}

/// A session of the project's owner for work of ours that takes several statements; each may take `statement_ms`.
pub(crate) async fn own_session(
    cx: &ProjectCx,
    settings: &[(&str, &str)],
    statement_ms: u64,
) -> Result<ScriptSession, Error> {
    let params = SqlParams { query: String::new(), params: None, read_only: false, timeout_ms: statement_ms };
    let settings: Vec<_> = SESSION.iter().chain(settings).copied().collect();
    log_in(cx, owner_session(cx, &settings, &params).await?).await
}

/// What a statement in such a session failed with.
pub(crate) fn own_error(failure: ScriptError) -> Error {
    script_error(failure, u64::MAX, Duration::ZERO)
}

type TypeNames = HashMap<(u32, i32), String>;

async fn run(
    cx: &ProjectCx,
    session: &[(&str, &str)],
    params: &SqlParams,
    hung_up: CancellationToken,
) -> Result<(ScriptResult, TypeNames), Error> {
    let mut session = log_in(cx, owner_session(cx, session, params).await?).await?;
    let canceller = session.canceller();
    let script = Script {
        sql: &params.query,
        params: params.params.as_deref(),
        read_only: params.read_only,
        most_rows: MOST_ROWS,
        most_bytes: MOST_BYTES,
    };
    let started = Instant::now();
    let outcome = {
        let mut running = pin!(session.run(&script));
        let finished = tokio::select! {
            outcome = &mut running => Some(outcome),
            () = tokio::time::sleep(Duration::from_millis(params.timeout_ms)) => None,
            () = hung_up.cancelled() => None,
        };
        if finished.is_none() {
            if let Err(error) = canceller.cancel().await {
                tracing::warn!(cause = %error, "a cancel request could not be sent");
            }
            // The session is closed in any case; the wait lets PostgreSQL end the statement in an orderly way.
            let _ = tokio::time::timeout(CANCEL_GRACE, running).await;
        }
        finished
    };
    let Some(outcome) = outcome else {
        session.close().await;
        return Err(Error::SqlTimeout(params.timeout_ms));
    };
    let types = match &outcome {
        Ok(result) => type_names(&mut session, result).await,
        Err(_) => TypeNames::new(),
    };
    session.close().await;
    match outcome {
        Ok(result) => Ok((result, types)),
        Err(failure) => {
            let mut error = script_error(failure, params.timeout_ms, started.elapsed());
            hint_at_owner_role(cx, &params.query, &mut error).await;
            Err(error)
        }
    }
}

/// Opens a session; a password that somebody changed from SQL is put back first.
async fn log_in(cx: &ProjectCx, config: ConnectConfig) -> Result<ScriptSession, Error> {
    let refused = match ScriptSession::open(config.clone()).await {
        Ok(session) => return Ok(session),
        Err(error) => error,
    };
    let provisioner = cx.platform().provisioner();
    let error = match &refused {
        pg::Error::Refused(refusal)
            if refusal.code == "28P01"
                && provisioner.mend_login(&cx.project_ref, cx.project_ref.owner_role()).await? =>
        {
            match ScriptSession::open(config).await {
                Ok(session) => return Ok(session),
                Err(error) => error,
            }
        }
        _ => refused,
    };
    Err(connect_error(cx, error).await)
}

/// Dumps name `postgres` as the owner of everything, and where a superuser has that name nobody can give it anything.
async fn hint_at_owner_role(cx: &ProjectCx, sql: &str, error: &mut Error) {
    const CLAUSES: [&str; 3] = ["owner to", " role ", "authorization"];
    let Error::Sql(refusal, _) = error else { return };
    // insufficient_privilege
    if refusal.code != "42501" || refusal.hint.is_some() {
        return;
    }
    let sql = sql.to_ascii_lowercase();
    if !CLAUSES.iter().any(|clause| sql.contains(clause)) {
        return;
    }
    if let Ok(role) = cx.platform().provisioner().owner_role().await {
        refusal.hint = Some(format!(
            "what is in a project belongs to the role \"{role}\" on this server: write {role} in place of the role that \
             the SQL names, or leave such statements out"
        ));
    }
}

/// The SQL names of the result's types; empty when the script left the session unable to tell (an open transaction
/// that failed).
async fn type_names(session: &mut ScriptSession, result: &ScriptResult) -> TypeNames {
    let columns = result.statements.iter().flat_map(|statement| &statement.columns);
    let mut types: Vec<_> = columns.map(|column| (column.type_oid, column.type_modifier)).collect();
    types.sort_unstable();
    types.dedup();
    if types.is_empty() {
        return TypeNames::new();
    }
    match tokio::time::timeout(CANCEL_GRACE, session.type_names(&types)).await {
        Ok(Ok(names)) => types.into_iter().zip(names).collect(),
        _ => TypeNames::new(),
    }
}

async fn connect_error(cx: &ProjectCx, error: pg::Error) -> Error {
    match &error {
        // Too many connections of the role, the database or the server.
        pg::Error::Refused(refusal) if refusal.code == "53300" => Error::TooManyRequests(1),
        // A server that is short of connections may also not answer at all.
        pg::Error::Connect(_) | pg::Error::Lost if are_used_up(cx).await => Error::TooManyRequests(1),
        _ => Error::ProjectDatabase(error.into()),
    }
}

/// Whether the owner's role has as many sessions as it may; no when that cannot be asked.
async fn are_used_up(cx: &ProjectCx) -> bool {
    let Ok(db) = cx.platform().db().await else { return false };
    store::usage::sessions_are_used_up(&**db, cx.project_ref.owner_role()).await.unwrap_or(false)
}

fn script_error(failure: ScriptError, timeout_ms: u64, elapsed: Duration) -> Error {
    match failure.error {
        // query_canceled: by the statement timeout, or by somebody else before that.
        pg::Error::Db(error) if error.code == "57014" && elapsed.as_millis() >= u128::from(timeout_ms) => {
            Error::SqlTimeout(timeout_ms)
        }
        pg::Error::Db(error) => Error::Sql(error, failure.statement),
        pg::Error::Protocol(problem) => Error::invalid("query", problem),
        other => Error::ProjectDatabase(other.into()),
    }
}
