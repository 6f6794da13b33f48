//! The one stage that does IO: role, claims and statements of a request in one exchange (PostgREST `MainTx`).

use std::fmt::Write as _;

use base::settings::TxEnd;
use bytes::Bytes;
use http::request::Parts;
use pg::claims::application_name;
use pg::{Exchange, Pool, Query, Resets, Row, Rows, Streams};
use web::RequestId;

use crate::api_request::preferences::{PreferCount, PreferTransaction};
use crate::api_request::types::Mutation;
use crate::api_request::{self, ApiRequest};
use crate::config::Config;
use crate::error::Error;
use crate::identifier::QualifiedIdentifier;
use crate::media_type::MediaType;
use crate::openapi::{Accessible, AccessibleFunction};
use crate::plan::{ActionPlan, CrudKind, CrudPlan};
use crate::query::{MainQuery, column};
use crate::response::Body;
use crate::schema_cache::{IsolationLevel, SettingReaders};
use crate::session::{Session, SessionParams, Sessions};

/// What came back from the database.
#[derive(Debug)]
pub(crate) enum DbResult {
    /// Nothing was asked.
    None,
    Rows(ResultSet),
    /// The text of an execution plan.
    Explain(Bytes),
    /// What the role may use of a schema.
    OpenApi(Accessible),
}

impl DbResult {
    /// Rows of the answer, where they were counted.
    pub(crate) fn rows(&self) -> Option<i64> {
        match self {
            Self::Rows(set) if !matches!(set.body, Body::Long(_)) => Some(set.page_total),
            _ => None,
        }
    }
}

/// The one row that the main statement gives, see [`column`].
#[derive(Debug)]
pub(crate) struct ResultSet {
    pub(crate) total: Option<i64>,
    pub(crate) page_total: i64,
    /// A JSON array of `name=eq.value`.
    pub(crate) location: Option<String>,
    pub(crate) body: Body,
    pub(crate) response_headers: Option<String>,
    pub(crate) response_status: Option<String>,
    pub(crate) inserted: Option<i64>,
}

impl ResultSet {
    /// A custom media handler's aggregate may give no row at all.
    fn empty() -> Self {
        Self {
            total: None,
            page_total: 0,
            location: None,
            body: Body::EMPTY,
            response_headers: None,
            response_status: None,
            inserted: None,
        }
    }
}

/// How often a transaction is begun whose connection ends before its COMMIT: all of a pool may end at once.
const MOST_STARTS: u32 = 4;
/// SQLSTATE of a transaction that could not be put in line with others; it is to be run again.
const SERIALIZATION_FAILURE: &str = "40001";
/// How often such a transaction is run again.
const SERIALIZATION_REPEATS: usize = 8;

/// How a transaction ends.
struct Ending {
    check: Check,
    /// Which of the results is checked, and what its rows are.
    at: usize,
    form: Form,
    rollback: bool,
}

/// What the rows of the main statement are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// One row with the columns of [`column`].
    Summary,
    /// A row for each element of the body, with the columns of [`pg::exchange::joined`].
    Elements,
    /// The body of the only row, if there is one.
    OneRow,
}

impl Form {
    fn of(query: &MainQuery) -> Self {
        match query.streams {
            Streams::Rows => Self::Elements,
            _ if query.one_row => Self::OneRow,
            _ => Self::Summary,
        }
    }

    /// How many rows the answer shows.
    fn page_total(self, rows: &Rows) -> i64 {
        match self {
            Self::OneRow => i64::try_from(rows.rows.len()).unwrap_or(i64::MAX),
            Self::Summary | Self::Elements => {
                rows.rows.first().and_then(|row| row.int(column::PAGE_TOTAL)).unwrap_or(0)
            }
        }
    }
}

/// What a transaction runs against.
pub(crate) struct MainTx<'a> {
    pub(crate) pool: &'a Pool,
    pub(crate) config: &'a Config,
    /// Which settings stored code can read and set.
    pub(crate) readers: SettingReaders,
    /// The request's head, for what stored code can read of it.
    pub(crate) parts: &'a Parts,
    pub(crate) sessions: &'a Sessions,
    pub(crate) session: SessionParams<'a>,
}

