//! Results of SQL as JSON text. Numbers, booleans, JSON and arrays of them keep their kind; all else is PostgreSQL's
//! text.

use std::collections::HashSet;
use std::time::Duration;

use pg::{DbError, ScriptResult, StatementResult};
use serde_json::{Value, json};
use tokio_postgres::types::{Kind, Type};

use super::TypeNames;

/// The body of the answer: the last statement's result, and all of them when there were several.
pub(super) fn render(result: &ScriptResult, types: &TypeNames, duration: Duration) -> String {
    let empty = StatementResult::default();
    let mut out = String::from("{");
    push_statement(&mut out, result.statements.last().unwrap_or(&empty), types);
    if result.statements.len() > 1 {
        out.push_str(",\"results\":[");
        for (n, statement) in result.statements.iter().enumerate() {
            out.push_str(if n == 0 { "{" } else { ",{" });
            push_statement(&mut out, statement, types);
            out.push('}');
        }
        out.push(']');
    }
    let notices: Vec<Value> = result.notices.iter().map(notice).collect();
    out.push_str(",\"notices\":");
    out.push_str(&Value::Array(notices).to_string());
    out.push_str(&format!(",\"duration_ms\":{}}}", duration.as_millis()));
    out
}

fn notice(notice: &DbError) -> Value {
    json!({
        "severity": notice.severity,
        "message": notice.message,
        "sqlstate": notice.code,
        "detail": notice.detail,
        "hint": notice.hint,
    })
}

/// The members `command`, `row_count`, `truncated`, `columns` and `rows`.
fn push_statement(out: &mut String, statement: &StatementResult, types: &TypeNames) {
    let names = unique_names(statement);
    let columns: Vec<Value> = statement
        .columns
        .iter()
        .zip(&names)
        .map(|(column, name)| {
            let type_name = types.get(&(column.type_oid, column.type_modifier)).cloned();
            let type_name =
                type_name.or_else(|| Type::from_oid(column.type_oid).map(|builtin| builtin.name().to_owned()));
            json!({ "name": name, "type": type_name, "type_oid": column.type_oid })
        })
        .collect();
    let head = json!({
        "command": statement.tag,
        "row_count": row_count(statement),
        "truncated": statement.truncated,
        "columns": columns,
    })
    .to_string();
    out.push_str(head.trim_start_matches('{').trim_end_matches('}'));
    // The object ends with an array, whose bracket was kept.
    out.push_str(",\"rows\":[");
    let keys: Vec<String> = names.iter().map(|name| format!("{}:", quoted(name))).collect();
    let types: Vec<Option<Type>> = statement.columns.iter().map(|column| Type::from_oid(column.type_oid)).collect();
    for (n, row) in statement.rows.iter().enumerate() {
        out.push_str(if n == 0 { "{" } else { ",{" });
        for (n, ((value, key), ty)) in row.iter().zip(&keys).zip(&types).enumerate() {
            if n > 0 {
                out.push(',');
            }
            out.push_str(key);
            match value {
                Some(text) => push_value(out, text, ty.as_ref()),
                None => out.push_str("null"),
            }
        }
        out.push('}');
    }
    out.push(']');
}

/// Rows that the statement returned or changed, from its tag (`INSERT 0 3`, `SELECT 2`).
fn row_count(statement: &StatementResult) -> Option<u64> {
    statement.tag.rsplit(' ').next().and_then(|last| last.parse().ok())
}

/// The columns' names, made unique because they become the keys of objects.
fn unique_names(statement: &StatementResult) -> Vec<String> {
    let mut seen = HashSet::new();
    let unique = statement.columns.iter().map(|column| {
        let mut name = column.name.clone();
        let mut n = 2;
        while !seen.insert(name.clone()) {
            name = format!("{}_{n}", column.name);
            n += 1;
        }
        name
    });
    unique.collect()
}

fn quoted(text: &str) -> String {
    Value::String(text.to_owned()).to_string()
}

fn push_value(out: &mut String, text: &str, ty: Option<&Type>) {
    let Some(ty) = ty else { return out.push_str(&quoted(text)) };
    match ty.kind() {
        // The elements of box[] alone are not separated by commas.
        Kind::Array(element) if *element != Type::BOX => {
            let before = out.len();
            if push_array(out, text, element).is_none() {
                out.truncate(before);
                out.push_str(&quoted(text));
            }
        }
        _ => push_scalar(out, text, ty),
    }
}

