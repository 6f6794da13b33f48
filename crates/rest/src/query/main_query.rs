//! The statements of one request.

use std::sync::Arc;

use pg::Streams;

use super::open_api;
use super::snippet::Snippet;
use super::statements::{self, Counting};
use crate::api_request::ApiRequest;
use crate::api_request::preferences::{PreferCount, PreferRepresentation};
use crate::api_request::types::Mutation;
use crate::config::Config;
use crate::error::Error;
use crate::limit;
use crate::plan::{ActionPlan, CrudKind, CrudPlan};
use crate::schema_cache::{IsolationLevel, MediaHandler, Routine, SettingReaders};

/// Columns of the row that [`MainQuery::main`] gives, unless an execution plan was asked for.
pub mod column {
    /// int8: rows there are without limit and offset; NULL when not counted.
    pub const TOTAL: usize = 0;
    /// int8: rows in the result.
    pub const PAGE_TOTAL: usize = 1;
    /// text: the setting `response.headers`, or NULL.
    pub const RESPONSE_HEADERS: usize = 2;
    /// text: the setting `response.status`, or NULL.
    pub const RESPONSE_STATUS: usize = 3;
    /// int8: of an upsert, the rows that were inserted; NULL otherwise.
    pub const INSERTED: usize = 4;
    /// text: a JSON array of the `Location`'s parameters, `["id=eq.1"]`; NULL when there is none.
    pub const LOCATION: usize = 5;
    /// json, text, or bytea: the body; NULL is an empty one. The last, so that a long one can be handed on piece by piece.
    pub const BODY: usize = 6;
}

#[derive(Clone, Debug)]
pub struct MainQuery {
    /// Gives one row, see [`column`]. An execution plan is rows of one text or json column.
    /// None when nothing is to be run but what `open_api` holds.
    pub main: Option<pg::Query>,
    /// Calls the function that looks at every request; runs before `main`, in the same transaction.
    pub pre_request: Option<pg::Query>,
    /// `EXPLAIN (FORMAT JSON)` for `count=planned` and `count=estimated`; runs before `main`. The number is
    /// `[0].Plan."Plan Rows"`.
    pub explain_count: Option<pg::Query>,
    pub open_api: Option<OpenApiQueries>,
    /// Settings of the transaction beyond role, claims, search_path and `request.*`, to be set locally in this order.
    pub tx_settings: Vec<(String, String)>,
    /// What the function asks for; None is the default.
    pub isolation_level: Option<IsolationLevel>,
    pub read_only: bool,
    /// How the body may be handed on piece by piece.
    pub streams: Streams,
    /// `main` gives a row with nothing but the body, or none.
    pub one_row: bool,
}

impl MainQuery {
    /// The text that tells what the request does.
    pub(crate) fn main_text(&self) -> Arc<str> {
        let open_api = self.open_api.as_ref().map(|queries| &queries.accessible_tables);
        self.main.as_ref().or(open_api).map(|query| query.sql.clone()).unwrap_or_default()
    }
}

/// What the OpenAPI document needs to know of the role's privileges.
#[derive(Clone, Debug)]
pub struct OpenApiQueries {
    /// Rows of (schema, name): the relations of the schema that the role may use.
    pub accessible_tables: pg::Query,
    /// Rows of (schema, name, oid as int8, types of the parameters as a JSON array): the functions of the schema that
    /// the role may execute.
    pub accessible_functions: pg::Query,
    /// One row with the schema's comment, which may be NULL.
    pub schema_description: pg::Query,
}