impl MainTx<'_> {
    pub(crate) async fn run(
        &self,
        plan: &ActionPlan,
        request: &ApiRequest,
        query: MainQuery,
    ) -> Result<DbResult, Error> {
        let read_only = query.read_only;
        let rollback = !read_only && should_rollback(self.config, request);
        let check = if let ActionPlan::Crud(plan) = plan { Check::of(plan, request) } else { Check::default() };
        let explain_count = query.explain_count.is_some();
        let has_pre_request = usize::from(query.pre_request.is_some());
        let at = has_pre_request + usize::from(explain_count);
        // Reads have nothing to undo, so that what is wrong with their result need not hold up the commit.
        let conditional = rollback || (!read_only && check.is_some());
        let form = Form::of(&query);
        let isolation_level = query.isolation_level;
        let isolated = isolation_level.is_some_and(|level| level != IsolationLevel::ReadCommitted);
        let exchange = self.exchange(query, begin(isolation_level, conditional), rollback);
        let ending = Ending { check, at, form, rollback };
        let mut repeats = if isolated { SERIALIZATION_REPEATS } else { 0 };
        let results = loop {
            match self.transact(&exchange, &ending).await {
                Err(Error::Db(cause)) if cause.code == SERIALIZATION_FAILURE && repeats > 0 => repeats -= 1,
                results => break results?,
            }
        };
        let mut results = results.into_iter().skip(has_pre_request);
        match plan {
            ActionPlan::Info(_) => Ok(DbResult::None),
            ActionPlan::Inspect(_) => {
                let mut next = || results.next().unwrap_or_default();
                Ok(DbResult::OpenApi(accessible(&next(), &next(), &next())))
            }
            ActionPlan::Crud(plan) if plan.is_explain() => {
                let rows = results.next().unwrap_or_default();
                Ok(DbResult::Explain(lines(&rows)))
            }
            ActionPlan::Crud(_) => {
                let planned = if explain_count { results.next().and_then(|rows| planned_rows(&rows)) } else { None };
                let mut set = result_set(results.next().unwrap_or_default(), form);
                if explain_count {
                    set.total = self.total(request, set.total, planned);
                }
                Ok(DbResult::Rows(set))
            }
        }
    }

    /// Runs the exchange and ends its transaction: an explicit one by what came of it.
    async fn transact(&self, exchange: &Exchange, ending: &Ending) -> Result<Vec<Rows>, Error> {
        // Reads have nothing to undo, and may be run again when the connection breaks under them.
        if exchange.begin.is_none() || exchange.read_only {
            let results = self.pool.run(exchange).await?;
            ending.check.apply(results.get(ending.at), ending.form)?;
            return Ok(results);
        }
        Box::pin(self.transact_explicitly(exchange, ending)).await
    }

    async fn transact_explicitly(&self, exchange: &Exchange, ending: &Ending) -> Result<Vec<Rows>, Error> {
        for _ in 0..MOST_STARTS {
            if let Some(results) = self.transact_once(exchange, ending).await? {
                return Ok(results);
            }
        }
        Err(Error::from(pg::Error::NotStarted))
    }

    /// None when the connection ended before its COMMIT was sent: nothing of it was done.
    async fn transact_once(&self, exchange: &Exchange, ending: &Ending) -> Result<Option<Vec<Rows>>, Error> {
        let (results, transaction) = self.pool.begin(exchange).await?;
        if let Err(error) = ending.check.apply(results.get(ending.at), ending.form) {
            // Whether or not the connection is still there, this is what there is to say.
            transaction.rollback().await.ok();
            return Err(error);
        }
        match if ending.rollback { transaction.rollback().await } else { transaction.commit().await } {
            Ok(()) => Ok(Some(results)),
            // PostgreSQL has rolled it back.
            Err(pg::Error::NotStarted) => Ok(ending.rollback.then_some(results)),
            Err(error) => Err(Error::from(error)),
        }
    }

    fn total(&self, request: &ApiRequest, counted: Option<i64>, planned: Option<i64>) -> Option<i64> {
        match request.preferences.count {
            Some(PreferCount::Planned) => planned,
            // What was counted is exact unless it went to the limit of what is counted.
            Some(PreferCount::Estimated) => {
                let max_rows = self.config.db_max_rows.and_then(|max| i64::try_from(max).ok());
                if counted > max_rows { counted.max(planned) } else { counted }
            }
            Some(PreferCount::Exact) | None => counted,
        }
    }

    fn exchange(&self, query: MainQuery, begin: Option<&'static str>, rollback: bool) -> Exchange {
        let (readers, read_only) = (self.readers, query.read_only);
        let Session { scope, setup } = self.session(&query);
        let mut queries: Vec<Query> = Vec::with_capacity(2);
        let joins = read_only && query.pre_request.is_none() && !readers.response && !readers.writes;
        queries.extend(query.pre_request);
        queries.extend(query.explain_count);
        queries.extend(query.main);
        if let Some(open_api) = query.open_api {
            queries.extend([open_api.accessible_tables, open_api.accessible_functions, open_api.schema_description]);
        }
        if rollback {
            // Deferred constraints must have their say although nothing will be committed.
            queries.push(Query { sql: "set constraints all immediate".into(), params: Vec::new() });
        }
        let begin = begin.map(|sql| Query { sql: sql.into(), params: Vec::new() });
        let streams = query.streams;
        let resets = if readers.writes { Resets::Session } else { Resets::Nothing };
        Exchange { scope, begin, setup, queries, read_only, resets, joins, streams }
    }

    /// Role, claims, and those settings that stored code can read.
    fn session(&self, query: &MainQuery) -> Session {
        let readers = self.readers;
        let headers = readers.headers.then(|| json_object(&api_request::headers(&self.parts.headers)));
        let cookies = readers.cookies.then(|| json_object(&api_request::cookies(&self.parts.headers)));
        let mut settings: Vec<(&str, &str)> = Vec::new();
        let trace = self.config.trace_requests.then(|| self.parts.extensions.get::<RequestId>()).flatten();
        settings.extend(trace.map(|id| ("application_name", application_name(id.as_str()))));
        if readers.method {
            settings.push(("request.method", self.parts.method.as_str()));
        }
        if readers.path {
            settings.push(("request.path", self.parts.uri.path()));
        }
        settings.extend(headers.as_deref().map(|json| ("request.headers", json)));
        settings.extend(cookies.as_deref().map(|json| ("request.cookies", json)));
        settings.extend(query.tx_settings.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let params = SessionParams { read_only: query.read_only, ..self.session.clone() };
        if settings.is_empty() { self.sessions.get(&params) } else { params.write(&settings) }
    }
}

