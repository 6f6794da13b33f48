//! What the OpenAPI document needs to know of the role's privileges.

use bytes::Bytes;

use super::main_query::OpenApiQueries;

pub(super) fn queries(schema: &str) -> OpenApiQueries {
    let query =
        |sql: &str| pg::Query { sql: sql.into(), params: vec![Some(Bytes::copy_from_slice(schema.as_bytes()))] };
    OpenApiQueries {
        accessible_tables: query(include_str!("accessible_tables.sql")),
        accessible_functions: query(include_str!("accessible_functions.sql")),
        schema_description: query(include_str!("schema_description.sql")),
    }
}
