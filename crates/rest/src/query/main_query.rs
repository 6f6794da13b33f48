//! The statements of one request.

use crate::schema_cache::IsolationLevel;

/// Columns of the row that [`MainQuery::main`] gives, unless an execution plan was asked for.
pub mod column {
    /// int8: rows there are without limit and offset; NULL when not counted.
    pub const TOTAL: usize = 0;
    /// int8: rows in the result.
    pub const PAGE_TOTAL: usize = 1;
    /// text: a JSON array of the `Location`'s parameters, `["id=eq.1"]`; NULL when there is none.
    pub const LOCATION: usize = 2;
    /// json, text, or bytea: the body; NULL is an empty one.
    pub const BODY: usize = 3;
    /// text: the setting `response.headers`, or NULL.
    pub const RESPONSE_HEADERS: usize = 4;
    /// text: the setting `response.status`, or NULL.
    pub const RESPONSE_STATUS: usize = 5;
    /// int8: of an upsert, the rows that were inserted; NULL otherwise.
    pub const INSERTED: usize = 6;
}

#[derive(Clone, Debug)]
pub struct MainQuery {
    /// Gives one row, see [`column`]. An execution plan is rows of one text or json column.
    /// None when nothing is to be run but what `open_api` holds.
    pub main: Option<pg::Query>,
    /// Calls the function that looks at every request; runs before `main`, in the same transaction.
    pub pre_request: Option<pg::Query>,
    /// `EXPLAIN (FORMAT JSON)` for `count=planned` and `count=estimated`; runs after `main`. The number is `[0].Plan."Plan Rows"`.
    pub explain_count: Option<pg::Query>,
    pub open_api: Option<OpenApiQueries>,
    /// Settings of the transaction beyond role, claims, search_path and `request.*`, to be set locally in this order.
    pub tx_settings: Vec<(String, String)>,
    /// What the function asks for; None is the default.
    pub isolation_level: Option<IsolationLevel>,
    pub read_only: bool,
}

/// What the OpenAPI document needs to know of the role's privileges.
#[derive(Clone, Debug)]
pub struct OpenApiQueries {
    /// Rows of (schema, name): the relations of the schema that the role may use.
    pub accessible_tables: pg::Query,
    /// Rows of (schema, name): the functions of the schema that the role may execute.
    pub accessible_functions: pg::Query,
    /// One row with the schema's comment, which may be NULL.
    pub schema_description: pg::Query,
}