/// The explicit BEGIN of a transaction that has a level, or whose end is decided by its result: PostgreSQL would log a
/// warning for each ROLLBACK without one.
fn begin(level: Option<IsolationLevel>, conditional: bool) -> Option<&'static str> {
    match level {
        Some(IsolationLevel::ReadCommitted) => Some("begin isolation level read committed"),
        Some(IsolationLevel::RepeatableRead) => Some("begin isolation level repeatable read"),
        Some(IsolationLevel::Serializable) => Some("begin isolation level serializable"),
        None => conditional.then_some("begin"),
    }
}

/// The schemas as a value of `search_path`.
pub(crate) fn search_path(schema: &str, extra: &[String]) -> String {
    let mut out = String::with_capacity(32);
    pg::ident::push_ident(&mut out, schema);
    for name in extra {
        out.push_str(", ");
        pg::ident::push_ident(&mut out, name);
    }
    out
}

fn json_object(pairs: &[(String, String)]) -> String {
    let mut out = String::from("{");
    for (i, (name, value)) in pairs.iter().enumerate() {
        let text = |s: &str| serde_json::to_string(s).unwrap_or_default();
        write!(out, "{}{}:{}", if i == 0 { "" } else { "," }, text(name), text(value)).ok();
    }
    out.push('}');
    out
}

fn should_rollback(config: &Config, request: &ApiRequest) -> bool {
    match config.db_tx_end {
        TxEnd::Commit => false,
        TxEnd::Rollback => true,
        TxEnd::CommitAllowOverride => request.preferences.transaction == Some(PreferTransaction::Rollback),
        TxEnd::RollbackAllowOverride => request.preferences.transaction != Some(PreferTransaction::Commit),
    }
}

/// What must be true of the number of rows for the transaction to be committed.
#[derive(Default)]
struct Check {
    singular: bool,
    put: bool,
    max_affected: Option<i64>,
}

