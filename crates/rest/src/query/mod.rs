//! SQL for plans (PostgREST `Query`). Values are parameters, names pass the quoting of `pg::ident`.

mod main_query;
mod snippet;

pub use main_query::{MainQuery, OpenApiQueries, main_query};
pub use snippet::Snippet;
