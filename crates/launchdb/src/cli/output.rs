//! What commands print: to standard output, for people or as the API's own JSON.

use std::io::{self, Write as _};

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;

use crate::exit::{self, Exit};

/// Writes lines to standard output. A reader that went away (`| head`) ends the program quietly.
pub fn print(text: &str) -> Result<(), Exit> {
    let mut out = io::stdout().lock();
    let written = out
        .write_all(text.as_bytes())
        .and_then(|()| if text.ends_with('\n') { Ok(()) } else { out.write_all(b"\n") })
        .and_then(|()| out.flush());
    match written {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(Exit::new(exit::FAILURE, e)),
        _ => Ok(()),
    }
}

/// A table with these headings.
pub fn table(headings: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(headings.iter().map(|h| h.to_uppercase()));
    for row in rows {
        table.add_row(row);
    }
    trim_lines(&table.to_string())
}

/// A list: for programs as `{NAME: [...]}`, what `view` makes of each; for people as a table of `cells`.
pub fn print_list<T>(
    as_json: bool,
    name: &str,
    items: &[T],
    view: impl Fn(&T) -> Value,
    headings: &[&str],
    cells: impl Fn(&T) -> Vec<String>,
) -> Result<(), Exit> {
    match as_json {
        true => print(&serde_json::json!({ name: items.iter().map(view).collect::<Vec<_>>() }).to_string()),
        false => print(&table(headings, items.iter().map(cells))),
    }
}

/// Names and values below one another.
pub fn pairs<'a>(rows: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    for (name, value) in rows {
        table.add_row(vec![name.to_owned(), value]);
    }
    trim_lines(&table.to_string())
}

fn trim_lines(text: &str) -> String {
    text.lines().map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end()).collect::<Vec<_>>().join("\n")
}

/// A JSON value as one cell: texts without quotes, nothing for null.
pub fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The members of a JSON object as name and value, in the order the server sent them.
pub fn object_pairs(value: &Value) -> String {
    let members = value.as_object().into_iter().flatten();
    pairs(members.map(|(name, value)| (name.as_str(), cell(value))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_plain_columns() {
        let text = table(&["id", "name"], [vec!["1".to_owned(), "a".to_owned()], vec!["22".to_owned(), String::new()]]);
        let lines: Vec<_> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
        assert_eq!(lines, [vec!["ID", "NAME"], vec!["1", "a"], vec!["22"]]);
    }
}