impl Check {
    fn of(plan: &CrudPlan, request: &ApiRequest) -> Self {
        if plan.is_explain() {
            return Self::default();
        }
        let singular = matches!(plan.media_type, MediaType::VndSingularJson { .. });
        let preferences = &request.preferences;
        let max_affected = preferences.max_affected.filter(|_| preferences.is_strict());
        match &plan.kind {
            CrudKind::Read { .. } => Self { singular, ..Self::default() },
            CrudKind::Mutate { mutation: Mutation::SingleUpsert, .. } => Self { put: true, ..Self::default() },
            CrudKind::Mutate { mutation: Mutation::Create, .. } => Self { singular, ..Self::default() },
            CrudKind::Mutate { .. } | CrudKind::Call { .. } => Self { singular, put: false, max_affected },
        }
    }

    fn is_some(&self) -> bool {
        self.singular || self.put || self.max_affected.is_some()
    }

    fn apply(&self, main: Option<&Rows>, form: Form) -> Result<(), Error> {
        if !self.is_some() {
            return Ok(());
        }
        let rows = main.map_or(0, |rows| form.page_total(rows));
        if self.put && rows != 1 {
            return Err(Error::PutMatchingPk);
        }
        if self.singular && rows != 1 {
            return Err(Error::Singularity(rows));
        }
        if self.max_affected.is_some_and(|max| rows > max) {
            return Err(Error::MaxAffectedViolation(rows));
        }
        Ok(())
    }
}

fn result_set(rows: Rows, form: Form) -> ResultSet {
    let page_total = form.page_total(&rows);
    let Some(row) = rows.rows.first() else {
        let body = if form == Form::Summary { Bytes::new() } else { Bytes::from_static(b"[]") };
        return ResultSet { body: body.into(), ..ResultSet::empty() };
    };
    if form == Form::OneRow {
        let body = match rows.long {
            Some(value) => Body::Long(value),
            None if rows.rows.len() == 1 => Body::Whole(row.bytes(0).unwrap_or_default()),
            // A key that holds no longer: a table inherits from this one since the schema was read.
            None => Body::Whole(one_array(&rows.rows)),
        };
        return ResultSet { page_total, body, ..ResultSet::empty() };
    }
    let text = |index| row.text(index).filter(|text| !text.is_empty()).map(str::to_owned);
    ResultSet {
        total: row.int(column::TOTAL),
        page_total,
        location: text(column::LOCATION),
        body: match rows.long {
            Some(value) => Body::Long(value),
            None => Body::Whole(row.bytes(column::BODY).unwrap_or_default()),
        },
        response_headers: text(column::RESPONSE_HEADERS),
        response_status: text(column::RESPONSE_STATUS),
        inserted: row.int(column::INSERTED),
    }
}

/// Arrays as one, with the line breaks of `json_agg`.
fn one_array(rows: &[Row]) -> Bytes {
    let arrays = rows.iter().filter_map(|row| row.text(0));
    let elements: Vec<&str> = arrays.map(|array| array.trim_matches(['[', ']'])).collect();
    format!("[{}]", elements.join(", \n ")).into()
}

/// The results of `query::OpenApiQueries`.
fn accessible(tables: &Rows, functions: &Rows, description: &Rows) -> Accessible {
    let name = |row: &Row| Some(QualifiedIdentifier::new(row.text(0)?, row.text(1)?));
    let function = |row: &Row| {
        Some(AccessibleFunction {
            oid: row.int(2).and_then(|oid| u32::try_from(oid).ok())?,
            name: name(row)?,
            param_types: row.text(3).and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default(),
        })
    };
    Accessible {
        tables: tables.rows.iter().filter_map(name).collect(),
        functions: functions.rows.iter().filter_map(function).collect(),
        description: description.rows.first().and_then(|row| row.text(0)).map(str::to_owned),
    }
}

/// An execution plan: each row a line.
fn lines(rows: &Rows) -> Bytes {
    let mut out = Vec::new();
    for row in &rows.rows {
        out.extend_from_slice(&row.bytes(0).unwrap_or_default());
        out.push(b'\n');
    }
    out.into()
}

fn planned_rows(rows: &Rows) -> Option<i64> {
    let json: serde_json::Value = serde_json::from_str(rows.rows.first()?.text(0)?).ok()?;
    json.pointer("/0/Plan/Plan Rows")?.as_i64()
}
