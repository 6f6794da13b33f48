//! SQL for plans (PostgREST `Query`). Values are parameters, names pass the quoting of `pg::ident`.

mod main_query;
mod open_api;
mod query_builder;
mod snippet;
mod sql_fragment;
mod statements;

#[cfg(test)]
mod tests;

pub(crate) use main_query::read_rows;
pub use main_query::{MainQuery, OpenApiQueries, column, main_query};
pub(crate) use sql_fragment::SOURCE_CTE;
