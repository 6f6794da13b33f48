//! PostgreSQL's types and defaults in terms of JSON Schema.

use serde_json::value::RawValue;

use super::model::{Kind, Schema};

/// What values of a type are in JSON. None is anything.
pub(super) fn kind(data_type: &str) -> Option<Kind> {
    match data_type {
        "boolean" => Some(Kind::Boolean),
        "smallint" | "integer" | "bigint" => Some(Kind::Integer),
        "numeric" | "real" | "double precision" => Some(Kind::Number),
        "json" | "jsonb" => None,
        _ if data_type.ends_with("[]") => Some(Kind::Array),
        _ => Some(Kind::String),
    }
}

/// The type's name, but for integers, for which Swagger has names of its own.
pub(super) fn format(data_type: &str) -> &str {
    match data_type {
        "smallint" | "integer" => "int32",
        "bigint" => "int64",
        other => other,
    }
}

/// The type of an array's elements.
pub(super) fn element(data_type: &str) -> &str {
    data_type.strip_suffix("[]").unwrap_or(data_type)
}

/// A value of the type.
pub(super) fn schema(data_type: &str) -> Schema<'_> {
    let kind = kind(data_type);
    let items = (kind == Some(Kind::Array))
        .then(|| Box::new(Schema { kind: self::kind(element(data_type)), ..Schema::default() }));
    Schema { kind, items, format: Some(format(data_type)), ..Schema::default() }
}

/// A column's default when it can be told in JSON: a constant, or for what is a string in JSON the expression itself.
pub(super) fn default(data_type: &str, expression: &str) -> Option<Box<RawValue>> {
    let json = if kind(data_type) == Some(Kind::String) {
        let constant = expression.strip_suffix(data_type).and_then(|rest| rest.strip_suffix("::"));
        let text = constant.map_or(expression, |constant| constant.trim_matches('\''));
        // Not escaped: an expression with quotes or backslashes is no JSON then, and left out, as PostgREST does.
        format!("\"{text}\"")
    } else {
        expression.to_owned()
    };
    RawValue::from_string(json).ok()
}
