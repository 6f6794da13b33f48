//! SQL for plans (PostgREST `Query`). Values are parameters, names pass the quoting of `pg::ident`.

mod main_query;
mod open_api;
mod query_builder;
mod snippet;
mod sql_fragment;
mod statements;
mod visible_objects;

#[cfg(test)]
mod tests;

use crate::identifier::QualifiedIdentifier;

pub(crate) use main_query::read_rows;
pub use main_query::{MainQuery, OpenApiQueries, column, main_query};
pub(crate) use sql_fragment::SOURCE_CTE;
pub(crate) use visible_objects::VisibleObjects;

/// Calls a function that takes nothing; what it returns does not matter.
pub(crate) fn call_without_arguments(function: &QualifiedIdentifier) -> pg::Query {
    statements::pre_request(function).into_query()
}

/// Lets the transaction read only.
pub(crate) fn read_only() -> pg::Query {
    pg::Query { sql: "select pg_catalog.set_config('transaction_read_only', 'on', true)".into(), params: Vec::new() }
}