/// The statements for a plan. `readers` says whether stored code may set `response.*`.
///
/// # Errors
/// PGRST100 when the request holds more values than a statement can have parameters.
pub fn main_query(
    plan: &ActionPlan,
    request: &ApiRequest,
    config: &Config,
    readers: SettingReaders,
) -> Result<MainQuery, Error> {
    let pre_request = || config.db_pre_request.as_ref().map(|function| statements::pre_request(function).into_query());
    match plan {
        ActionPlan::Info(_) => Ok(MainQuery {
            main: None,
            pre_request: None,
            explain_count: None,
            open_api: None,
            tx_settings: Vec::new(),
            isolation_level: None,
            read_only: true,
            streams: Streams::Nothing,
            one_row: false,
        }),
        ActionPlan::Inspect(inspect) => Ok(MainQuery {
            main: None,
            pre_request: pre_request(),
            explain_count: None,
            open_api: Some(open_api::queries(&inspect.schema)),
            tx_settings: tx_settings(request, config, None),
            isolation_level: None,
            read_only: true,
            streams: Streams::Nothing,
            one_row: false,
        }),
        ActionPlan::Crud(plan) => {
            let routine = plan.routine();
            let one_row = is_one_row(plan, request, readers);
            let main = match one_row {
                true => statements::read_one(&plan.read, &plan.handler),
                false => crud(plan, request, config, readers),
            };
            let main = main.into_query();
            limit::PARAMETERS.check(main.params.len())?;
            let counts_by_explain = matches!(plan.kind, CrudKind::Read { .. })
                && request.preferences.should_explain_count()
                && !plan.is_explain();
            Ok(MainQuery {
                main: Some(main),
                pre_request: pre_request(),
                explain_count: counts_by_explain.then(|| statements::explain_count(&plan.read).into_query()),
                open_api: None,
                tx_settings: tx_settings(request, config, routine.map(|routine| &**routine)),
                isolation_level: routine.and_then(|routine| routine.isolation_level),
                read_only: plan.read_only,
                streams: if plan.is_explain() { Streams::Nothing } else { Streams::LastValue },
                one_row,
            })
        }
    }
}

/// The same read with a row for each element, for a result that PostgreSQL cannot make one value of. None for what is no
/// plain array of rows.
pub(crate) fn read_rows(
    plan: &ActionPlan,
    request: &ApiRequest,
    config: &Config,
    readers: SettingReaders,
) -> Result<Option<MainQuery>, Error> {
    let Some(crud) = plan.crud() else { return Ok(None) };
    let plain = matches!(crud.kind, CrudKind::Read { headers_only: false }) && crud.handler == MediaHandler::Json;
    if !plain || crud.is_explain() {
        return Ok(None);
    }
    let query = main_query(plan, request, config, readers)?;
    let counting = counting(crud, request, config);
    let main = statements::read_rows(&crud.read, counting, readers.response).into_query();
    Ok(Some(MainQuery { main: Some(main), streams: Streams::Rows, one_row: false, ..query }))
}

/// Whether a read needs no aggregate, which costs PostgreSQL a third of a read by key: there is one row at most, nobody
/// asks how many there are, and nothing but the body is to be shown.
fn is_one_row(plan: &CrudPlan, request: &ApiRequest, readers: SettingReaders) -> bool {
    plan.by_key
        && matches!(plan.handler, MediaHandler::Json | MediaHandler::SingleJson { nulls_stripped: false })
        && !plan.is_explain()
        && request.preferences.count.is_none()
        && !readers.response
}

fn counting(plan: &CrudPlan, request: &ApiRequest, config: &Config) -> Counting {
    let preferences = &request.preferences;
    let mut counting = Counting::new(preferences.should_count(), config.db_max_rows, request.top_level_range);
    // Counted are the rows that are aggregated, not what is made of them; and of a function with one result those that
    // the filters leave.
    let one_by_one = !plan.read.plan.aggregates() && plan.routine().is_none_or(|routine| !routine.returns_single());
    counting.page_is_all &= one_by_one;
    let estimated = preferences.count == Some(PreferCount::Estimated);
    if estimated && matches!(plan.kind, CrudKind::Read { .. }) {
        counting.stop_after = config.db_max_rows.map(|max| max.saturating_add(1));
    }
    counting
}

fn crud(plan: &CrudPlan, request: &ApiRequest, config: &Config, readers: SettingReaders) -> Snippet {
    let CrudPlan { read, media_type, handler, .. } = plan;
    let counting = counting(plan, request, config);
    let response_settings = readers.response;
    match &plan.kind {
        CrudKind::Read { .. } => statements::read(read, counting, media_type, handler, response_settings),
        CrudKind::Mutate { mutation, plan } => {
            let location = *mutation == Mutation::Create
                && request.preferences.representation == Some(PreferRepresentation::HeadersOnly);
            statements::write(read, plan, location, media_type, handler, response_settings)
        }
        CrudKind::Call { plan, .. } => statements::call(read, plan, counting, media_type, handler, response_settings),
    }
}

/// Time zone, the function's settings, and the application's: of several with one name the last counts.
fn tx_settings(request: &ApiRequest, config: &Config, routine: Option<&Routine>) -> Vec<(String, String)> {
    let timezone = request.preferences.timezone.iter().map(|name| ("timezone".to_owned(), name.clone()));
    let hoisted = routine
        .into_iter()
        .flat_map(|routine| routine.settings.iter().map(|(name, value)| ((**name).to_owned(), (**value).to_owned())));
    timezone.chain(hoisted).chain(config.app_settings.iter().cloned()).collect()
}
