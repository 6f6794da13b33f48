//! The claims statement: the one place where a request's session gets its role, claims and settings.
//!
//! It is the first statement of every exchange, in the same transaction as the query, and lasts as long
//! (`set_config(.., true)`). Nothing else in LaunchDB sets a role on a project's connection.
//!
//! Every name in it is qualified: it runs with the rights of the authenticator, and the session's search path starts with
//! schemas in which the project's owner makes functions.

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;

use crate::query::Query;

/// SQLSTATE with which the database says that the schema version is another one.
pub const SCHEMA_MOVED: &str = "LD001";

/// What a transaction on behalf of a caller starts with.
#[derive(Clone, Debug, Default)]
pub struct Claims<'a> {
    pub role: &'a str,
    /// `request.jwt.claims`: a JSON object.
    pub jwt_claims: &'a str,
    /// Whether the transaction may only read.
    pub read_only: bool,
    /// Settings that the role cannot set itself: they are made before the role changes.
    pub before_role: &'a [(&'a str, &'a str)],
    /// Further settings (`search_path`, `request.method`, `timezone`, ...), made in this order after the role.
    pub settings: &'a [(&'a str, &'a str)],
    /// What must be true of the schema; the statement fails with [`SCHEMA_MOVED`] when it is not.
    pub schema: Option<SchemaCheck<'a>>,
}

/// Whether a plan still fits the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchemaCheck<'a> {
    /// The schema version is the one the plan was made for.
    Version(i64),
    /// Whatever changed since then does not concern the plan.
    Unaffected {
        /// The rows of `_launchdb.schema_versions` at the time of the plan: a PostgreSQL array of their ids.
        known: &'a str,
        /// The one relation whose shape the plan depends on (`pg_class.oid`); 0 for none.
        relation: u32,
        /// Whether the plan depends on functions.
        functions: bool,
    },
}

/// A request's id as PostgreSQL keeps it of a session (`application_name`): its first 63 bytes (`NAMEDATALEN`).
pub fn application_name(request_id: &str) -> &str {
    const LONGEST: usize = 63;
    // Ids are ASCII.
    request_id.get(..LONGEST).unwrap_or(request_id)
}

impl Claims<'_> {
    /// The statement. Its text depends on nothing but which settings there are, so it is prepared once.
    pub fn statement(&self) -> Query {
        let mut sql = String::with_capacity(256);
        let mut params: Vec<Option<Bytes>> = Vec::with_capacity(8 + 2 * self.settings.len());
        let mut set = |sql: &mut String, name: &str, value: &str| {
            sql.push_str(if params.is_empty() { "select " } else { ", " });
            params.push(Some(Bytes::copy_from_slice(name.as_bytes())));
            params.push(Some(Bytes::copy_from_slice(value.as_bytes())));
            // Writing to a String cannot fail.
            write!(sql, "pg_catalog.set_config(${}, ${}, true)", params.len() - 1, params.len()).ok();
        };
        for (name, value) in self.before_role {
            set(&mut sql, name, value);
        }
        set(&mut sql, "role", self.role);
        set(&mut sql, "request.jwt.claims", self.jwt_claims);
        for (name, value) in self.settings {
            set(&mut sql, name, value);
        }
        match self.schema {
            Some(SchemaCheck::Version(version)) => {
                params.push(Some(Bytes::from(version.to_string())));
                write!(
                    sql,
                    ", case when (select pg_catalog.sum(n)::pg_catalog.int8 from _launchdb.schema_versions) \
                     operator(pg_catalog.=) ${}::pg_catalog.int8 then null else _launchdb.schema_moved() end",
                    params.len()
                )
                .ok();
            }
            Some(SchemaCheck::Unaffected { known, relation, functions }) => {
                params.push(Some(Bytes::copy_from_slice(known.as_bytes())));
                params.push(Some(Bytes::from(relation.to_string())));
                params.push(Some(Bytes::from_static(if functions { b"t" } else { b"f" })));
                let last = params.len();
                write!(
                    sql,
                    ", case when exists (select from _launchdb.schema_versions \
                     where id operator(pg_catalog.<>) all (${}::pg_catalog.int8[]) and (relations is null \
                     or ${}::pg_catalog.oid operator(pg_catalog.=) any (relations) \
                     or functions and ${last}::pg_catalog.bool)) then _launchdb.schema_moved() end",
                    last - 2,
                    last - 1,
                )
                .ok();
            }
            None => {}
        }
        if self.read_only {
            // Last: once set, `set_config` itself is all the transaction could still change.
            sql.push_str(", pg_catalog.set_config('transaction_read_only', 'on', true)");
        }
        Query { sql: Arc::from(sql), params }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_parameters_and_the_role_comes_before_the_claims() {
        let claims = Claims {
            role: "anon",
            jwt_claims: "{}",
            read_only: true,
            settings: &[("search_path", "x'; drop table y")],
            schema: Some(SchemaCheck::Version(7)),
            ..Claims::default()
        };
        let query = claims.statement();
        assert_eq!(
            &*query.sql,
            "select pg_catalog.set_config($1, $2, true), pg_catalog.set_config($3, $4, true), \
             pg_catalog.set_config($5, $6, true), \
             case when (select pg_catalog.sum(n)::pg_catalog.int8 from _launchdb.schema_versions) \
             operator(pg_catalog.=) $7::pg_catalog.int8 then null else _launchdb.schema_moved() end, \
             pg_catalog.set_config('transaction_read_only', 'on', true)"
        );
        let texts: Vec<_> = query.params.iter().flatten().map(|p| std::str::from_utf8(p).unwrap()).collect();
        let expected = ["role", "anon", "request.jwt.claims", "{}", "search_path", "x'; drop table y", "7"];
        assert_eq!(texts, expected);
    }
}