fn push_scalar(out: &mut String, text: &str, ty: &Type) {
    let plain = match *ty {
        Type::BOOL => match text {
            "t" => Some("true"),
            "f" => Some("false"),
            _ => None,
        },
        // NaN and Infinity are no numbers in JSON.
        Type::INT2 | Type::INT4 | Type::INT8 | Type::OID | Type::FLOAT4 | Type::FLOAT8 | Type::NUMERIC => {
            text.trim_start_matches('-').starts_with(|c: char| c.is_ascii_digit()).then_some(text)
        }
        Type::JSON | Type::JSONB => serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok().then_some(text),
        _ => None,
    };
    match plain {
        Some(plain) => out.push_str(plain),
        None => out.push_str(&quoted(text)),
    }
}

/// An array in PostgreSQL's text format (docs, "Array Input and Output Syntax"); nothing when it is not one.
fn push_array(out: &mut String, text: &str, element: &Type) -> Option<()> {
    // Bounds other than 1 stand before the array: [0:1]={a,b}.
    let text = if text.starts_with('[') { text.split_once('=')?.1 } else { text };
    let mut chars = text.chars().peekable();
    let mut depth = 0_usize;
    loop {
        match chars.next()? {
            '{' => {
                depth += 1;
                out.push('[');
            }
            '}' => {
                depth = depth.checked_sub(1)?;
                out.push(']');
                if depth == 0 {
                    return chars.next().is_none().then_some(());
                }
            }
            ',' => out.push(','),
            '"' => {
                let mut item = String::new();
                loop {
                    match chars.next()? {
                        '"' => break,
                        '\\' => item.push(chars.next()?),
                        other => item.push(other),
                    }
                }
                push_scalar(out, &item, element);
            }
            first => {
                let mut item = String::from(first);
                while let Some(next) = chars.next_if(|c| !matches!(c, ',' | '}')) {
                    item.push(next);
                }
                if item == "NULL" { out.push_str("null") } else { push_scalar(out, &item, element) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use pg::ScriptColumn;

    use super::*;

    #[test]
    fn values_keep_their_kind() {
        let check = |text: &str, ty: Type, expected: &str| {
            let mut out = String::new();
            push_value(&mut out, text, Some(&ty));
            assert_eq!(out, expected, "{text} as {ty}");
            assert!(serde_json::from_str::<Value>(&out).is_ok(), "{out}");
        };
        check("t", Type::BOOL, "true");
        check("-9007199254740993", Type::INT8, "-9007199254740993");
        check("NaN", Type::FLOAT8, "\"NaN\"");
        check("-Infinity", Type::NUMERIC, "\"-Infinity\"");
        check("1e+20", Type::FLOAT8, "1e+20");
        check("{\"a\": 1}", Type::JSONB, "{\"a\": 1}");
        check("a\"b\\c\n", Type::TEXT, "\"a\\\"b\\\\c\\n\"");
        check("{}", Type::INT4_ARRAY, "[]");
        check("{1,NULL,3}", Type::INT4_ARRAY, "[1,null,3]");
        check("{{1,2},{3,4}}", Type::INT4_ARRAY, "[[1,2],[3,4]]");
        check("[0:1]={7,8}", Type::INT4_ARRAY, "[7,8]");
        check(r#"{a b,"c,d","e\"f","NULL"}"#, Type::TEXT_ARRAY, r#"["a b","c,d","e\"f","NULL"]"#);
        check(r#"{"{\"a\": [1]}"}"#, Type::JSONB_ARRAY, r#"[{"a": [1]}]"#);
        check("{1,2", Type::INT4_ARRAY, "\"{1,2\"");
    }

    #[test]
    fn an_answer_is_json_whatever_the_columns_are_called() {
        let column = |name: &str, ty: &Type| ScriptColumn { name: name.into(), type_oid: ty.oid(), type_modifier: -1 };
        let statement = StatementResult {
            tag: "SELECT 1".into(),
            columns: vec![column("a\"", &Type::INT4), column("a\"", &Type::TEXT), column("?column?", &Type::BOOL)],
            rows: vec![vec![Some("1".into()), Some("x".into()), None]],
            truncated: true,
        };
        let result = ScriptResult { statements: vec![StatementResult::default(), statement], notices: Vec::new() };
        let body: Value = serde_json::from_str(&render(&result, &TypeNames::new(), Duration::from_millis(5))).unwrap();
        assert_eq!(body["rows"], json!([{"a\"": 1, "a\"_2": "x", "?column?": null}]));
        assert_eq!(body["columns"][0], json!({"name": "a\"", "type": "int4", "type_oid": 23}));
        assert_eq!((body["row_count"].clone(), body["truncated"].clone()), (json!(1), json!(true)));
        assert_eq!(body["results"].as_array().unwrap().len(), 2);
        assert_eq!(body["duration_ms"], 5);
    }
}
