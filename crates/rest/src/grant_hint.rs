//! Says what a database lacks where PostgreSQL's own words do not: which GRANT is missing, to those who may know (the
//! service role in the answer, everybody else in the log), and that GeoJSON needs PostGIS.

use base::{Caller, Credential};
use http::Method;

use crate::error::Error;

const INSUFFICIENT_PRIVILEGE: &str = "42501";
const UNDEFINED_FUNCTION: &str = "42883";

/// Adds the missing GRANT to a 42501 about a relation or function, and what is missing for GeoJSON.
pub(crate) fn explain(error: Error, caller: &Caller, method: &Method) -> Error {
    let Error::Db(mut cause) = error else { return error };
    if cause.code == INSUFFICIENT_PRIVILEGE
        && cause.hint.is_none()
        && let Some(grant) = missing_grant(&cause.message, caller.role.as_str(), method)
    {
        if caller.credential == Credential::SecretKey {
            cause.hint = Some(format!("Run as the project's owner: {grant}"));
        } else {
            tracing::info!(role = %caller.role, %grant, "a privilege is missing");
        }
    }
    if cause.code == UNDEFINED_FUNCTION && cause.message.starts_with("function st_asgeojson(") {
        cause.hint = Some("GeoJSON is made by the PostGIS extension, which this database does not have.".to_owned());
    }
    Error::Db(cause)
}

/// From PostgreSQL's "permission denied for table x"; it does not say which schema, so neither does the statement.
fn missing_grant(message: &str, role: &str, method: &Method) -> Option<String> {
    let (kind, name) = message.strip_prefix("permission denied for ")?.split_once(' ')?;
    let privilege = match (kind, method.as_str()) {
        ("function", _) => "EXECUTE",
        ("schema", _) => "USAGE",
        ("sequence", _) => "USAGE, SELECT",
        ("table" | "view" | "materialized", "POST" | "PUT") => "INSERT, SELECT, UPDATE",
        ("table" | "view" | "materialized", "PATCH") => "UPDATE, SELECT",
        ("table" | "view" | "materialized", "DELETE") => "DELETE, SELECT",
        ("table" | "view" | "materialized", _) => "SELECT",
        _ => return None,
    };
    let (object, name) = match kind {
        "function" => ("FUNCTION ", name),
        "schema" => ("SCHEMA ", name),
        "sequence" => ("SEQUENCE ", name),
        "materialized" => ("", name.strip_prefix("view ")?),
        _ => ("", name),
    };
    let (name, role) = (pg::ident::quote_ident(name), pg::ident::quote_ident(role));
    Some(format!("GRANT {privilege} ON {object}{name} TO {role};"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grant_fits_message_and_method() {
        let check = |message: &str, method: Method, expected: Option<&str>| {
            assert_eq!(missing_grant(message, "anon", &method).as_deref(), expected, "{message}");
        };
        check("permission denied for table t", Method::GET, Some(r#"GRANT SELECT ON "t" TO "anon";"#));
        check("permission denied for view v", Method::DELETE, Some(r#"GRANT DELETE, SELECT ON "v" TO "anon";"#));
        check("permission denied for schema s", Method::GET, Some(r#"GRANT USAGE ON SCHEMA "s" TO "anon";"#));
        check("permission denied for function f", Method::POST, Some(r#"GRANT EXECUTE ON FUNCTION "f" TO "anon";"#));
        check(r#"permission denied for table a" to b"#, Method::GET, Some(r#"GRANT SELECT ON "a"" to b" TO "anon";"#));
        check("new row violates row-level security policy", Method::POST, None);
    }
}
